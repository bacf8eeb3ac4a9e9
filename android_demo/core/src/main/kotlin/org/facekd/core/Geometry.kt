package org.facekd.core

import kotlin.math.abs
import kotlin.math.hypot

/** A point in pixels. */
data class Point(val x: Double, val y: Double)

/**
 * x' = a x - b y + tx, y' = b x + a y + ty: rotation, uniform scale, translation; never a reflection.
 */
data class Similarity(val a: Double, val b: Double, val tx: Double, val ty: Double) {
    val scale: Double get() = hypot(a, b)

    fun apply(point: Point): Point = Point(a * point.x - b * point.y + tx, b * point.x + a * point.y + ty)

    fun inverse(): Similarity {
        val square = a * a + b * b
        val ia = a / square
        val ib = -b / square
        return Similarity(ia, ib, -(ia * tx - ib * ty), -(ib * tx + ia * ty))
    }
}

/**
 * Least-squares similarity from [source] to [target] (Umeyama 1991).
 *
 * In the plane the solution without reflection is that of complex least squares, target = z source + t: no SVD is
 * needed. The tests compare with the SVD form.
 *
 * @throws IllegalArgumentException the points do not determine a transform.
 */
fun similarityTransform(source: List<Point>, target: List<Point>): Similarity {
    require(source.size == target.size && source.size >= 2) { "needs two or more pairs of points, got ${source.size}" }
    require((source + target).all { it.x.isFinite() && it.y.isFinite() }) { "landmarks are not finite" }
    val n = source.size
    val sx = source.sumOf { it.x } / n
    val sy = source.sumOf { it.y } / n
    val tx = target.sumOf { it.x } / n
    val ty = target.sumOf { it.y } / n
    var along = 0.0
    var across = 0.0
    var variance = 0.0
    for ((from, to) in source.zip(target)) {
        val x = from.x - sx
        val y = from.y - sy
        along += x * (to.x - tx) + y * (to.y - ty)
        across += x * (to.y - ty) - y * (to.x - tx)
        variance += x * x + y * y
    }
    require(variance / n > 1e-9) { "landmarks lie in one point: the face cannot be aligned" }
    val a = along / variance
    val b = across / variance
    require(hypot(a, b) > 1e-9) { "landmarks do not determine a rotation: the face cannot be aligned" }
    return Similarity(a, b, tx - a * sx + b * sy, ty - b * sx - a * sy)
}

/** Where the landmarks lie in a 112x112 aligned face (ArcFace's template): eyes, nose, mouth corners, left to right. */
val TEMPLATE_112: List<Point> = listOf(
    Point(38.2946, 51.6963),
    Point(73.5318, 51.5014),
    Point(56.0252, 71.7366),
    Point(41.5493, 92.3655),
    Point(70.7299, 92.2041),
)

/** The template for a square of [size]: by size / 112 where divisible, else by size / 128 and moved right by 8. */
fun template(size: Int): List<Point> {
    require(size >= 1) { "the aligned size must be at least 1 pixel, got $size" }
    if (size % 112 == 0) return TEMPLATE_112.map { Point(it.x * size / 112, it.y * size / 112) }
    return TEMPLATE_112.map { Point(it.x * size / 128 + 8.0 * size / 128, it.y * size / 128) }
}

/** The aligned face: [landmarks] on the template, bilinear, 0 (black) outside the photograph. */
fun align(image: RgbImage, landmarks: List<Point>, size: Int): RgbImage {
    require(landmarks.size == 5) { "alignment needs five landmarks, got ${landmarks.size}" }
    return warp(image, similarityTransform(landmarks, template(size)), size, size)
}

/** [image] moved by [transform] into a new one, bilinear, black outside. */
fun warp(image: RgbImage, transform: Similarity, width: Int, height: Int): RgbImage {
    val back = transform.inverse()
    val out = RgbImage(width, height)
    for (y in 0 until height) {
        for (x in 0 until width) {
            val from = back.apply(Point(x.toDouble(), y.toDouble()))
            out.pixels[y * width + x] = sample(image, from.x, from.y)
        }
    }
    return out
}

/** [image] at another size, bilinear with pixel centres at (x + 0.5), edges repeated; averaged when it shrinks. */
fun resize(image: RgbImage, width: Int, height: Int): RgbImage {
    if (width == image.width && height == image.height) return image
    val columns = taps(image.width, width)
    val rows = taps(image.height, height)
    val out = RgbImage(width, height)
    for (y in 0 until height) {
        for (x in 0 until width) {
            var red = 0f
            var green = 0f
            var blue = 0f
            for (j in rows[y].places.indices) {
                val line = rows[y].places[j] * image.width
                for (i in columns[x].places.indices) {
                    val pixel = image.pixels[line + columns[x].places[i]]
                    val weight = columns[x].weights[i] * rows[y].weights[j]
                    red += weight * pixel.red
                    green += weight * pixel.green
                    blue += weight * pixel.blue
                }
            }
            out.pixels[y * width + x] = rgb(round(red), round(green), round(blue))
        }
    }
    return out
}

/** Source places of one target place, and their weights. */
private class Taps(val places: IntArray, val weights: FloatArray)

/** For each target place: a triangle as wide as one target pixel. */
private fun taps(from: Int, to: Int): List<Taps> {
    val ratio = from.toDouble() / to
    val reach = maxOf(1.0, ratio)
    return List(to) { place ->
        val centre = (place + 0.5) * ratio - 0.5
        val first = Math.ceil(centre - reach).toInt()
        val last = Math.floor(centre + reach).toInt()
        val weights = (first..last).map { Pair(it.coerceIn(0, from - 1), 1.0 - abs(it - centre) / reach) }
        val sum = weights.sumOf { it.second }
        val used = weights.filter { it.second > 0 }
        Taps(IntArray(used.size) { used[it].first }, FloatArray(used.size) { (used[it].second / sum).toFloat() })
    }
}

private fun sample(image: RgbImage, x: Double, y: Double): Int {
    if (x <= -1 || y <= -1 || x >= image.width || y >= image.height) return OPAQUE
    val left = Math.floor(x).toInt()
    val top = Math.floor(y).toInt()
    val dx = (x - left).toFloat()
    val dy = (y - top).toFloat()
    var red = 0f
    var green = 0f
    var blue = 0f
    for (corner in 0 until 4) {
        val cx = left + (corner and 1)
        val cy = top + (corner shr 1)
        if (cx < 0 || cy < 0 || cx >= image.width || cy >= image.height) continue
        val weight = (if (corner and 1 == 1) dx else 1 - dx) * (if (corner shr 1 == 1) dy else 1 - dy)
        val pixel = image[cx, cy]
        red += weight * pixel.red
        green += weight * pixel.green
        blue += weight * pixel.blue
    }
    return rgb(round(red), round(green), round(blue))
}

private fun round(value: Float): Int = (value + 0.5f).toInt().coerceIn(0, 255)
