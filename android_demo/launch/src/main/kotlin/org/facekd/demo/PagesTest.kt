package org.facekd.demo

import android.app.Activity
import android.content.Intent
import android.widget.ListView
import java.io.File
import org.facekd.core.Consent
import org.facekd.core.Template
import org.facekd.core.rotated
import org.facekd.runtime.Provider
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.ParameterizedRobolectricTestRunner
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

/** A picture of every page on every kind of screen, left in build/pages for people to look at. */
@RunWith(ParameterizedRobolectricTestRunner::class)
@Config(sdk = [35], shadows = [ReaderShadow::class])
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class PagesTest(private val name: String, private val qualifiers: String, private val fontScale: Float) {
    @Before
    fun begin() {
        RuntimeEnvironment.setQualifiers(qualifiers)
        RuntimeEnvironment.setFontScale(fontScale)
        Phone.begin()
        fill()
    }

    /** Ada and Ben are enrolled, without the screen. */
    private fun fill() = Engine.load(Phone.app, Provider.CPU).use { engine ->
        val samples = listOf("Ada" to "a0", "Ada" to "a1", "Ben" to "b0").map { (person, frame) ->
            val image = Pictures.of(FrameImage(frame)).rotated(270)
            Template(person, engine.embed(image, engine.detect(image).single()), 0, Consent(1_790_000_000_000, 1))
        }
        engine.store.add(samples)
    }

    @Test
    fun pages() {
        val controller = Phone.open()
        val main = controller.get()
        val turned = "land" in qualifiers
        val frame = if (turned) "a1_turned_phone" else "a3"
        Phone.show(main, frame)
        if (fontScale == 1f) photograph(main, "undecided")
        assertEquals(listOf("Ada"), Phone.show(main, frame, frame))
        photograph(main, "main")
        if (fontScale == 1f && !turned) {
            Phone.show(main, "dark")
            photograph(main, "dark")
            Phone.show(main, "two", "two", "two")
            photograph(main, "two")
        }
        Phone.click(main, R.id.enrol_camera)
        val first = Phone.dialog()
        Phone.keep(Phone.draw(first.window!!.decorView), "$name-name")
        Phone.type("Cleo")
        Phone.agree()
        Phone.until("consent is asked") { Phone.isAsking() && Phone.dialog() !== first }
        Phone.keep(Phone.draw(Phone.dialog().window!!.decorView), "$name-consent")
        Phone.dialog().dismiss()
        controller.pause().stop().destroy()

        val people = Robolectric.buildActivity(PeopleActivity::class.java).setup().get()
        Phone.until("two people are listed") { people.view<ListView>(R.id.list).adapter?.count == 2 }
        photograph(people, "people")
        shadowOf(people.view<ListView>(R.id.list)).performItemClick(0)
        Phone.idle()
        Phone.keep(Phone.draw(Phone.dialog().window!!.decorView), "$name-choices")
        Phone.dialog().dismiss()
        photograph(Robolectric.buildActivity(SettingsActivity::class.java).setup().get(), "settings")
        val intent = Intent().putExtra("out", "run.json")
        photograph(Robolectric.buildActivity(BenchmarkActivity::class.java, intent).setup().get(), "benchmark")
    }

    private fun photograph(activity: Activity, page: String) {
        Phone.idle()
        Phone.photograph(activity, "$name-$page")
        assertTrue(File(System.getProperty("facekd.pages"), "$name-$page.png").length() > 1000)
    }

    companion object {
        private val SCREENS = mapOf(
            "phone" to "w411dp-h891dp-port",
            "tablet" to "w800dp-h1280dp-port",
            "landscape" to "w891dp-h411dp-land",
        )

        @JvmStatic
        @ParameterizedRobolectricTestRunner.Parameters(name = "{0}")
        fun screens(): List<Array<Any>> {
            val found = mutableListOf<Array<Any>>()
            val onlyPairs = System.getProperty("facekd.screens") == "pairs"
            for ((number, entry) in SCREENS.entries.withIndex()) {
                val (screen, size) = entry
                for (light in listOf("notnight", "night")) {
                    for (scale in listOf(1f, 2f)) {
                        // Of every two of screen, light and size of the text, each value of one meets each of the other.
                        if (onlyPairs && (number + (if (light == "night") 1 else 0) + scale.toInt()) % 2 == 0) continue
                        val name = "$screen-${if (light == "night") "dark" else "light"}-font${scale.toInt()}"
                        found += arrayOf<Any>(name, "en-ldltr-$size-$light-hdpi", scale)
                    }
                }
            }
            found += arrayOf<Any>("phone-arabic", "ar-ldrtl-${SCREENS["phone"]}-notnight-hdpi", 1f)
            return found
        }
    }
}
