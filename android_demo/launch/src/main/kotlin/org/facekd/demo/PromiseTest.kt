package org.facekd.demo

import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.TextView
import org.facekd.core.GalleryThreshold
import org.facekd.core.LivenessDemand
import org.facekd.core.Template
import org.facekd.core.ThresholdTable
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

/** How often a stranger is named is promised for those who are enrolled, and no more is promised than was measured. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35], qualifiers = "w411dp-h891dp-xhdpi", shadows = [ReaderShadow::class])
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class PromiseTest {
    private lateinit var table: ThresholdTable

    @Before
    fun begin() {
        Phone.begin()
        Settings(Phone.app).choose(LivenessDemand.OFF) // as in SequenceTest
        table = Engine.manifest(Phone.app).table!!
    }

    private val store get() = Phone.app.store(Engine.manifest(Phone.app))

    /** The line that [people] with so many samples make of [promise]. */
    private fun line(promise: Double?, samples: Int, people: Int, person: String? = null) =
        PromiseText(Phone.app).line(table, table.forGallery(promise, samples), people, person)

    private fun say(activity: MainActivity, line: String) {
        Phone.until("it says: $line; now: ${Phone.says(activity)}") { Phone.says(activity).contains(line) }
    }

    private fun addStrangers(count: Int) {
        val random = java.util.Random(1)
        val width = Engine.manifest(Phone.app).width
        store.add(List(count) { Template("Stranger $it", FloatArray(width) { random.nextGaussian().toFloat() }.let(::unit), it.toLong()) })
    }

    private fun unit(values: FloatArray): FloatArray {
        val length = Math.sqrt(values.sumOf { it.toDouble() * it }).toFloat()
        return FloatArray(values.size) { values[it] / length }
    }

    /** Seen: "1 in 1,000" was the threshold of one comparison, however many were enrolled. */
    @Test
    fun theThresholdRisesWithThePeopleAndFallsWhenTheyGo() {
        val controller = Phone.open()
        val activity = controller.get()
        assertTrue(Phone.says(activity), Phone.says(activity).contains("1 in 1,000 strangers, nobody enrolled yet · threshold"))
        assertEquals(!table.isCalibrated, Phone.says(activity).contains("for one person only"))
        Phone.enrol(activity, "Ada", "a0", "a1", "a2")
        say(activity, line(null, 3, 1))
        assertTrue(line(null, 3, 1).contains("1 person (3 samples)"))
        Phone.enrol(activity, "Ben", "b0", "b1", "b2")
        say(activity, line(null, 6, 2))
        assertEquals(listOf("Ada"), Phone.show(activity, "a3", "a0", "a3"))

        val people = Robolectric.buildActivity(PeopleActivity::class.java).setup().get()
        Phone.until("the people are read") { people.view<android.widget.ListView>(R.id.list).adapter?.count == 2 }
        store.delete("Ben")
        controller.pause().stop().start().resume()
        say(activity, line(null, 3, 1))
    }

    @Test
    fun whatTheTableCannotKeepIsRefusedAndNobodyIsNamed() {
        val controller = Phone.open()
        val activity = controller.get()
        Phone.enrol(activity, "Ada", "a0", "a1", "a2")
        assertEquals(listOf("Ada"), Phone.show(activity, "a3", "a0", "a3"))
        val most = (1e-3 / table.lowestFar + 1e-6).toInt()
        addStrangers(maxOf(1, most - 2))
        Settings(activity).promise = 1e-3
        controller.pause().stop().start().resume()
        val samples = store.all().size
        val refused = table.forGallery(1e-3, samples) as GalleryThreshold.Refused
        say(activity, "1 in 1,000 strangers cannot be promised for")
        say(activity, "at best 1 in ${ThresholdTable.oneIn(refused.best!!)}")
        assertEquals(listOf(activity.getString(R.string.not_named)), Phone.show(activity, "a3", "a0", "a3"))

        Settings(activity).promise = 1e-2
        controller.pause().stop().start().resume()
        if (table.forGallery(1e-2, samples) is GalleryThreshold.Kept) {
            say(activity, line(1e-2, samples, store.people().size))
            assertEquals(listOf("Ada"), Phone.show(activity, "a3", "a0", "a3"))
        }
    }

    /** "Is it them?" counts that person's samples alone, however many are enrolled. */
    @Test
    fun oneToOneIsPromisedForOnePerson() {
        val activity = Phone.open().get()
        Phone.enrol(activity, "Ada", "a0", "a1", "a2")
        addStrangers(40)
        Phone.click(activity, R.id.verify)
        Phone.until("the people are offered") { Phone.isAsking() }
        shadowOf(Phone.dialog()).clickOnItem(0)
        say(activity, line(null, 3, 41, "Ada"))
        assertTrue(line(null, 3, 41, "Ada").contains("strangers, Ada (3 samples)"))
        assertEquals(listOf(activity.getString(R.string.is_person, "Ada")), Phone.show(activity, "a3", "a0", "a3"))
        Phone.click(activity, R.id.identify)
        say(activity, line(null, 43, 41))
    }

    @Test
    fun settingsSayWhatCanBePromisedNow() {
        val samples = (1e-4 / table.lowestFar + 1e-6).toInt() + 5
        addStrangers(samples)
        val settings = Robolectric.buildActivity(SettingsActivity::class.java).setup().get()
        if (Phone.isAsking()) Phone.agree() // this phone has no lock, and says so
        val group = settings.view<RadioGroup>(R.id.promises)
        Phone.until("the promises are offered") { group.childCount == 4 }
        val texts = List(4) { (group.getChildAt(it) as RadioButton).text.toString() }
        assertEquals(1, group.checkedRadioButtonId)
        assertTrue(texts[0], texts[0].startsWith("1 in 1,000, or as the model supports: now 1 in "))
        assertTrue(texts[3], texts[3].startsWith("1 in 10,000: not for $samples people ($samples samples), the model supports at best"))
        assertEquals(PromiseText(settings).basis(table), settings.view<TextView>(R.id.basis).text.toString())
        assertFalse(Phone.isAsking())
        group.check(4)
        Phone.until("it is refused") { Phone.isAsking() }
        assertTrue(Phone.question(), Phone.question().startsWith("1 in 10,000 strangers cannot be promised for"))
        assertEquals(1e-4, Settings(settings).promise!!, 0.0)
    }
}
