package org.facekd.demo

import android.content.Context
import org.facekd.core.Clearance
import org.facekd.core.Consent
import org.facekd.core.EnrolmentPolicy
import org.facekd.core.Face
import org.facekd.core.FaceDetector
import org.facekd.core.Gallery
import org.facekd.core.GalleryThreshold
import org.facekd.core.Judged
import org.facekd.core.LivenessDemand
import org.facekd.core.LivenessSession
import org.facekd.core.Observation
import org.facekd.core.Quality
import org.facekd.core.RecognitionSession
import org.facekd.core.Refusal
import org.facekd.core.RgbImage
import org.facekd.core.Stage
import org.facekd.core.Template
import org.facekd.core.ThresholdTable
import org.facekd.core.Verdict
import org.facekd.core.identify
import org.facekd.core.verify

/** What the camera's pictures are for. */
sealed class Mode {
    object Identify : Mode()

    class Verify(val person: String) : Mode()

    /** Collects good samples of one person; [found] until there are [wanted]. */
    class Enrol(val person: String, val consent: Consent, val wanted: Int = 3, val found: MutableList<Template> = mutableListOf()) : Mode() {
        var takenMs = 0L
    }
}

/** What one picture showed: labels for the preview and, while enrolling, what is wrong or enough. */
class Outcome(val labels: List<Labelled>, val refusal: Refusal? = null)

/** From a picture to names, on the engine's thread. */
class Recogniser(
    private val context: Context,
    private val engine: Engine,
    val table: ThresholdTable,
    val promise: Double?,
    private val demand: LivenessDemand,
) {
    private val policy = EnrolmentPolicy()
    private val session = RecognitionSession()
    private val liveness = LivenessSession(demand, engine.manifest.liveness?.threshold ?: 0.0)
    private var asked: Mode? = null

    /** What can be said of [image], the next one after those before; [timeMs] as RecognitionSession has it. */
    fun look(image: RgbImage, timeMs: Long, mode: Mode): Outcome {
        if (mode !== asked) session.reset()
        asked = mode
        val faces = engine.detect(image)
        if (mode is Mode.Enrol) return enrol(image, faces, mode)
        // The largest few: a crowd must not stop the picture.
        val largest = faces.sortedByDescending { it.box.width * it.box.height }.take(MOST_FACES)
        val samples = engine.store.all()
        val limit = (limits(mode, samples) as? GalleryThreshold.Kept)?.threshold?.cos
        val seen = largest.map { observe(image, it) }
        val frame = session.look(image, timeMs, seen, pairCos) { probe ->
            if (limit == null) return@look null // What cannot be promised is not said.
            engine.times.time(Stage.MATCH) {
                if (mode is Mode.Verify) verify(probe, mode.person, samples, limit) else identify(probe, samples, limit)
            }
        }
        val scores = seen.map { if (demand == LivenessDemand.OFF || it.embedding == null) null else engine.liveness(image, it.face) }
        val clearances = liveness.look(frame.faces, seen, scores, timeMs, pairCos)
        val nobody = if (limit == null) R.string.not_named else R.string.nobody_enrolled
        return Outcome(frame.faces.zip(clearances) { judged, clearance -> withheld(judged, clearance) ?: label(judged, mode, nobody) })
    }

    /** What the promise comes to for those whom [mode] compares with. */
    fun limits(mode: Mode, samples: Gallery): GalleryThreshold {
        val compared = if (mode is Mode.Verify) samples.count(mode.person) else samples.size
        return table.forGallery(promise, compared)
    }

    /** Above it somebody of all [samples] is recognised; that of a pair where nothing can be promised. */
    fun galleryCos(samples: Gallery): Double =
        (limits(Mode.Identify, samples) as? GalleryThreshold.Kept)?.threshold?.cos ?: pairCos

    /** Above it two embeddings pass as one person. */
    val pairCos: Double = table.pairCos(promise)

    /** The pictures that follow have nothing to do with those before. */
    fun forget() = session.reset()

    private fun observe(image: RgbImage, face: Face): Observation {
        val quality = Quality.of(image, face.landmarks)
        return Observation(face, quality, if (session.isUsable(quality)) engine.embed(image, face) else null)
    }

    /** One sample of the only face in [image], or why there is none. */
    fun sample(image: RgbImage, person: String, consent: Consent): Pair<Template?, Refusal?> {
        val faces = engine.detect(image, FaceDetector.PICTURE_SIDE)
        policy.refusals(image, faces).firstOrNull()?.let { return Pair(null, it) }
        return Pair(template(image, faces.single(), person, consent), null)
    }

    private fun template(image: RgbImage, face: Face, person: String, consent: Consent) =
        Template(person, engine.embed(image, face), System.currentTimeMillis(), consent, Quality.of(image, face.landmarks))

    private fun enrol(image: RgbImage, faces: List<Face>, mode: Mode.Enrol): Outcome {
        val refusal = policy.refusals(image, faces).firstOrNull()
        val now = System.currentTimeMillis()
        // Apart in time, so that the samples differ.
        if (refusal == null && now - mode.takenMs >= SAMPLE_INTERVAL_MS && mode.found.size < mode.wanted) {
            mode.takenMs = now
            mode.found += template(image, faces.single(), mode.person, mode.consent)
        }
        // Whose face it is, nobody has checked: it is not named.
        val text = context.getString(if (refusal == null) R.string.advice_hold_still else advice(refusal))
        return Outcome(faces.map { Labelled(it, text, text, false, false) }, refusal)
    }

    /** What stands over a face whose name liveness does not allow; null where it does. */
    private fun withheld(judged: Judged, clearance: Clearance): Labelled? {
        val text = context.getString(LivenessTexts.of(clearance) ?: return null)
        return Labelled(judged.face, text, text, false, false)
    }

    private fun label(judged: Judged, mode: Mode, nobody: Int): Labelled {
        val text = when (judged.verdict) {
            Verdict.UNUSABLE -> context.getString(judged.fault?.let(::advice) ?: R.string.advice_hold_still)
            Verdict.UNDECIDED -> context.getString(R.string.advice_hold_still)
            Verdict.NOBODY_ENROLLED -> context.getString(nobody)
            Verdict.PERSON -> if (mode is Mode.Verify) context.getString(R.string.is_person, mode.person) else judged.match?.person ?: ""
            Verdict.UNKNOWN -> if (mode is Mode.Verify) context.getString(R.string.not_person, mode.person) else context.getString(R.string.unknown)
        }
        val decided = judged.verdict == Verdict.PERSON || judged.verdict == Verdict.UNKNOWN
        val score = judged.match?.scoreCos?.takeIf { decided }
        val shown = if (score == null) text else context.getString(R.string.box_label, text, score)
        return Labelled(judged.face, shown, text, judged.verdict == Verdict.PERSON, decided)
    }

    companion object {
        private const val MOST_FACES = 5
        private const val SAMPLE_INTERVAL_MS = 700L

        fun sentence(refusal: Refusal): Int = when (refusal) {
            Refusal.NO_FACE -> R.string.refusal_no_face
            Refusal.SEVERAL_FACES -> R.string.refusal_several_faces
            Refusal.TOO_SMALL -> R.string.refusal_too_small
            Refusal.TURNED -> R.string.refusal_turned
            Refusal.TILTED -> R.string.refusal_tilted
            Refusal.NODDED -> R.string.refusal_nodded
            Refusal.TOO_DARK -> R.string.refusal_too_dark
            Refusal.BLURRED -> R.string.refusal_blurred
        }

        /** What somebody before the camera can do about it, over their face. */
        private fun advice(fault: Refusal): Int = when (fault) {
            Refusal.NO_FACE, Refusal.BLURRED -> R.string.advice_hold_still
            Refusal.SEVERAL_FACES -> R.string.advice_alone
            Refusal.TOO_SMALL -> R.string.advice_come_closer
            Refusal.TURNED, Refusal.NODDED -> R.string.advice_look_ahead
            Refusal.TILTED -> R.string.advice_upright
            Refusal.TOO_DARK -> R.string.advice_more_light
        }
    }
}
