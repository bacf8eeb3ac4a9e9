package org.facekd.core

/**
 * That a person agreed to be enrolled.
 *
 * @property givenMs milliseconds since 1970.
 * @property textVersion of the text that they agreed to, from 1.
 */
data class Consent(val givenMs: Long, val textVersion: Int)

/**
 * One sample of an enrolled person.
 *
 * @property person who, as the user named them.
 * @property embedding of length one.
 * @property createdMs milliseconds since 1970.
 * @property consent under which it was taken.
 * @property quality of the picture that it is from.
 */
class Template(
    val person: String,
    val embedding: FloatArray,
    val createdMs: Long,
    val consent: Consent = Consent(0, 0),
    val quality: Quality = Quality.NONE,
) {
    fun of(person: String) = Template(person, embedding, createdMs, consent, quality)
}

/** The outcome of a comparison; [person] is null for "unknown" (1:N) or "not the same" (1:1). */
data class Match(val person: String?, val scoreCos: Double, val closest: String)

/**
 * 1:N: the person of the most similar sample, or unknown unless it is above the threshold, which is how thresholds are
 * measured; null when nobody is enrolled.
 *
 * A flat search. A [Gallery] is searched as it is; of any other list one is made first.
 */
fun identify(probe: FloatArray, templates: List<Template>, thresholdCos: Double): Match? =
    Gallery.of(templates).nearest(probe)?.decide(thresholdCos)

/** 1:1: is [probe] the person named? Null when they have no sample. */
fun verify(probe: FloatArray, person: String, templates: List<Template>, thresholdCos: Double): Match? =
    Gallery.of(templates).nearestOf(person, probe)?.decide(thresholdCos)

private fun Nearest.decide(thresholdCos: Double) = Match(if (scoreCos > thresholdCos) person else null, scoreCos, person)
