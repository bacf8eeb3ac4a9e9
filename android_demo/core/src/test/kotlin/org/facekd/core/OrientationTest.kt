package org.facekd.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class OrientationTest {
    private val image = RgbImage(3, 2, intArrayOf(1, 2, 3, 4, 5, 6))

    private fun check(expectedWidth: Int, expected: IntArray, found: RgbImage) {
        assertEquals(expectedWidth, found.width)
        assertArrayEquals(expected, found.pixels)
    }

    @Test
    fun allRotationsWithAndWithoutMirror() {
        // Written out by hand from 1 2 3 / 4 5 6.
        check(3, intArrayOf(1, 2, 3, 4, 5, 6), image.rotated(0))
        check(2, intArrayOf(4, 1, 5, 2, 6, 3), image.rotated(90))
        check(3, intArrayOf(6, 5, 4, 3, 2, 1), image.rotated(180))
        check(2, intArrayOf(3, 6, 2, 5, 1, 4), image.rotated(270))
        check(3, intArrayOf(3, 2, 1, 6, 5, 4), image.rotated(0).mirrored())
        check(2, intArrayOf(1, 4, 2, 5, 3, 6), image.rotated(90).mirrored())
        check(3, intArrayOf(4, 5, 6, 1, 2, 3), image.rotated(180).mirrored())
        check(2, intArrayOf(6, 3, 5, 2, 4, 1), image.rotated(270).mirrored())
        check(2, intArrayOf(3, 6, 2, 5, 1, 4), image.rotated(-90))
        assertThrows(IllegalArgumentException::class.java) { image.rotated(45) }
    }

    @Test
    fun uprightRotationFollowsCamera2() {
        // A phone's usual sensors: back 90, front 270; portrait, then turned to landscape (display 90).
        assertEquals(90, uprightRotation(90, 0, front = false))
        assertEquals(0, uprightRotation(90, 90, front = false))
        assertEquals(180, uprightRotation(90, 270, front = false))
        assertEquals(270, uprightRotation(270, 0, front = true))
        assertEquals(0, uprightRotation(270, 90, front = true))
    }
}
