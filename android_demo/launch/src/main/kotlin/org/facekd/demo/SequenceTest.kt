package org.facekd.demo

import android.app.AlertDialog
import android.content.res.Configuration
import java.io.File
import org.facekd.core.LivenessDemand
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode

/** The main screen before sequences of frames: what stands over each face, and whose picture is under it. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], qualifiers = "w411dp-h891dp-xhdpi", shadows = [ReaderShadow::class])
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class SequenceTest {
    private val hold get() = Phone.app.getString(R.string.advice_hold_still)
    private val unknown get() = Phone.app.getString(R.string.unknown)

    /** Without liveness, whose networks take many of LFW's small photographs for pictures of a face: LivenessTest has that. */
    @Before
    fun begin() {
        Phone.begin()
        Settings(Phone.app).choose(LivenessDemand.OFF)
    }

    private fun withAda(): MainActivity = Phone.open().get().also { Phone.enrol(it, "Ada", "a0", "a1", "a2") }

    @Test
    fun onePersonIsNamedOnceThreeFramesAgree() {
        val activity = withAda()
        assertEquals(listOf(hold), Phone.show(activity, "a3"))
        assertEquals(listOf(hold), Phone.show(activity, "a0"))
        assertEquals(listOf("Ada"), Phone.show(activity, "a3"))
        assertEquals(activity.getString(R.string.preview_faces, "Ada"), Phone.preview(activity).contentDescription)
        assertEquals(emptyList<String>(), Phone.show(activity, "nobody"))
        assertEquals(activity.getString(R.string.preview), Phone.preview(activity).contentDescription)
        assertEquals("after nobody, from the beginning", listOf(hold), Phone.show(activity, "a3"))
    }

    /** Seen: the second person carried the first one's name, in green. */
    @Test
    fun noNameIsOverAnotherPersonsFace() {
        val activity = withAda()
        assertEquals(listOf("Ada"), Phone.show(activity, "a3", "a0", "a3", "a0"))
        val frames = listOf("b0", "b1", "b2", "b0", "a0", "b1", "a1", "a2", "a3", "b3")
        val seen = mutableSetOf<String>()
        for (name in frames) {
            // Looked at all the time until the frame is there, as an eye does.
            val before = Phone.preview(activity).shown
            Phone.camera()!!.push(FrameImage(name))
            Phone.until("$name is shown") {
                val said = Phone.preview(activity).contentDescription.toString()
                seen += "${Phone.whose(activity)}: $said"
                Phone.preview(activity).shown !== before
            }
        }
        val named = seen.filter { "Ada" in it }
        assertTrue(seen.toString(), named.isNotEmpty() && named.all { it.startsWith("a") })
        assertEquals(listOf(unknown), Phone.show(activity, "b0", "b1", "b2", "b3"))
    }

    @Test
    fun ofTwoEachHasHerOwn() {
        val activity = withAda()
        assertEquals(setOf("Ada", unknown), Phone.show(activity, "two", "two", "two").toSet())
        Phone.photograph(activity, "two")
    }

    @Test
    fun whatIsTooBadIsNotNamed() {
        val activity = withAda()
        assertEquals(listOf("Ada"), Phone.show(activity, "a3", "a0", "a3"))
        assertEquals(listOf(hold), Phone.show(activity, "blurred"))
        assertEquals("the track is the same", listOf("Ada"), Phone.show(activity, "a3"))
        repeat(3) { assertEquals(listOf(hold), Phone.show(activity, "blurred")) }
        assertEquals("its votes are forgotten", listOf(hold), Phone.show(activity, "a3"))
        // Too dark for a detector to see, or seen and not named.
        assertTrue(Phone.show(activity, "dark", "dark", "dark").all { it == activity.getString(R.string.advice_more_light) })
    }

    @Test
    fun whoLooksAsideIsAskedToLook() {
        assumeTrue("the drawn detector's faces look ahead", File(System.getProperty("facekd.frames"), "turned.yuv").exists())
        val activity = withAda()
        assertEquals(listOf(activity.getString(R.string.advice_look_ahead)), Phone.show(activity, "turned", "turned", "turned", "turned"))
    }

    @Test
    fun oneToOneSaysYesAndNo() {
        val activity = withAda()
        Phone.click(activity, R.id.verify)
        Phone.until("the people are offered") { Phone.isAsking() }
        shadowOf(Phone.dialog()).clickOnItem(0)
        Phone.idle()
        assertEquals(listOf(activity.getString(R.string.is_person, "Ada")), Phone.show(activity, "a0", "a3", "a0", "a3"))
        assertEquals(listOf(activity.getString(R.string.not_person, "Ada")), Phone.show(activity, "b0", "b1", "b0", "b1"))
    }

    @Test
    fun badPicturesAreNoSamples() {
        val activity = Phone.open().get()
        Phone.startEnrolling(activity, "Ada")
        Phone.show(activity, "blurred", "blurred")
        Phone.until("it says why") { Phone.says(activity).contains(activity.getString(R.string.refusal_blurred)) }
        Phone.show(activity, "two")
        Phone.until("it says why") { Phone.says(activity).contains(activity.getString(R.string.refusal_several_faces)) }
        assertTrue(Phone.preview(activity).shown!!.faces.none { it.known || "Ada" in it.spoken })
    }

    @Test
    fun turningThePhoneKeepsAnEnrolment() {
        val controller = Phone.open()
        val activity = controller.get()
        Phone.startEnrolling(activity, "Ada")
        Phone.show(activity, "a0")
        val camera = Phone.camera()
        RuntimeEnvironment.setQualifiers("+land")
        controller.configurationChange(Configuration(Phone.app.resources.configuration))
        assertTrue("the same screen", activity === controller.get() && Phone.camera() === camera)
        assertFalse(Phone.isAsking())
        var tries = 0
        while (!Phone.says(activity).startsWith("Ada:")) {
            check(tries++ < 400) { Phone.says(activity) }
            Phone.show(activity, "a1_turned_phone")
        }
    }

    @Test
    fun theCameraAndItsLastPictureGoWithTheScreen() {
        val controller = Phone.open()
        val activity = controller.get()
        Phone.enrol(activity, "Ada", "a0", "a1", "a2")
        assertEquals(listOf("Ada"), Phone.show(activity, "a3", "a0", "a3"))
        controller.pause().stop()
        Phone.until("the camera is closed") { Phone.camera() == null }
        assertEquals(null, Phone.preview(activity).shown)
        assertEquals(activity.getString(R.string.preview), Phone.preview(activity).contentDescription)
        controller.restart().start().resume()
        Phone.ready(controller)
        assertEquals(listOf(hold), Phone.show(activity, "a3"))
        controller.pause().stop().destroy()
        Phone.until("the camera is closed") { Phone.camera() == null }
    }

    @Test
    fun anotherAppMayTakeTheCamera() {
        val activity = withAda()
        Phone.show(activity, "a3", "a0", "a3")
        AlertDialog.Builder(activity).setMessage("beside it").show()
        Phone.idle()
        assertEquals("behind a dialogue the picture goes on", listOf("Ada"), Phone.show(activity, "a0"))
    }
}
