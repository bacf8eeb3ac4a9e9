package org.facekd.demo

import android.view.View
import android.widget.RadioGroup
import android.widget.TextView
import org.facekd.core.LivenessDemand
import org.facekd.core.Manifest
import org.facekd.core.Template
import org.facekd.core.rotated
import org.facekd.runtime.Provider
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

/** A person before the camera is named; a picture of one is not, though it is enrolled. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], qualifiers = "w411dp-h891dp-xhdpi", shadows = [ReaderShadow::class])
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class LivenessTest {
    private val hold get() = Phone.app.getString(R.string.advice_hold_still)
    private val notLive get() = Phone.app.getString(R.string.not_live)

    @Before
    fun begin() = Phone.begin()

    /** Enrolled without the screen: the sample photograph is turned somewhat more than an enrolment allows. */
    private fun withBoth(): MainActivity {
        Engine.load(Phone.app, Provider.CPU).use { engine ->
            val samples = listOf("Ada" to "live", "Eve" to "screen").map { (person, frame) ->
                val image = Pictures.of(FrameImage(frame)).rotated(270)
                Template(person, engine.embed(image, engine.detect(image).single()), 0)
            }
            engine.store.add(samples)
        }
        return Phone.open().get()
    }

    private fun demand(demand: LivenessDemand) = Settings(Phone.app).choose(demand)

    @Test
    fun aPersonIsNamedAndAScreenIsNot() {
        val activity = withBoth()
        assertFalse(Phone.says(activity), Phone.says(activity).contains(activity.getString(R.string.liveness_is_off)))
        assertEquals(listOf(hold), Phone.show(activity, "live", "live"))
        assertEquals("passive is the default", listOf("Ada"), Phone.show(activity, "live"))
        assertEquals(listOf(hold), Phone.show(activity, "screen", "screen"))
        repeat(3) { assertEquals(listOf(notLive), Phone.show(activity, "screen")) }
        Phone.photograph(activity, "not-live")
        assertTrue(Phone.preview(activity).shown!!.faces.none { it.known || it.decided })
        assertEquals(listOf(hold), Phone.show(activity, "live", "live"))
        assertEquals("another track", listOf("Ada"), Phone.show(activity, "live"))
    }

    @Test
    fun whereItIsOffAScreenPassesAndTheAppWarns() {
        demand(LivenessDemand.OFF)
        val activity = withBoth()
        assertEquals(listOf("Eve"), Phone.show(activity, "screen", "screen", "screen"))
        assertTrue(Phone.says(activity), Phone.says(activity).contains(activity.getString(R.string.liveness_is_off)))
    }

    @Test
    fun theActiveCheckAsksForATurnBeforeItNamesAnybody() {
        demand(LivenessDemand.ACTIVE)
        val activity = withBoth()
        Phone.show(activity, "live", "live")
        // The sample photograph looks aside, and is asked to look ahead first.
        val asked = listOf(R.string.turn_left, R.string.turn_right, R.string.advice_look_ahead).map(activity::getString)
        repeat(4) { assertTrue(Phone.show(activity, "live").single() in asked) }
        Phone.photograph(activity, "turn")
        repeat(4) { assertTrue("a screen is not even asked", Phone.show(activity, "screen").single() in listOf(hold, notLive)) }
    }

    @Test
    fun theChoiceIsKeptAndExplained() {
        fun settings() = Robolectric.buildActivity(SettingsActivity::class.java).setup().get()
        val group = settings().view<RadioGroup>(R.id.liveness)
        assertEquals(3, group.childCount)
        assertEquals("passive", 2, group.checkedRadioButtonId)
        assertEquals(View.GONE, settings().view<TextView>(R.id.liveness_absent).visibility)
        group.check(3)
        assertEquals(LivenessDemand.ACTIVE, Settings(Phone.app).liveness(Engine.manifest(Phone.app)))
    }

    @Test
    fun withoutNetworksItIsOffAndTheAppWarns() {
        val text = Phone.app.assets.open("model/manifest.json").use { it.reader().readText() }
        val without = Manifest.parse(text.replace("\"liveness\":", "\"liveness_of_another_build\":"))
        demand(LivenessDemand.ACTIVE)
        assertEquals(LivenessDemand.OFF, Settings(Phone.app).liveness(without))
        val said = LivenessTexts.warned(Phone.app, "CPU", without, LivenessDemand.OFF)
        assertEquals("CPU\n" + Phone.app.getString(R.string.liveness_absent), said)
    }
}
