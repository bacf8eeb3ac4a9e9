package org.facekd.core

/** The image turned clockwise by [degrees], a multiple of 90. */
fun RgbImage.rotated(degrees: Int): RgbImage {
    val turns = Math.floorMod(degrees, 360)
    require(turns % 90 == 0) { "rotation must be a multiple of 90 degrees, got $degrees" }
    if (turns == 0) return this
    val out = if (turns == 180) RgbImage(width, height) else RgbImage(height, width)
    // Where the first pixel goes, and the steps for one to the right and one down: nothing is allocated per pixel.
    val (first, right, down) = when (turns) {
        90 -> intArrayOf(height - 1, height, -1)
        180 -> intArrayOf(width * height - 1, -1, -width)
        else -> intArrayOf((width - 1) * height, -height, 1)
    }
    for (y in 0 until height) {
        var to = first + y * down
        for (x in 0 until width) {
            out.pixels[to] = pixels[y * width + x]
            to += right
        }
    }
    return out
}

/** Left and right exchanged. For display of a front camera, and for the flip-summed embedding. */
fun RgbImage.mirrored(): RgbImage {
    val out = RgbImage(width, height)
    for (y in 0 until height) {
        for (x in 0 until width) out.pixels[y * width + width - 1 - x] = pixels[y * width + x]
    }
    return out
}

/**
 * How far a sensor's image must be turned clockwise to stand upright on the display (camera2's rule).
 *
 * @param sensorDegrees CameraCharacteristics.SENSOR_ORIENTATION.
 * @param displayDegrees the display's rotation, 0, 90, 180 or 270.
 * @param front whether the camera faces the user: its image turns the other way.
 */
fun uprightRotation(sensorDegrees: Int, displayDegrees: Int, front: Boolean): Int =
    Math.floorMod(if (front) sensorDegrees + displayDegrees else sensorDegrees - displayDegrees, 360)
