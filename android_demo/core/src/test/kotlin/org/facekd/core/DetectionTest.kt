package org.facekd.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class DetectionTest {
    private val vector = Vectors.json["detector"]
    private val side = vector.field("side").int()

    /** The network's outputs on the scene: where the file has no cell, the score is 0. */
    private fun outputs(): MutableMap<String, FloatArray> {
        val out = mutableMapOf<String, FloatArray>()
        for (stride in listOf(8, 16, 32)) {
            val entry = vector.field("outputs").field("$stride")
            val cells = entry.field("cells").doubles().map { it.toInt() }
            for ((kind, width) in listOf("cls" to 1, "obj" to 1, "bbox" to 4, "kps" to 10)) {
                val name = "${kind}_$stride"
                val values = entry.field(name).doubles()
                val all = FloatArray((side / stride) * (side / stride) * width)
                cells.forEachIndexed { i, cell -> for (k in 0 until width) all[cell * width + k] = values[i * width + k].toFloat() }
                out[name] = all
            }
        }
        return out
    }

    private fun check(face: Face, expected: Any?) {
        val box = expected.field("box").doubles()
        listOf(face.box.left, face.box.top, face.box.width, face.box.height).forEachIndexed { i, value ->
            assertEquals(box[i], value.toDouble(), 0.01)
        }
        expected.field("landmarks").points().zip(face.landmarks).forEach { (e, f) ->
            assertEquals(e.x, f.x, 0.01)
            assertEquals(e.y, f.y, 0.01)
        }
        assertEquals(expected.field("score") as Double, face.score.toDouble(), 1e-4)
    }

    @Test
    fun decodesWhatOpenCvDecodes() {
        val expected = vector.field("faces").items()
        val found = decodeYuNet(outputs(), side, side, 0.6f, 0.3f)
        assertEquals(expected.size, found.size)
        found.zip(expected).forEach { (face, e) -> check(face, e) }
    }

    @Test
    fun detectorFeedsBgrPlanesOnBlackAndScalesBack() {
        val scene = Vectors.scene
        var seen = FloatArray(0)
        val network = object : Network {
            override fun run(input: FloatArray, height: Int, width: Int) = outputs().also {
                assertEquals(listOf(side, side, 3 * side * side), listOf(height, width, input.size))
                seen = input
            }
            override fun close() = Unit
        }
        val faces = FaceDetector(network).detect(scene)
        faces.zip(vector.field("faces").items()).forEach { (face, e) -> check(face, e) }
        assertEquals(scene[100, 50].blue.toFloat(), seen[50 * side + 100], 0f)
        assertEquals(scene[100, 50].green.toFloat(), seen[side * side + 50 * side + 100], 0f)
        assertEquals(scene[100, 50].red.toFloat(), seen[2 * side * side + 50 * side + 100], 0f)
        // Twice as large as is searched: boxes come back in the photograph's pixels.
        val large = FaceDetector(network, side).detect(RgbImage(2 * side, 2 * side))
        assertEquals(2 * faces[0].box.left, large[0].box.left, 0.01f)
        assertEquals(2 * faces[0].landmarks[3].y, large[0].landmarks[3].y, 0.01)
        // Not a multiple of 32: black on the right and below.
        FaceDetector(network).detect(RgbImage(side - 31, side - 1, IntArray((side - 31) * (side - 1)) { rgb(9, 8, 7) }))
        assertEquals(7f, seen[side - 32], 0f)
        assertEquals(0f, seen[side - 31], 0f)
        assertEquals(0f, seen[(side - 1) * side], 0f)
    }

    @Test
    fun suppressionKeepsTheBestOfEachGroup() {
        fun face(left: Float, score: Float) = Face(Box(left, 0f, 10f, 10f), emptyList(), score)
        // IoU of boxes 10 wide: 5 apart 1/3, 6 apart 1/4.
        val kept = suppress(listOf(face(0f, 0.7f), face(5f, 0.9f), face(11f, 0.8f)), 0.3f)
        assertEquals(listOf(0.9f, 0.8f), kept.map { it.score })
    }

    @Test
    fun picturesAreSearchedAtTheirOwnSizeAndAtHalvesOfIt() {
        assertEquals(listOf(250), searchSides(250, 640))
        assertEquals(listOf(640, 320), searchSides(4000, 640))
        assertEquals(listOf(1600, 800, 400, 200), searchSides(1600, 3072))
    }

    @Test
    fun theBestPlacedOfOneFaceFoundTwiceStays() {
        fun face(size: Float, score: Float, left: Float = 0f) = Face(Box(left, 0f, size, size), emptyList(), score)
        // 800 pixels wide: in the picture itself beyond the detector's range, at a quarter of it 200, at an eighth 100.
        val levels = listOf(
            Level(listOf(face(800f, 0.99f), face(40f, 0.7f, 900f)), 1.0),
            Level(listOf(face(810f, 0.7f), face(42f, 0.8f, 900f)), 0.25),
            Level(listOf(face(790f, 0.9f)), 0.125),
        )
        val kept = bestPlaced(levels, 0.3f)
        assertEquals(listOf(0.7f, 0.7f), kept.map { it.score })
        assertEquals(setOf(810f, 40f), kept.map { it.box.width }.toSet())
        // The smallest search keeps what it finds, however large.
        assertEquals(1, bestPlaced(listOf(Level(listOf(face(800f, 0.9f)), 1.0)), 0.3f).size)
    }

    @Test
    fun namesAMissingOutput() {
        val error = assertThrows(IllegalArgumentException::class.java) {
            decodeYuNet(outputs().also { it.remove("kps_16") }, side, side, 0.6f, 0.3f)
        }
        assertEquals(true, error.message!!.contains("'kps_16'"))
    }
}
