package org.facekd.demo

import android.Manifest
import android.app.Activity
import android.app.AlertDialog
import android.content.Intent
import android.content.pm.PackageManager
import android.hardware.display.DisplayManager
import android.net.Uri
import android.os.Bundle
import android.os.Handler
import android.os.HandlerThread
import android.view.Display
import android.view.Surface
import android.view.View
import android.widget.TextView
import java.io.IOException
import java.util.concurrent.atomic.AtomicBoolean
import org.facekd.core.RgbImage
import org.facekd.core.Stage
import org.facekd.core.Template
import org.facekd.core.TemplateException
import org.facekd.core.Threshold

/** The live picture: who is it, is it them, and enrolling. */
class MainActivity : Activity() {
    private lateinit var settings: Settings
    private lateinit var preview: PreviewView
    private lateinit var status: TextView
    private lateinit var times: TextView
    private lateinit var worker: HandlerThread
    private lateinit var work: Handler
    private val busy = AtomicBoolean(false)
    private var feed: CameraFeed? = null
    private var front = true

    // Touched by the worker alone.
    private var engine: Engine? = null
    private var recogniser: Recogniser? = null

    @Volatile
    private var mode: Mode = Mode.Identify

    @Volatile
    private var summary = ""

    @Volatile
    private var picturePerson = ""

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.main)
        settings = Settings(this)
        preview = view(R.id.preview)
        status = view(R.id.status)
        times = view(R.id.times)
        picturePerson = state?.getString(PERSON) ?: ""
        worker = HandlerThread("recognition").apply { start() }
        work = Handler(worker.looper)
        click(R.id.identify) { mode = Mode.Identify }
        click(R.id.verify) { chooseWhom() }
        click(R.id.switch_camera) {
            front = !front
            restartCamera()
        }
        click(R.id.enrol_camera) { enrol { person -> mode = Mode.Enrol(person) } }
        click(R.id.enrol_gallery) { enrol(::choosePicture) }
        click(R.id.people) { startActivity(Intent(this, PeopleActivity::class.java)) }
        click(R.id.settings) { startActivity(Intent(this, SettingsActivity::class.java)) }
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        state.putString(PERSON, picturePerson) // The picture is chosen in another app; this one may be closed meanwhile.
    }

    override fun onStart() {
        super.onStart()
        work.post { load() }
        if (checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED) {
            restartCamera()
        } else {
            requestPermissions(arrayOf(Manifest.permission.CAMERA), ASK_CAMERA)
        }
    }

    override fun onStop() {
        feed?.close()
        feed = null
        mode = Mode.Identify
        super.onStop()
    }

    override fun onDestroy() {
        work.post { engine?.close() }
        worker.quitSafely()
        super.onDestroy()
    }

    override fun onRequestPermissionsResult(code: Int, permissions: Array<String>, results: IntArray) {
        if (results.firstOrNull() == PackageManager.PERMISSION_GRANTED) restartCamera() else say(getString(R.string.camera_denied))
    }

    /** Makes the engine, anew where another provider was chosen. On the worker. */
    private fun load() {
        val wanted = settings.provider
        try {
            val current = engine?.takeIf { it.provider == wanted } ?: run {
                engine?.close()
                engine = null
                recogniser = null
                Engine.load(this, wanted).also { engine = it }
            }
            val threshold = settings.threshold(current.manifest) ?: throw EngineException(getString(R.string.no_thresholds))
            recogniser = Recogniser(this, current, threshold)
            summary = describe(current, threshold)
            say(summary)
            current.store.all()
        } catch (error: EngineException) {
            say(error.message ?: "")
        } catch (error: TemplateException) {
            recogniser = null
            say(Engine.sentence(this, error))
        }
    }

    private fun describe(engine: Engine, threshold: Threshold): String = getString(
        R.string.provider_line,
        getString(Engine.label(engine.provider)),
        engine.selfTest.cosine,
        threshold.cos,
        threshold.far.toString(),
        threshold.dataset,
    )

    private fun restartCamera() {
        feed?.close()
        val facesUser = front
        feed = CameraFeed(
            this,
            facesUser,
            ::displayDegrees,
            onFrame = { image, milliseconds -> show(image, milliseconds, facesUser) },
            onError = { say(getString(R.string.camera_failed, it)) },
        )
    }

    /** On the camera's thread: every picture is shown, and analysed when the worker is free. */
    private fun show(image: RgbImage, cameraMs: Double, mirrored: Boolean) {
        val bitmap = Pictures.bitmap(image)
        runOnUiThread { preview.show(bitmap, mirrored) }
        if (!busy.compareAndSet(false, true)) return
        work.post {
            try {
                analyse(image, cameraMs)
            } finally {
                busy.set(false)
            }
        }
    }

    private fun analyse(image: RgbImage, cameraMs: Double) {
        val current = engine ?: return
        val active = mode
        val outcome = recogniser?.look(image, active) ?: return
        current.times.add(Stage.CAMERA, cameraMs)
        if (active is Mode.Enrol) follow(active, outcome)
        val line = timesLine(current)
        runOnUiThread {
            preview.label(outcome.labels)
            times.text = line
        }
    }

    private fun follow(enrolling: Mode.Enrol, outcome: Outcome) {
        if (enrolling.found.size >= enrolling.wanted) {
            if (mode === enrolling) mode = Mode.Identify
            store(enrolling.person, enrolling.found.toList())
        } else {
            val progress = getString(R.string.enrol_capture, enrolling.found.size + 1, enrolling.wanted)
            say(outcome.refusal?.let { getString(R.string.refused, getString(Recogniser.sentence(it))) } ?: progress)
        }
    }

    private fun store(person: String, samples: List<Template>) {
        val current = engine ?: return
        try {
            current.store.add(samples)
            val count = current.store.people().getValue(person)
            say(resources.getQuantityString(R.plurals.enrolled, count, person, count))
        } catch (error: TemplateException) {
            say(Engine.sentence(this, error))
        } catch (error: IOException) {
            say(getString(R.string.file_failed, error.message))
        }
    }

    private fun timesLine(engine: Engine): String {
        val medians = engine.times.medians()
        val texts = Stage.entries.map { stage ->
            medians[stage]?.let { getString(R.string.stage_value, it) } ?: getString(R.string.stage_none)
        }
        return getString(R.string.stage_times, *texts.toTypedArray())
    }

    private fun enrol(then: (String) -> Unit) = Questions.consent(this, settings) { Questions.name(this, then) }

    private fun chooseWhom() = work.post {
        val names = try {
            engine?.store?.people()?.keys?.toTypedArray() ?: return@post
        } catch (error: TemplateException) {
            return@post say(Engine.sentence(this, error))
        }
        runOnUiThread {
            if (names.isEmpty()) return@runOnUiThread Questions.tell(this, getString(R.string.nobody))
            AlertDialog.Builder(this)
                .setTitle(R.string.verify_whom)
                .setItems(names) { _, at -> mode = Mode.Verify(names[at]) }
                .show()
        }
    }

    private fun choosePicture(person: String) {
        picturePerson = person
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("image/*")
        startActivityForResult(intent, CHOOSE_PICTURE)
    }

    override fun onActivityResult(code: Int, result: Int, data: Intent?) {
        val uri = data?.data
        if (code == CHOOSE_PICTURE && result == RESULT_OK && uri != null) work.post { enrolPicture(uri, picturePerson) }
    }

    private fun enrolPicture(uri: Uri, person: String) {
        if (engine == null) load()
        val ready = recogniser ?: return
        val image = try {
            Pictures.open(contentResolver, uri, LARGEST_SIDE)
        } catch (error: IOException) {
            return tell(getString(R.string.picture_unreadable))
        } catch (error: SecurityException) {
            return tell(getString(R.string.picture_unreadable))
        }
        val (sample, refusal) = ready.sample(image, person)
        if (sample == null) {
            tell(getString(R.string.refused, getString(Recogniser.sentence(requireNotNull(refusal)))))
        } else {
            store(person, listOf(sample))
        }
    }

    @Suppress("DEPRECATION") // Context.getDisplay came with API 30.
    private fun displayDegrees(): Int =
        when (service(DisplayManager::class.java).getDisplay(Display.DEFAULT_DISPLAY)?.rotation) {
            Surface.ROTATION_90 -> 90
            Surface.ROTATION_180 -> 180
            Surface.ROTATION_270 -> 270
            else -> 0
        }

    private fun tell(message: String) = runOnUiThread { Questions.tell(this, message) }

    private fun say(message: String) = runOnUiThread { status.text = message }

    private fun click(id: Int, action: () -> Unit) = view<View>(id).setOnClickListener {
        if (summary.isNotEmpty()) status.text = summary
        action()
    }

    private companion object {
        const val ASK_CAMERA = 1
        const val CHOOSE_PICTURE = 2
        const val LARGEST_SIDE = 640
        const val PERSON = "person"
    }
}
