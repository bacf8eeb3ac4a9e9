package org.facekd.core

import kotlin.math.max

/** The outcome of running the golden crop. */
data class SelfTest(val cosine: Double, val bound: Double) {
    val passed: Boolean get() = cosine >= bound
}

/** Below this cosine to the exporting machine's embedding an execution provider computes something else. */
const val LEAST_GOLDEN_COSINE: Double = 0.99

/** Runs the golden crop; the bound is 0.99 or the manifest's, whichever is stricter. */
fun selfTest(embedder: Embedder, crop: RgbImage, golden: FloatArray, manifestBound: Double): SelfTest {
    val found = embedder.raw(crop)
    val cosine = if (found.all { it.isFinite() } && found.any { it != 0f }) cosine(found, golden) else -1.0
    return SelfTest(cosine, max(LEAST_GOLDEN_COSINE, manifestBound))
}
