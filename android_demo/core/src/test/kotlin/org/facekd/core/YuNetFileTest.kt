package org.facekd.core

import java.util.Random
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class YuNetFileTest {
    private fun bytes(vararg values: Int) = ByteArray(values.size) { values[it].toByte() }

    private fun field(number: Int, vararg parts: ByteArray): ByteArray {
        val content = parts.fold(ByteArray(0)) { all, part -> all + part }
        check(content.size < 128 * 128)
        val length = if (content.size < 128) bytes(content.size) else bytes(content.size and 0x7F or 0x80, content.size shr 7)
        return bytes(number shl 3 or 2) + length + content
    }

    private fun dimension(value: Int) = field(1, bytes(8) + if (value < 128) bytes(value) else bytes(value and 0x7F or 0x80, value shr 7))

    private fun value(name: String, shape: ByteArray) =
        field(1, name.toByteArray()) + field(2, field(1, bytes(8, 1) + shape))

    @Test
    fun onlyTheDeclaredSizesGo() {
        val weights = field(5, ByteArray(300).also { Random(1).nextBytes(it) }) + bytes(8, 7) + bytes(0x1D, 1, 2, 3, 4)
        val one = dimension(1)
        val input = field(11, value("input", field(2, one, dimension(3), dimension(640), dimension(640))))
        val output = field(12, value("cls_8", field(2, one, dimension(6400), one)))
        val model = bytes(8, 6) + field(7, weights, field(13, value("inner", field(2, one))), input, output) + field(2, "pytorch".toByteArray())
        val freeInput = field(11, value("input", field(2, one, dimension(3), field(1), field(1))))
        val freeOutput = field(12, value("cls_8", ByteArray(0)))
        val expected = bytes(8, 6) + field(7, weights, freeInput, freeOutput) + field(2, "pytorch".toByteArray())
        assertArrayEquals(expected, yuNetForAnySize(model))
        assertArrayEquals(expected, yuNetForAnySize(expected))
        // Cut inside the model's last field.
        assertThrows(IllegalArgumentException::class.java) { yuNetForAnySize(model.copyOf(model.size - 3)) }
        assertThrows(IllegalArgumentException::class.java) { yuNetForAnySize("GIF89a".toByteArray()) }
    }
}
