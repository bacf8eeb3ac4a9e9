package org.facekd.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class GeometryTest {
    @Test
    fun similarityEqualsUmeyamaBySvd() {
        for (vector in Vectors.json["alignment"].items()) {
            val found = similarityTransform(vector.field("landmarks").points(), template(vector.field("size").int()))
            val m = vector.field("matrix").doubles()
            assertEquals(m[0], found.a, 1e-9)
            assertEquals(m[3], found.b, 1e-9)
            assertEquals(m[1], -found.b, 1e-9)
            assertEquals(m[2], found.tx, 1e-6)
            assertEquals(m[5], found.ty, 1e-6)
        }
    }

    @Test
    fun inverseUndoes() {
        val s = Similarity(0.7, -1.2, 30.0, -4.0)
        val p = s.inverse().apply(s.apply(Point(12.5, 7.0)))
        assertEquals(12.5, p.x, 1e-9)
        assertEquals(7.0, p.y, 1e-9)
    }

    @Test
    fun alignedFacesEqualOpenCvWithinALevel() {
        val faces = Vectors.json["detector"].field("faces").items()
        faces.zip(Vectors.crops).forEach { (face, crop) ->
            val found = align(Vectors.scene, face.field("landmarks").points(), 112)
            assertTrue(meanDifference(crop, found) < 1.0)
        }
    }

    @Test
    fun outsideIsBlackAndIdentityChangesNothing() {
        val scene = Vectors.scene
        assertEquals(0.0, meanDifference(scene, warp(scene, Similarity(1.0, 0.0, 0.0, 0.0), scene.width, scene.height)), 0.0)
        val moved = warp(scene, Similarity(1.0, 0.0, 300.0, 0.0), 256, 256)
        assertTrue(moved.pixels.all { it == OPAQUE })
    }

    @Test
    fun refusesPointsWithoutATransform() {
        val one = List(5) { Point(3.0, 3.0) }
        assertThrows(IllegalArgumentException::class.java) { similarityTransform(one, TEMPLATE_112) }
        val broken = TEMPLATE_112.drop(1) + Point(Double.NaN, 0.0)
        assertThrows(IllegalArgumentException::class.java) { similarityTransform(broken, TEMPLATE_112) }
    }

    @Test
    fun resizeKeepsMeansAndRamps() {
        val flat = RgbImage(10, 8, IntArray(80) { rgb(10, 200, 33) })
        assertTrue(resize(flat, 7, 3).pixels.all { it == rgb(10, 200, 33) })
        val ramp = RgbImage(64, 1, IntArray(64) { rgb(4 * it, 0, 0) })
        val half = resize(ramp, 32, 1)
        // Pixel centres: target x stands at 2 x + 0.5, where the ramp is 8 x + 2.
        for (x in 1 until 31) assertEquals(8.0 * x + 2, half[x, 0].red.toDouble(), 1.0)
    }
}
