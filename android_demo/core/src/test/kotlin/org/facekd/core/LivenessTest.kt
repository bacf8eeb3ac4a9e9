package org.facekd.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class LivenessTest {
    private fun floats(value: Any?) = value.doubles().map { it.toFloat() }.toFloatArray()

    private fun box(value: Any?) = value.doubles().map { it.toFloat() }.let { Box(it[0], it[1], it[2], it[3]) }

    private fun observation(value: Any?): Observation {
        fun number(name: String) = value.field("quality").field(name) as Double
        val pose = Pose(number("rollDegrees"), number("yaw"), number("pitch"))
        val quality = Quality(number("eyeDistance"), pose, number("brightness"), number("sharpness"))
        return Observation(Face(box(value.field("box")), emptyList(), 0.9f), quality, floats(value.field("embedding")))
    }

    @Test
    fun everySequenceGivesTheReferencesAnswers() {
        for (case in Vectors.liveness) {
            val draws = case.field("draws").items().map { turns -> turns.items().map { Turn.valueOf((it as String).uppercase()) } }.iterator()
            val demand = LivenessDemand.valueOf((case.field("demand") as String).uppercase())
            val session = RecognitionSession()
            val liveness = LivenessSession(demand, case.field("live_above") as Double, draw = { draws.next() })
            val threshold = case.field("threshold") as Double
            val gallery = case.field("gallery").items().map { Template(it.field("person") as String, floats(it.field("embedding")), 0) }
            for ((number, frame) in case.field("frames").items().withIndex()) {
                val where = "${case.field("name")}, frame $number"
                val time = frame.field("time_ms").int().toLong()
                val faces = frame.field("faces").items()
                val seen = faces.map(::observation)
                val judged = session.look(Unit, time, seen, threshold) { identify(it, gallery, threshold) }.faces
                assertEquals(where, frame.field("verdicts").items(), judged.map { it.verdict.name.lowercase() })
                val found = liveness.look(judged, seen, faces.map { it.field("live") as Double? }, time, threshold)
                assertEquals(where, frame.field("expected").items(), found.map { it.name.lowercase() })
            }
        }
    }

    @Test
    fun cropsAreThoseOfThePublicCode() {
        for (want in Vectors.json["liveness"].field("regions").items()) {
            val found = cropRegion(box(want.field("box")), want.field("width").int(), want.field("height").int(), want.field("scale") as Double)
            assertEquals(want.field("region").items().map { it.int() }, found!!.run { listOf(left, top, right, bottom) })
        }
        assertNull(cropRegion(Box(0f, 0f, 0f, 9f), 100, 100, 2.7))
        assertNull(cropRegion(Box(Float.NaN, 0f, 9f, 9f), 100, 100, 2.7))
        assertNull(cropRegion(Box(0f, 0f, 9f, 9f), 1, 1, 2.7))
    }

    @Test
    fun pixelsAreOpenCvs() {
        val scene = Vectors.scene
        for (want in Vectors.json["liveness"].field("crops").items()) {
            val size = want.field("size").int()
            val region = cropRegion(box(want.field("box")), scene.width, scene.height, want.field("scale") as Double)!!
            val found = cropTo(scene, region, size, size)
            val expected = want.field("pixels").items().map { it.int() }
            found.pixels.forEachIndexed { at, pixel ->
                listOf(pixel.red, pixel.green, pixel.blue).forEachIndexed { channel, value ->
                    assertTrue("pixel $at", Math.abs(value - expected[3 * at + channel]) <= 1)
                }
            }
        }
    }

    @Test
    fun theScoreIsTheMeanOfTheNetworksSoftmax() {
        val vectors = Vectors.json["liveness"]
        val logits = floats(vectors.field("logits"))
        val softmax = vectors.field("softmax").doubles()
        class Fixed(private val values: FloatArray) : Network {
            override fun run(input: FloatArray, height: Int, width: Int) = mapOf("out" to values)
            override fun close() = Unit
        }
        val input = InputSpec(80, 80, true, FloatArray(3), FloatArray(3) { 1f })
        fun network(values: FloatArray, probabilities: Boolean) =
            LivenessNetwork(Fixed(values), LivenessModel("a.onnx", 2.7, input, "out", 2, probabilities))
        val detector = LivenessDetector(listOf(network(logits, false), network(floatArrayOf(0.25f, 0.5f, 0.25f), true)), 0.5)
        assertEquals((softmax[2] + 0.25) / 2, detector.score(RgbImage(200, 200), Box(50f, 50f, 60f, 60f))!!, 1e-6)
        assertNull(detector.score(RgbImage(200, 200), Box(50f, 50f, -1f, 60f)))
        assertThrows(IllegalArgumentException::class.java) {
            network(floatArrayOf(Float.NaN, 0f, 0f), false).probability(RgbImage(9, 9), Box(1f, 1f, 5f, 5f))
        }
    }

    /** Foreshortening along the eyes moves every point alike: nose and eyes keep their ratio. */
    @Test
    fun aFlatPictureThatIsTurnedDoesNotTurnTheHead() {
        val face = TEMPLATE_112
        val ahead = Pose.of(face).yaw
        for (share in listOf(0.9, 0.7, 0.5)) {
            assertEquals(ahead, Pose.of(face.map { Point(it.x * share, it.y) }).yaw, 0.01)
        }
    }

    @Test
    fun aCheckWithoutATurnIsNone() {
        assertThrows(IllegalArgumentException::class.java) { ActiveCheck(emptyList(), floatArrayOf(1f), 0, 0.5) }
        val check = ActiveCheck(listOf(Turn.LEFT), floatArrayOf(1f), 0, 0.5)
        assertEquals(Step.TURN_LEFT, check.look(10, Pose(0.0, Double.NaN, 0.5), null))
        assertEquals("a clock that goes back", Step.TOO_LATE, check.look(-1, Pose(0.0, 0.4, 0.5), null))
        assertEquals("it is over", Step.TOO_LATE, check.look(20, Pose(0.0, 0.4, 0.5), null))
    }
}
