package org.facekd.core

import kotlin.math.abs
import kotlin.math.atan2
import kotlin.math.cos
import kotlin.math.hypot
import kotlin.math.sin

/** Why a picture does not do for enrolment; the app has a sentence for each. */
enum class Refusal { NO_FACE, SEVERAL_FACES, TOO_SMALL, TURNED, TILTED, NODDED, BLURRED }

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
 * What a picture must be for enrolment. The limits are facekd's choice: a bad sample harms every later comparison.
 *
 * @property smallestEyeDistance in pixels: aligned faces have 35, so fewer than 30 would be enlarged.
 * @property leastSharpness variance of the Laplacian of the aligned crop's brightness.
 */
class EnrolmentPolicy(
    private val smallestEyeDistance: Double = 30.0,
    private val largestRollDegrees: Double = 20.0,
    private val largestYaw: Double = 0.25,
    private val pitch: ClosedFloatingPointRange<Double> = 0.3..0.75,
    private val leastSharpness: Double = 40.0,
) {
    /** Everything that speaks against [image] with these [faces], the gravest first; empty when it will do. */
    fun refusals(image: RgbImage, faces: List<Face>): List<Refusal> {
        if (faces.isEmpty()) return listOf(Refusal.NO_FACE)
        if (faces.size > 1) return listOf(Refusal.SEVERAL_FACES)
        val marks = faces.single().landmarks
        val eyeDistance = hypot(marks[1].x - marks[0].x, marks[1].y - marks[0].y)
        // Landmarks of a tiny or degenerate face give no pose.
        if (!(eyeDistance >= smallestEyeDistance)) return listOf(Refusal.TOO_SMALL)
        val pose = Pose.of(marks)
        val found = mutableListOf<Refusal>()
        // "not within" rather than "beyond": a pose that is not a number is refused too.
        if (!(abs(pose.yaw) <= largestYaw)) found += Refusal.TURNED
        if (!(abs(pose.rollDegrees) <= largestRollDegrees)) found += Refusal.TILTED
        if (pose.pitch !in pitch) found += Refusal.NODDED
        if (sharpness(align(image, marks, 112)) < leastSharpness) found += Refusal.BLURRED
        return found
    }
}

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
