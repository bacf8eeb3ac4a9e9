package org.facekd.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class EmbeddingTest {
    private class Fixed(val answer: (FloatArray) -> FloatArray) : Network {
        override fun run(input: FloatArray, height: Int, width: Int) = mapOf("embedding" to answer(input))
        override fun close() = Unit
    }

    private val spec = InputSpec(112, 112, false, FloatArray(3) { 127.5f }, FloatArray(3) { 127.5f })

    @Test
    fun normalisesAsFacekdDoes() {
        val vector = Vectors.json["normalise"]
        fun floats(name: String) = vector.field(name).doubles().map { it.toFloat() }.toFloatArray()
        val found = InputSpec(112, 112, true, floats("mean"), floats("std")).normalise(Vectors.crops[0])
        for (place in vector.field("places").items()) {
            val (c, y, x) = place.doubles().take(3).map { it.toInt() }
            assertEquals(place.doubles()[3], found[(c * 112 + y) * 112 + x].toDouble(), 1e-5)
        }
        assertThrows(IllegalArgumentException::class.java) { spec.normalise(RgbImage(111, 112)) }
    }

    @Test
    fun embeddingIsTheUnitSumOverTheFlip() {
        // The first pixel's red, and a constant: the flip's first pixel is the row's last.
        val crop = RgbImage(112, 112, IntArray(112 * 112) { if (it == 0) rgb(255, 0, 0) else rgb(0, 0, 0) })
        val found = Embedder(Fixed { floatArrayOf(it[0], 3f) }, spec, "embedding").embed(crop)
        // (1 + -1, 3 + 3) has the direction (0, 1).
        assertEquals(0f, found[0], 1e-6f)
        assertEquals(1f, found[1], 1e-6f)
    }

    @Test
    fun cosineByHand() {
        assertEquals(0.6, cosine(floatArrayOf(3f, 4f), floatArrayOf(2f, 0f)), 1e-9)
        assertEquals(-1.0, cosine(floatArrayOf(1f, 1f), floatArrayOf(-2f, -2f)), 1e-9)
        assertThrows(IllegalArgumentException::class.java) { cosine(FloatArray(2) { 1f }, FloatArray(3) { 1f }) }
        assertThrows(IllegalArgumentException::class.java) { cosine(FloatArray(2), FloatArray(2) { 1f }) }
    }

    @Test
    fun selfTestRefusesWhatComputesSomethingElse() {
        val golden = floatArrayOf(1f, 0f)
        fun run(x: Float, y: Float, bound: Double) =
            selfTest(Embedder(Fixed { floatArrayOf(x, y) }, spec, "embedding"), RgbImage(112, 112), golden, bound)
        assertTrue(run(2f, 0f, 0.9999).passed)
        // cos(0.1) = 0.995: above 0.99, below an fp32 manifest's 0.9999; cos(0.2) = 0.980: below both.
        assertTrue(run(0.995f, 0.0998f, 0.98).passed)
        assertFalse(run(0.995f, 0.0998f, 0.9999).passed)
        assertFalse(run(0.980f, 0.1987f, 0.5).passed)
        assertFalse(run(Float.NaN, 0f, 0.5).passed)
        assertFalse(run(0f, 0f, 0.5).passed)
    }
}
