package org.facekd.demo

import ai.onnxruntime.OrtException
import android.content.Context
import android.net.Uri
import android.os.Handler
import android.os.HandlerThread
import java.io.IOException
import java.util.concurrent.atomic.AtomicBoolean
import org.facekd.core.Refusal
import org.facekd.core.RgbImage
import org.facekd.core.Stage
import org.facekd.core.Template
import org.facekd.core.TemplateException
import org.facekd.core.Threshold

/** The networks, the question and an enrolment, on a thread of their own; what comes of them is the screen's. */
class Recognition(private val context: Context, private val settings: Settings, private val screen: Screen) : AutoCloseable {
    /** Called from any thread. */
    interface Screen {
        /** In the status line. */
        fun say(message: String)

        /** In a dialogue. */
        fun tell(message: String)

        /** The picture that was analysed, with what is said of it. */
        fun show(shown: Shown, times: String)

        fun questionChanged()
    }

    private val thread = HandlerThread("recognition").apply { start() }
    private val work = Handler(thread.looper)
    private val busy = AtomicBoolean(false)

    // Written by the thread alone.
    private var engine: Engine? = null

    @Volatile
    private var recogniser: Recogniser? = null

    /** What loading came to; the status line returns to it. */
    @Volatile
    var summary = context.getString(R.string.loading)
        private set

    @Volatile
    var mode: Mode = Mode.Identify
        private set

    /** Without networks nobody can be enrolled; [summary] says why. */
    val isReady: Boolean get() = recogniser != null

    fun ask(next: Mode) {
        mode = next
        screen.questionChanged()
    }

    /** Loads the networks, anew where another provider was chosen. */
    fun start() {
        work.post(::load)
    }

    /**
     * Analyses a picture of the camera and then shows it, unless another one is being analysed. The screen shows what was
     * analysed and nothing between: a picture that came later would carry the names of those who were there before.
     */
    fun look(image: RgbImage, mirrored: Boolean, cameraMs: Double) {
        if (!busy.compareAndSet(false, true)) return
        val timeMs = System.nanoTime() / 1_000_000
        work.post {
            val (shown, times) = try {
                analyse(image, mirrored, cameraMs, timeMs)
            } finally {
                busy.set(false)
            }
            screen.show(shown, times)
        }
    }

    /** Another camera: whom the last one showed says nothing. */
    fun forget() {
        work.post { recogniser?.forget() }
    }

    /** Enrols the only face of a picture that the user chose. */
    fun enrolPicture(uri: Uri, person: String) {
        work.post { enrolFrom(uri, person) }
    }

    /** Names of the enrolled, for [then]; called back from the thread. */
    fun people(then: (List<String>) -> Unit) {
        work.post {
            try {
                then(engine?.store?.people()?.keys?.toList() ?: emptyList())
            } catch (error: TemplateException) {
                screen.say(Engine.sentence(context, error))
            } catch (error: IOException) {
                screen.say(context.getString(R.string.file_failed, error.message))
            }
        }
    }

    override fun close() {
        work.post {
            recogniser = null
            engine?.close()
            engine = null
        }
        thread.quitSafely()
    }

    private fun load() {
        val wanted = settings.provider
        try {
            val current = engine?.takeIf { it.provider == wanted } ?: run {
                recogniser = null
                engine?.close()
                engine = null
                Engine.load(context, wanted).also { engine = it }
            }
            val threshold = settings.threshold(current.manifest) ?: throw EngineException(context.getString(R.string.no_thresholds))
            val people = current.store.people()
            (mode as? Mode.Verify)?.let { if (it.person !in people) ask(Mode.Identify) }
            recogniser = Recogniser(context, current, threshold)
            summary = describe(current, threshold)
        } catch (error: EngineException) {
            summary = error.message ?: ""
        } catch (error: TemplateException) {
            recogniser = null
            summary = Engine.sentence(context, error)
        } catch (error: IOException) {
            recogniser = null
            summary = context.getString(R.string.file_failed, error.message)
        }
        screen.say(summary)
    }

    private fun describe(engine: Engine, threshold: Threshold): String = context.getString(
        R.string.provider_line,
        context.getString(Engine.label(engine.provider)),
        engine.selfTest.cosine,
        threshold.cos,
        SettingsActivity.oneIn(threshold),
        threshold.dataset,
    )

    private fun analyse(image: RgbImage, mirrored: Boolean, cameraMs: Double, timeMs: Long): Pair<Shown, String> {
        val active = mode
        val outcome = computed { recogniser?.look(image, timeMs, active) }
        if (outcome != null && active is Mode.Enrol) follow(active, outcome)
        // Nothing is said without networks, nor in answer to a question that is no longer asked.
        val labels = if (outcome == null || mode !== active) emptyList() else outcome.labels
        val times = engine?.let { current ->
            current.times.add(Stage.CAMERA, cameraMs)
            timesLine(current)
        }
        return Pair(Shown(Pictures.bitmap(image), mirrored, labels), times ?: "")
    }

    /** What a provider or a degenerate face can throw is told, and does not end the app. */
    private fun <T> computed(work: () -> T?): T? = try {
        work()
    } catch (error: OrtException) {
        null.also { screen.say(context.getString(R.string.picture_failed, error.message)) }
    } catch (error: IllegalArgumentException) {
        null.also { screen.say(context.getString(R.string.picture_failed, error.message)) }
    }

    private fun follow(enrolling: Mode.Enrol, outcome: Outcome) {
        if (mode !== enrolling) return
        if (enrolling.found.size >= enrolling.wanted) {
            ask(Mode.Identify)
            store(enrolling.person, enrolling.found.toList())
        } else {
            val progress = context.getString(R.string.enrol_capture, enrolling.found.size + 1, enrolling.wanted)
            screen.say(outcome.refusal?.let(::sentence) ?: progress)
        }
    }

    private fun sentence(refusal: Refusal): String =
        context.getString(R.string.refused, context.getString(Recogniser.sentence(refusal)))

    private fun enrolFrom(uri: Uri, person: String) {
        if (recogniser == null) load()
        val ready = recogniser ?: return
        val image = try {
            Pictures.open(context.contentResolver, uri, LARGEST_SIDE)
        } catch (error: IOException) {
            return screen.tell(context.getString(R.string.picture_unreadable))
        } catch (error: SecurityException) {
            return screen.tell(context.getString(R.string.picture_unreadable))
        }
        val (sample, refusal) = computed { ready.sample(image, person) } ?: return
        if (sample != null) store(person, listOf(sample)) else screen.tell(sentence(requireNotNull(refusal)))
    }

    private fun store(person: String, samples: List<Template>) {
        val current = engine ?: return
        try {
            current.store.add(samples)
            val count = current.store.people().getValue(person)
            screen.say(context.resources.getQuantityString(R.plurals.enrolled, count, person, count))
        } catch (error: TemplateException) {
            screen.say(Engine.sentence(context, error))
        } catch (error: IOException) {
            screen.say(context.getString(R.string.file_failed, error.message))
        }
    }

    private fun timesLine(engine: Engine): String {
        val medians = engine.times.medians()
        val texts = Stage.entries.map { stage ->
            medians[stage]?.let { context.getString(R.string.stage_value, it) } ?: context.getString(R.string.stage_none)
        }
        return context.getString(R.string.stage_times, *texts.toTypedArray())
    }

    private companion object {
        const val LARGEST_SIDE = 640
    }
}
