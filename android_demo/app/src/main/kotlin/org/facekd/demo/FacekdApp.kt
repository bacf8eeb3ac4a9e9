package org.facekd.demo

import android.app.Application
import android.content.Context
import android.os.Handler
import android.os.HandlerThread
import android.os.SystemClock
import java.io.File
import java.io.IOException
import org.facekd.core.Manifest
import org.facekd.core.TemplateStore
import org.facekd.core.usingKey

/** What one process has once: the camera's thread, the store of each model's samples, the gate before the people. */
class FacekdApp : Application() {
    /** One thread for all feeds: a camera is closed before the next is opened, also by a screen made anew. */
    val camera by lazy { Handler(HandlerThread("camera").apply { start() }.looper) }

    private val stores = HashMap<String, TemplateStore>()

    /** The one store of this model's samples: two would not see each other's changes. */
    fun store(manifest: Manifest): TemplateStore = synchronized(stores) {
        val space = manifest.space
        stores.getOrPut(space.id) {
            TemplateStore(file(space.id), space, space.compatibleWith.associateWith(::file)) { KeystoreKey.sealer(this) }
        }
    }

    /**
     * A file an embedding space: another model's samples, or another precision's, stay where they are until it returns.
     * Not backed up nor moved to a new phone: without this phone's key it could not be read there.
     */
    private fun file(space: String) = File(noBackupFilesDir, "$PREFIX${space.take(16)}.bin")

    /** Whether there are samples that this model cannot be compared with. */
    fun keepsOthers(manifest: Manifest): Boolean =
        noBackupFilesDir.listFiles().orEmpty().any { it.name.startsWith(PREFIX) && it != file(manifest.space.id) }

    /** The samples are read again from their file when they are next needed. */
    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        synchronized(stores) { stores.values.toList() }.forEach { it.release() }
    }

    /**
     * Leaves nothing of anybody: samples of every model, keys, caches. The samples go first and need no key.
     *
     * @throws IOException a file cannot be deleted.
     * @throws org.facekd.core.TemplateException the Keystore refuses to forget its key; the samples are gone.
     */
    fun forgetEveryone() = synchronized(stores) {
        stores.values.forEach { it.deleteAll() }
        val files = noBackupFilesDir.listFiles().orEmpty().filter { it.name.startsWith(PREFIX) }
        val left = files + cacheDir.listFiles().orEmpty()
        left.forEach { if (!it.deleteRecursively()) throw IOException("$it cannot be deleted") }
        Settings(this).forgetPeople()
        usingKey { KeystoreKey.delete() }
    }

    private var openUntilMs = 0L

    /** Whether somebody who may see the people and the settings is there, or was a minute ago. */
    val isGateOpen: Boolean get() = SystemClock.elapsedRealtime() < openUntilMs

    fun openGate() {
        openUntilMs = Long.MAX_VALUE
    }

    fun leaveGate() {
        if (isGateOpen) openUntilMs = SystemClock.elapsedRealtime() + GATE_MS
    }

    companion object {
        private const val PREFIX = "templates-"

        /** Long enough to choose a file in another app and to turn the phone. */
        private const val GATE_MS = 60_000L

        fun of(context: Context): FacekdApp = context.applicationContext as FacekdApp
    }
}
