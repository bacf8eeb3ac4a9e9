package org.facekd.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class GalleryThresholdTest {
    /** Read from a manifest, as the app does. */
    private fun table(part: Any?): ThresholdTable {
        val manifest = ManifestTest.parsed + mapOf("thresholds" to part.field("thresholds"), "calibration" to part.field("calibration"))
        return Manifest.parse(Json.write(manifest)).table!!
    }

    @Test
    fun everyGalleryGetsTheReferencesThreshold() {
        val tables = (Vectors.gallery.field("tables") as Map<*, *>).mapValues { table(it.value) }
        var kept = 0
        val cases = Vectors.gallery.field("cases").items()
        for (case in cases) {
            val where = listOf("table", "fpir", "samples").joinToString { case.field(it).toString() }
            val found = tables.getValue(case.field("table")).forGallery(case.field("fpir") as Double?, case.field("samples").int())
            val want = case.field("expected")
            fun number(name: String) = want.field(name) as Double?
            when (found) {
                is GalleryThreshold.Kept -> {
                    assertTrue(where, want.field("kept") as Boolean)
                    assertEquals(where, number("fpir")!!, found.fpir, 1e-12)
                    assertEquals(where, number("threshold_cos")!!, found.threshold.cos, 0.0)
                    assertEquals(where, number("one_in")!!.toLong(), ThresholdTable.oneIn(found.fpir))
                    assertEquals(where, number("at_worst") ?: -1.0, found.atWorst ?: -1.0, 1e-12)
                    kept++
                }
                is GalleryThreshold.Refused -> {
                    assertFalse(where, want.field("kept") as Boolean)
                    assertEquals(where, number("best_one_in")?.toLong(), found.best?.let(ThresholdTable::oneIn))
                    assertEquals(where, number("most_samples")!!.toLong(), found.mostSamples)
                    assertEquals(where, number("people_needed")!!.toLong(), found.peopleNeeded)
                }
            }
        }
        assertTrue(kept > 100 && cases.size - kept > 100)
    }

    @Test
    fun aPairPassesByItsOwnRate() {
        val table = table(Vectors.gallery.field("tables").field("pairs alone"))
        assertEquals(listOf(0.31, 0.42, 0.42, 0.42), listOf(1e-2, 1e-3, 1e-4, null).map(table::pairCos))
        assertEquals("a", table.source)
        assertFalse(table.isCalibrated)
    }

    @Test
    fun theCalibrationComesFirst() {
        val table = table(Vectors.gallery.field("tables").field("lfw"))
        assertTrue(table.isCalibrated)
        assertEquals(listOf(800L, 319_600L), listOf(table.identities, table.impostorPairs))
    }

    @Test
    fun aModelWithoutThresholdsHasNoTable() {
        val manifest = Manifest.parse(Json.write(ManifestTest.parsed + mapOf("thresholds" to emptyList<Any>())))
        assertNull(manifest.table)
    }

    @Test
    fun aDamagedTableIsRefused() {
        val made = Vectors.gallery.field("tables").field("made").field("calibration") as Map<*, *>
        fun refusal(calibration: Map<*, *>): String {
            val text = Json.write(ManifestTest.parsed + mapOf("calibration" to calibration))
            return assertThrows(ManifestException::class.java) { Manifest.parse(text) }.message!!
        }
        val rows = made["thresholds"].items()
        assertTrue("at least one" in refusal(made + mapOf("thresholds" to emptyList<Any>())))
        assertTrue("must rise" in refusal(made + mapOf("thresholds" to rows.reversed())))
        assertTrue("far must be a number" in refusal(made + mapOf("thresholds" to listOf(rows[0] as Map<*, *> + mapOf("far" to null)))))
        assertTrue("between 0 and 1" in refusal(made + mapOf("thresholds" to listOf(rows[0] as Map<*, *> + mapOf("far" to 0)))))
    }

    /** Somebody who resembles Ada more than two strangers do, but not as much as a gallery asks for. */
    @Test
    fun whoIsKnownIsDecidedAsInNaming() {
        val stored = listOf(Template("Ada", floatArrayOf(1f, 0f), 0))
        val samples = listOf(floatArrayOf(0.6f, 0.8f))
        assertTrue(review("Bea", samples, stored, 0.5) is Review.Known)
        assertEquals(Review.Fine, review("Bea", samples, stored, 0.5, galleryCos = 0.7))
    }
}
