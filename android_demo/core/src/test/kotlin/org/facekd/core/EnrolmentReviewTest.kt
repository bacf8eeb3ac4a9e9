package org.facekd.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class EnrolmentReviewTest {
    private fun floats(value: Any?) = value.doubles().map { it.toFloat() }.toFloatArray()

    @Test
    fun everyCaseGivesTheReferencesAnswer() {
        val kinds = mutableSetOf<String>()
        for (case in Vectors.enrolment) {
            val stored = case.field("stored").items().map { Template(it.field("person") as String, floats(it.field("embedding")), 0) }
            val samples = case.field("samples").items().map(::floats)
            val found = review(case.field("person") as String, samples, stored, case.field("threshold") as Double)
            val want = case.field("expected")
            val expected = when (want.field("kind") as String) {
                "odd" -> Review.Odd(want.field("sample").int())
                "name_taken" -> Review.NameTaken
                "known" -> Review.Known(want.field("person") as String, (found as Review.Known).scoreCos)
                else -> Review.Fine
            }
            assertEquals(case.field("person").toString(), expected, found)
            kinds += want.field("kind") as String
        }
        assertEquals(setOf("odd", "name_taken", "known", "fine"), kinds)
    }

    @Test
    fun personalDataIsThatPersonsAlone() {
        val quality = Quality(44.0, Pose(1.0, 0.1, 0.5), 120.0, 90.0)
        val stored = listOf(
            Template("Ada", floatArrayOf(0.6f, 0.8f), 5, Consent(3, 1), quality),
            Template("Ben", floatArrayOf(0f, 1f), 6, Consent(4, 1), quality),
            Template("Ada", floatArrayOf(1f, 0f), 7, Consent(3, 1)),
        )
        val text = personalData("Ada", "m".repeat(64), stored)
        val found = Json.parse(text)
        assertEquals("Ada", found.field("person"))
        assertTrue("Ben" !in text)
        val samples = found.field("samples").items()
        assertEquals(listOf(5, 7), samples.map { it.field("created_ms").int() })
        assertEquals(3, samples[0].field("consent").field("given_ms").int())
        assertEquals(1, samples[0].field("consent").field("text_version").int())
        assertEquals(44.0, samples[0].field("quality").field("eye_distance"))
        assertEquals(null, samples[1].field("quality").field("yaw"))
        assertEquals(0.8, samples[0].field("embedding").doubles()[1], 1e-6)
    }
}
