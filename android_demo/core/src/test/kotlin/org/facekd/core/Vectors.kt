package org.facekd.core

import java.util.zip.InflaterInputStream

/** What make_vectors.py computed with OpenCV and facekd. */
object Vectors {
    private fun open(name: String) = requireNotNull(Vectors::class.java.getResourceAsStream("/$name")) { "no $name" }

    @Suppress("UNCHECKED_CAST")
    val json: Map<String, Any?> by lazy { Json.parse(open("vectors.json").use { it.reader().readText() }) as Map<String, Any?> }

    /** The sequences of tests/android/session_reference.py, with their answers. */
    val session: List<Any?> by lazy { Json.parse(open("session.json").use { it.reader().readText() }).items() }

    /** Those of tests/android/liveness_reference.py. */
    val liveness: List<Any?> by lazy { Json.parse(open("liveness.json").use { it.reader().readText() }).items() }

    val enrolment: List<Any?> by lazy { Json.parse(open("enrolment.json").use { it.reader().readText() }).items() }

    /** The cases of tests/android/gallery_reference.py. */
    val gallery: Any? by lazy { Json.parse(open("gallery.json").use { it.reader().readText() }) }

    private val faces: ByteArray by lazy { InflaterInputStream(open("faces.bin")).use { it.readBytes() } }

    val sceneSide: Int get() = (json.getValue("scene") as Double).toInt()

    val scene: RgbImage get() = image(faces, 0, sceneSide)

    val crops: List<RgbImage>
        get() = List((json.getValue("crops") as Double).toInt()) {
            image(faces, 3 * sceneSide * sceneSide + it * 3 * 112 * 112, 112)
        }

    private fun image(bytes: ByteArray, from: Int, side: Int) = RgbImage(
        side,
        side,
        IntArray(side * side) {
            val at = from + 3 * it
            rgb(bytes[at].toInt() and 255, bytes[at + 1].toInt() and 255, bytes[at + 2].toInt() and 255)
        },
    )
}

fun Any?.field(name: String): Any? = (this as Map<*, *>)[name]

fun Any?.items(): List<Any?> = this as List<Any?>

fun Any?.doubles(): DoubleArray = items().map { it as Double }.toDoubleArray()

fun Any?.points(): List<Point> = items().map { p -> p.doubles().let { Point(it[0], it[1]) } }

fun Any?.int(): Int = (this as Double).toInt()

/** Mean absolute difference in grey levels. */
fun meanDifference(a: RgbImage, b: RgbImage): Double {
    var sum = 0.0
    for (i in a.pixels.indices) {
        val p = a.pixels[i]
        val q = b.pixels[i]
        sum += Math.abs(p.red - q.red) + Math.abs(p.green - q.green) + Math.abs(p.blue - q.blue)
    }
    return sum / (3 * a.pixels.size)
}
