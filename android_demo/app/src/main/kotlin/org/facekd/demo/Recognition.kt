package org.facekd.demo

import ai.onnxruntime.OrtException
import android.content.Context
import android.net.Uri
import android.os.Handler
import android.os.HandlerThread
import java.io.IOException
import java.util.concurrent.atomic.AtomicBoolean
import org.facekd.core.Consent
import org.facekd.core.Refusal
import org.facekd.core.Review
import org.facekd.core.RgbImage
import org.facekd.core.Stage
import org.facekd.core.Template
import org.facekd.core.TemplateException
import org.facekd.core.TemplateStore
import org.facekd.core.review

/** The networks, the question and an enrolment, on a thread of their own; what comes of them is the screen's. */
class Recognition(private val context: Context, private val settings: Settings, private val screen: Screen) : AutoCloseable {
    /** Called from any thread. */
    interface Screen {
        /** In the status line: how far something is. */
        fun say(message: String)

        /** In the status line, in place of an error too: something was done. */
        fun done(message: String)

        /** In the status line until it is acknowledged, or a decision shows that it is over. */
        fun fail(message: String)

        /** In a dialogue. */
        fun tell(message: String)

        /** The picture that was analysed, with what is said of it. */
        fun show(shown: Shown, times: String)

        fun questionChanged()

        /** [person]'s new samples pass as [known], who is enrolled: are they two people? One of the actions, or none, follows. */
        fun askWhether(person: String, known: String, another: () -> Unit, same: () -> Unit)
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
        val isOther = next is Mode.Verify || mode is Mode.Verify // another question, another threshold
        mode = next
        screen.questionChanged()
        if (isOther) reading {
            engine?.let { if (isReady) summary = describe(it) }
            screen.say(summary)
        }
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
        val timeMs = clock()
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
    fun enrolPicture(uri: Uri, person: String, consent: Consent) {
        work.post { enrolFrom(uri, person, consent) }
    }

    /** What [person] agreed to, for [then]; null where it was nothing, or another text. Called back from the thread. */
    fun consentOf(person: String, then: (Consent?) -> Unit) = reading { store ->
        val given = store.all().of(person).map { it.consent }
        then(given.lastOrNull { it.textVersion == Questions.CONSENT_VERSION })
    }

    /** Names of the enrolled, for [then]; called back from the thread. */
    fun people(then: (List<String>) -> Unit) = reading { then(it.people().keys.toList()) }

    private fun reading(then: (TemplateStore) -> Unit) {
        work.post { storing(then) }
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
            val table = current.manifest.table ?: throw EngineException(context.getString(R.string.no_thresholds))
            val people = current.store.people()
            (mode as? Mode.Verify)?.let { if (it.person !in people) ask(Mode.Identify) }
            recogniser = Recogniser(context, current, table, settings.promise, settings.liveness(current.manifest))
            summary = describe(current)
            tellOfCut(current.store)
            if (people.isEmpty() && FacekdApp.of(context).keepsOthers(current.manifest)) screen.fail(context.getString(R.string.enrol_anew))
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

    private fun describe(engine: Engine): String {
        val provider = context.getString(Engine.label(engine.provider))
        val line = context.getString(R.string.provider_line, provider, engine.selfTest.cosine, promised(engine.store))
        return LivenessTexts.warned(context, line, engine.manifest, settings.liveness(engine.manifest))
    }

    /** How often a stranger is named, now that these people are enrolled. */
    private fun promised(store: TemplateStore): String {
        val ready = recogniser ?: return ""
        val samples = store.all()
        val asked = (mode as? Mode.Verify)?.person
        return PromiseText(context).line(ready.table, ready.limits(mode, samples), samples.people().size, asked)
    }

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
        null.also { screen.fail(context.getString(R.string.picture_failed, error.message)) }
    } catch (error: IllegalArgumentException) {
        null.also { screen.fail(context.getString(R.string.picture_failed, error.message)) }
    } catch (error: TemplateException) {
        null.also { screen.fail(Engine.sentence(context, error)) }
    } catch (error: IOException) {
        null.also { screen.fail(context.getString(R.string.file_failed, error.message)) }
    }

    private fun follow(enrolling: Mode.Enrol, outcome: Outcome) {
        if (mode !== enrolling) return
        if (enrolling.found.size >= enrolling.wanted) {
            keep(enrolling.person, enrolling.found.toList(), enrolling)
        } else {
            val progress = context.getString(R.string.enrol_capture, enrolling.found.size + 1, enrolling.wanted)
            screen.say(outcome.refusal?.let(::sentence) ?: progress)
        }
    }

    private fun sentence(refusal: Refusal): String =
        context.getString(R.string.refused, context.getString(Recogniser.sentence(refusal)))

    private fun enrolFrom(uri: Uri, person: String, consent: Consent) {
        if (recogniser == null) load()
        val ready = recogniser ?: return
        val image = try {
            Pictures.open(context.contentResolver, uri, LARGEST_SIDE)
        } catch (error: IOException) {
            return screen.tell(context.getString(R.string.picture_unreadable))
        } catch (error: SecurityException) {
            return screen.tell(context.getString(R.string.picture_unreadable))
        }
        val (sample, refusal) = computed { ready.sample(image, person, consent) } ?: return
        if (sample != null) keep(person, listOf(sample), null) else screen.tell(sentence(requireNotNull(refusal)))
    }

    /** Stores [samples] if nothing speaks against them; of [enrolling] the odd one is taken again. */
    private fun keep(person: String, samples: List<Template>, enrolling: Mode.Enrol?) = storing { store ->
        val ready = recogniser ?: return@storing
        val stored = store.all()
        val found = review(person, samples.map { it.embedding }, stored, ready.pairCos, ready.galleryCos(stored))
        if (found is Review.Odd && enrolling != null) {
            enrolling.found.removeAt(found.sample)
            return@storing screen.fail(context.getString(R.string.enrol_odd, found.sample + 1))
        }
        if (enrolling != null) ask(Mode.Identify)
        when (found) {
            is Review.Odd -> screen.fail(context.getString(R.string.enrol_odd, found.sample + 1))
            is Review.NameTaken -> screen.fail(context.getString(R.string.enrol_name_taken, person))
            is Review.Known -> screen.askWhether(
                person,
                found.person,
                another = { work.post { storing { add(it, person, samples) } } },
                same = { work.post { storing { add(it, found.person, samples.map { sample -> sample.of(found.person) }) } } },
            )
            is Review.Fine -> add(store, person, samples)
        }
    }

    private fun add(store: TemplateStore, person: String, samples: List<Template>) {
        store.add(samples)
        val count = store.people().getValue(person)
        engine?.let { summary = describe(it) }
        val enrolled = context.resources.getQuantityString(R.plurals.enrolled, count, person, count)
        screen.done(context.getString(R.string.enrolled_promised, enrolled, promised(store)))
    }

    private fun storing(work: (TemplateStore) -> Unit) {
        val current = engine ?: return
        try {
            work(current.store)
            tellOfCut(current.store)
        } catch (error: TemplateException) {
            screen.fail(Engine.sentence(context, error))
        } catch (error: IOException) {
            screen.fail(context.getString(R.string.file_failed, error.message))
        }
    }

    private fun tellOfCut(store: TemplateStore) {
        store.takeCut()?.let { screen.fail(context.getString(R.string.store_cut, it)) }
    }

    private fun timesLine(engine: Engine): String {
        val medians = engine.times.medians()
        val texts = Stage.entries.map { stage ->
            medians[stage]?.let { context.getString(R.string.stage_value, it) } ?: context.getString(R.string.stage_none)
        }
        return context.getString(R.string.stage_times, *texts.toTypedArray())
    }

    companion object {
        private const val LARGEST_SIDE = 640

        /** When a picture came, in milliseconds. Tests on a busy machine have a clock of their own. */
        @Volatile
        var clock: () -> Long = { System.nanoTime() / 1_000_000 }
    }
}
