package org.facekd.core

/** Whether new samples may be kept under a name. */
sealed class Review {
    /** Nothing speaks against it. */
    object Fine : Review()

    /** The samples are not of one person; [sample] is the one that differs most, from 0. */
    data class Odd(val sample: Int) : Review()

    /** Somebody else has this name. */
    object NameTaken : Review()

    /** They look like [person], who is enrolled under that name. */
    data class Known(val person: String, val scoreCos: Double) : Review()
}

/**
 * Looks at new samples before they are kept: a wrong one would let somebody pass as another person for good.
 *
 * First, all must pass as one person by the threshold in use; else the one with the lowest mean cosine to the others is
 * the odd one (of equals the last). Then each must pass as the person who has the name already, if somebody has. Last,
 * none may pass as somebody of another name, by [galleryCos], the threshold that names people. The rules are facekd's
 * choice; people.js has the same, and both give what tests/android/session_reference.py gives.
 */
fun review(
    person: String,
    samples: List<FloatArray>,
    stored: List<Template>,
    thresholdCos: Double,
    galleryCos: Double = thresholdCos,
): Review {
    val scores = samples.map { a -> samples.map { b -> cosine(a, b) } }
    val all = samples.indices
    if (all.any { i -> all.any { j -> i != j && scores[i][j] <= thresholdCos } }) {
        val means = all.map { i -> all.filter { it != i }.sumOf { scores[i][it] } / (samples.size - 1) }
        return Review.Odd(all.reversed().minByOrNull { means[it] }!!)
    }
    val gallery = Gallery.of(stored)
    val own = samples.mapNotNull { gallery.nearestOf(person, it) }
    if (own.any { it.scoreCos <= thresholdCos }) return Review.NameTaken
    val known = samples.mapNotNull { gallery.nearest(it, except = person) }.maxByOrNull { it.scoreCos }
    return known?.takeIf { it.scoreCos > galleryCos }?.let { Review.Known(it.person, it.scoreCos) } ?: Review.Fine
}
