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
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import android.util.Size
import org.facekd.core.RgbImage
import org.facekd.core.rotated
import org.facekd.core.uprightRotation

/**
 * Upright pictures from one camera, on a thread of its own, until closed.
 *
 * @param onFrame a picture and the milliseconds its conversion took.
 * @param onError the camera failed; nothing follows.
 */
class CameraFeed(
    context: Context,
    private val front: Boolean,
    private val displayDegrees: () -> Int,
    private val onFrame: (RgbImage, Double) -> Unit,
    private val onError: (String) -> Unit,
) : AutoCloseable {
    private val manager = context.service(CameraManager::class.java)
    private val thread = HandlerThread("camera").apply { start() }
    private val handler = Handler(thread.looper)
    private var device: CameraDevice? = null
    private var reader: ImageReader? = null
    private var closed = false

    init {
        handler.post { guarded { open() } }
    }

    override fun close() {
        handler.post {
            closed = true
            device?.close()
            reader?.close()
            thread.quitSafely()
        }
    }

    @SuppressLint("MissingPermission") // MainActivity asks before it makes a feed; a SecurityException is reported.
    private fun open() {
        val wanted = if (front) CameraCharacteristics.LENS_FACING_FRONT else CameraCharacteristics.LENS_FACING_BACK
        val id = manager.cameraIdList.find { facing(it) == wanted } ?: manager.cameraIdList.firstOrNull()
        if (id == null) return onError("this device has no camera")
        val characteristics = manager.getCameraCharacteristics(id)
        val sizes = characteristics.get(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP)?.getOutputSizes(ImageFormat.YUV_420_888)
        val size = sizes?.let(::closest) ?: return onError("camera $id gives no YUV pictures")
        val sensor = characteristics.get(CameraCharacteristics.SENSOR_ORIENTATION) ?: 0
        val facesUser = facing(id) == CameraCharacteristics.LENS_FACING_FRONT
        reader = ImageReader.newInstance(size.width, size.height, ImageFormat.YUV_420_888, 2).apply {
            setOnImageAvailableListener({ convert(it, sensor, facesUser) }, handler)
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
        val upright = image.use { Pictures.of(it) }.rotated(uprightRotation(sensor, displayDegrees(), facesUser))
        onFrame(upright, (System.nanoTime() - start) / 1e6)
    }

    private fun guarded(work: () -> Unit) {
        try {
            work()
        } catch (error: CameraAccessException) {
            onError(error.message ?: "camera access")
        } catch (error: SecurityException) {
            onError(error.message ?: "not allowed")
        } catch (error: IllegalStateException) {
            if (!closed) onError(error.message ?: "the camera was closed")
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
            if (!closed) onError("another app took the camera")
        }

        override fun onError(camera: CameraDevice, error: Int) {
            camera.close()
            if (!closed) onError("camera error $error")
        }
    }

    @Suppress("DEPRECATION") // Its successor, SessionConfiguration, came with API 28; this app starts at 26.
    private fun start(camera: CameraDevice) {
        val surface = requireNotNull(reader).surface
        val callback = object : CameraCaptureSession.StateCallback() {
            override fun onConfigured(session: CameraCaptureSession) = guarded {
                val request = camera.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW).apply {
                    addTarget(surface)
                    set(CaptureRequest.CONTROL_AF_MODE, CaptureRequest.CONTROL_AF_MODE_CONTINUOUS_PICTURE)
                }
                session.setRepeatingRequest(request.build(), null, handler)
            }

            override fun onConfigureFailed(session: CameraCaptureSession) = onError("the camera refused the picture size")
        }
        camera.createCaptureSession(listOf(surface), callback, handler)
    }
}
