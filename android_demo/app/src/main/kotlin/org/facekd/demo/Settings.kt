package org.facekd.demo

import android.content.Context
import org.facekd.core.Manifest
import org.facekd.core.Threshold
import org.facekd.runtime.Provider

/** What the user chose; kept between starts. */
class Settings(context: Context) {
    private val stored = context.getSharedPreferences("settings", Context.MODE_PRIVATE)

    var provider: Provider
        get() = Provider.entries.find { it.key == stored.getString("provider", null) } ?: Provider.CPU
        set(value) = stored.edit().putString("provider", value.key).apply()

    /** Nothing here names anybody; what an earlier version noted of a consent goes too. */
    fun forgetPeople() = stored.edit().remove("consented").apply()

    /** The chosen rate; until one is chosen, the strictest that was measured. Null: the model has none. */
    fun threshold(manifest: Manifest): Threshold? {
        val chosen = stored.getString("far", null)?.toDoubleOrNull()
        return manifest.rates.find { it.far == chosen } ?: manifest.rates.lastOrNull()
    }

    fun choose(threshold: Threshold) = stored.edit().putString("far", threshold.far.toString()).apply()
}
