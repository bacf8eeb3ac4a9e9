package org.facekd.core

import kotlin.math.exp
import kotlin.math.min

/**
 * One passive liveness network, as a manifest describes it.
 *
 * @property cropScale side of the crop in sides of the face box.
 * @property probabilities its output is a distribution already; otherwise a softmax makes it one.
 */
class LivenessModel(
    val file: String,
    val cropScale: Double,
    val input: InputSpec,
    val output: String,
    val realClass: Int,
    val probabilities: Boolean,
)

/** The networks of an artefact; live above [threshold]. */
class LivenessSpec(val models: List<LivenessModel>, val threshold: Double)

/** Part of a picture in whole pixels, the right column and the bottom row belonging to it. */
data class Region(val left: Int, val top: Int, val right: Int, val bottom: Int)

/**
 * [box] enlarged by [scale] about its centre, no larger than the picture and moved into it, as Silent-Face-Anti-Spoofing
 * cuts it (generate_patches.py). facekd.runtimes.liveness.crop_region is the same. Null: the box is empty or no number.
 */
fun cropRegion(box: Box, width: Int, height: Int, scale: Double): Region? {
    val left = box.left.toDouble()
    val top = box.top.toDouble()
    val across = box.width.toDouble()
    val down = box.height.toDouble()
    if (!(across > 0 && down > 0 && left.isFinite() && top.isFinite() && across.isFinite() && down.isFinite())) return null
    if (minOf(width, height) < 2) return null
    val fitting = minOf(scale, (width - 1) / across, (height - 1) / down)
    val (x0, x1) = inside(left + across / 2, across * fitting, width - 1)
    val (y0, y1) = inside(top + down / 2, down * fitting, height - 1)
    return Region(x0, y0, x1, y1)
}

/** The first and last pixel of an interval, moved to lie within 0 and [most]. */
private fun inside(middle: Double, side: Double, most: Int): Pair<Int, Int> {
    var near = middle - side / 2
    var far = middle + side / 2
    if (near < 0) {
        far -= near
        near = 0.0
    }
    if (far > most) {
        near -= far - most
        far = most.toDouble()
    }
    return Pair(near.toInt(), far.toInt())
}

/** [region] of [image] as [width] x [height], bilinear between pixel centres, without averaging: OpenCV's INTER_LINEAR. */
fun cropTo(image: RgbImage, region: Region, width: Int, height: Int): RgbImage {
    val out = RgbImage(width, height)
    val columns = taps(region.left, region.right, width)
    val rows = taps(region.top, region.bottom, height)
    for (y in 0 until height) {
        val (top, bottom, dy) = rows[y]
        for (x in 0 until width) {
            val (left, right, dx) = columns[x]
            val corners = intArrayOf(image[left, top], image[right, top], image[left, bottom], image[right, bottom])
            fun mix(channel: (Int) -> Int): Int {
                val above = channel(corners[0]) * (1 - dx) + channel(corners[1]) * dx
                val below = channel(corners[2]) * (1 - dx) + channel(corners[3]) * dx
                return (above * (1 - dy) + below * dy + 0.5).toInt()
            }
            out.pixels[y * width + x] = rgb(mix { it.red }, mix { it.green }, mix { it.blue })
        }
    }
    return out
}

/** Two pixels and the second one's share. */
private data class Tap(val first: Int, val second: Int, val share: Double)

private fun taps(from: Int, to: Int, count: Int): List<Tap> {
    val ratio = (to - from + 1).toDouble() / count
    return List(count) {
        val place = ((it + 0.5) * ratio - 0.5).coerceIn(0.0, (to - from).toDouble())
        val first = place.toInt()
        Tap(from + first, min(from + first + 1, to), place - first)
    }
}

/** One network of [spec] in [network]. */
class LivenessNetwork(private val network: Network, private val spec: LivenessModel) : AutoCloseable by network {
    /** How probable it is that the face in [box] is live, 0 to 1; null where there is no crop of it. */
    fun probability(image: RgbImage, box: Box): Double? {
        val region = cropRegion(box, image.width, image.height, spec.cropScale) ?: return null
        val crop = cropTo(image, region, spec.input.width, spec.input.height)
        val found = network.run(spec.input.normalise(crop), spec.input.height, spec.input.width)
        val values = requireNotNull(found[spec.output]) { "the liveness network has no output '${spec.output}'" }
        require(spec.realClass in values.indices && values.all { it.isFinite() }) { "the liveness network gives no distribution" }
        return distribution(values, spec.probabilities)[spec.realClass]
    }
}

/** [values] as they are, or their softmax. */
fun distribution(values: FloatArray, probabilities: Boolean): DoubleArray {
    val doubles = DoubleArray(values.size) { values[it].toDouble() }
    if (probabilities) return doubles
    val most = doubles.max()
    val powers = DoubleArray(values.size) { exp(doubles[it] - most) }
    val sum = powers.sum()
    return DoubleArray(values.size) { powers[it] / sum }
}

/** Passive liveness: the mean of what the networks give. */
class LivenessDetector(private val networks: List<LivenessNetwork>, val threshold: Double) : AutoCloseable {
    init {
        require(networks.isNotEmpty()) { "liveness needs a network" }
    }

    /** Mean probability that the face in [box] is live; null where there is no crop of it. */
    fun score(image: RgbImage, box: Box): Double? =
        networks.map { it.probability(image, box) ?: return null }.average()

    override fun close() = networks.forEach { it.close() }
}
