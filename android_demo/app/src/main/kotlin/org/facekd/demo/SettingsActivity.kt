package org.facekd.demo

import android.widget.RadioButton
import android.widget.RadioGroup
import java.text.NumberFormat
import org.facekd.core.Threshold
import org.facekd.runtime.Provider

/** What computes, and how many false accepts to allow. The main screen loads and tests the choice when it returns. */
class SettingsActivity : GuardedActivity() {
    override fun build() {
        setContentView(R.layout.settings)
        val settings = Settings(this)
        val providers = Provider.entries
        choose(R.id.providers, providers.map { getString(Engine.label(it)) }, providers.indexOf(settings.provider)) {
            settings.provider = providers[it]
        }
        try {
            val manifest = Engine.manifest(this)
            val lines = manifest.rates.map {
                getString(R.string.far_line, oneIn(it), it.cos, it.dataset)
            }
            choose(R.id.rates, lines, manifest.rates.indexOf(settings.threshold(manifest))) { settings.choose(manifest.rates[it]) }
        } catch (error: EngineException) {
            Questions.tell(this, error.message ?: "")
        }
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

    companion object {
        /** The 1,000 of "1 in 1,000". */
        fun oneIn(threshold: Threshold): String = NumberFormat.getIntegerInstance().format(Math.round(1 / threshold.far))
    }
}
