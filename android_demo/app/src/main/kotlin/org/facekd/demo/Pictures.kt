package org.facekd.demo

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.media.ExifInterface
import android.media.Image
import android.net.Uri
import java.io.IOException
import org.facekd.core.Plane
import org.facekd.core.RgbImage
import org.facekd.core.mirrored
import org.facekd.core.rotated
import org.facekd.core.yuvToRgb

/** Pictures as core has them, and as views show them. */
object Pictures {
    fun of(bitmap: Bitmap): RgbImage {
        val pixels = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        return RgbImage(bitmap.width, bitmap.height, pixels)
    }

    fun bitmap(image: RgbImage): Bitmap =
        Bitmap.createBitmap(image.pixels, image.width, image.height, Bitmap.Config.ARGB_8888)

    /** A camera2 YUV_420_888 image; the caller closes it. */
    fun of(image: Image): RgbImage {
        val (y, u, v) = image.planes.map { plane ->
            val buffer = plane.buffer
            Plane(ByteArray(buffer.remaining()).also { buffer.get(it) }, plane.rowStride, plane.pixelStride)
        }
        return yuvToRgb(image.width, image.height, y, u, v)
    }

    /** Exact pixels of a PNG: no scaling to the screen's density, no premultiplied alpha. */
    fun decode(bytes: ByteArray): RgbImage {
        val options = BitmapFactory.Options().apply { inScaled = false }
        val bitmap = BitmapFactory.decodeByteArray(bytes, 0, bytes.size, options) ?: throw IOException("the picture cannot be decoded")
        return of(bitmap)
    }

    /** A picture the user chose, upright, reduced by halves to at most [largestSide] times two. */
    fun open(resolver: ContentResolver, uri: Uri, largestSide: Int): RgbImage {
        val bytes = resolver.openInputStream(uri)?.use { it.readBytes() } ?: throw IOException("the picture cannot be opened")
        val bounds = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        BitmapFactory.decodeByteArray(bytes, 0, bytes.size, bounds)
        val options = BitmapFactory.Options().apply {
            inScaled = false
            inSampleSize = 1
            while (maxOf(bounds.outWidth, bounds.outHeight) / inSampleSize > 2 * largestSide) inSampleSize *= 2
        }
        val bitmap = BitmapFactory.decodeByteArray(bytes, 0, bytes.size, options) ?: throw IOException("the picture cannot be decoded")
        val orientation = bytes.inputStream().use { ExifInterface(it) }
            .getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)
        return upright(of(bitmap), orientation)
    }

    private fun upright(image: RgbImage, orientation: Int): RgbImage = when (orientation) {
        ExifInterface.ORIENTATION_FLIP_HORIZONTAL -> image.mirrored()
        ExifInterface.ORIENTATION_ROTATE_180 -> image.rotated(180)
        ExifInterface.ORIENTATION_FLIP_VERTICAL -> image.rotated(180).mirrored()
        ExifInterface.ORIENTATION_TRANSPOSE -> image.rotated(90).mirrored()
        ExifInterface.ORIENTATION_ROTATE_90 -> image.rotated(90)
        ExifInterface.ORIENTATION_TRANSVERSE -> image.rotated(270).mirrored()
        ExifInterface.ORIENTATION_ROTATE_270 -> image.rotated(270)
        else -> image
    }
}
