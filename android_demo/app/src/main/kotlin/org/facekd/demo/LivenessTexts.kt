package org.facekd.demo

import android.content.Context
import org.facekd.core.Clearance
import org.facekd.core.LivenessDemand
import org.facekd.core.Manifest

/** Words for liveness. */
object LivenessTexts {
    /** Over a face, in place of a name; null where the name may be shown. */
    fun of(clearance: Clearance): Int? = when (clearance) {
        Clearance.CLEAR -> null
        Clearance.MEASURING -> R.string.advice_hold_still
        Clearance.NOT_LIVE -> R.string.not_live
        Clearance.TURN_LEFT -> R.string.turn_left
        Clearance.TURN_RIGHT -> R.string.turn_right
        Clearance.LOOK_AHEAD -> R.string.advice_look_ahead
        Clearance.TOO_LATE -> R.string.check_too_late
        Clearance.WRONG_TURN -> R.string.check_wrong_turn
        Clearance.OTHER_PERSON -> R.string.check_other_person
        Clearance.WAIT -> R.string.check_wait
    }

    fun choice(demand: LivenessDemand): Int = when (demand) {
        LivenessDemand.OFF -> R.string.liveness_off
        LivenessDemand.PASSIVE -> R.string.liveness_passive
        LivenessDemand.ACTIVE -> R.string.liveness_active
    }

    /** [summary] of the main screen, with a warning where a photograph would pass. */
    fun warned(context: Context, summary: String, manifest: Manifest, demand: LivenessDemand): String {
        val warning = when {
            manifest.liveness == null -> R.string.liveness_absent
            demand == LivenessDemand.OFF -> R.string.liveness_is_off
            else -> return summary
        }
        return summary + "\n" + context.getString(warning)
    }
}
