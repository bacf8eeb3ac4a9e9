package org.facekd.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class EnrolmentTest {
    private val policy = EnrolmentPolicy()
    private val scene = Vectors.scene
    private val faces = Vectors.json["detector"].field("faces").items().map {
        Face(Box(0f, 0f, 50f, 60f), it.field("landmarks").points(), 0.9f)
    }

    /** A face straight ahead, sharp: a checkerboard of 4 pixels under the template at twice its size. */
    private val board = RgbImage(224, 224, IntArray(224 * 224) { if ((it % 224 / 8 + it / 224 / 8) % 2 == 0) rgb(250, 250, 250) else OPAQUE })
    private val ahead = template(224)

    private fun refusals(image: RgbImage, marks: List<Point>) = policy.refusals(image, listOf(Face(Box(0f, 0f, 1f, 1f), marks, 1f)))

    private fun turned(marks: List<Point>, degrees: Double): List<Point> {
        val a = Math.cos(Math.toRadians(degrees))
        val b = Math.sin(Math.toRadians(degrees))
        return marks.map { Point(112 + a * (it.x - 112) - b * (it.y - 112), 112 + b * (it.x - 112) + a * (it.y - 112)) }
    }

    @Test
    fun oneSharpFaceAheadWillDo() = assertEquals(emptyList<Refusal>(), refusals(board, ahead))

    @Test
    fun exactlyOneFace() {
        assertEquals(listOf(Refusal.NO_FACE), policy.refusals(scene, emptyList()))
        assertEquals(listOf(Refusal.SEVERAL_FACES), policy.refusals(scene, faces))
    }

    @Test
    fun eachFaultHasItsName() {
        assertEquals(listOf(Refusal.TOO_SMALL), refusals(board, ahead.map { Point(it.x * 0.4, it.y * 0.4) }))
        assertEquals(listOf(Refusal.TILTED), refusals(board, turned(ahead, 25.0)))
        assertEquals(listOf(Refusal.TILTED), refusals(board, turned(ahead, -25.0)))
        assertEquals(emptyList<Refusal>(), refusals(board, turned(ahead, 15.0)))
        fun nose(dx: Double, dy: Double) = ahead.mapIndexed { i, p -> if (i == 2) Point(p.x + dx, p.y + dy) else p }
        assertEquals(listOf(Refusal.TURNED), refusals(board, nose(24.0, 0.0)))
        assertEquals(listOf(Refusal.TURNED), refusals(board, nose(-24.0, 0.0)))
        assertEquals(listOf(Refusal.NODDED), refusals(board, nose(0.0, -24.0)))
        assertEquals(listOf(Refusal.NODDED), refusals(board, nose(0.0, 30.0)))
        val flat = RgbImage(224, 224, IntArray(224 * 224) { rgb(128, 128, 128) })
        assertEquals(listOf(Refusal.BLURRED), refusals(flat, ahead))
        assertEquals(listOf(Refusal.TOO_DARK, Refusal.BLURRED), refusals(RgbImage(224, 224), ahead))
        assertEquals(listOf(Refusal.TOO_SMALL), refusals(board, List(5) { Point(Double.NaN, 0.0) }))
    }

    @Test
    fun poseIsMeasuredAlongTheEyes() {
        val pose = Pose.of(turned(ahead, 10.0))
        assertEquals(10.0 + Pose.of(ahead).rollDegrees, pose.rollDegrees, 1e-6)
        assertEquals(Pose.of(ahead).yaw, pose.yaw, 1e-6)
        assertEquals(Pose.of(ahead).pitch, pose.pitch, 1e-6)
    }

    @Test
    fun sharpnessEqualsOpenCvsLaplacian() {
        val expected = Vectors.json["sharpness"].doubles()
        // OpenCV rounds brightness to whole levels first, which adds up to 20/12 to the variance.
        Vectors.crops.zip(expected.toList()).forEach { (crop, e) -> assertEquals(e, sharpness(crop), 3.0) }
        assertTrue(sharpness(RgbImage(8, 8)) == 0.0)
    }
}
