package org.facekd.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class ManifestTest {
    @Test
    fun readsWhatExportWrites() {
        val manifest = Manifest.parse(text)
        assertTrue(manifest.input.bgr)
        assertArrayEquals(floatArrayOf(128f, 127.5f, 100f), manifest.input.std, 0f)
        assertEquals(512, manifest.width)
        assertEquals(mapOf("model.onnx" to "ab"), manifest.files)
    }

    @Test
    fun readsLiveness() {
        assertEquals(null, Manifest.parse(text).liveness)
        assertEquals(null, Manifest.parse(text.replace("\"model\": \"model.onnx\",", "\"model\": \"model.onnx\", \"liveness\": null,")).liveness)
        val one = """{"file": "liveness/a.onnx", "crop_scale": 2.7, "output": "out", "classes": 3, "real_class": 1, "probabilities": false,
            "input": {"size": [80, 64], "colour": "BGR", "mean": [0, 0, 0], "std": [1, 1, 1]}}"""
        fun with(models: String) = text.replace("\"model\":", "\"liveness\": {\"threshold\": 0.6, \"models\": [$models]}, \"model\":")
        val found = Manifest.parse(with(one)).liveness!!
        val model = found.models.single()
        assertEquals(0.6, found.threshold, 0.0)
        assertEquals(listOf("liveness/a.onnx", "out"), listOf(model.file, model.output))
        assertEquals(listOf(80, 64, 1), listOf(model.input.height, model.input.width, model.realClass))
        assertTrue(model.input.bgr && !model.probabilities && model.cropScale == 2.7)
        assertTrue(assertThrows(ManifestException::class.java) { Manifest.parse(with("")) }.message!!.contains("no networks"))
        val broken = one.replace("false", "0")
        assertTrue(assertThrows(ManifestException::class.java) { Manifest.parse(with(broken)) }.message!!.contains("probabilities"))
    }

    /** Seen: a bundle's float32 and int8 files shared samples, though their embeddings differ. */
    @Test
    fun twoFilesOfOneBundleAreTwoEmbeddingSpaces() {
        val other = Manifest.parse(text.replace("\"ab\"", "\"cd\"").replace("fp32", "int8"))
        assertEquals(listOf("ab", "cd"), listOf(Manifest.parse(text).modelId, other.modelId))
        val without = text.replace("{\"model.onnx\": \"ab\"}", "{}")
        assertTrue(assertThrows(ManifestException::class.java) { Manifest.parse(without) }.message!!.contains("files.model.onnx"))
    }

    @Test
    fun theSpaceIsTheFilesUnlessTheManifestStatesAnother() {
        assertEquals("ab", Manifest.parse(text).space.id)
        assertEquals(emptyList<String>(), Manifest.parse(text).space.compatibleWith)
        val (id, older) = listOf("1", "e").map { it.repeat(64) }
        fun stating(space: String) = Manifest.parse(text.replace("\"files\"", "\"embedding_space\": $space, \"files\""))
        val stated = stating("{\"id\": \"$id\", \"compatible_with\": [\"$older\"]}")
        assertEquals(listOf(id, "ab"), listOf(stated.space.id, stated.modelId))
        assertEquals(listOf(true, true, false), listOf(id, older, "ab").map(stated.space::accepts))
        assertEquals("ab", stating("null").space.id)
        for (wrong in listOf("{\"id\": \"../x\", \"compatible_with\": []}", "{\"id\": \"$id\", \"compatible_with\": [3]}", "{\"id\": \"$id\"}", "3")) {
            assertTrue(assertThrows(ManifestException::class.java) { stating(wrong) }.message!!.contains("embedding_space"))
        }
    }

    @Test
    fun offersEachRateOnceWithItsStrictestThreshold() {
        assertEquals(listOf(Threshold(0.01, 0.6, "b"), Threshold(0.001, 0.7, "a")), Manifest.parse(text).rates)
    }

    @Test
    fun saysWhatItCannotUse() {
        fun refusal(from: String, to: String): String {
            assertTrue(text.contains(from))
            return assertThrows(ManifestException::class.java) { Manifest.parse(text.replace(from, to)) }.message!!
        }
        assertTrue(refusal("\"schema_version\": 1", "\"schema_version\": 2").contains("update the app"))
        assertTrue(refusal("\"nchw\"", "\"nhwc\"").contains("--target android"))
        assertTrue(refusal("\"batch\": 1", "\"batch\": 7").contains("takes 7"))
        assertTrue(refusal("\"batch\": 1", "\"batch\": null").contains("batch must be a number"))
        assertTrue(refusal("\"model.onnx\",", "3,").contains("manifest.model must be a text"))
        assertTrue(refusal("[112, 112]", "[112, 96]").contains("square"))
        assertTrue(assertThrows(ManifestException::class.java) { Manifest.parse(text.take(200)) }.message!!.contains("not JSON"))
    }

    companion object {
        // As facekd export --target android writes it, what the app does not read left out.
        val text = """
            {"schema_version": 1, "name": "student", "target": "android", "precision": "fp32",
             "bundle": {"name": "student", "architecture": "mobilefacenet", "sha256": "01bf6e"},
             "model": "model.onnx",
             "input": {"name": "image", "dtype": "float32", "layout": "nchw", "batch": 1, "preprocess": "out",
                       "spec": {"size": [112, 112], "colour": "BGR", "mean": [1.5, 2, 3], "std": [128, 127.5, 1e2]}},
             "output": {"name": "embedding", "width": 512, "normalised": false},
             "thresholds": [{"far": 0.001, "threshold_cos": 0.7, "dataset": "a"}, {"far": 0.01, "threshold_cos": 0.5, "dataset": "a"},
                            {"far": 0.01, "threshold_cos": 0.6, "dataset": "b"}],
             "golden": {"crop": "golden/crop.png", "embedding": "golden/embedding.json", "min_cosine": 0.9999},
             "files": {"model.onnx": "ab"}}
        """

        @Suppress("UNCHECKED_CAST")
        val parsed: Map<String, Any?> get() = Json.parse(text) as Map<String, Any?>
    }
}
