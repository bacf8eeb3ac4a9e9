package org.facekd.core

import kotlin.math.ceil
import kotlin.math.sqrt

/** One enrolled person, without their embeddings. */
data class Enrolled(val person: String, val samples: Int, val firstConsent: Consent)

/** A sample of a [Gallery] and its cosine to a probe. */
class Nearest(val person: String, val scoreCos: Double)

/**
 * Samples in few large arrays ([GalleryBlock]), searched flat and exactly. It never changes: another one comes of each
 * change, which shares what stayed the same. For several threads, where one alone adds.
 *
 * As a list it makes each template anew, which [nearest], [nearestOf] and [people] do without.
 */
class Gallery internal constructor(
    internal val blocks: List<GalleryBlock>,
    override val size: Int,
    internal val names: List<String>,
) : AbstractList<Template>(), RandomAccess {
    /** Of the embeddings; null where there are none. */
    val width: Int? get() = blocks.firstOrNull()?.width

    override fun get(index: Int): Template {
        if (index !in 0 until size) throw IndexOutOfBoundsException("sample $index of $size")
        val block = blocks[index / LARGEST]
        return block.template(index % LARGEST, names[block.person(index % LARGEST)])
    }

    /** Everybody in alphabetical order. */
    fun people(): List<Enrolled> {
        val counts = IntArray(names.size)
        val consents = arrayOfNulls<Consent>(names.size)
        forEachRow { block, row ->
            val person = block.person(row)
            counts[person]++
            val consent = block.consent(row)
            if (consents[person].let { it == null || consent.givenMs < it.givenMs }) consents[person] = consent
        }
        return names.indices.filter { counts[it] > 0 }
            .map { Enrolled(names[it], counts[it], requireNotNull(consents[it])) }
            .sortedBy { it.person }
    }

    /** All samples of one person. */
    fun of(person: String): List<Template> {
        val wanted = names.indexOf(person)
        val found = mutableListOf<Template>()
        forEachRow { block, row -> if (block.person(row) == wanted) found += block.template(row, person) }
        return found
    }

    /** How many samples one person has. */
    fun count(person: String): Int {
        val wanted = names.indexOf(person)
        return if (wanted < 0) 0 else (0 until size).count { blocks[it / LARGEST].person(it % LARGEST) == wanted }
    }

    fun isEnrolled(person: String): Boolean {
        val wanted = names.indexOf(person)
        return wanted >= 0 && (0 until size).any { blocks[it / LARGEST].person(it % LARGEST) == wanted }
    }

    /** @throws IllegalArgumentException these cannot stand beside one another. */
    fun check(templates: List<Template>) {
        val expected = width ?: templates.firstOrNull()?.embedding?.size ?: return
        for (template in templates) {
            require(template.embedding.size == expected) { "samples of one model have one width" }
            GalleryBlock.code(template.embedding)
        }
    }

    /** With [templates] after those that are here. */
    operator fun plus(templates: List<Template>): Gallery {
        check(templates)
        return GalleryBuilder(this).apply { templates.forEach(::add) }.build()
    }

    fun renamed(person: String, name: String) = GalleryBuilder(this).apply { rename(person, name) }.build()

    /** Without [person]: in arrays that hold nothing of them. */
    fun without(person: String): Gallery =
        GalleryBuilder().also { out -> forEach { if (it.person != person) out.add(it) } }.build()

    /**
     * The sample with the highest cosine to [probe], of equals the first; null where there is none.
     *
     * Exact: 16-bit codes choose the candidates, [cosine] decides among them. A code differs from the embedding at its
     * length by at most a half in each dimension, so by Cauchy and Schwarz a product of two codes of length c differs
     * from c^2 times the cosine by at most c sqrt(d) + d / 4; whoever is twice that below the best cannot be it.
     *
     * @param except a person who is left out.
     */
    fun nearest(probe: FloatArray, except: String? = null): Nearest? {
        val first = blocks.firstOrNull() ?: return null
        requireOneWidth(probe.size, first.width)
        val left = if (except == null) -1 else names.indexOf(except)
        val code = ProbeCode(probe, first.capacity)
        val sums = IntArray(first.capacity)
        val margin = ceil(2 * (GalleryBlock.CODE_LENGTH * sqrt(probe.size.toDouble()) + probe.size / 4.0)).toInt() + 1
        val candidates = Candidates()
        var best = -LARGEST_SUM
        for ((at, block) in blocks.withIndex()) {
            val count = minOf(size - at * LARGEST, LARGEST)
            block.score(code, count, sums)
            for (row in 0 until count) {
                val sum = sums[row]
                if (sum >= best - margin && block.person(row) != left) {
                    if (sum > best) best = sum
                    candidates.add(at * LARGEST + row, sum)
                }
            }
        }
        return candidates.atLeast(best - margin).fold(null as Nearest?) { found, row -> better(found, probe, row) }
    }

    /** As [nearest], among the samples of [person] alone; nothing is copied. */
    fun nearestOf(person: String, probe: FloatArray): Nearest? {
        val wanted = names.indexOf(person)
        if (wanted < 0) return null
        var found: Nearest? = null
        for ((at, block) in blocks.withIndex()) {
            for (row in 0 until minOf(size - at * LARGEST, LARGEST)) {
                if (block.person(row) == wanted) found = better(found, probe, at * LARGEST + row)
            }
        }
        return found
    }

    private fun better(found: Nearest?, probe: FloatArray, index: Int): Nearest {
        val block = blocks[index / LARGEST]
        val score = block.cosine(probe, index % LARGEST)
        if (found != null && found.scoreCos >= score) return found
        return Nearest(names[block.person(index % LARGEST)], score)
    }

    private inline fun forEachRow(look: (GalleryBlock, Int) -> Unit) {
        for (index in 0 until size) look(blocks[index / LARGEST], index % LARGEST)
    }

    companion object {
        private const val LARGEST = GalleryBlock.LARGEST

        /** Below every sum of products less a margin, and both within 32 bits. */
        private const val LARGEST_SUM = 1_200_000_000

        val EMPTY = Gallery(emptyList(), 0, emptyList())

        fun of(templates: List<Template>): Gallery = templates as? Gallery ?: (EMPTY + templates)
    }
}

/** Adds to a gallery sample by sample, in its last block where that has room. */
internal class GalleryBuilder(gallery: Gallery = Gallery.EMPTY) {
    private val blocks = gallery.blocks.toMutableList()
    private val names = gallery.names.toMutableList()
    private val places = names.withIndex().associateTo(HashMap()) { (place, name) -> Pair(name, place) }
    var size = gallery.size
        private set

    fun add(template: Template) {
        val row = size % GalleryBlock.LARGEST
        if (row == 0) blocks += GalleryBlock(template.embedding.size, if (size == 0) SMALLEST else GalleryBlock.LARGEST)
        val last = blocks.last()
        // What another gallery added after this one's samples is not this one's.
        if (row == last.capacity || row != last.used) {
            blocks[blocks.size - 1] = last.copy(row, (2 * row).coerceIn(SMALLEST, GalleryBlock.LARGEST))
        }
        blocks.last().add(template, places.getOrPut(template.person) { names.size.also { names += template.person } })
        size++
    }

    /** [name] is nobody's yet. */
    fun rename(person: String, name: String) {
        val place = places.remove(person) ?: return
        names[place] = name
        places[name] = place
    }

    fun build() = Gallery(blocks.toList(), size, names.toList())

    private companion object {
        const val SMALLEST = 16
    }
}

/** Samples by their place, in order, and the sum that made each a candidate. */
private class Candidates {
    private var places = IntArray(64)
    private var sums = IntArray(64)
    private var count = 0

    fun add(place: Int, sum: Int) {
        if (count == places.size) {
            places = places.copyOf(2 * count)
            sums = sums.copyOf(2 * count)
        }
        places[count] = place
        sums[count++] = sum
    }

    fun atLeast(least: Int): List<Int> = (0 until count).filter { sums[it] >= least }.map { places[it] }
}
