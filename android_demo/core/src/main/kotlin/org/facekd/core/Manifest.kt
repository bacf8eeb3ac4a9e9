package org.facekd.core

/** A threshold measured for a false accept rate. */
data class Threshold(val far: Double, val cos: Double, val dataset: String)

/** A model the app cannot use; the message is for the user. */
class ManifestException(message: String) : Exception(message)

/**
 * The part of an exported artefact's manifest.json that the app reads (`facekd export --target android`, schema 1).
 *
 * @property modelId sha256 of the model's file.
 * @property space of its embeddings: its own file's, unless the manifest states another. The same bundle exported as
 *     float32 and as int8 gives embeddings that differ, and those of two files are never compared unasked.
 * @property calibration thresholds for galleries, as `facekd calibrate` measured them; null in artefacts without.
 * @property files sha256 of each file, by path.
 * @property liveness networks of `facekd export --liveness`; null where there are none.
 */
class Manifest(
    val name: String,
    val model: String,
    val modelId: String,
    val space: EmbeddingSpace,
    val input: InputSpec,
    val output: String,
    val width: Int,
    val thresholds: List<Threshold>,
    val goldenCrop: String,
    val goldenEmbedding: String,
    val goldenMinCosine: Double,
    val files: Map<String, String>,
    val liveness: LivenessSpec? = null,
    val calibration: ThresholdTable? = null,
) {
    /** The measured rates, strictest last; where several data sets measured one rate, the strictest threshold. */
    val rates: List<Threshold> = thresholds
        .groupBy { it.far }
        .map { (_, same) -> same.maxByOrNull { it.cos }!! }
        .sortedByDescending { it.far }

    /** What decisions rest on: the calibration, or else the thresholds of single comparisons. Null: the model has neither. */
    val table: ThresholdTable? = calibration ?: ThresholdTable.ofPairs(rates)

    companion object {
        /** @throws ManifestException it is not one the app can use; says why. */
        fun parse(text: String): Manifest = try {
            read(Fields(Json.parse(text), "manifest"))
        } catch (error: IllegalArgumentException) {
            throw ManifestException(error.message ?: "the manifest cannot be read")
        }

        private fun read(root: Fields): Manifest {
            val schema = root.number("schema_version")
            require(schema == 1.0) { "manifest schema $schema: this app reads 1; update the app or export again" }
            val input = root.fields("input")
            require(input.text("layout") == "nchw" && input.text("dtype") == "float32" && input.text("preprocess") == "out") {
                "the app takes a float32 NCHW model that is normalised outside: facekd export --target android"
            }
            val batch = input.number("batch")
            require(batch == 1.0) { "the app takes one face at a time, the model takes $batch: facekd export --target android" }
            val spec = input.fields("spec")
            val size = spec.numbers("size")
            require(size.size == 2 && size[0] == size[1]) { "the app takes square models, got $size" }
            val colour = spec.text("colour")
            require(colour == "RGB" || colour == "BGR") { "colour must be RGB or BGR, got $colour" }
            val output = root.fields("output")
            val golden = root.fields("golden")
            val modelId = root.fields("files").text(root.text("model"))
            return Manifest(
                name = root.text("name"),
                model = root.text("model"),
                modelId = modelId,
                space = if (root.states("embedding_space")) space(root.fields("embedding_space")) else EmbeddingSpace(modelId),
                input = InputSpec(
                    size[0].toInt(),
                    size[1].toInt(),
                    colour == "BGR",
                    spec.floats("mean"),
                    spec.floats("std"),
                ),
                output = output.text("name"),
                width = output.number("width").toInt(),
                thresholds = root.list("thresholds").map {
                    val one = Fields(it, "thresholds")
                    Threshold(one.number("far"), one.number("threshold_cos"), one.text("dataset"))
                },
                goldenCrop = golden.text("crop"),
                goldenEmbedding = golden.text("embedding"),
                goldenMinCosine = golden.number("min_cosine"),
                files = root.fields("files").texts(),
                liveness = if (root.has("liveness")) liveness(root.fields("liveness")) else null,
                calibration = if (root.has("calibration")) calibration(root.fields("calibration")) else null,
            )
        }

        private fun liveness(given: Fields): LivenessSpec {
            val models = given.list("models").map {
                val one = Fields(it, "liveness.models")
                val spec = one.fields("input")
                val size = spec.numbers("size")
                require(size.size == 2) { "a liveness network takes height and width, got $size" }
                LivenessModel(
                    one.text("file"),
                    one.number("crop_scale"),
                    InputSpec(size[0].toInt(), size[1].toInt(), spec.text("colour") == "BGR", spec.floats("mean"), spec.floats("std")),
                    one.text("output"),
                    one.number("real_class").toInt(),
                    one.flag("probabilities"),
                )
            }
            require(models.isNotEmpty()) { "liveness has no networks" }
            return LivenessSpec(models, given.number("threshold"))
        }

        private fun space(stated: Fields): EmbeddingSpace {
            val others = stated.list("compatible_with").map { it as? String ?: "" }
            val space = EmbeddingSpace(stated.text("id"), others)
            // Files are named by it.
            require((others + space.id).all(HASH::matches)) { "manifest.embedding_space must hold sha256 hashes" }
            return space
        }

        private val HASH = Regex("[0-9a-f]{64}")

        private fun calibration(found: Fields) = ThresholdTable(
            found.text("faces"),
            found.list("thresholds").map {
                val one = Fields(it, "calibration.thresholds")
                RatedThreshold(one.number("far"), one.number("threshold_cos"), one.number("far_high"))
            },
            found.number("identities").toLong(),
            found.number("impostor_pairs").toLong(),
        )
    }
}

/** The embedding in golden/embedding.json: what the exporting machine computed for the golden crop, raw. */
fun parseGoldenEmbedding(text: String): FloatArray =
    Fields(Json.parse(text), "golden embedding").numbers("embedding").map { it.toFloat() }.toFloatArray()

/** Typed access to a parsed object; errors name the field. */
private class Fields(value: Any?, private val where: String) {
    private val map: Map<*, *> = requireNotNull(value as? Map<*, *>) { "$where must be an object" }

    fun states(key: String): Boolean = map[key] != null

    fun text(key: String): String = requireNotNull(map[key] as? String) { "$where.$key must be a text" }

    fun number(key: String): Double = requireNotNull(map[key] as? Double) { "$where.$key must be a number" }

    fun flag(key: String): Boolean = requireNotNull(map[key] as? Boolean) { "$where.$key must be true or false" }

    /** Whether it is there and not null. */
    fun has(key: String): Boolean = map[key] != null

    fun floats(key: String): FloatArray = numbers(key).map { it.toFloat() }.toFloatArray()

    fun list(key: String): List<Any?> = requireNotNull(map[key] as? List<*>) { "$where.$key must be a list" }

    fun numbers(key: String): List<Double> =
        list(key).map { requireNotNull(it as? Double) { "$where.$key must hold numbers" } }

    fun fields(key: String): Fields = Fields(map[key], "$where.$key")

    fun texts(): Map<String, String> =
        map.entries.associate { (key, value) -> Pair(key as String, requireNotNull(value as? String) { "$where.$key must be a text" }) }
}
