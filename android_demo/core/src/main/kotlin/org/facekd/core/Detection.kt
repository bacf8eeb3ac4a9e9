package org.facekd.core

import kotlin.math.exp
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
 * YuNet (Wu et al. 2023) as OpenCV's FaceDetectorYN runs it: at the picture's own size, black up to a multiple of 32.
 *
 * @param network of [yuNetForAnySize].
 * @param largestSide larger pictures are reduced to it for the search; YuNet finds faces of 10 to 300 pixels.
 */
class FaceDetector(
    private val network: Network,
    private val largestSide: Int = 640,
    private val scoreThreshold: Float = 0.6f,
    private val nmsThreshold: Float = 0.3f,
) : AutoCloseable by network {
    init {
        require(largestSide >= STEP) { "the largest side must be at least $STEP pixels, got $largestSide" }
    }

    /** All faces by falling score. */
    fun detect(image: RgbImage): List<Face> {
        val ratio = max(1.0, max(image.width, image.height).toDouble() / largestSide)
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

    private companion object {
        /** The coarsest stride. */
        const val STEP = 32
    }
}

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

private fun overlap(a: Box, b: Box): Float {
    val (al, at, aw, ah) = intArrayOf(a.left.toInt(), a.top.toInt(), a.width.toInt(), a.height.toInt())
    val (bl, bt, bw, bh) = intArrayOf(b.left.toInt(), b.top.toInt(), b.width.toInt(), b.height.toInt())
    val across = max(0, min(al + aw, bl + bw) - max(al, bl)).toFloat()
    val down = max(0, min(at + ah, bt + bh) - max(at, bt)).toFloat()
    val union = aw.toFloat() * ah + bw.toFloat() * bh - across * down
    return if (union <= 0f) 1f else across * down / union
}
