package org.facekd.demo

import android.Manifest
import android.app.Activity
import android.app.AlertDialog
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.os.Looper
import android.view.View
import android.view.ViewGroup
import android.widget.EditText
import android.widget.RadioButton
import android.widget.TextView
import java.io.File
import java.util.concurrent.atomic.AtomicLong
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.shadows.ShadowDialog

/** What a user does with the app and sees of it, on a phone that has a camera and a Keystore. */
object Phone {
    val app: FacekdApp get() = RuntimeEnvironment.getApplication() as FacekdApp

    fun begin(mayUseCamera: Boolean = true) {
        FakeKeystore.install()
        ReaderShadow.opened.clear()
        // A tenth of a second a picture, however busy the machine is: after two seconds a track would be over.
        val pictures = AtomicLong()
        Recognition.clock = { 100 * pictures.incrementAndGet() }
        addFrontCamera(app)
        if (mayUseCamera) shadowOf(app).grantPermissions(Manifest.permission.CAMERA)
    }

    fun idle() = shadowOf(Looper.getMainLooper()).idle()

    fun until(what: String, seconds: Int = 120, test: () -> Boolean) {
        val end = System.nanoTime() + seconds * 1_000_000_000L
        while (System.nanoTime() < end) {
            idle()
            if (test()) return
            Thread.sleep(10)
        }
        throw AssertionError("never: $what")
    }

    /** The main screen with its networks loaded and, where it may, its camera open. */
    fun open(): ActivityController<MainActivity> {
        val controller = Robolectric.buildActivity(MainActivity::class.java).setup()
        ready(controller)
        return controller
    }

    fun ready(controller: ActivityController<MainActivity>) {
        val loading = app.getString(R.string.loading)
        until("the networks are loaded") { says(controller.get()) != loading }
        if (app.checkSelfPermission(Manifest.permission.CAMERA) == 0) until("the camera is open") { camera() != null }
    }

    fun camera(): ReaderShadow? = ReaderShadow.opened.lastOrNull { !it.isClosed }

    fun says(activity: Activity): String = activity.view<TextView>(R.id.status).text.toString()

    fun preview(activity: Activity): PreviewView = activity.view(R.id.preview)

    /** Shows [frames] to the camera, one after another, each once the one before is on the screen; what is said of the last. */
    fun show(activity: Activity, vararg frames: String): List<String> {
        for (name in frames) {
            val before = preview(activity).shown
            requireNotNull(camera()) { "the camera is closed" }.push(FrameImage(name))
            until("$name is shown") { preview(activity).shown !== before }
        }
        return preview(activity).shown!!.faces.map { it.spoken }
    }

    /** Whose frame the screen shows, by the colour of the picture's upper edge: a's is red. */
    fun whose(activity: Activity): String {
        val view = preview(activity)
        val drawn = draw(view)
        val shown = requireNotNull(view.shown).picture
        val scale = minOf(view.width.toFloat() / shown.width, view.height.toFloat() / shown.height)
        val top = ((view.height - shown.height * scale) / 2 + 4 * scale).toInt()
        val colour = drawn.getPixel(view.width / 2, top)
        return if (Color.red(colour) > Color.blue(colour)) "a" else "b"
    }

    fun click(activity: Activity, id: Int) {
        activity.view<View>(id).performClick()
        idle()
    }

    fun dialog(): AlertDialog = (ShadowDialog.getLatestDialog() as AlertDialog).also { check(it.isShowing) { "no dialogue is open" } }

    fun isAsking(): Boolean = ShadowDialog.getLatestDialog()?.isShowing == true

    fun question(): String = shadowOf(dialog()).message?.toString() ?: ""

    fun agree() {
        dialog().getButton(AlertDialog.BUTTON_POSITIVE).performClick()
        idle()
    }

    fun type(text: String) {
        idle() // a dialogue's buttons work once it is shown
        fields(dialog().window!!.decorView).first().setText(text)
    }

    private fun fields(view: View): List<EditText> = when (view) {
        is EditText -> listOf(view)
        is ViewGroup -> (0 until view.childCount).flatMap { fields(view.getChildAt(it)) }
        else -> emptyList()
    }

    fun draw(view: View): Bitmap {
        val bitmap = Bitmap.createBitmap(maxOf(1, view.width), maxOf(1, view.height), Bitmap.Config.ARGB_8888)
        view.draw(Canvas(bitmap))
        return bitmap
    }

    fun photograph(activity: Activity, name: String) = keep(draw(activity.window.decorView), name)

    fun keep(bitmap: Bitmap, name: String) {
        val file = File(System.getProperty("facekd.pages"), "$name.png").apply { parentFile!!.mkdirs() }
        file.outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
    }

    /** Gives the name and the consent, where it is asked for. */
    fun startEnrolling(activity: MainActivity, person: String) {
        click(activity, R.id.enrol_camera)
        type(person)
        val name = dialog()
        agree()
        var asked = false
        until("consent is asked, or given") {
            asked = ShadowDialog.getLatestDialog() !== name && isAsking()
            asked || !activity.view<RadioButton>(R.id.identify).isChecked
        }
        if (asked) {
            check(question() == activity.getString(R.string.consent, person))
            agree()
        }
    }

    /** Enrols [person] from the camera, as a user does. */
    fun enrol(activity: MainActivity, person: String, vararg frames: String) {
        startEnrolling(activity, person)
        val end = System.nanoTime() + 120_000_000_000
        var at = 0
        while (!says(activity).startsWith("$person:")) {
            check(System.nanoTime() < end) { "not enrolled: ${says(activity)}" }
            show(activity, frames[at++ % frames.size])
        }
    }
}
