package org.facekd.core

import kotlin.math.sqrt

/**
 * What the model expects (manifest.json, input.spec).
 *
 * @property bgr whether the model was trained on BGR.
 * @property mean subtracted from the pixel (0 to 255), in the model's channel order.
 * @property std the difference is divided by it.
 */
class InputSpec(val height: Int, val width: Int, val bgr: Boolean, val mean: FloatArray, val std: FloatArray) {
    init {
        require(mean.size == 3 && std.size == 3) { "mean and std need three values, got ${mean.size} and ${std.size}" }
        require(std.all { it != 0f }) { "std must not be 0" }
    }

    /** float32 NCHW (one image): (pixel - mean) / std. */
    fun normalise(image: RgbImage): FloatArray {
        require(image.width == width && image.height == height) {
            "the model takes ${width}x$height, got ${image.width}x${image.height}"
        }
        val area = width * height
        val out = FloatArray(3 * area)
        for (at in 0 until area) {
            val pixel = image.pixels[at]
            val first = if (bgr) pixel.blue else pixel.red
            val last = if (bgr) pixel.red else pixel.blue
            out[at] = (first - mean[0]) / std[0]
            out[area + at] = (pixel.green - mean[1]) / std[1]
            out[2 * area + at] = (last - mean[2]) / std[2]
        }
        return out
    }
}

/** The face model: aligned crop in, embedding out. */
class Embedder(private val network: Network, private val spec: InputSpec, private val output: String) :
    AutoCloseable by network {
    val size: Int get() = spec.width

    /** The model's own output for [crop], not normalised. */
    fun raw(crop: RgbImage): FloatArray =
        requireNotNull(network.run(spec.normalise(crop), spec.height, spec.width)[output]) { "the model has no output '$output'" }

    /** f(x) + f(flip(x)), of length one: what the manifest's thresholds were measured with. */
    fun embed(crop: RgbImage): FloatArray {
        val sum = raw(crop)
        val flipped = raw(crop.mirrored())
        return unit(FloatArray(sum.size) { sum[it] + flipped[it] })
    }
}

/** [vector] divided by its length. */
fun unit(vector: FloatArray): FloatArray {
    val length = sqrt(vector.sumOf { it.toDouble() * it })
    require(length > 0 && length.isFinite()) { "an embedding of length $length has no direction" }
    return FloatArray(vector.size) { (vector[it] / length).toFloat() }
}

/** Cosine of two vectors of the same width, -1 to 1. */
fun cosine(a: FloatArray, b: FloatArray): Double {
    requireOneWidth(a.size, b.size)
    return cosine(a, b, 0)
}

/** Cosine of [a] and as many values of [b], from [from] on. */
internal fun cosine(a: FloatArray, b: FloatArray, from: Int): Double {
    var dot = 0.0
    var aa = 0.0
    var bb = 0.0
    for (i in a.indices) {
        dot += a[i].toDouble() * b[from + i]
        aa += a[i].toDouble() * a[i]
        bb += b[from + i].toDouble() * b[from + i]
    }
    val lengths = sqrt(aa) * sqrt(bb)
    require(lengths > 0 && lengths.isFinite()) { "an embedding without direction cannot be compared" }
    return dot / lengths
}

internal fun requireOneWidth(a: Int, b: Int) =
    require(a == b) { "embeddings of different models cannot be compared: widths $a and $b" }
