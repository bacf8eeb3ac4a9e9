package org.facekd.core

import java.util.Random
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Test

class GalleryTest {
    private val random = Random(3)

    private fun vector(width: Int) = unit(FloatArray(width) { random.nextGaussian().toFloat() })

    private fun people(count: Int, width: Int) = List(count) { Template("p${it / 3}", vector(width), it.toLong()) }

    /** What [Gallery.nearest] promises, by its definition. */
    private fun closest(probe: FloatArray, templates: List<Template>): Pair<String, Double>? =
        templates.map { Pair(it.person, cosine(probe, it.embedding)) }.maxByOrNull { it.second }

    private fun same(expected: Pair<String, Double>?, found: Nearest?) = assertEquals(expected, found?.let { Pair(it.person, it.scoreCos) })

    /** Several blocks, a part of one, odd widths, lengths other than one: always the sample that a full search finds. */
    @Test
    fun theNearestIsThatOfAFullSearch() {
        for ((count, width) in listOf(Pair(2500, 33), Pair(1024, 8), Pair(1025, 4), Pair(17, 512), Pair(1, 1))) {
            val templates = people(count, width).map { Template(it.person, stretched(it.embedding), it.createdMs) }
            val gallery = Gallery.of(templates)
            for (probe in List(20) { vector(width) } + templates.takeLast(3).map { it.embedding }) {
                same(closest(probe, templates), gallery.nearest(probe))
                same(closest(probe, templates.filter { it.person != "p0" }), gallery.nearest(probe, except = "p0"))
                same(closest(probe, templates.filter { it.person == "p5" }), gallery.nearestOf("p5", probe))
            }
        }
    }

    private fun stretched(embedding: FloatArray): FloatArray {
        val by = 0.01f + random.nextInt(1000)
        return FloatArray(embedding.size) { embedding[it] * by }
    }

    /** Samples that 16-bit codes cannot tell apart; and of equal ones the first. */
    @Test
    fun nearlyEqualSamplesAreToldApart() {
        val middle = vector(64)
        val templates = List(3000) { i ->
            Template("p$i", unit(FloatArray(64) { middle[it] + 1e-6f * random.nextGaussian().toFloat() }), 0)
        }
        val gallery = Gallery.of(templates + Template("twin", templates[7].embedding, 0))
        for (probe in listOf(middle, templates[7].embedding, templates[2999].embedding)) same(closest(probe, templates), gallery.nearest(probe))
    }

    /** No component of a vector, and no sum, is beyond what a code can hold. */
    @Test
    fun vectorsAlongAnAxisAreCompared() {
        val axes = List(4) { axis -> Template("p$axis", FloatArray(4) { if (it == axis) -1f else 0f }, 0) }
        val gallery = Gallery.of(axes)
        assertEquals(Pair("p2", 1.0), gallery.nearest(floatArrayOf(0f, 0f, -2f, 0f))!!.let { Pair(it.person, it.scoreCos) })
        assertEquals(0.0, gallery.nearest(floatArrayOf(0f, 0f, 3f, 0f))!!.scoreCos, 0.0)
    }

    @Test
    fun aGalleryIsNotChangedByThoseThatComeOfIt() {
        val first = Gallery.of(people(20, 16))
        val before = first.map { Triple(it.person, it.createdMs, it.embedding.toList()) }
        val one = first + people(2000, 16)
        val other = first + List(5) { Template("other", vector(16), 7) }
        val renamed = other.renamed("other", "another")
        first.without("p0")
        assertEquals(before, first.map { Triple(it.person, it.createdMs, it.embedding.toList()) })
        assertEquals(2020, one.size)
        assertEquals(List(5) { "other" }, other.takeLast(5).map { it.person })
        assertEquals(List(5) { "another" }, renamed.takeLast(5).map { it.person })
        assertEquals(before, one.take(20).map { Triple(it.person, it.createdMs, it.embedding.toList()) })
    }

    @Test
    fun whatWasAddedReadsBack() {
        val quality = Quality(44.0, Pose(1.0, 0.1, 0.5), 120.0, 90.0)
        val sample = Template("Ada", floatArrayOf(3f, 0f, -1f), 5, Consent(9, 2), quality)
        val gallery = Gallery.of(listOf(Template("Ben", floatArrayOf(0f, 1f, 0f), 1, Consent(8, 1)), sample, sample))
        val found = gallery[1]
        assertArrayEquals(sample.embedding, found.embedding, 0f)
        assertEquals(listOf("Ada", 5L, Consent(9, 2), quality), listOf(found.person, found.createdMs, found.consent, found.quality))
        assertEquals(listOf(Enrolled("Ada", 2, Consent(9, 2)), Enrolled("Ben", 1, Consent(8, 1))), gallery.people())
        assertEquals(2, gallery.of("Ada").size)
        assertEquals(listOf("Ben"), gallery.without("Ada").people().map { it.person })
    }

    @Test
    fun whatCannotBeComparedIsRefused() {
        val gallery = Gallery.of(people(3, 4))
        assertThrows(IllegalArgumentException::class.java) { gallery.nearest(FloatArray(4)) }
        assertThrows(IllegalArgumentException::class.java) { gallery.nearest(FloatArray(5) { 1f }) }
        assertThrows(IllegalArgumentException::class.java) { gallery + listOf(Template("x", FloatArray(5) { 1f }, 0)) }
        assertThrows(IllegalArgumentException::class.java) { gallery + listOf(Template("x", FloatArray(4), 0)) }
        assertNull(Gallery.EMPTY.nearest(FloatArray(4)))
        assertNull(gallery.nearestOf("nobody", vector(4)))
    }
}
