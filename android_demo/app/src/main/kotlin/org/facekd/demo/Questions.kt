package org.facekd.demo

import android.app.Activity
import android.app.AlertDialog
import android.text.InputFilter
import android.text.InputType
import android.view.View
import android.widget.EditText
import android.widget.FrameLayout
import org.facekd.core.Consent

/** Dialogues that several screens share. */
object Questions {
    private const val LONGEST_NAME = 60

    /** Of R.string.consent: a new number whenever its meaning changes, and everyone is asked again. */
    const val CONSENT_VERSION = 1

    /** The consent text, for each person anew; [then] only once they agreed. */
    fun consent(activity: Activity, person: String, then: (Consent) -> Unit) {
        AlertDialog.Builder(activity)
            .setTitle(activity.getString(R.string.consent_title, person))
            .setMessage(activity.getString(R.string.consent, person))
            .setPositiveButton(R.string.consent_agree) { _, _ -> then(Consent(System.currentTimeMillis(), CONSENT_VERSION)) }
            .setNegativeButton(R.string.consent_decline, null)
            .show()
    }

    /** Asks for a name; [then] gets it trimmed. An empty one is asked for again. */
    fun name(activity: Activity, then: (String) -> Unit) {
        val field = EditText(activity).apply {
            setHint(R.string.name_hint)
            inputType = InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_VARIATION_PERSON_NAME
            filters = arrayOf(InputFilter.LengthFilter(LONGEST_NAME))
        }
        ask(activity, R.string.name_title, field, R.string.save) {
            val name = field.text.toString().trim()
            if (name.isEmpty()) field.error = activity.getString(R.string.name_missing) else then(name)
            name.isNotEmpty()
        }
    }

    /** Asks for a passphrase of at least [shortest] characters; [then] overwrites it when it is done with it. */
    fun passphrase(activity: Activity, title: Int, shortest: Int, then: (CharArray) -> Unit) {
        val field = EditText(activity).apply {
            setHint(R.string.passphrase)
            inputType = InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_VARIATION_PASSWORD
        }
        ask(activity, title, field, R.string.save) {
            val typed = CharArray(field.length()).also { field.text.getChars(0, field.length(), it, 0) }
            if (typed.size < shortest) field.error = activity.getString(R.string.passphrase_short) else then(typed)
            typed.size >= shortest
        }
    }

    fun confirm(activity: Activity, message: String, action: Int, then: () -> Unit) {
        AlertDialog.Builder(activity)
            .setMessage(message)
            .setPositiveButton(action) { _, _ -> then() }
            .setNegativeButton(R.string.cancel, null)
            .show()
    }

    fun tell(activity: Activity, message: String) {
        if (activity.isFinishing || activity.isDestroyed) return
        AlertDialog.Builder(activity).setMessage(message).setPositiveButton(R.string.close, null).show()
    }

    /** In line with the title. */
    private fun padded(view: View): View = FrameLayout(view.context).apply {
        val side = (24 * resources.displayMetrics.density).toInt()
        setPadding(side, side / 3, side, 0)
        addView(view)
    }

    private fun ask(activity: Activity, title: Int, field: EditText, action: Int, accept: () -> Boolean) {
        val dialog = AlertDialog.Builder(activity)
            .setTitle(title)
            .setView(padded(field))
            .setPositiveButton(action, null)
            .setNegativeButton(R.string.cancel, null)
            .create()
        // Set after showing: a listener given to the builder would close the dialogue whatever was typed.
        dialog.setOnShowListener {
            dialog.getButton(AlertDialog.BUTTON_POSITIVE).setOnClickListener { if (accept()) dialog.dismiss() }
        }
        dialog.show()
    }
}
