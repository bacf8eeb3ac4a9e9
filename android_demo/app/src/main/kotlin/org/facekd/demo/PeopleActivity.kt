package org.facekd.demo

import android.app.Activity
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.widget.ArrayAdapter
import android.widget.ListView
import android.widget.TextView
import java.io.IOException
import java.util.concurrent.Executors
import org.facekd.core.Manifest
import org.facekd.core.TemplateException
import org.facekd.core.TemplateFormat
import org.facekd.core.TemplateStore

/** Who is enrolled: list, delete one or all, export and import under a passphrase. */
class PeopleActivity : Activity() {
    /** Files, the Keystore and deriving a key from a passphrase take up to seconds: not on the screen's thread. */
    private val work = Executors.newSingleThreadExecutor()
    private var manifest: Manifest? = null
    private var store: TemplateStore? = null

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.people)
        try {
            val found = Engine.manifest(this)
            manifest = found
            store = FacekdApp.of(this).store(found)
        } catch (error: EngineException) {
            Questions.tell(this, error.message ?: "")
        }
        click(R.id.delete_all) {
            Questions.confirm(this, getString(R.string.delete_all_question), R.string.delete) { change { it.deleteAll() } }
        }
        click(R.id.export_all) { chooseDocument(Intent.ACTION_CREATE_DOCUMENT, TYPE, EXPORT, "facekd-samples.fktx") }
        click(R.id.import_all) {
            Questions.consent(this, Settings(this)) { chooseDocument(Intent.ACTION_OPEN_DOCUMENT, "*/*", IMPORT) }
        }
        change {}
    }

    override fun onDestroy() {
        work.shutdown() // What was begun is finished.
        super.onDestroy()
    }

    override fun onActivityResult(code: Int, result: Int, data: Intent?) {
        val uri = data?.data
        if (result != RESULT_OK || uri == null) return
        val (title, action) = if (code == EXPORT) Pair(R.string.export, ::export) else Pair(R.string.import_samples, ::import)
        Questions.passphrase(this, title, TemplateFormat.SHORTEST_PASSPHRASE) { phrase ->
            change {
                try {
                    action(it, uri, phrase)
                } finally {
                    phrase.fill('\u0000')
                }
            }
        }
    }

    private fun export(store: TemplateStore, uri: Uri, phrase: CharArray) {
        val bytes = TemplateFormat.export(store.all(), requireNotNull(manifest).modelId, phrase)
        // "wt": a file that was longer before must not keep its end.
        val stream = contentResolver.openOutputStream(uri, "wt") ?: throw IOException(getString(R.string.file_unopened))
        stream.use { it.write(bytes) }
        tell(getString(R.string.exported))
    }

    private fun import(store: TemplateStore, uri: Uri, phrase: CharArray) {
        val bytes = contentResolver.openInputStream(uri)?.use { it.readBytes() } ?: throw IOException(getString(R.string.file_unopened))
        val known = store.all().map { Pair(it.person, it.createdMs) }.toSet()
        val found = try {
            TemplateFormat.import(bytes, requireNotNull(manifest).modelId, phrase)
        } catch (error: TemplateException) {
            // It is the chosen file that is refused; those stored here are as they were.
            return tell(getString(R.string.import_refused, getString(Engine.why(error.reason, R.string.wrong_passphrase))))
        }
        store.add(found.filter { Pair(it.person, it.createdMs) !in known })
        tell(getString(R.string.imported))
    }

    /** Does [task] in the background, one after another, and shows the list as it is afterwards. */
    private fun change(task: (TemplateStore) -> Unit) {
        val current = store ?: return
        work.execute {
            try {
                task(current)
                val people = current.people()
                runOnUiThread { show(people) }
            } catch (error: TemplateException) {
                tell(Engine.sentence(this, error))
            } catch (error: IOException) {
                tell(getString(R.string.file_failed, error.message))
            } catch (error: SecurityException) {
                tell(getString(R.string.file_failed, error.message))
            }
        }
    }

    private fun show(people: Map<String, Int>) {
        val names = people.keys.toList()
        val rows = people.map { (name, count) -> resources.getQuantityString(R.plurals.samples, count, name, count) }
        view<TextView>(R.id.hint).setText(if (rows.isEmpty()) R.string.nobody else R.string.tap_to_delete)
        view<ListView>(R.id.list).apply {
            adapter = ArrayAdapter(this@PeopleActivity, android.R.layout.simple_list_item_1, rows)
            setOnItemClickListener { _, _, at, _ ->
                val question = getString(R.string.delete_one, names[at])
                Questions.confirm(this@PeopleActivity, question, R.string.delete) { change { it.delete(names[at]) } }
            }
        }
    }

    private fun tell(message: String) = runOnUiThread { Questions.tell(this, message) }

    private fun click(id: Int, action: () -> Unit) = view<View>(id).setOnClickListener { if (store != null) action() }

    private companion object {
        const val EXPORT = 1
        const val IMPORT = 2
        const val TYPE = "application/octet-stream"
    }
}
