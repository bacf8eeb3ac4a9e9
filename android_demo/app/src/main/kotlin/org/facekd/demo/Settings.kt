package org.facekd.demo

import android.content.Context
import org.facekd.core.LivenessDemand
import org.facekd.core.Manifest
import org.facekd.core.ThresholdTable
import org.facekd.runtime.Provider

/** What the user chose; kept between starts. */
class Settings(context: Context) {
    private val stored = context.getSharedPreferences("settings", Context.MODE_PRIVATE)

    var provider: Provider
        get() = Provider.entries.find { it.key == stored.getString("provider", null) } ?: Provider.CPU
        set(value) = stored.edit().putString("provider", value.key).apply()

    /** Nothing here names anybody; what an earlier version noted of a consent goes too. */
    fun forgetPeople() = stored.edit().remove("consented").apply()

    /** The share of strangers that may be named, one of ThresholdTable.PROMISES; null: as the model supports. */
    var promise: Double?
        get() = stored.getString("promise", null)?.toDoubleOrNull()?.takeIf { it in ThresholdTable.PROMISES }
        set(value) = stored.edit().putString("promise", value?.toString()).apply()

    /** What is demanded before a name is shown: passive unless something else is chosen, and off where there is no network. */
    fun liveness(manifest: Manifest): LivenessDemand {
        if (manifest.liveness == null) return LivenessDemand.OFF
        return LivenessDemand.entries.find { it.name == stored.getString("liveness", null) } ?: LivenessDemand.PASSIVE
    }

    fun choose(demand: LivenessDemand) = stored.edit().putString("liveness", demand.name).apply()
}
