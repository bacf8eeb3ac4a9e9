package org.facekd.demo

import android.content.Context
import org.facekd.core.EnrolmentPolicy
import org.facekd.core.Face
import org.facekd.core.FaceDetector
import org.facekd.core.Refusal
import org.facekd.core.RgbImage
import org.facekd.core.Stage
import org.facekd.core.Template
import org.facekd.core.Threshold
import org.facekd.core.identify
import org.facekd.core.verify

/** What the camera's pictures are for. */
sealed class Mode {
    object Identify : Mode()

    class Verify(val person: String) : Mode()

    /** Collects good samples of one person; [found] until there are [wanted]. */
    class Enrol(val person: String, val wanted: Int = 3, val found: MutableList<Template> = mutableListOf()) : Mode() {
        var takenMs = 0L
    }
}

/** What one picture showed: labels for the preview and, while enrolling, what is wrong or enough. */
class Outcome(val labels: List<Labelled>, val refusal: Refusal? = null)

/** From a picture to names, on the engine's thread. */
class Recogniser(private val context: Context, private val engine: Engine, private val threshold: Threshold) {
    private val policy = EnrolmentPolicy()

    fun look(image: RgbImage, mode: Mode): Outcome {
        val faces = engine.detect(image)
        if (mode is Mode.Enrol) return enrol(image, faces, mode)
        // The largest few: a crowd must not stop the picture.
        val largest = faces.sortedByDescending { it.box.width * it.box.height }.take(MOST_FACES)
        return Outcome(largest.map { name(image, it, mode) })
    }

    /** One sample of the only face in [image], or why there is none. */
    fun sample(image: RgbImage, person: String): Pair<Template?, Refusal?> {
        val faces = engine.detect(image, FaceDetector.PICTURE_SIDE)
        policy.refusals(image, faces).firstOrNull()?.let { return Pair(null, it) }
        return Pair(Template(person, engine.embed(image, faces.single()), System.currentTimeMillis()), null)
    }

    private fun enrol(image: RgbImage, faces: List<Face>, mode: Mode.Enrol): Outcome {
        val refusal = policy.refusals(image, faces).firstOrNull()
        val now = System.currentTimeMillis()
        // Apart in time, so that the samples differ.
        if (refusal == null && now - mode.takenMs >= SAMPLE_INTERVAL_MS && mode.found.size < mode.wanted) {
            mode.takenMs = now
            mode.found += Template(mode.person, engine.embed(image, faces.single()), now)
        }
        // Of several faces none is known to be the person's.
        val text = if (faces.size == 1) mode.person else context.getString(R.string.unknown)
        return Outcome(faces.map { Labelled(it, text, text, refusal == null) }, refusal)
    }

    private fun name(image: RgbImage, face: Face, mode: Mode): Labelled {
        val probe = engine.embed(image, face)
        val samples = engine.store.all()
        val match = engine.times.time(Stage.MATCH) {
            if (mode is Mode.Verify) verify(probe, mode.person, samples, threshold.cos) else identify(probe, samples, threshold.cos)
        } ?: return context.getString(R.string.nobody_enrolled).let { Labelled(face, it, it, false) }
        val text = when {
            mode is Mode.Verify -> context.getString(if (match.person != null) R.string.is_person else R.string.not_person, mode.person)
            else -> match.person ?: context.getString(R.string.unknown)
        }
        return Labelled(face, context.getString(R.string.box_label, text, match.scoreCos), text, match.person != null)
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
            Refusal.BLURRED -> R.string.refusal_blurred
        }
    }
}
