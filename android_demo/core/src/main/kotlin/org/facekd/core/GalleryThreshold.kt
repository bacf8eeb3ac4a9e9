package org.facekd.core

import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.sqrt

/**
 * A line of a [ThresholdTable].
 *
 * @property far false accept rate of one comparison: the share of the pairs of two people that scores above [cos].
 * @property farHigh upper end of the 95 % interval of that rate; null where nobody measured it.
 */
data class RatedThreshold(val far: Double, val cos: Double, val farHigh: Double?)

/** The threshold for a gallery, or why there is none. */
sealed class GalleryThreshold {
    /**
     * @property fpir what holds: at most this share of the searches of a stranger names somebody.
     * @property samples that each face is compared with.
     */
    data class Kept(val fpir: Double, val samples: Int, val threshold: RatedThreshold) : GalleryThreshold() {
        /** Upper end of the 95 % interval of [fpir]; null where the table has none. */
        val atWorst: Double? get() = threshold.farHigh?.let { minOf(1.0, it * samples) }
    }

    /**
     * The table ends before the rate that [fpir] needs.
     *
     * @property best the lowest share that the table supports for so many samples; null where that is every search.
     * @property mostSamples for which it would support [fpir]; 0 where not even for one.
     * @property peopleNeeded people with one image each, on whom a calibration supports [fpir] for so many samples.
     */
    data class Refused(val fpir: Double, val samples: Int, val best: Double?, val mostSamples: Long, val peopleNeeded: Long) :
        GalleryThreshold()
}

/**
 * The thresholds of a model by false accept rate, and what they promise to a gallery.
 *
 * A stranger is compared with every sample: at a false accept rate FAR, N samples name a stranger in at most N * FAR of
 * the searches (union bound). So a promised share FPIR takes the threshold of FAR = FPIR / N, as `facekd calibrate` and
 * facekd/evaluation/gallery.py do. N counts samples, not people. Of the rates in the table it is the largest that is not
 * above; below the lowest one nothing is made up. thresholds.js has the same, and both give what
 * tests/android/gallery_reference.py gives.
 *
 * @property source faces that it was measured on.
 * @property entries by falling rate.
 * @property identities,impostorPairs that it rests on; null where it is the older table of single comparisons.
 */
class ThresholdTable(
    val source: String,
    val entries: List<RatedThreshold>,
    val identities: Long? = null,
    val impostorPairs: Long? = null,
) {
    init {
        require(entries.isNotEmpty()) { "a table of thresholds needs at least one" }
        require(entries.all { it.far > 0 && it.far < 1 && it.cos.isFinite() }) { "a false accept rate lies between 0 and 1" }
        require(entries.zipWithNext().all { (a, b) -> a.far > b.far && a.cos <= b.cos }) {
            "thresholds must rise while their rates fall"
        }
    }

    /** Measured by `facekd calibrate`: with intervals, on all pairs of some people. */
    val isCalibrated: Boolean get() = impostorPairs != null

    val lowestFar: Double get() = entries.last().far

    /** The threshold of the largest rate that is not above [far]; null where the table ends before. */
    fun thresholdFor(far: Double): RatedThreshold? = entries.firstOrNull { it.far <= far * (1 + ROUNDING) }

    /**
     * The threshold that names a stranger in at most [fpir] of the searches of [samples] samples. Null asks for [USUAL],
     * or for the least that the table supports where it does not support that.
     */
    fun forGallery(fpir: Double?, samples: Int): GalleryThreshold {
        val compared = maxOf(1, samples)
        val asked = fpir ?: USUAL
        thresholdFor(asked / compared)?.let { return GalleryThreshold.Kept(asked, compared, it) }
        val best = (compared * lowestFar).takeIf { it < 1 }
        if (fpir == null && best != null) return GalleryThreshold.Kept(best, compared, entries.last())
        val most = floor(asked / lowestFar * (1 + ROUNDING)).toLong()
        return GalleryThreshold.Refused(asked, compared, best, most, peopleFor(asked / compared))
    }

    /** Above it two embeddings pass as one person: in following a face, and in the samples of one enrolment. */
    fun pairCos(fpir: Double?): Double =
        (forGallery(fpir, 1) as? GalleryThreshold.Kept)?.threshold?.cos ?: entries.last().cos

    companion object {
        /** Shares of the strangers' searches that the user can choose. */
        val PROMISES = listOf(1e-2, 1e-3, 1e-4)
        const val USUAL = 1e-3

        private const val ROUNDING = 1e-9

        /** `facekd calibrate` asks for so many pairs above a threshold, at rates of which ten are in a decade. */
        private const val FEWEST_ABOVE = 30
        private val STEP = Math.pow(10.0, 0.1)

        private fun peopleFor(far: Double): Long = ceil((1 + sqrt(1 + 8 * FEWEST_ABOVE * STEP / far)) / 2).toLong()

        /** The 1,000 of "1 in 1,000": never more than [rate] is worth. */
        fun oneIn(rate: Double): Long = floor((1 + ROUNDING) / rate).toLong()

        /** The older table of a manifest: [rates] measured on lists of pairs, never less strict at a lower rate. */
        fun ofPairs(rates: List<Threshold>): ThresholdTable? {
            var strictest = Double.NEGATIVE_INFINITY
            val entries = rates.map { rate ->
                strictest = maxOf(strictest, rate.cos)
                RatedThreshold(rate.far, strictest, null)
            }
            return if (entries.isEmpty()) null else ThresholdTable(rates.map { it.dataset }.distinct().joinToString(), entries)
        }
    }
}
