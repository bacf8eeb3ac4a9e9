package org.facekd.demo

import android.app.Activity
import android.app.KeyguardManager
import android.content.Intent
import android.os.Bundle
import android.view.View
import android.view.WindowManager

/**
 * A screen for the phone's owner alone: it asks for the phone's own lock (fingerprint, face, PIN or pattern), and no
 * screenshot, recording or list of recent apps shows it. A phone without a lock has no owner to ask for; [Questions]
 * says so.
 */
abstract class GuardedActivity : Activity() {
    private var isAsking = false
    private var isBuilt = false

    /** Makes the content, once somebody may see it. */
    protected abstract fun build()

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        window.addFlags(WindowManager.LayoutParams.FLAG_SECURE)
        isAsking = state?.getBoolean(ASKING) ?: false
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        state.putBoolean(ASKING, isAsking)
    }

    override fun onStart() {
        super.onStart()
        if (FacekdApp.of(this).isGateOpen) return reveal()
        content().visibility = View.INVISIBLE
        if (!isAsking) ask()
    }

    override fun onStop() {
        if (isBuilt && content().visibility == View.VISIBLE) FacekdApp.of(this).leaveGate()
        super.onStop()
    }

    override fun onActivityResult(code: Int, result: Int, data: Intent?) {
        if (code != CONFIRM) return
        isAsking = false
        if (result == RESULT_OK) reveal() else finish()
    }

    @Suppress("DEPRECATION") // BiometricPrompt with the phone's own lock came with API 30; this works from 21 on.
    private fun ask() {
        val intent = service(KeyguardManager::class.java)
            .createConfirmDeviceCredentialIntent(getString(R.string.gate_title), getString(R.string.gate_reason))
        if (intent == null) {
            reveal()
            return Questions.tell(this, getString(R.string.gate_no_lock))
        }
        isAsking = true
        startActivityForResult(intent, CONFIRM)
    }

    private fun reveal() {
        FacekdApp.of(this).openGate()
        if (!isBuilt) build()
        isBuilt = true
        content().visibility = View.VISIBLE
    }

    private fun content() = view<View>(android.R.id.content)

    private companion object {
        const val CONFIRM = 99
        const val ASKING = "asking"
    }
}
