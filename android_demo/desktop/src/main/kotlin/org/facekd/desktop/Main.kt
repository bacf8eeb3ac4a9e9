package org.facekd.desktop

import java.io.File
import kotlin.system.exitProcess
import org.facekd.core.Embedder
import org.facekd.core.Face
import org.facekd.core.FaceDetector
import org.facekd.core.Json
import org.facekd.core.LivenessDetector
import org.facekd.core.LivenessNetwork
import org.facekd.core.Manifest
import org.facekd.core.RgbImage
import org.facekd.core.align
import org.facekd.core.yuNetForAnySize
import org.facekd.runtime.OrtNetwork
import org.facekd.runtime.Provider

/**
 * The app's own detector, alignment and embedding on a desktop, so that Python can compare them on photographs.
 *
 * Arguments: the artefact's folder, the detector's .onnx, a list of photographs, the folder for results. Each line of the
 * list is `width height file`, the file raw RGB. Results: photographs.jsonl (box, landmarks and score of all faces, which
 * of them the photograph is of, its embedding and liveness score; or `"faces": []`) and crops.bin (raw RGB aligned crops, one a photograph
 * with a face).
 *
 * With `store` as the first argument: [store].
 */
fun main(words: Array<String>) {
    if (words.firstOrNull() == "store") return store(words.drop(1))
    if (words.size != 4) {
        System.err.println("usage: artefact-folder detector.onnx list.txt out-folder")
        exitProcess(2)
    }
    val artefact = File(words[0])
    val manifest = Manifest.parse(artefact.resolve("manifest.json").readText())
    val detector = FaceDetector(OrtNetwork(yuNetForAnySize(File(words[1]).readBytes()), Provider.CPU, 1))
    val embedder = Embedder(OrtNetwork(artefact.resolve(manifest.model).readBytes(), Provider.CPU, 1), manifest.input, manifest.output)
    val liveness = manifest.liveness?.let { spec ->
        val networks = spec.models.map { LivenessNetwork(OrtNetwork(artefact.resolve(it.file).readBytes(), Provider.CPU, 1), it) }
        LivenessDetector(networks, spec.threshold)
    }
    val out = File(words[3]).also { it.mkdirs() }
    out.resolve("photographs.jsonl").bufferedWriter().use { lines ->
        out.resolve("crops.bin").outputStream().buffered().use { crops ->
            for (line in File(words[2]).readLines()) {
                val (width, height, file) = line.split(" ", limit = 3)
                val image = read(File(file), width.toInt(), height.toInt())
                val faces = detector.detect(image)
                val record = mutableMapOf<String, Any?>(
                    "faces" to faces.map { face ->
                        mapOf(
                            "box" to listOf(face.box.left, face.box.top, face.box.width, face.box.height),
                            "landmarks" to face.landmarks.map { listOf(it.x, it.y) },
                            "score" to face.score,
                        )
                    },
                )
                prominent(faces, width.toInt(), height.toInt())?.let { face ->
                    record["chosen"] = faces.indexOf(face)
                    val crop = align(image, face.landmarks, embedder.size)
                    record["embedding"] = embedder.embed(crop).toList()
                    crops.write(raw(crop))
                    liveness?.let { record["live"] = it.score(image, face.box) }
                }
                lines.write(Json.write(record))
                lines.newLine()
            }
        }
    }
    liveness?.close()
    detector.close()
    embedder.close()
}

/** The face a photograph is of, as facekd.data.detection.choose_face has it: large, and near the middle. */
private fun prominent(faces: List<Face>, width: Int, height: Int): Face? = faces.maxByOrNull { (box, _, _) ->
    val x = box.left + box.width / 2 - width / 2.0
    val y = box.top + box.height / 2 - height / 2.0
    box.width * box.height - 2 * (x * x + y * y)
}

private fun read(file: File, width: Int, height: Int): RgbImage {
    val bytes = file.readBytes()
    require(bytes.size == 3 * width * height) { "$file: ${bytes.size} bytes are not ${width}x$height RGB" }
    fun at(i: Int) = bytes[i].toInt() and 0xFF
    return RgbImage(width, height, IntArray(width * height) { (0xFF shl 24) or (at(3 * it) shl 16) or (at(3 * it + 1) shl 8) or at(3 * it + 2) })
}

private fun raw(image: RgbImage): ByteArray =
    ByteArray(3 * image.pixels.size) { (image.pixels[it / 3] shr (16 - 8 * (it % 3))).toByte() }
