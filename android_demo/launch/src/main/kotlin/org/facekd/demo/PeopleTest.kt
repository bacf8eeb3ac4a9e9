package org.facekd.demo

import android.app.Activity
import android.app.KeyguardManager
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.view.View
import android.view.WindowManager
import android.widget.ListView
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import org.facekd.core.Json
import org.facekd.core.Template
import org.facekd.core.TemplateFormat
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

/** Who may be enrolled as whom, what is stored of them, who may see it, and that nothing is left of it. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], qualifiers = "w411dp-h891dp-xhdpi", shadows = [ReaderShadow::class])
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class PeopleTest {
    @Before
    fun begin() = Phone.begin()

    private fun stored(): List<Template> = Phone.app.store(Engine.manifest(Phone.app)).all()

    private fun people(): PeopleActivity {
        val activity = Robolectric.buildActivity(PeopleActivity::class.java).setup().get()
        if (Phone.isAsking()) Phone.agree() // this phone has no lock, and says so
        Phone.until("the people are read") { activity.view<ListView>(R.id.list).adapter != null }
        return activity
    }

    private fun rows(activity: Activity) = activity.view<ListView>(R.id.list).adapter.let { a -> List(a.count) { a.getItem(it) as String } }

    private fun choose(activity: Activity, person: Int, action: Int) {
        shadowOf(activity.view<ListView>(R.id.list)).performItemClick(person)
        val items = listOf(R.string.add_sample, R.string.rename, R.string.export_one, R.string.delete)
        shadowOf(Phone.dialog()).clickOnItem(items.indexOf(action))
        Phone.idle()
    }

    /** Seen: consent was asked once for each installation. */
    @Test
    fun eachPersonIsAskedOnceAndTheDateIsKept() {
        val activity = Phone.open().get()
        val before = System.currentTimeMillis()
        Phone.click(activity, R.id.enrol_camera)
        Phone.type("Ada")
        val name = Phone.dialog()
        Phone.agree()
        Phone.until("consent is asked") { Phone.isAsking() && Phone.dialog() !== name }
        assertEquals(activity.getString(R.string.consent, "Ada"), Phone.question())
        Phone.dialog().dismiss() // declined
        Phone.show(activity, "a0", "a1", "a2")
        assertTrue(stored().isEmpty())
        Phone.enrol(activity, "Ada", "a0", "a1", "a2")
        Phone.enrol(activity, "Ben", "b0", "b1", "b2") // asks anew: checked by Phone
        for (sample in stored()) {
            assertEquals(Questions.CONSENT_VERSION, sample.consent.textVersion)
            assertTrue(sample.consent.givenMs in before..sample.createdMs)
            assertTrue(sample.quality.sharpness >= 40 && sample.quality.eyeDistance >= 30)
        }
        assertEquals(2, stored().map { it.consent }.distinct().size)
        assertTrue(rows(people()).all { "text 1" in it })
    }

    /** Seen: samples of two people were stored under one name, without a word. */
    @Test
    fun samplesOfTwoPeopleAreNotOne() {
        val activity = Phone.open().get()
        Phone.startEnrolling(activity, "Ada")
        var tries = 0
        val second = activity.getString(R.string.enrol_capture, 2, 3)
        while (!Phone.says(activity).contains("shows another person")) {
            check(tries++ < 300) { Phone.says(activity) }
            Phone.show(activity, if (Phone.says(activity) == second) "b0" else "a0")
        }
        assertEquals(activity.getString(R.string.error_until_tapped, activity.getString(R.string.enrol_odd, 2)), Phone.says(activity))
        assertTrue(stored().isEmpty())
        while (!Phone.says(activity).startsWith("Ada:")) {
            check(tries++ < 600) { Phone.says(activity) }
            Phone.show(activity, "a2")
        }
        assertEquals(listOf("Ada", "Ada", "Ada"), stored().map { it.person })
    }

    /** Seen: one person was enrolled under two names, without a word. */
    @Test
    fun whoIsEnrolledAlreadyIsAskedAbout() {
        val activity = Phone.open().get()
        Phone.enrol(activity, "Ada", "a0", "a1", "a2")
        fun enrolAs(name: String) {
            Phone.startEnrolling(activity, name)
            var tries = 0
            while (!Phone.isAsking()) {
                check(tries++ < 300) { Phone.says(activity) }
                Phone.show(activity, "a3")
            }
            assertEquals(activity.getString(R.string.enrol_known, name, "Ada"), Phone.question())
        }
        enrolAs("Eve")
        Phone.dialog().dismiss()
        assertEquals(3, stored().size)
        enrolAs("Eve")
        Phone.dialog().getButton(android.app.AlertDialog.BUTTON_NEUTRAL).performClick()
        Phone.until("they are Ada's") { Phone.says(activity).startsWith("Ada:") }
        assertEquals(List(6) { "Ada" }, stored().map { it.person })
        enrolAs("Twin")
        Phone.agree()
        Phone.until("they are two") { Phone.says(activity).startsWith("Twin:") }
        assertEquals(3, stored().count { it.person == "Twin" })
    }

    @Test
    fun aNameBelongsToOnePerson() {
        val activity = Phone.open().get()
        Phone.enrol(activity, "Ada", "a0", "a1", "a2")
        Phone.startEnrolling(activity, "Ada")
        val refused = activity.getString(R.string.error_until_tapped, activity.getString(R.string.enrol_name_taken, "Ada"))
        var tries = 0
        while (Phone.says(activity) != refused) {
            check(tries++ < 300) { Phone.says(activity) }
            Phone.show(activity, "b0")
        }
        assertEquals(3, stored().size)
        // It stays while nothing is decided, and goes once something is.
        Phone.show(activity, "nobody", "dark", "nobody")
        assertEquals(refused, Phone.says(activity))
        Phone.show(activity, "a3", "a0", "a3")
        assertEquals(false, Phone.says(activity) == refused)
    }

    /** Seen: errors were overwritten by the next frame, or stayed for ever. */
    @Test
    fun anErrorStaysUntilItIsSeen() {
        val activity = Phone.open().get()
        activity.fail("broken")
        activity.say("progress")
        Phone.idle()
        assertEquals(activity.getString(R.string.error_until_tapped, "broken"), Phone.says(activity))
        Phone.show(activity, "nobody", "nobody")
        assertEquals(activity.getString(R.string.error_until_tapped, "broken"), Phone.says(activity))
        Phone.click(activity, R.id.status)
        assertTrue(Phone.says(activity).contains("self-test"))
    }

    @Test
    fun aPersonIsRenamedExportedAndGivenOneMoreSample() {
        val controller = Phone.open()
        val main = controller.get()
        Phone.enrol(main, "Ada", "a0", "a1", "a2")
        Phone.enrol(main, "Ben", "b0", "b1", "b2")
        val activity = people()
        choose(activity, 0, R.string.rename)
        Phone.type("Ben")
        Phone.agree()
        Phone.until("it is refused") { Phone.isAsking() }
        assertEquals(activity.getString(R.string.name_taken, "Ben"), Phone.question())
        Phone.agree()
        choose(activity, 0, R.string.rename)
        Phone.type("Adele")
        Phone.agree()
        Phone.until("she has another name") { rows(activity)[0].startsWith("Adele,") }

        val file = ByteArrayOutputStream()
        val uri = Uri.parse("content://files/person.json")
        shadowOf(Phone.app.contentResolver).registerOutputStream(uri, file)
        choose(activity, 0, R.string.export_one)
        val asked = shadowOf(activity).nextStartedActivityForResult
        assertEquals(Intent.ACTION_CREATE_DOCUMENT, asked.intent.action)
        shadowOf(activity).receiveResult(asked.intent, Activity.RESULT_OK, Intent().setData(uri))
        Phone.until("it says so") { Phone.isAsking() && Phone.question() == activity.getString(R.string.exported) }
        Phone.agree()
        val data = Json.parse(file.toString("UTF-8")) as Map<*, *>
        assertEquals("Adele", data["person"])
        assertEquals(3, (data["samples"] as List<*>).size)
        assertFalse("Ben" in file.toString("UTF-8"))

        choose(activity, 0, R.string.add_sample)
        assertTrue(activity.isFinishing)
        Phone.click(main, R.id.people)
        val opened = shadowOf(main).nextStartedActivityForResult
        shadowOf(main).receiveResult(opened.intent, Activity.RESULT_OK, Intent().putExtra(PeopleActivity.ADD_SAMPLE, "Adele"))
        var tries = 0
        while (!Phone.says(main).startsWith("Adele:")) {
            check(tries++ < 300) { Phone.says(main) }
            Phone.show(main, "a3")
        }
        assertEquals(4, stored().count { it.person == "Adele" })
    }

    /** Seen: the samples of other models, and the key, stayed. */
    @Test
    fun deleteAllLeavesNothing() {
        val main = Phone.open()
        Phone.enrol(main.get(), "Ada", "a0", "a1", "a2")
        val app = Phone.app
        File(app.noBackupFilesDir, "templates-${"0".repeat(16)}.bin").writeText("another model's")
        File(app.noBackupFilesDir, "templates-${"1".repeat(16)}.bin.new").writeText("of a power cut")
        File(app.cacheDir, "picture").apply { mkdirs() }.resolve("ada.jpg").writeText("a cache")
        app.getSharedPreferences("settings", 0).edit().putBoolean("consented", true).commit()
        FakeKeystore.keys["facekd.templates"] = FakeKeystore.keys.values.first() // of an earlier version
        val activity = people()
        Phone.click(activity, R.id.delete_all)
        Phone.agree()
        Phone.until("nobody is listed") { rows(activity).isEmpty() }
        assertEquals(emptyList<String>(), app.noBackupFilesDir.list()!!.toList())
        assertEquals(emptyList<String>(), app.cacheDir.list()!!.toList())
        assertEquals(emptySet<String>(), FakeKeystore.keys.keys)
        assertTrue(app.dataDir.walk().filter { it.isFile }.none { "Ada" in it.readText(Charsets.ISO_8859_1) || "consented" in it.readText() })
        assertEquals(listOf(activity.getString(R.string.nobody_enrolled)), Phone.show(main.get(), "a3"))
        Phone.enrol(main.get(), "Ada", "a0", "a1", "a2") // consent is asked again, a new key is made
        assertEquals(3, stored().size)
    }

    @Test
    fun theKeyIsForAnUnlockedPhoneAndInAStrongBoxWhereThereIsOne() {
        fun made(): android.security.keystore.KeyGenParameterSpec {
            FakeKeystore.install()
            KeystoreKey.sealer(Phone.app)
            return FakeKeystore.asked.single()
        }
        assertTrue(made().isUnlockedDeviceRequired)
        assertFalse(made().isStrongBoxBacked)
        shadowOf(Phone.app.packageManager).setSystemFeature(PackageManager.FEATURE_STRONGBOX_KEYSTORE, true)
        assertTrue(made().isStrongBoxBacked)
        assertTrue(made().isUnlockedDeviceRequired)
    }

    @Test
    fun peopleAndSettingsAreForThePhonesOwner() {
        shadowOf(Phone.app.service(KeyguardManager::class.java)).setIsDeviceSecure(true)
        for (type in listOf(PeopleActivity::class.java, SettingsActivity::class.java)) {
            val refused = Robolectric.buildActivity(type).setup()
            val activity = refused.get()
            assertTrue(activity.window.attributes.flags and WindowManager.LayoutParams.FLAG_SECURE != 0)
            val asked = shadowOf(activity).nextStartedActivityForResult
            assertEquals("android.app.action.CONFIRM_DEVICE_CREDENTIAL", asked.intent.action)
            assertEquals(View.INVISIBLE, activity.view<View>(android.R.id.content).visibility)
            assertEquals("nothing is in it yet", null, activity.findViewById<View>(R.id.list) ?: activity.findViewById<View>(R.id.promises))
            shadowOf(activity).receiveResult(asked.intent, Activity.RESULT_CANCELED, null)
            assertTrue(activity.isFinishing)
        }
        val first = Robolectric.buildActivity(PeopleActivity::class.java).setup()
        val asked = shadowOf(first.get()).nextStartedActivityForResult
        shadowOf(first.get()).receiveResult(asked.intent, Activity.RESULT_OK, null)
        Phone.until("the people are read") { first.get().view<ListView>(R.id.list).adapter != null }
        assertEquals(View.VISIBLE, first.get().view<View>(android.R.id.content).visibility)
        first.pause().stop()
        val second = Robolectric.buildActivity(SettingsActivity::class.java).setup().get()
        assertEquals("within a minute it is the same person", null, shadowOf(second).nextStartedActivityForResult)
        second.finish()
        shadowOf(android.os.Looper.getMainLooper()).idleFor(java.time.Duration.ofMinutes(2))
        Phone.app.leaveGate()
        shadowOf(android.os.Looper.getMainLooper()).idleFor(java.time.Duration.ofMinutes(2))
        first.restart().start()
        assertEquals(View.INVISIBLE, first.get().view<View>(android.R.id.content).visibility)
        assertEquals("android.app.action.CONFIRM_DEVICE_CREDENTIAL", shadowOf(first.get()).nextStartedActivityForResult.intent.action)
    }

    @Test
    fun anExportComesBackWithItsConsent() {
        val main = Phone.open().get()
        Phone.enrol(main, "Ada", "a0", "a1", "a2")
        val given = stored()
        val activity = people()
        choose(activity, 0, R.string.delete)
        Phone.agree()
        Phone.until("she is gone") { rows(activity).isEmpty() }
        import(activity, given)
        Phone.until("she is back") { rows(activity).size == 1 }
        assertEquals(given.map { it.consent }, stored().map { it.consent })
    }

    @Test
    fun aFileCannotPutSomebodyUnderAnotherName() {
        val main = Phone.open().get()
        Phone.enrol(main, "Ada", "a0", "a1", "a2")
        Phone.enrol(main, "Ben", "b0", "b1", "b2")
        val (ada, ben) = stored().partition { it.person == "Ada" }
        val activity = people()
        // Of other days, so that they are not taken for those that are here.
        fun later(samples: List<Template>, name: String) = samples.map { Template(name, it.embedding, it.createdMs + 1, it.consent, it.quality) }
        import(activity, later(ada, "Ben") + later(ben, "Eve"))
        Phone.until("both are refused") { Phone.isAsking() && Phone.question() == activity.getString(R.string.imported_but, "Ben, Eve") }
        assertEquals(6, stored().size)
    }

    private fun import(activity: PeopleActivity, samples: List<Template>) {
        val phrase = "correct horse"
        val bytes = TemplateFormat.export(samples, Engine.manifest(Phone.app).modelId, phrase.toCharArray(), 1000)
        val uri = Uri.parse("content://files/samples.fktx")
        shadowOf(Phone.app.contentResolver).registerInputStream(uri, ByteArrayInputStream(bytes))
        Phone.click(activity, R.id.import_all)
        val asked = shadowOf(activity).nextStartedActivityForResult
        shadowOf(activity).receiveResult(asked.intent, Activity.RESULT_OK, Intent().setData(uri))
        Phone.type(phrase)
        Phone.agree()
    }
}
