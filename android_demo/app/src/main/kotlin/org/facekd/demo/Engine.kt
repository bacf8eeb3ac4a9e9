package org.facekd.demo

import ai.onnxruntime.OrtException
import android.content.Context
import java.io.IOException
import java.security.MessageDigest
import org.facekd.core.Embedder
import org.facekd.core.Face
import org.facekd.core.FaceDetector
import org.facekd.core.LivenessDetector
import org.facekd.core.LivenessNetwork
import org.facekd.core.Manifest
import org.facekd.core.ManifestException
import org.facekd.core.RgbImage
import org.facekd.core.SelfTest
import org.facekd.core.Stage
import org.facekd.core.StageTimes
import org.facekd.core.TemplateException
import org.facekd.core.TemplateException.Reason
import org.facekd.core.TemplateStore
import org.facekd.core.align
import org.facekd.core.parseGoldenEmbedding
import org.facekd.core.selfTest
import org.facekd.core.yuNetForAnySize
import org.facekd.runtime.OrtNetwork
import org.facekd.runtime.Provider

/** Why the app cannot recognise anybody; the message is for the user. */
class EngineException(message: String) : Exception(message)

/** Detector, face model and stored samples, ready. Use from one thread; the store from any. */
class Engine private constructor(
    val manifest: Manifest,
    val provider: Provider,
    val selfTest: SelfTest,
    val store: TemplateStore,
    private val detector: FaceDetector,
    private val embedder: Embedder,
    private val liveness: LivenessDetector?,
) : AutoCloseable {
    val times = StageTimes()

    /** [largestSide] of the search, as FaceDetector has it. */
    fun detect(image: RgbImage, largestSide: Int = FaceDetector.CAMERA_SIDE): List<Face> =
        times.time(Stage.DETECT) { detector.detect(image, largestSide) }

    fun embed(image: RgbImage, face: Face): FloatArray {
        val crop = times.time(Stage.ALIGN) { align(image, face.landmarks, embedder.size) }
        return times.time(Stage.EMBED) { embedder.embed(crop) }
    }

    /** Mean probability that [face] is live; null where there are no networks for it, or no crop. */
    fun liveness(image: RgbImage, face: Face): Double? =
        liveness?.let { networks -> times.time(Stage.LIVENESS) { networks.score(image, face.box) } }

    override fun close() {
        liveness?.close()
        detector.close()
        embedder.close()
    }

    companion object {
        private const val MODEL = "model"
        private const val DETECTOR = "detector/yunet.onnx"
        private const val THREADS = 4

        /** The model's manifest, its files compared with their hashes. */
        fun manifest(context: Context): Manifest = usable(context) {
            Manifest.parse(asset(context, "$MODEL/manifest.json").toString(Charsets.UTF_8))
        }

        /**
         * Loads everything and runs the golden face. No other provider is tried in place of the one asked for.
         *
         * @throws EngineException this cannot work here; says why.
         */
        fun load(context: Context, provider: Provider): Engine = usable(context) {
            val manifest = manifest(context)
            if (manifest.table == null) throw EngineException(context.getString(R.string.no_thresholds))
            fun file(path: String) = verified(context, path, manifest)
            val crop = Pictures.decode(file(manifest.goldenCrop))
            val golden = parseGoldenEmbedding(file(manifest.goldenEmbedding).toString(Charsets.UTF_8))
            val name = context.getString(label(provider))
            try {
                val embedder = Embedder(OrtNetwork(file(manifest.model), provider, THREADS), manifest.input, manifest.output)
                runCatching {
                    val test = selfTest(embedder, crop, golden, manifest.goldenMinCosine)
                    if (!test.passed) throw EngineException(context.getString(R.string.provider_refused, name, test.cosine, test.bound))
                    // Detector and liveness stay on the CPU: the self-test says nothing about them elsewhere.
                    val detector = FaceDetector(OrtNetwork(yuNetForAnySize(asset(context, DETECTOR)), Provider.CPU, THREADS))
                    val liveness = manifest.liveness?.let { spec ->
                        LivenessDetector(spec.models.map { LivenessNetwork(OrtNetwork(file(it.file), Provider.CPU, THREADS), it) }, spec.threshold)
                    }
                    Engine(manifest, provider, test, FacekdApp.of(context).store(manifest), detector, embedder, liveness)
                }.onFailure { embedder.close() }.getOrThrow()
            } catch (error: OrtException) {
                throw EngineException(context.getString(R.string.provider_failed, name, error.message))
            }
        }

        /** What to tell the user of stored samples that cannot be read or written. */
        fun sentence(context: Context, error: TemplateException): String =
            if (error.reason == Reason.KEY_REFUSED) {
                context.getString(R.string.key_refused, error.message)
            } else {
                context.getString(R.string.store_failed, context.getString(why(error.reason, R.string.store_damaged)))
            }

        /** Why a file of samples is refused; [damaged] where its content does not open. */
        fun why(reason: Reason, damaged: Int): Int = when (reason) {
            Reason.NOT_TEMPLATES -> R.string.not_templates
            Reason.NEWER_VERSION -> R.string.newer_version
            Reason.OTHER_MODEL -> R.string.other_model
            Reason.DAMAGED, Reason.KEY_REFUSED -> damaged
        }

        fun label(provider: Provider): Int = when (provider) {
            Provider.CPU -> R.string.provider_cpu
            Provider.XNNPACK -> R.string.provider_xnnpack
            Provider.NNAPI -> R.string.provider_nnapi
        }

        private fun <T> usable(context: Context, work: () -> T): T = try {
            work()
        } catch (error: IOException) {
            throw EngineException(context.getString(R.string.no_model, error.message))
        } catch (error: ManifestException) {
            throw EngineException(context.getString(R.string.model_failed, error.message))
        } catch (error: IllegalArgumentException) {
            throw EngineException(context.getString(R.string.model_failed, error.message))
        } catch (error: LinkageError) {
            // ONNX Runtime's native library is missing, or is of another processor.
            throw EngineException(context.getString(R.string.no_runtime))
        }

        private fun asset(context: Context, path: String): ByteArray = context.assets.open(path).use { it.readBytes() }

        private fun verified(context: Context, path: String, manifest: Manifest): ByteArray {
            val bytes = asset(context, "$MODEL/$path")
            if (sha256(bytes) != manifest.files[path]) throw EngineException(context.getString(R.string.model_changed, path))
            return bytes
        }

        fun sha256(bytes: ByteArray): String =
            MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { String.format("%02x", it) }
    }
}
