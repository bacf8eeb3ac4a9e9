package org.facekd.core

import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sqrt

/** A network of one image input and named outputs, whatever runs it. */
interface Network : AutoCloseable {
    /** @param input float32 of shape 1 x 3 x [height] x [width]. */
    fun run(input: FloatArray, height: Int, width: Int): Map<String, FloatArray>
}

/** A box in pixels. */
data class Box(val left: Float, val top: Float, val width: Float, val height: Float)

/**
 * One detected face.
 *
 * @property landmarks left eye, right eye, nose, left and right mouth corner, as the viewer sees them.
 * @property score 0 to 1.
 */
data class Face(val box: Box, val landmarks: List<Point>, val score: Float) {
    internal fun scaled(ratio: Double): Face = Face(
        Box((box.left * ratio).toFloat(), (box.top * ratio).toFloat(), (box.width * ratio).toFloat(), (box.height * ratio).toFloat()),
        landmarks.map { Point(it.x * ratio, it.y * ratio) },
        score,
    )
}

/**
 * YuNet (Wu et al. 2023) as OpenCV's FaceDetectorYN runs it, black up to a multiple of 32, at several sizes of the
 * picture: its own and every half of it, since landmarks are placed well on faces of some size only. As
 * facekd/data/detection.py, which says why.
 *
 * @param network of [yuNetForAnySize].
 * @param largestSide larger pictures are reduced to it before the first search; faces of 10 pixels are found in it.
 */
class FaceDetector(
    private val network: Network,
    private val largestSide: Int = CAMERA_SIDE,
    private val scoreThreshold: Float = 0.6f,
    private val nmsThreshold: Float = 0.3f,
) : AutoCloseable by network {
    init {
        require(largestSide >= STEP) { "the largest side must be at least $STEP pixels, got $largestSide" }
    }

    /** All faces by falling score; [largestSide] of this picture, where it is not the detector's. */
    fun detect(image: RgbImage, largestSide: Int = this.largestSide): List<Face> {
        val longest = max(image.width, image.height)
        val levels = searchSides(longest, largestSide).map { side ->
            val ratio = longest.toDouble() / side
            Level(search(image, ratio), 1 / ratio)
        }
        return bestPlaced(levels, nmsThreshold)
    }

    /** Faces of [image] reduced by [ratio], in pixels of [image]. */
    private fun search(image: RgbImage, ratio: Double): List<Face> {
        val fitted = resize(
            image,
            max(1, Math.round(image.width / ratio).toInt()),
            max(1, Math.round(image.height / ratio).toInt()),
        )
        val width = padded(fitted.width)
        val height = padded(fitted.height)
        val outputs = network.run(yuNetInput(fitted, width, height), height, width)
        return decodeYuNet(outputs, width, height, scoreThreshold, nmsThreshold).map { it.scaled(ratio) }
    }

    private fun padded(side: Int): Int = (side + STEP - 1) / STEP * STEP

    companion object {
        /** The coarsest stride. */
        private const val STEP = 32

        /** Largest side of the camera's pictures, which must be quick. */
        const val CAMERA_SIDE = 640

        /** Largest side of a picture that the user chose, which may show a small face. */
        const val PICTURE_SIDE = 1600
    }
}

/** What was found in the picture reduced to [scale] of itself; faces in pixels of the picture. */
data class Level(val faces: List<Face>, val scale: Double)

/** Longer sides in pixels at which a picture of [longest] pixels is searched, the largest first. */
fun searchSides(longest: Int, largest: Int): List<Int> =
    generateSequence(min(longest, largest)) { if (it > SMALLEST_SEARCH_PIXELS) it / 2 else null }.toList()

/**
 * One face for each that was found at one or more sizes: that whose size there was nearest to BEST_FACE_PIXELS.
 *
 * @param levels the largest first.
 */
fun bestPlaced(levels: List<Level>, nmsThreshold: Float): List<Face> {
    val found = levels.flatMapIndexed { number, level ->
        level.faces.map { Pair(it, level.scale * sqrt(max(it.box.width.toDouble() * it.box.height, 1e-6))) }
            .filter { (_, size) -> size <= MOST_FACE_PIXELS || number == levels.lastIndex }
    }
    val kept = mutableListOf<Face>()
    for ((face, _) in found.sortedBy { (_, size) -> abs(ln(size / BEST_FACE_PIXELS)) }) {
        if (kept.all { intersectionOverUnion(it.box, face.box) <= nmsThreshold }) kept += face
    }
    return kept.sortedByDescending { it.score }
}

private const val SMALLEST_SEARCH_PIXELS = 320
private const val MOST_FACE_PIXELS = 300.0
private const val BEST_FACE_PIXELS = 160.0

/** BGR, 0 to 255, planes one after another, [image] in the top left corner of black. */
fun yuNetInput(image: RgbImage, width: Int, height: Int): FloatArray {
    require(image.width <= width && image.height <= height) { "${image.width}x${image.height} is larger than ${width}x$height" }
    val area = width * height
    val out = FloatArray(3 * area)
    for (y in 0 until image.height) {
        for (x in 0 until image.width) {
            val pixel = image[x, y]
            val at = y * width + x
            out[at] = pixel.blue.toFloat()
            out[area + at] = pixel.green.toFloat()
            out[2 * area + at] = pixel.red.toFloat()
        }
    }
    return out
}

/**
 * Faces from YuNet's outputs cls_S, obj_S, bbox_S, kps_S at the strides 8, 16 and 32.
 *
 * score = sqrt(cls obj); a box's centre and landmarks are offsets from its cell in strides, its size the exponential.
 */
fun decodeYuNet(
    outputs: Map<String, FloatArray>,
    width: Int,
    height: Int,
    scoreThreshold: Float,
    nmsThreshold: Float,
): List<Face> {
    val found = mutableListOf<Face>()
    for (stride in intArrayOf(8, 16, 32)) {
        val columns = width / stride
        val cells = columns * (height / stride)
        val cls = outputs.head("cls_$stride", cells)
        val obj = outputs.head("obj_$stride", cells)
        val bbox = outputs.head("bbox_$stride", cells * 4)
        val kps = outputs.head("kps_$stride", cells * 10)
        for (cell in 0 until cells) {
            val score = sqrt(cls[cell].coerceIn(0f, 1f) * obj[cell].coerceIn(0f, 1f))
            if (score < scoreThreshold) continue
            val column = cell % columns
            val row = cell / columns
            val across = exp(bbox[cell * 4 + 2]) * stride
            val down = exp(bbox[cell * 4 + 3]) * stride
            val left = (column + bbox[cell * 4]) * stride - across / 2
            val top = (row + bbox[cell * 4 + 1]) * stride - down / 2
            val landmarks = List(5) { i ->
                val x = (kps[cell * 10 + 2 * i] + column) * stride
                val y = (kps[cell * 10 + 2 * i + 1] + row) * stride
                Point(x.toDouble(), y.toDouble())
            }
            found += Face(Box(left, top, across, down), landmarks, score)
        }
    }
    return suppress(found, nmsThreshold)
}

/** The best box of each overlapping group (greedy, IoU on whole pixels as OpenCV's Rect2i has it), by falling score. */
fun suppress(faces: List<Face>, threshold: Float): List<Face> {
    val kept = mutableListOf<Face>()
    for (face in faces.sortedByDescending { it.score }) {
        if (kept.all { overlap(it.box, face.box) <= threshold }) kept += face
    }
    return kept
}

private fun Map<String, FloatArray>.head(name: String, size: Int): FloatArray {
    val values = requireNotNull(this[name]) { "not a YuNet detector: it has no output '$name' (of ${keys.sorted()})" }
    require(values.size == size) { "not this YuNet: output '$name' has ${values.size} values instead of $size" }
    return values
}

/** Intersection over union of two boxes, 0 to 1. */
internal fun intersectionOverUnion(a: Box, b: Box): Float = overlap(a, b) { it }

/** Intersection over union of two boxes, on whole pixels by default. */
private fun overlap(a: Box, b: Box, rounded: (Float) -> Float = { it.toInt().toFloat() }): Float {
    val (al, at, aw, ah) = listOf(a.left, a.top, a.width, a.height).map(rounded)
    val (bl, bt, bw, bh) = listOf(b.left, b.top, b.width, b.height).map(rounded)
    val across = max(0f, min(al + aw, bl + bw) - max(al, bl))
    val down = max(0f, min(at + ah, bt + bh) - max(at, bt))
    val union = aw * ah + bw * bh - across * down
    return if (union <= 0f) 1f else across * down / union
}
