package org.facekd.demo

import android.view.View
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.TextView
import java.util.concurrent.Executors
import org.facekd.core.GalleryThreshold
import org.facekd.core.LivenessDemand
import org.facekd.core.Manifest
import org.facekd.core.TemplateException
import org.facekd.core.ThresholdTable
import org.facekd.runtime.Provider

/** What computes, how often a stranger may be named, and what liveness demands. The main screen loads and tests the choice when it returns. */
class SettingsActivity : GuardedActivity() {
    /** The samples are counted here: their file and the Keystore take up to seconds. */
    private val work = Executors.newSingleThreadExecutor()

    override fun build() {
        setContentView(R.layout.settings)
        val settings = Settings(this)
        val providers = Provider.entries
        choose(R.id.providers, providers.map { getString(Engine.label(it)) }, providers.indexOf(settings.provider)) {
            settings.provider = providers[it]
        }
        try {
            val manifest = Engine.manifest(this)
            offerLiveness(settings, manifest)
            val table = manifest.table ?: return Questions.tell(this, getString(R.string.no_thresholds))
            work.execute { count(manifest) { samples, people -> if (!isDestroyed) offer(table, samples, people) } }
        } catch (error: EngineException) {
            Questions.tell(this, error.message ?: "")
        }
    }

    override fun onDestroy() {
        work.shutdown()
        super.onDestroy()
    }

    /** Samples and people enrolled, for [then] on the screen's thread; where they cannot be read, it says why. */
    private fun count(manifest: Manifest, then: (Int, Int) -> Unit) {
        val counts = try {
            FacekdApp.of(this).store(manifest).people().values
        } catch (error: TemplateException) {
            runOnUiThread { Questions.tell(this, Engine.sentence(this, error)) }
            emptyList()
        }
        runOnUiThread { then(counts.sum(), counts.size) }
    }

    private fun offer(table: ThresholdTable, samples: Int, people: Int) {
        val settings = Settings(this)
        val texts = PromiseText(this)
        view<TextView>(R.id.basis).text = texts.basis(table)
        val promises = listOf(null) + ThresholdTable.PROMISES
        val lines = promises.map { texts.option(table, it, samples, people) }
        choose(R.id.promises, lines, promises.indexOf(settings.promise)) { at ->
            settings.promise = promises[at]
            val answer = table.forGallery(promises[at], samples)
            if (answer is GalleryThreshold.Refused) Questions.tell(this, texts.refusal(answer, people))
        }
    }

    /** Without networks there is nothing to choose, and the page says so. */
    private fun offerLiveness(settings: Settings, manifest: Manifest) {
        val demands = if (manifest.liveness == null) listOf(LivenessDemand.OFF) else LivenessDemand.entries
        choose(R.id.liveness, demands.map { getString(LivenessTexts.choice(it)) }, demands.indexOf(settings.liveness(manifest))) {
            settings.choose(demands[it])
        }
        view<TextView>(R.id.liveness_absent).visibility = if (manifest.liveness == null) View.VISIBLE else View.GONE
    }

    private fun choose(id: Int, texts: List<String>, checked: Int, then: (Int) -> Unit) {
        val group = view<RadioGroup>(id)
        texts.forEachIndexed { at, text ->
            val button = RadioButton(this).apply {
                this.text = text
                this.id = at + 1
                minHeight = (48 * resources.displayMetrics.density).toInt()
            }
            group.addView(button)
        }
        if (checked >= 0) group.check(checked + 1)
        group.setOnCheckedChangeListener { _, chosen -> then(chosen - 1) }
    }
}
