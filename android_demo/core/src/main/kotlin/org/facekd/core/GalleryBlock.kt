package org.facekd.core

import kotlin.math.roundToInt
import kotlin.math.sqrt

/**
 * Up to [LARGEST] samples of [width] dimensions in primitive arrays.
 *
 * `values` holds the embeddings as they were given, one after another. `codes` holds them again at length
 * [CODE_LENGTH], rounded to 16 bits, two dimensions of all samples after two dimensions of all samples: the loop of
 * [score] is one that the JVM's compiler vectorises (vpmaddwd on x86), which it does with no loop that sums floats.
 *
 * Samples are only ever added, in place; who holds an older [Gallery] reads those before them.
 */
internal class GalleryBlock(val width: Int, val capacity: Int) {
    private val values = FloatArray(capacity * width)
    private val codes = ShortArray(capacity * padded(width))
    private val people = IntArray(capacity)
    private val createdMs = LongArray(capacity)
    private val consentMs = LongArray(capacity)
    private val consentText = IntArray(capacity)
    private val quality = arrayOfNulls<Quality>(capacity)
    var used = 0
        private set

    /** [person] is the place of the name in the gallery's list. */
    fun add(template: Template, person: Int) {
        val row = used
        val code = code(template.embedding)
        template.embedding.copyInto(values, row * width)
        for (dimension in code.indices) codes[(dimension / 2 * capacity + row) * 2 + dimension % 2] = code[dimension]
        people[row] = person
        createdMs[row] = template.createdMs
        consentMs[row] = template.consent.givenMs
        consentText[row] = template.consent.textVersion
        quality[row] = template.quality
        used = row + 1
    }

    /** The first [count] samples in a block of [capacity]. */
    fun copy(count: Int, capacity: Int): GalleryBlock {
        val out = GalleryBlock(width, capacity)
        for (row in 0 until count) out.add(template(row, ""), people[row])
        return out
    }

    fun person(row: Int): Int = people[row]

    fun createdMs(row: Int): Long = createdMs[row]

    fun consent(row: Int): Consent = Consent(consentMs[row], consentText[row])

    fun template(row: Int, person: String): Template {
        val embedding = values.copyOfRange(row * width, (row + 1) * width)
        return Template(person, embedding, createdMs[row], consent(row), requireNotNull(quality[row]))
    }

    /** The same figure as for the embedding by itself, without copying it. */
    fun cosine(probe: FloatArray, row: Int): Double = cosine(probe, values, row * width)

    /** Products of the probe's code with the codes of the first [count] samples, into [sums]. */
    fun score(probe: ProbeCode, count: Int, sums: IntArray) {
        sums.fill(0, 0, count)
        for (pair in 0 until padded(width) / 2) {
            addProducts(sums, codes, pair * 2 * capacity, probe.repeated, pair * 2 * probe.lanes, count)
        }
    }

    private fun addProducts(sums: IntArray, a: ShortArray, atA: Int, b: ShortArray, atB: Int, count: Int) {
        for (i in 0 until count) {
            sums[i] += a[atA + 2 * i] * b[atB + 2 * i] + a[atA + 2 * i + 1] * b[atB + 2 * i + 1]
        }
    }

    companion object {
        /** With 512 dimensions 3 MB. */
        const val LARGEST = 1024

        /** The length of a coded embedding; a component is at most that, and a product of two below 2^31. */
        const val CODE_LENGTH = 32767.0

        /** Even: dimensions are taken two at a time. */
        fun padded(width: Int): Int = width + width % 2

        /** [embedding] at length [CODE_LENGTH], rounded. */
        fun code(embedding: FloatArray): ShortArray {
            val length = sqrt(embedding.sumOf { it.toDouble() * it })
            require(length > 0 && length.isFinite()) { "an embedding of length $length has no direction" }
            return ShortArray(padded(embedding.size)) {
                if (it < embedding.size) (embedding[it] / length * CODE_LENGTH).roundToInt().toShort() else 0
            }
        }
    }
}

/** A probe's code, each two dimensions [lanes] times over, as [GalleryBlock.score] reads them. */
internal class ProbeCode(probe: FloatArray, val lanes: Int) {
    val repeated: ShortArray

    init {
        val code = GalleryBlock.code(probe)
        repeated = ShortArray(code.size * lanes)
        for (pair in 0 until code.size / 2) {
            val from = pair * 2 * lanes
            code.copyInto(repeated, from, 2 * pair, 2 * pair + 2)
            var done = 2
            while (done < 2 * lanes) { // by doubling: a megabyte for each search
                val more = minOf(done, 2 * lanes - done)
                repeated.copyInto(repeated, from + done, from, from + more)
                done += more
            }
        }
    }
}
