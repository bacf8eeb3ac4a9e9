package org.facekd.demo

import android.Manifest
import android.app.Activity
import android.app.AlertDialog
import android.content.Intent
import android.content.pm.PackageManager
import android.content.res.Configuration
import android.os.Bundle
import android.view.View
import android.widget.RadioGroup
import android.widget.TextView
import org.facekd.core.Consent

/** The live picture: who is it, is it them, and enrolling. */
class MainActivity : Activity(), Recognition.Screen {
    private lateinit var settings: Settings
    private lateinit var recognition: Recognition
    private lateinit var preview: PreviewView
    private lateinit var status: TextView
    private lateinit var times: TextView
    private lateinit var question: RadioGroup
    private var feed: CameraFeed? = null
    private var front = true
    private var picturePerson = ""
    private var pictureConsent: Consent? = null

    /** What stands in the status line until it is acknowledged or a decision shows that it is over. */
    private var error: String? = null

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        settings = Settings(this)
        recognition = Recognition(this, settings, this)
        bind(recognition.summary)
        // Another app chooses the picture; this one may be closed meanwhile.
        picturePerson = state?.getString(PERSON) ?: ""
        state?.getLong(CONSENT)?.takeIf { it > 0 }?.let { pictureConsent = Consent(it, Questions.CONSENT_VERSION) }
        front = state?.getBoolean(FRONT) ?: true
        state?.getString(VERIFIED)?.let { recognition.ask(Mode.Verify(it)) }
    }

    /** Turned or resized: the layout for it, around the same camera, networks and enrolment. */
    override fun onConfigurationChanged(changed: Configuration) {
        super.onConfigurationChanged(changed)
        bind(status.text)
    }

    private fun bind(said: CharSequence) {
        setContentView(R.layout.main)
        preview = view(R.id.preview)
        status = view(R.id.status)
        times = view(R.id.times)
        question = view(R.id.question)
        status.text = said
        click(R.id.identify) { recognition.ask(Mode.Identify) }
        click(R.id.verify) { chooseWhom() }
        click(R.id.switch_camera) {
            front = !front
            withCamera(::startCamera)
        }
        click(R.id.status) {}
        click(R.id.enrol_camera) { withCamera { enrol { person, consent -> recognition.ask(Mode.Enrol(person, consent)) } } }
        click(R.id.enrol_gallery) { enrol(::choosePicture) }
        click(R.id.people) { startActivityForResult(Intent(this, PeopleActivity::class.java), SEE_PEOPLE) }
        click(R.id.settings) { startActivity(Intent(this, SettingsActivity::class.java)) }
        showQuestion()
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        state.putString(PERSON, picturePerson)
        pictureConsent?.let { state.putLong(CONSENT, it.givenMs) }
        state.putBoolean(FRONT, front)
        (recognition.mode as? Mode.Verify)?.let { state.putString(VERIFIED, it.person) }
    }

    override fun onStart() {
        super.onStart()
        recognition.start()
        withCamera {} // Asks, if need be; onResume opens it.
    }

    override fun onResume() {
        super.onResume()
        if (feed == null && mayUseCamera()) startCamera()
    }

    /** Touched again in a divided screen, where another app may have taken the camera: onResume is not called then. */
    override fun onWindowFocusChanged(hasFocus: Boolean) {
        super.onWindowFocusChanged(hasFocus)
        if (hasFocus && feed == null && mayUseCamera()) startCamera()
    }

    /** Not in onPause: beside another app in a divided screen, or behind a question, the picture goes on. */
    override fun onStop() {
        stopCamera()
        if (recognition.mode is Mode.Enrol) recognition.ask(Mode.Identify)
        super.onStop()
    }

    override fun onDestroy() {
        recognition.close()
        super.onDestroy()
    }

    override fun onRequestPermissionsResult(code: Int, permissions: Array<String>, results: IntArray) {
        // Empty: the question was interrupted, and is answered later. Granted: onResume follows.
        if (results.firstOrNull() == PackageManager.PERMISSION_DENIED) tell(getString(R.string.camera_denied))
    }

    private fun mayUseCamera() = checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED

    private fun withCamera(then: () -> Unit) {
        if (mayUseCamera()) then() else requestPermissions(arrayOf(Manifest.permission.CAMERA), ASK_CAMERA)
    }

    private fun startCamera() {
        stopCamera()
        recognition.forget()
        val facesUser = front
        feed = CameraFeed(
            this,
            facesUser,
            onFrame = { image, milliseconds -> recognition.look(image, facesUser, milliseconds) },
            onError = { failed, why ->
                runOnUiThread { if (feed === failed) stopCamera() }
                fail(getString(R.string.camera_failed, why))
            },
        )
    }

    /** The last picture goes with the camera: its names would stand there with nobody before it. */
    private fun stopCamera() {
        feed?.close()
        feed = null
        preview.show(null)
    }

    private fun enrol(then: (String, Consent) -> Unit) {
        if (recognition.isReady) Questions.name(this) { person -> withConsent(person) { then(person, it) } }
    }

    /** Each person is asked, once for each version of the text. */
    private fun withConsent(person: String, then: (Consent) -> Unit) = recognition.consentOf(person) { given ->
        runOnUiThread {
            if (given != null) then(given) else if (!isFinishing && !isDestroyed) Questions.consent(this, person, then)
        }
    }

    private fun addSample(person: String) = withCamera {
        withConsent(person) { recognition.ask(Mode.Enrol(person, it, wanted = 1)) }
    }

    private fun chooseWhom() {
        showQuestion() // Until somebody is chosen, what was asked before stays.
        recognition.people { names ->
            runOnUiThread {
                if (isFinishing || isDestroyed) return@runOnUiThread
                if (names.isEmpty()) return@runOnUiThread Questions.tell(this, getString(R.string.nobody))
                AlertDialog.Builder(this)
                    .setTitle(R.string.verify_whom)
                    .setItems(names.toTypedArray()) { _, at -> recognition.ask(Mode.Verify(names[at])) }
                    .show()
            }
        }
    }

    private fun showQuestion() {
        val mode = recognition.mode
        when (mode) {
            is Mode.Identify -> question.check(R.id.identify)
            is Mode.Verify -> question.check(R.id.verify)
            is Mode.Enrol -> question.clearCheck()
        }
        view<TextView>(R.id.verify).text =
            if (mode is Mode.Verify) getString(R.string.mode_verify_person, mode.person) else getString(R.string.mode_verify)
    }

    private fun choosePicture(person: String, consent: Consent) {
        picturePerson = person
        pictureConsent = consent
        chooseDocument(Intent.ACTION_OPEN_DOCUMENT, "image/*", CHOOSE_PICTURE)
    }

    override fun onActivityResult(code: Int, result: Int, data: Intent?) {
        val uri = data?.data
        val consent = pictureConsent
        if (code == CHOOSE_PICTURE && result == RESULT_OK && uri != null && consent != null) {
            recognition.enrolPicture(uri, picturePerson, consent)
        }
        if (code == SEE_PEOPLE) data?.getStringExtra(PeopleActivity.ADD_SAMPLE)?.let(::addSample)
    }

    override fun questionChanged() = runOnUiThread(::showQuestion)

    override fun show(shown: Shown, times: String) = runOnUiThread {
        if (feed == null) return@runOnUiThread
        preview.show(shown)
        if (error != null && shown.faces.any { it.decided }) done(recognition.summary)
        this.times.text = times
    }

    override fun tell(message: String) = runOnUiThread { Questions.tell(this, message) }

    override fun askWhether(person: String, known: String, another: () -> Unit, same: () -> Unit) = runOnUiThread {
        if (isFinishing || isDestroyed) return@runOnUiThread
        AlertDialog.Builder(this)
            .setMessage(getString(R.string.enrol_known, person, known))
            .setPositiveButton(R.string.enrol_another) { _, _ -> another() }
            .setNeutralButton(getString(R.string.enrol_same, known)) { _, _ -> same() }
            .setNegativeButton(R.string.cancel, null)
            .show()
    }

    override fun say(message: String) = runOnUiThread { if (error == null) write(message) }

    override fun done(message: String) = runOnUiThread {
        error = null
        write(message)
    }

    override fun fail(message: String) = runOnUiThread {
        error = message
        write(getString(R.string.error_until_tapped, message))
    }

    /** Only what changed: each time it is written it is read aloud. */
    private fun write(message: String) {
        if (status.text.toString() != message) status.text = message
    }

    /** Whoever presses something has seen the error. */
    private fun click(id: Int, action: () -> Unit) = view<View>(id).setOnClickListener {
        done(recognition.summary)
        action()
    }

    private companion object {
        const val ASK_CAMERA = 1
        const val CHOOSE_PICTURE = 2
        const val SEE_PEOPLE = 3
        const val PERSON = "person"
        const val CONSENT = "consent"
        const val FRONT = "front"
        const val VERIFIED = "verified"
    }
}
