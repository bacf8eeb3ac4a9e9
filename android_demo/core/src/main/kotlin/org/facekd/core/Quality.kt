package org.facekd.core

import kotlin.math.abs
import kotlin.math.atan2
import kotlin.math.cos
import kotlin.math.hypot
import kotlin.math.sin

/**
 * Where a face looks, from its five landmarks alone.
 *
 * @property rollDegrees the line through the eyes against the horizontal, clockwise positive.
 * @property yaw the nose's distance from the eyes' middle along that line, in eye distances; 0 looks ahead.
 * @property pitch where the nose lies between the eyes' line (0) and the mouth's (1); about 0.5 looks ahead.
 */
data class Pose(val rollDegrees: Double, val yaw: Double, val pitch: Double) {
    companion object {
        fun of(landmarks: List<Point>): Pose {
            require(landmarks.size == 5) { "the pose needs five landmarks, got ${landmarks.size}" }
            val (left, right, nose, mouthLeft, mouthRight) = landmarks
            val roll = atan2(right.y - left.y, right.x - left.x)
            val distance = hypot(right.x - left.x, right.y - left.y)
            val eyes = Point((left.x + right.x) / 2, (left.y + right.y) / 2)
            val mouth = Point((mouthLeft.x + mouthRight.x) / 2, (mouthLeft.y + mouthRight.y) / 2)
            fun along(p: Point) = (p.x - eyes.x) * cos(roll) + (p.y - eyes.y) * sin(roll)
            fun down(p: Point) = -(p.x - eyes.x) * sin(roll) + (p.y - eyes.y) * cos(roll)
            return Pose(Math.toDegrees(roll), along(nose) / distance, down(nose) / down(mouth))
        }
    }
}

/**
 * How well one picture shows one face.
 *
 * @property eyeDistance between the eyes, in pixels of the picture.
 * @property brightness mean grey level (BT.601) of the aligned crop, 0 to 255.
 * @property sharpness variance of the Laplacian of the aligned crop, see [sharpness].
 */
data class Quality(val eyeDistance: Double, val pose: Pose, val brightness: Double, val sharpness: Double) {
    companion object {
        /** Of the face with these [landmarks] in [image]; measured on the aligned crop of 112 pixels. */
        fun of(image: RgbImage, landmarks: List<Point>): Quality {
            val eyes = hypot(landmarks[1].x - landmarks[0].x, landmarks[1].y - landmarks[0].y)
            // Landmarks of a degenerate face cannot be aligned and have no pose: nothing passes a floor.
            if (!(eyes >= 1)) return NONE
            val crop = align(image, landmarks, CROP)
            return Quality(eyes, Pose.of(landmarks), brightness(crop), sharpness(crop))
        }

        /** Of what shows no face. */
        val NONE = Quality(0.0, Pose(Double.NaN, Double.NaN, Double.NaN), 0.0, 0.0)

        private const val CROP = 112
    }
}

/**
 * What a picture of a face must reach. Every limit of the app stands in this class and nowhere else; quality.js has the
 * same. Size, pose, illumination and sharpness are the components of ISO/IEC 29794-5 that five landmarks and a crop can
 * measure; the limits are facekd's choice, after measuring EdgeFace-XS on LFW's photographs (202 of fold 1), where a
 * limit lies above the value at which the cosine to the undisturbed photograph falls below 0.9 for one face in twenty:
 * eyes 16 pixels apart 0.95, Gaussian blur of 2 pixels (sharpness 6 to 24) 0.91, a quarter of the light (brightness 20
 * to 39) 0.85.
 *
 * @property eyeDistance least, in pixels.
 * @property yaw largest magnitude, in eye distances.
 * @property rollDegrees largest magnitude.
 * @property pitch range.
 * @property brightness least. Low on purpose: a limit that dark skin in good light does not pass would be wrong.
 * @property sharpness least.
 */
class QualityFloor(
    val eyeDistance: Double,
    val yaw: Double,
    val rollDegrees: Double,
    val pitch: ClosedFloatingPointRange<Double>,
    val brightness: Double,
    val sharpness: Double,
) {
    /** What [quality] lacks, the gravest first; empty when it will do. */
    fun faults(quality: Quality): List<Refusal> {
        val (eyes, pose, light, sharp) = quality
        // "not within" rather than "beyond": what is not a number is refused too. A tiny face has no pose worth a word.
        if (!(eyes >= eyeDistance)) return listOf(Refusal.TOO_SMALL)
        val found = mutableListOf<Refusal>()
        if (!(abs(pose.yaw) <= yaw)) found += Refusal.TURNED
        if (!(abs(pose.rollDegrees) <= rollDegrees)) found += Refusal.TILTED
        if (pose.pitch !in pitch) found += Refusal.NODDED
        if (!(light >= brightness)) found += Refusal.TOO_DARK
        if (!(sharp >= sharpness)) found += Refusal.BLURRED
        return found
    }

    companion object {
        /** For a face that is to be named. */
        val PROBE = QualityFloor(20.0, 0.4, 30.0, 0.25..0.8, 20.0, 8.0)

        /** For a sample that is kept: a bad one harms every later comparison. Aligned faces have 35 pixels between the eyes. */
        val ENROLMENT = QualityFloor(30.0, 0.25, 20.0, 0.3..0.75, 40.0, 40.0)
    }
}

/** Mean grey level of [image], 0 to 255. */
fun brightness(image: RgbImage): Double = image.pixels.sumOf { it.grey.toDouble() } / image.pixels.size

/** Variance of the 4-neighbour Laplacian of the brightness (Pech-Pacheco 2000), borders left out. */
fun sharpness(image: RgbImage): Double {
    require(image.width >= 3 && image.height >= 3) { "sharpness needs 3x3 pixels, got ${image.width}x${image.height}" }
    var sum = 0.0
    var squares = 0.0
    for (y in 1 until image.height - 1) {
        for (x in 1 until image.width - 1) {
            val value = image[x - 1, y].grey + image[x + 1, y].grey + image[x, y - 1].grey + image[x, y + 1].grey -
                4.0 * image[x, y].grey
            sum += value
            squares += value * value
        }
    }
    val count = (image.width - 2) * (image.height - 2)
    return squares / count - (sum / count) * (sum / count)
}
