package org.facekd.demo

import android.app.Application
import android.graphics.ImageFormat
import android.graphics.Rect
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraManager
import android.media.Image
import android.media.ImageReader
import android.media.ImageReader.OnImageAvailableListener
import android.os.Handler
import android.util.Size
import android.view.Surface
import java.io.File
import java.nio.ByteBuffer
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements
import org.robolectric.annotation.RealObject
import org.robolectric.shadows.ShadowCameraCharacteristics
import org.robolectric.shadows.StreamConfigurationMapBuilder

private const val WIDTH = 640
private const val HEIGHT = 480
private const val STRIDE = 704

/** A picture of make_launch_set.py: NV21 with padded rows, as most phones give it. */
class FrameImage(name: String) : Image() {
    private val bytes = File(System.getProperty("facekd.frames"), "$name.yuv").readBytes()
    var isClosed = false
        private set

    override fun getFormat() = ImageFormat.YUV_420_888
    override fun getWidth() = WIDTH
    override fun getHeight() = HEIGHT
    override fun getTimestamp() = 0L
    override fun getTransform() = 0
    override fun getScalingMode() = 0
    override fun getCropRect() = Rect(0, 0, WIDTH, HEIGHT)
    override fun close() {
        isClosed = true
    }

    override fun getPlanes(): Array<Plane> {
        val luma = STRIDE * HEIGHT
        val chroma = STRIDE * (HEIGHT / 2) - (STRIDE - WIDTH) // the last row ends with its last sample
        return arrayOf(
            plane(0, luma - (STRIDE - WIDTH), 1),
            plane(luma + 1, chroma - 1, 2),
            plane(luma, chroma - 1, 2),
        )
    }

    private fun plane(from: Int, length: Int, step: Int) = object : Plane() {
        override fun getRowStride() = STRIDE
        override fun getPixelStride() = step
        override fun getBuffer(): ByteBuffer = ByteBuffer.wrap(bytes, from, length).slice()
    }
}

/** android.media.ImageReader without a camera service behind it: a test pushes its pictures. */
@Implements(ImageReader::class)
class ReaderShadow {
    @RealObject
    private lateinit var reader: ImageReader
    private var listener: OnImageAvailableListener? = null
    private var handler: Handler? = null

    @Volatile
    private var waiting: Image? = null

    var isClosed = false
        private set

    @Suppress("UNUSED_PARAMETER")
    @Implementation
    fun __constructor__(width: Int, height: Int, format: Int, most: Int, usage: Long, parent: android.hardware.camera2.MultiResolutionImageReader?) {
        opened += this
    }

    @Implementation
    fun getSurface(): Surface = Surface(SurfaceTexture(1))

    @Implementation
    fun setOnImageAvailableListener(listener: OnImageAvailableListener?, handler: Handler?) {
        this.listener = listener
        this.handler = handler
    }

    @Implementation
    fun acquireLatestImage(): Image? = waiting.also { waiting = null }

    @Implementation
    fun close() {
        isClosed = true
    }

    @Implementation
    fun finalize() = Unit

    fun push(image: Image) {
        waiting = image
        requireNotNull(handler).post { requireNotNull(listener).onImageAvailable(reader) }
    }

    companion object {
        val opened = mutableListOf<ReaderShadow>()

        @JvmStatic
        @Implementation
        fun __staticInitializer__() = Unit
    }
}

/** Gives the phone a camera on its front, turned by 270 degrees as in most. */
fun addFrontCamera(app: Application) {
    val found = ShadowCameraCharacteristics.newCameraCharacteristics()
    val sizes = StreamConfigurationMapBuilder.newBuilder()
    for (size in listOf(Size(1920, 1080), Size(WIDTH, HEIGHT), Size(320, 240))) sizes.addOutputSize(ImageFormat.YUV_420_888, size)
    shadowOf(found).apply {
        set(CameraCharacteristics.LENS_FACING, CameraCharacteristics.LENS_FACING_FRONT)
        set(CameraCharacteristics.SENSOR_ORIENTATION, 270)
        set(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP, sizes.build())
    }
    shadowOf(app.service(CameraManager::class.java)).addCamera("1", found)
}
