package org.facekd.demo

import android.app.Application
import android.content.Context
import android.os.Handler
import android.os.HandlerThread
import java.io.File
import org.facekd.core.Manifest
import org.facekd.core.TemplateStore

/** What one process has once: the camera's thread, and the store of each model's samples. */
class FacekdApp : Application() {
    /** One thread for all feeds: a camera is closed before the next is opened, also by a screen made anew. */
    val camera by lazy { Handler(HandlerThread("camera").apply { start() }.looper) }

    private val stores = HashMap<String, TemplateStore>()

    /** The one store of this model's samples: two would not see each other's changes. */
    fun store(manifest: Manifest): TemplateStore = synchronized(stores) {
        // A file a model: another model's samples stay where they are until it returns.
        // Not backed up nor moved to a new phone: without this phone's key it could not be read there.
        val file = File(noBackupFilesDir, "templates-${manifest.modelId.take(16)}.bin")
        stores.getOrPut(manifest.modelId) { TemplateStore(file, manifest.modelId, KeystoreKey::sealer) }
    }

    /** The samples are read again from their file when they are next needed. */
    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        synchronized(stores) { stores.values.toList() }.forEach { it.release() }
    }

    companion object {
        fun of(context: Context): FacekdApp = context.applicationContext as FacekdApp
    }
}
