package org.facekd.core

/**
 * One plane of a YUV_420_888 image. Strides differ between devices: rows may be padded, chroma may be interleaved.
 *
 * @property bytes the plane from its first sample; the last row may end with its last sample.
 * @property rowStride bytes from one row to the next.
 * @property pixelStride bytes from one sample to the next in a row.
 */
class Plane(val bytes: ByteArray, val rowStride: Int, val pixelStride: Int) {
    internal fun check(name: String, columns: Int, rows: Int) {
        require(pixelStride >= 1 && rowStride >= (columns - 1) * pixelStride + 1) {
            "plane $name: $columns samples do not fit a row of $rowStride bytes with pixel stride $pixelStride"
        }
        val needed = (rows - 1) * rowStride + (columns - 1) * pixelStride + 1
        require(bytes.size >= needed) { "plane $name: needs $needed bytes, got ${bytes.size}" }
    }
}

/**
 * YUV_420_888 to RGB by BT.601 in full range, which is what camera2 delivers (JFIF): no 16-to-235 scaling.
 *
 * Chroma is taken from the sample that covers the pixel, (x / 2, y / 2). Odd sizes are fine.
 */
fun yuvToRgb(width: Int, height: Int, y: Plane, u: Plane, v: Plane): RgbImage {
    val image = RgbImage(width, height)
    y.check("Y", width, height)
    u.check("U", (width + 1) / 2, (height + 1) / 2)
    v.check("V", (width + 1) / 2, (height + 1) / 2)
    var at = 0
    for (row in 0 until height) {
        val yRow = row * y.rowStride
        val uRow = row / 2 * u.rowStride
        val vRow = row / 2 * v.rowStride
        for (column in 0 until width) {
            val luma = (y.bytes[yRow + column * y.pixelStride].toInt() and 0xFF) shl FRACTION
            val cb = (u.bytes[uRow + column / 2 * u.pixelStride].toInt() and 0xFF) - 128
            val cr = (v.bytes[vRow + column / 2 * v.pixelStride].toInt() and 0xFF) - 128
            image.pixels[at++] = rgb(
                level(luma + RED_CR * cr),
                level(luma - GREEN_CB * cb - GREEN_CR * cr),
                level(luma + BLUE_CB * cb),
            )
        }
    }
    return image
}

// BT.601's full-range coefficients as integers of 2^-14.
private const val FRACTION = 14
private const val RED_CR = 22970 // 1.402
private const val GREEN_CB = 5638 // 0.344136
private const val GREEN_CR = 11700 // 0.714136
private const val BLUE_CB = 29032 // 1.772

private fun level(value: Int): Int = ((value + (1 shl (FRACTION - 1))) shr FRACTION).coerceIn(0, 255)
