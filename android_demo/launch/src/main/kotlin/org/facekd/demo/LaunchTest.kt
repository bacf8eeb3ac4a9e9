package org.facekd.demo

import android.Manifest
import android.content.Intent
import android.content.pm.PackageManager
import android.os.Bundle
import android.widget.ListView
import android.widget.RadioGroup
import android.widget.TextView
import java.io.File
import org.facekd.core.Json
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

/** Every screen starts, and what a phone does to an app does it no harm. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], qualifiers = "w411dp-h891dp-xhdpi", shadows = [ReaderShadow::class])
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class LaunchTest {
    @Before
    fun begin() = Phone.begin()

    @Test
    fun theMainScreenPassesTheGoldenFace() {
        val activity = Phone.open().get()
        assertTrue(Phone.says(activity), Phone.says(activity).contains("self-test cosine 1.0000") || Phone.says(activity).contains("0.9999"))
        assertEquals(listOf(activity.getString(R.string.nobody_enrolled)), Phone.show(activity, "a0"))
    }

    @Test
    fun everyPictureIsGivenBackToTheCamera() {
        val activity = Phone.open().get()
        val images = List(3) { FrameImage("a0") }
        for (image in images) {
            Phone.camera()!!.push(image)
            Phone.until("it is closed") { image.isClosed }
        }
        Phone.show(activity, "a0")
    }

    @Test
    fun withoutPermissionItAsksAndExplains() {
        shadowOf(Phone.app).denyPermissions(Manifest.permission.CAMERA)
        val controller = Robolectric.buildActivity(MainActivity::class.java).setup()
        val activity = controller.get()
        Phone.ready(controller)
        val asked = shadowOf(activity).lastRequestedPermission
        assertArrayEquals(arrayOf(Manifest.permission.CAMERA), asked.requestedPermissions)
        activity.onRequestPermissionsResult(asked.requestCode, asked.requestedPermissions, intArrayOf(PackageManager.PERMISSION_DENIED))
        Phone.idle()
        assertEquals(activity.getString(R.string.camera_denied), Phone.question())
        Phone.agree()
        assertEquals(null, Phone.camera())
        controller.pause()
        shadowOf(Phone.app).grantPermissions(Manifest.permission.CAMERA)
        controller.resume()
        Phone.ready(controller)
        Phone.show(activity, "a0")
    }

    @Test
    fun aProcessThatDiedComesBackWithItsQuestionAndItsPeople() {
        val first = Phone.open()
        Phone.enrol(first.get(), "Ada", "a0", "a1", "a2")
        Phone.click(first.get(), R.id.verify)
        Phone.until("the people are offered") { Phone.isAsking() }
        shadowOf(Phone.dialog()).clickOnItem(0)
        Phone.idle()
        val state = Bundle()
        first.saveInstanceState(state).pause().stop().destroy()
        Phone.app.onTrimMemory(80) // nothing in memory: as in a new process
        val second = Robolectric.buildActivity(MainActivity::class.java).setup(state)
        Phone.ready(second)
        val activity = second.get()
        assertEquals(R.id.verify, activity.view<RadioGroup>(R.id.question).checkedRadioButtonId)
        assertEquals(listOf(activity.getString(R.string.is_person, "Ada")), Phone.show(activity, "a3", "a0", "a3"))
    }

    @Test
    fun littleMemoryLosesNothing() {
        val activity = Phone.open().get()
        Phone.enrol(activity, "Ada", "a0", "a1", "a2")
        Phone.app.onTrimMemory(15)
        activity.onLowMemory()
        assertEquals(listOf("Ada"), Phone.show(activity, "a3", "a0", "a3"))
    }

    @Test
    fun anotherModelsSamplesAreNotThisOnes() {
        val before = File(Phone.app.noBackupFilesDir, "templates-${"0".repeat(16)}.bin").apply { writeText("of another model") }
        val activity = Phone.open().get()
        assertEquals(activity.getString(R.string.error_until_tapped, activity.getString(R.string.enrol_anew)), Phone.says(activity))
        assertEquals(listOf(activity.getString(R.string.nobody_enrolled)), Phone.show(activity, "a0"))
        Phone.enrol(activity, "Ada", "a0", "a1", "a2")
        assertEquals("of another model", before.readText())
    }

    @Test
    fun aDamagedEndOfTheSamplesIsSaidOnTheScreen() {
        val first = Phone.open()
        Phone.enrol(first.get(), "Ada", "a0", "a1", "a2")
        first.pause().stop().destroy()
        val file = Phone.app.noBackupFilesDir.listFiles()!!.single { it.name.startsWith("templates-") }
        file.appendBytes(ByteArray(100) { 7 }) // of a sample that a power cut interrupted
        Phone.app.onTrimMemory(80)
        val activity = Phone.open().get()
        assertEquals(activity.getString(R.string.error_until_tapped, activity.getString(R.string.store_cut, 100)), Phone.says(activity))
        assertEquals(listOf("Ada"), Phone.show(activity, "a3", "a0", "a3"))
    }

    @Test
    fun peopleListsAndDeletes() {
        val main = Phone.open()
        Phone.enrol(main.get(), "Ada", "a0", "a1", "a2")
        val people = Robolectric.buildActivity(PeopleActivity::class.java).setup().get()
        Phone.until("she is listed") { people.view<ListView>(R.id.list).adapter?.count == 1 }
        Phone.click(people, R.id.delete_all)
        Phone.agree()
        Phone.until("nobody is listed") { people.view<ListView>(R.id.list).adapter?.count == 0 }
        assertEquals(people.getString(R.string.nobody), people.view<TextView>(R.id.hint).text.toString())
        assertEquals(listOf(main.get().getString(R.string.nobody_enrolled)), Phone.show(main.get(), "a3"))
    }

    @Test
    fun settingsOfferWhatWasMeasured() {
        val settings = Robolectric.buildActivity(SettingsActivity::class.java).setup().get()
        assertEquals(3, settings.view<RadioGroup>(R.id.providers).childCount)
        val promises = settings.view<RadioGroup>(R.id.promises)
        Phone.until("the promises are offered") { promises.childCount == 4 }
        promises.check(2)
        assertEquals(1e-2, Settings(settings).promise!!, 1e-9)
    }

    @Test
    fun theBenchmarkWritesItsRecord() {
        val folder = File(Phone.app.cacheDir, "pushed").apply { mkdirs() }
        for (name in listOf("manifest.json", "model.onnx", "golden/crop.png", "golden/embedding.json")) {
            val target = File(folder, name).apply { parentFile!!.mkdirs() }
            Phone.app.assets.open("model/$name").use { from -> target.outputStream().use { from.copyTo(it) } }
        }
        val intent = Intent().putExtra("model", "$folder/model.onnx").putExtra("manifest", "$folder/manifest.json")
            .putExtra("out", "run.json").putExtra("provider", "cpu")
            .putExtra("threads", 1).putExtra("warmup", 1).putExtra("runs", 3)
        Robolectric.buildActivity(BenchmarkActivity::class.java, intent).setup()
        val file = File(Phone.app.getExternalFilesDir(null), "run.json")
        Phone.until("the record is there") { file.exists() }
        val record = Json.parse(file.readText()) as Map<*, *>
        assertEquals(record.toString(), true, record["finished"])
        assertEquals(3, (record["latencies_ms"] as List<*>).size)
        assertTrue(record["cosine_to_golden"] as Double > 0.9999)
        assertFalse(File(file.path + ".part").exists())
    }
}
