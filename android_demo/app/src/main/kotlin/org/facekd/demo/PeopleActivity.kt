package org.facekd.demo

import android.app.Activity
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.widget.ArrayAdapter
import android.widget.ListView
import java.io.IOException
import kotlin.concurrent.thread
import org.facekd.core.Manifest
import org.facekd.core.TemplateException
import org.facekd.core.TemplateFormat
import org.facekd.core.TemplateStore

/** Who is enrolled: list, delete one or all, export and import under a passphrase. */
class PeopleActivity : Activity() {
    private var manifest: Manifest? = null
    private var store: TemplateStore? = null

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.people)
        try {
            val found = Engine.manifest(this)
            manifest = found
            store = Engine.store(this, found)
        } catch (error: EngineException) {
            Questions.tell(this, error.message ?: "")
        }
        click(R.id.delete_all) {
            Questions.confirm(this, getString(R.string.delete_all_question), R.string.delete) { change { it.deleteAll() } }
        }
        click(R.id.export_all) {
            val intent = Intent(Intent.ACTION_CREATE_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE)
                .setType(TYPE).putExtra(Intent.EXTRA_TITLE, "facekd-samples.fktx")
            startActivityForResult(intent, EXPORT)
        }
        click(R.id.import_all) {
            startActivityForResult(Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("*/*"), IMPORT)
        }
        list()
    }

    override fun onActivityResult(code: Int, result: Int, data: Intent?) {
        val uri = data?.data
        if (result != RESULT_OK || uri == null) return
        val (title, work) = if (code == EXPORT) Pair(R.string.export, ::export) else Pair(R.string.import_samples, ::import)
        Questions.passphrase(this, title, TemplateFormat.SHORTEST_PASSPHRASE) { phrase ->
            // Deriving the key takes a second or more.
            thread { guarded { work(uri, phrase) } }
        }
    }

    private fun export(uri: Uri, phrase: CharArray) {
        val bytes = TemplateFormat.export(requireNotNull(store).all(), requireNotNull(manifest).modelId, phrase)
        // "wt": a file that was longer before must not keep its end.
        val stream = contentResolver.openOutputStream(uri, "wt") ?: throw IOException("it cannot be opened")
        stream.use { it.write(bytes) }
        tell(getString(R.string.exported))
    }

    private fun import(uri: Uri, phrase: CharArray) {
        val bytes = contentResolver.openInputStream(uri)?.use { it.readBytes() } ?: throw IOException("it cannot be opened")
        val current = requireNotNull(store)
        val known = current.all().map { Pair(it.person, it.createdMs) }.toSet()
        val found = TemplateFormat.import(bytes, requireNotNull(manifest).modelId, phrase)
        current.add(found.filter { Pair(it.person, it.createdMs) !in known })
        tell(getString(R.string.imported))
        runOnUiThread { list() }
    }

    private fun list() = guarded {
        val people = store?.people() ?: emptyMap()
        val names = people.keys.toList()
        val rows = people.map { (name, count) -> resources.getQuantityString(R.plurals.samples, count, name, count) }
        view<View>(R.id.empty).visibility = if (rows.isEmpty()) View.VISIBLE else View.GONE
        view<ListView>(R.id.list).apply {
            adapter = ArrayAdapter(this@PeopleActivity, android.R.layout.simple_list_item_1, rows)
            setOnItemClickListener { _, _, at, _ ->
                val question = getString(R.string.delete_one, names[at])
                Questions.confirm(this@PeopleActivity, question, R.string.delete) { change { it.delete(names[at]) } }
            }
        }
    }

    private fun change(work: (TemplateStore) -> Unit) {
        guarded { store?.let(work) }
        list()
    }

    private fun guarded(work: () -> Unit) {
        try {
            work()
        } catch (error: TemplateException) {
            tell(Engine.sentence(this, error))
        } catch (error: IOException) {
            tell(getString(R.string.file_failed, error.message))
        } catch (error: SecurityException) {
            tell(getString(R.string.file_failed, error.message))
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
