package org.facekd.core

/**
 * One sample of an enrolled person.
 *
 * @property person who, as the user named them.
 * @property embedding of length one.
 * @property createdMs milliseconds since 1970.
 */
class Template(val person: String, val embedding: FloatArray, val createdMs: Long)

/** The outcome of a comparison; [person] is null for "unknown" (1:N) or "not the same" (1:1). */
data class Match(val person: String?, val scoreCos: Double, val closest: String)

/**
 * 1:N: the person of the most similar sample, or unknown unless it is above the threshold, which is how thresholds are
 * measured; null when nobody is enrolled.
 *
 * A flat search: right below about 10,000 samples.
 */
fun identify(probe: FloatArray, templates: List<Template>, thresholdCos: Double): Match? {
    val (best, score) = templates.map { Pair(it, cosine(probe, it.embedding)) }.maxByOrNull { it.second } ?: return null
    return Match(if (score > thresholdCos) best.person else null, score, best.person)
}

/** 1:1: is [probe] the person named? Null when they have no sample. */
fun verify(probe: FloatArray, person: String, templates: List<Template>, thresholdCos: Double): Match? =
    identify(probe, templates.filter { it.person == person }, thresholdCos)
