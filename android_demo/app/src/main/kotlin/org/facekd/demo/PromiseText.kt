package org.facekd.demo

import android.content.Context
import java.text.NumberFormat
import org.facekd.core.GalleryThreshold
import org.facekd.core.ThresholdTable

/** What is said of a promise: how often a stranger is named, for how many people, and why not where it is refused. */
class PromiseText(private val context: Context) {
    /** "1 in 1,000 strangers, 37 people (111 samples)", or the refusal. [person] is that of the question "Is it them?". */
    fun line(table: ThresholdTable, answer: GalleryThreshold, people: Int, person: String? = null): String = when (answer) {
        is GalleryThreshold.Refused -> refusal(answer, people, person)
        is GalleryThreshold.Kept -> {
            val kept = text(R.string.promise_kept, oneIn(answer.fpir), whom(answer.samples, people, person), answer.threshold.cos)
            if (table.isCalibrated) kept else text(R.string.promise_of_pairs, kept)
        }
    }

    fun refusal(answer: GalleryThreshold.Refused, people: Int, person: String? = null): String {
        val whom = if (people == 0) samples(answer.samples.toLong()) else whom(answer.samples, people, person)
        val best = answer.best?.let { text(R.string.promise_best, oneIn(it)) } ?: text(R.string.promise_none)
        val needed = number(answer.peopleNeeded)
        val asked = oneIn(answer.fpir)
        if (answer.mostSamples < 1) return text(R.string.promise_refused, asked, whom, best, needed)
        return text(R.string.promise_refused_fewer, asked, whom, best, needed, samples(answer.mostSamples))
    }

    /** A choice in Settings: [fpir] for a gallery of this size; null is the one that follows the model. */
    fun option(table: ThresholdTable, fpir: Double?, samples: Int, people: Int): String {
        val answer = table.forGallery(fpir, samples)
        val asked = oneIn(fpir ?: ThresholdTable.USUAL)
        if (answer is GalleryThreshold.Refused) {
            val best = answer.best?.let { text(R.string.promise_best, oneIn(it)) } ?: text(R.string.promise_none)
            return text(R.string.option_refused, asked, whom(answer.samples, people, null), best)
        }
        answer as GalleryThreshold.Kept
        val start = if (fpir == null) text(R.string.option_usual, asked, oneIn(answer.fpir)) else text(R.string.option_fixed, asked)
        val worst = answer.atWorst ?: return text(R.string.option_threshold, start, answer.threshold.cos)
        return text(R.string.option_threshold_worst, start, answer.threshold.cos, oneIn(worst))
    }

    /** What the table rests on. */
    fun basis(table: ThresholdTable): String {
        val people = table.identities
        val pairs = table.impostorPairs
        if (people == null || pairs == null) return text(R.string.basis_pairs, table.source)
        return text(R.string.basis_calibrated, table.source, number(people), number(pairs))
    }

    private fun whom(samples: Int, people: Int, person: String?): String {
        if (person != null) return text(R.string.gallery_of, person, samples(samples.toLong()))
        if (people == 0) return text(R.string.gallery_empty)
        val named = context.resources.getQuantityString(R.plurals.people_count, people, number(people.toLong()))
        return text(R.string.gallery_of, named, samples(samples.toLong()))
    }

    private fun samples(count: Long): String =
        context.resources.getQuantityString(R.plurals.sample_count, minOf(count, 1_000_000).toInt(), number(count))

    private fun oneIn(rate: Double) = number(ThresholdTable.oneIn(rate))

    private fun number(value: Long): String = NumberFormat.getIntegerInstance().format(value)

    private fun text(id: Int, vararg values: Any): String = context.getString(id, *values)
}
