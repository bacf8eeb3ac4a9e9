package org.facekd.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Test

class SessionTest {
    private fun floats(value: Any?) = value.doubles().map { it.toFloat() }.toFloatArray()

    private fun quality(value: Any?): Quality {
        fun number(name: String) = value.field(name) as Double
        val pose = Pose(number("rollDegrees"), number("yaw"), number("pitch"))
        return Quality(number("eyeDistance"), pose, number("brightness"), number("sharpness"))
    }

    private fun observation(value: Any?): Observation {
        val box = value.field("box").doubles().map { it.toFloat() }
        val face = Face(Box(box[0], box[1], box[2], box[3]), emptyList(), 0.9f)
        return Observation(face, quality(value.field("quality")), floats(value.field("embedding")))
    }

    @Test
    fun everySequenceGivesTheReferencesAnswers() {
        for (case in Vectors.session) {
            val session = RecognitionSession()
            val threshold = case.field("threshold") as Double
            val asked = case.field("asked") as String?
            val gallery = case.field("gallery").items().map { Template(it.field("person") as String, floats(it.field("embedding")), 0) }
            for ((number, frame) in case.field("frames").items().withIndex()) {
                val where = "${case.field("name")}, frame $number"
                val seen = frame.field("faces").items().map(::observation)
                val found = session.look(number, frame.field("time_ms").int().toLong(), seen, threshold) {
                    if (asked == null) identify(it, gallery, threshold) else verify(it, asked, gallery, threshold)
                }
                assertEquals(where, number, found.picture)
                val expected = frame.field("expected").items()
                assertEquals(where, expected.size, found.faces.size)
                for ((want, got) in expected.zip(found.faces)) {
                    assertEquals(where, want.field("track").int(), got.track)
                    assertEquals(where, want.field("verdict"), got.verdict.name.lowercase())
                    assertEquals(where, want.field("fault"), got.fault?.name?.lowercase())
                    assertEquals(where, want.field("person"), got.match?.person)
                    val score = want.field("score") as Double?
                    if (score == null) assertNull(where, got.match) else assertEquals(where, score, got.match!!.scoreCos, 1e-5)
                }
                found.faces.zip(seen).forEach { (judged, observation) -> assertSame(where, observation.face, judged.face) }
            }
        }
    }

    @Test
    fun aReclaimedSessionKnowsNobody() {
        val case = Vectors.session.first { it.field("name") == "one person" }
        val session = RecognitionSession(agreeing = 2)
        val seen = case.field("frames").items()[0].field("faces").items().map(::observation)
        val gallery = listOf(Template("Ada", seen[0].embedding!!, 0))
        fun look(at: Long) = session.look(Unit, at, seen, 0.5) { identify(it, gallery, 0.5) }.faces.single().verdict
        assertEquals(Verdict.UNDECIDED, look(0))
        assertEquals(Verdict.PERSON, look(1))
        session.reset()
        assertEquals(Verdict.UNDECIDED, look(2))
        assertEquals(Verdict.PERSON, look(3))
        assertEquals("a clock that goes back", Verdict.UNDECIDED, look(0))
    }

    @Test
    fun aGoodFrameWithoutAnEmbeddingNamesNobody() {
        val seen = observation(Vectors.session[0].field("frames").items()[0].field("faces").items()[0])
        val bare = Observation(seen.face, seen.quality, null)
        val judged = RecognitionSession(agreeing = 1).look(Unit, 0, listOf(bare), 0.5) { error("compared") }.faces.single()
        assertEquals(Verdict.UNUSABLE, judged.verdict)
        assertNull(judged.fault)
    }

    @Test
    fun qualityIsMeasuredAsTheReferenceMeasuresIt() {
        val faces = Vectors.json["detector"].field("faces").items()
        Vectors.json["quality"].items().forEachIndexed { at, want ->
            val marks = faces[at].field("landmarks").points()
            val crop = Vectors.crops[at]
            val pose = Pose.of(marks)
            assertEquals(want.field("rollDegrees") as Double, pose.rollDegrees, 1e-3)
            assertEquals(want.field("yaw") as Double, pose.yaw, 1e-4)
            assertEquals(want.field("pitch") as Double, pose.pitch, 1e-4)
            assertEquals(want.field("brightness") as Double, brightness(crop), 1e-3)
            assertEquals(want.field("sharpness") as Double, sharpness(crop), 1e-2)
            val whole = Quality.of(Vectors.scene, marks)
            assertEquals(want.field("eyeDistance") as Double, whole.eyeDistance, 1e-3)
            // Its crop is Kotlin's own: half a grey level apart.
            assertEquals(want.field("brightness") as Double, whole.brightness, 0.5)
        }
    }

    @Test
    fun landmarksInOnePointPassNoFloor() {
        val quality = Quality.of(RgbImage(8, 8), List(5) { Point(3.0, 3.0) })
        assertTrue(Refusal.TOO_SMALL in QualityFloor.PROBE.faults(quality))
        val nowhere = Quality.of(RgbImage(8, 8), List(5) { Point(Double.NaN, 3.0) })
        assertTrue(Refusal.TOO_SMALL in QualityFloor.PROBE.faults(nowhere))
    }
}
