package org.facekd.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class YuvTest {
    /** Lays samples out with the given strides, as devices do; the last row ends with its last sample. */
    private fun plane(samples: ByteArray, columns: Int, rows: Int, padding: Int, pixelStride: Int): Plane {
        val rowStride = columns * pixelStride + padding
        val bytes = ByteArray((rows - 1) * rowStride + (columns - 1) * pixelStride + 1) { 77 }
        for (r in 0 until rows) for (c in 0 until columns) bytes[r * rowStride + c * pixelStride] = samples[r * columns + c]
        return Plane(bytes, rowStride, pixelStride)
    }

    private fun bytes(value: Any?) = value.doubles().map { it.toInt().toByte() }.toByteArray()

    @Test
    fun equalsOpenCvWithAnyStrides() {
        for (vector in Vectors.json["yuv"].items()) {
            val w = vector.field("width").int()
            val h = vector.field("height").int()
            val expected = vector.field("rgb").doubles()
            for ((padding, stride) in listOf(0 to 1, 5 to 1, 0 to 2, 3 to 2, 16 to 3)) {
                val image = yuvToRgb(
                    w,
                    h,
                    plane(bytes(vector.field("y")), w, h, padding, 1),
                    plane(bytes(vector.field("u")), (w + 1) / 2, (h + 1) / 2, padding, stride),
                    plane(bytes(vector.field("v")), (w + 1) / 2, (h + 1) / 2, padding, stride),
                )
                image.pixels.forEachIndexed { i, p ->
                    listOf(p.red, p.green, p.blue).forEachIndexed { c, level ->
                        // OpenCV rounds its own integer coefficients: one level apart at most.
                        assertEquals("$w x $h strides $padding $stride, pixel $i channel $c", expected[3 * i + c], level.toDouble(), 1.0)
                    }
                }
            }
        }
    }

    @Test
    fun greyStaysGrey() {
        val chroma = Plane(ByteArray(4) { -128 }, 2, 1)
        val image = yuvToRgb(4, 4, Plane(ByteArray(16) { (it * 17).toByte() }, 4, 1), chroma, chroma)
        image.pixels.forEachIndexed { i, p -> assertEquals(listOf(i * 17, i * 17, i * 17), listOf(p.red, p.green, p.blue)) }
    }

    @Test
    fun refusesTooFewBytes() {
        val chroma = Plane(ByteArray(4), 2, 1)
        val error = assertThrows(IllegalArgumentException::class.java) { yuvToRgb(4, 4, Plane(ByteArray(15), 4, 1), chroma, chroma) }
        assertTrue(error.message!!.contains("needs 16 bytes"))
        assertThrows(IllegalArgumentException::class.java) { yuvToRgb(4, 4, Plane(ByteArray(16), 3, 1), chroma, chroma) }
    }
}
