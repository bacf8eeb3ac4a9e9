package org.facekd.demo

import android.annotation.SuppressLint
import android.content.Context
import android.graphics.ImageFormat
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.CaptureRequest
import android.hardware.display.DisplayManager
import android.media.ImageReader
import android.util.Size
import android.view.Display
import android.view.Surface
import org.facekd.core.RgbImage
import org.facekd.core.rotated
import org.facekd.core.uprightRotation

/**
 * Upright pictures from one camera, on the camera's thread, until closed.
 *
 * @param onFrame a picture and the milliseconds its conversion took.
 * @param onError the camera failed, and why, for the user; nothing follows.
 */
class CameraFeed(
    private val context: Context,
    private val front: Boolean,
    private val onFrame: (RgbImage, Double) -> Unit,
    private val onError: (CameraFeed, String) -> Unit,
) : AutoCloseable {
    private val manager = context.service(CameraManager::class.java)
    private val displays = context.service(DisplayManager::class.java)
    private val handler = FacekdApp.of(context).camera

    // Touched by the camera's thread alone.
    private var device: CameraDevice? = null
    private var reader: ImageReader? = null
    private var closed = false

    init {
        handler.post { guarded { open() } }
    }

    override fun close() {
        handler.post { release() }
    }

    private fun release() {
        closed = true
        device?.close()
        reader?.close()
    }

    private fun fail(message: String) {
        if (closed) return
        release()
        onError(this, message)
    }

    @SuppressLint("MissingPermission") // MainActivity asks before it makes a feed; a SecurityException is reported.
    private fun open() {
        if (closed) return
        val wanted = if (front) CameraCharacteristics.LENS_FACING_FRONT else CameraCharacteristics.LENS_FACING_BACK
        val id = manager.cameraIdList.find { facing(it) == wanted } ?: manager.cameraIdList.firstOrNull()
        if (id == null) return fail(context.getString(R.string.camera_none))
        val characteristics = manager.getCameraCharacteristics(id)
        val sizes = characteristics.get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP)?.getOutputSizes(ImageFormat.YUV_420_888)
        val size = sizes?.let(::closest) ?: return fail(context.getString(R.string.camera_format))
        val sensor = characteristics.get(CameraCharacteristics.SENSOR_ORIENTATION) ?: 0
        val facesUser = facing(id) == CameraCharacteristics.LENS_FACING_FRONT
        reader = ImageReader.newInstance(size.width, size.height, ImageFormat.YUV_420_888, 2).apply {
            setOnImageAvailableListener({ guarded { convert(it, sensor, facesUser) } }, handler)
        }
        manager.openCamera(id, Opened(), handler)
    }

    /** The size nearest to what the detector takes (640x480): larger ones would only be reduced again. */
    private fun closest(sizes: Array<Size>): Size? = sizes.minByOrNull { Math.abs(it.width * it.height - 640 * 480) }

    private fun facing(id: String): Int? = manager.getCameraCharacteristics(id).get(CameraCharacteristics.LENS_FACING)

    private fun convert(from: ImageReader, sensor: Int, facesUser: Boolean) {
        if (closed) return
        val image = from.acquireLatestImage() ?: return
        val start = System.nanoTime()
        // Asked for each picture: a phone turned from one side to the other makes no new layout.
        val upright = image.use { Pictures.of(it) }.rotated(uprightRotation(sensor, displayDegrees(), facesUser))
        onFrame(upright, (System.nanoTime() - start) / 1e6)
    }

    private fun displayDegrees(): Int = when (displays.getDisplay(Display.DEFAULT_DISPLAY)?.rotation) {
        Surface.ROTATION_90 -> 90
        Surface.ROTATION_180 -> 180
        Surface.ROTATION_270 -> 270
        else -> 0
    }

    /** Runs [work]; what camera2 can throw, also long after opening (a camera that was unplugged), ends the feed. */
    private fun guarded(work: () -> Unit) {
        try {
            work()
        } catch (error: CameraAccessException) {
            fail(error.message ?: error.javaClass.simpleName)
        } catch (error: SecurityException) {
            fail(error.message ?: error.javaClass.simpleName)
        } catch (error: IllegalStateException) {
            fail(error.message ?: error.javaClass.simpleName)
        } catch (error: IllegalArgumentException) {
            fail(error.message ?: error.javaClass.simpleName)
        }
    }

    private inner class Opened : CameraDevice.StateCallback() {
        override fun onOpened(camera: CameraDevice) {
            if (closed) return camera.close()
            device = camera
            guarded { start(camera) }
        }

        override fun onDisconnected(camera: CameraDevice) {
            camera.close()
            fail(context.getString(R.string.camera_taken))
        }

        override fun onError(camera: CameraDevice, error: Int) {
            camera.close()
            fail(context.getString(R.string.camera_error, error))
        }
    }

    @Suppress("DEPRECATION") // Its successor, SessionConfiguration, came with API 28; this app starts at 26.
    private fun start(camera: CameraDevice) {
        val surface = requireNotNull(reader).surface
        val callback = object : CameraCaptureSession.StateCallback() {
            override fun onConfigured(session: CameraCaptureSession) {
                if (!closed) guarded { session.setRepeatingRequest(request(camera, surface), null, handler) }
            }

            override fun onConfigureFailed(session: CameraCaptureSession) = fail(context.getString(R.string.camera_size))
        }
        camera.createCaptureSession(listOf(surface), callback, handler)
    }

    private fun request(camera: CameraDevice, surface: Surface): CaptureRequest =
        camera.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW).run {
            addTarget(surface)
            set(CaptureRequest.CONTROL_AF_MODE, CaptureRequest.CONTROL_AF_MODE_CONTINUOUS_PICTURE)
            build()
        }
}
