package org.facekd.demo

import android.app.AlertDialog
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.widget.ArrayAdapter
import android.widget.ListView
import android.widget.TextView
import java.io.IOException
import java.text.DateFormat
import java.util.Date
import java.util.concurrent.Executors
import org.facekd.core.Enrolled
import org.facekd.core.GalleryThreshold
import org.facekd.core.Manifest
import org.facekd.core.Review
import org.facekd.core.Template
import org.facekd.core.TemplateException
import org.facekd.core.TemplateFormat
import org.facekd.core.TemplateStore
import org.facekd.core.personalData
import org.facekd.core.review

/**
 * Who is enrolled, and since which consent. Of each person: another name, one more sample, their data, delete. Of all:
 * export and import under a passphrase, delete.
 */
class PeopleActivity : GuardedActivity() {
    /** Files, the Keystore and deriving a key from a passphrase take up to seconds: not on the screen's thread. */
    private val work = Executors.newSingleThreadExecutor()
    private var manifest: Manifest? = null
    private var store: TemplateStore? = null

    /** Whose data go into the file that is being chosen. */
    private var chosen = ""

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        chosen = state?.getString(CHOSEN) ?: ""
        try {
            val found = Engine.manifest(this)
            manifest = found
            store = FacekdApp.of(this).store(found)
        } catch (error: EngineException) {
            Questions.tell(this, error.message ?: "")
        }
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        state.putString(CHOSEN, chosen)
    }

    override fun build() {
        setContentView(R.layout.people)
        click(R.id.delete_all) {
            Questions.confirm(this, getString(R.string.delete_all_question), R.string.delete) {
                change { FacekdApp.of(this).forgetEveryone() }
            }
        }
        click(R.id.export_all) { chooseDocument(Intent.ACTION_CREATE_DOCUMENT, TYPE, EXPORT, "facekd-samples.fktx") }
        click(R.id.import_all) { chooseDocument(Intent.ACTION_OPEN_DOCUMENT, "*/*", IMPORT) }
        change {}
    }

    override fun onDestroy() {
        work.shutdown() // What was begun is finished.
        super.onDestroy()
    }

    override fun onActivityResult(code: Int, result: Int, data: Intent?) {
        super.onActivityResult(code, result, data)
        val uri = data?.data
        if (result != RESULT_OK || uri == null) return
        when (code) {
            PERSONAL -> chosen.let { person -> change { exportOne(it, uri, person) } }
            EXPORT -> withPassphrase(R.string.export) { current, phrase -> export(current, uri, phrase) }
            IMPORT -> withPassphrase(R.string.import_samples) { current, phrase -> import(current, uri, phrase) }
        }
    }

    private fun withPassphrase(title: Int, action: (TemplateStore, CharArray) -> Unit) =
        Questions.passphrase(this, title, TemplateFormat.SHORTEST_PASSPHRASE) { phrase ->
            change {
                try {
                    action(it, phrase)
                } finally {
                    phrase.fill('\u0000')
                }
            }
        }

    private fun export(store: TemplateStore, uri: Uri, phrase: CharArray) {
        write(uri, TemplateFormat.export(store.all(), requireNotNull(manifest).space.id, phrase))
        tell(getString(R.string.exported))
    }

    private fun exportOne(store: TemplateStore, uri: Uri, person: String) {
        write(uri, personalData(person, requireNotNull(manifest).modelId, store.all().of(person)).toByteArray())
        tell(getString(R.string.exported))
    }

    private fun write(uri: Uri, bytes: ByteArray) {
        // "wt": a file that was longer before must not keep its end.
        val stream = contentResolver.openOutputStream(uri, "wt") ?: throw IOException(getString(R.string.file_unopened))
        stream.use { it.write(bytes) }
    }

    private fun import(store: TemplateStore, uri: Uri, phrase: CharArray) {
        val bytes = contentResolver.openInputStream(uri)?.use { it.readBytes() } ?: throw IOException(getString(R.string.file_unopened))
        val known = store.all().map { Pair(it.person, it.createdMs) }.toSet()
        val found = try {
            TemplateFormat.import(bytes, requireNotNull(manifest).space.id, phrase)
        } catch (error: TemplateException) {
            // It is the chosen file that is refused; those stored here are as they were.
            return tell(getString(R.string.import_refused, getString(Engine.why(error.reason, R.string.wrong_passphrase))))
        }
        val new = found.filter { Pair(it.person, it.createdMs) !in known }.groupBy { it.person }
        val refused = new.filter { (person, samples) -> isAnotherPersons(person, samples, store.all()) }.keys
        store.add((new - refused).values.flatten())
        tell(if (refused.isEmpty()) getString(R.string.imported) else getString(R.string.imported_but, refused.joinToString()))
    }

    /** As in enrolling: a file must not put somebody's samples under another person's name, nor the same person under two. */
    private fun isAnotherPersons(person: String, samples: List<Template>, stored: List<Template>): Boolean {
        val table = requireNotNull(manifest).table ?: return false
        val promise = Settings(this).promise
        val pair = table.pairCos(promise)
        val gallery = (table.forGallery(promise, stored.size) as? GalleryThreshold.Kept)?.threshold?.cos ?: pair
        return samples.any { review(person, listOf(it.embedding), stored, pair, gallery) != Review.Fine }
    }

    /** Does [task] in the background, one after another, and shows the list as it is afterwards. */
    private fun change(task: (TemplateStore) -> Unit) {
        val current = store ?: return
        work.execute {
            try {
                task(current)
                val people = current.all().people()
                runOnUiThread { show(people) }
                current.takeCut()?.let { tell(getString(R.string.store_cut, it)) }
            } catch (error: TemplateException) {
                tell(Engine.sentence(this, error))
            } catch (error: IOException) {
                tell(getString(R.string.file_failed, error.message))
            } catch (error: SecurityException) {
                tell(getString(R.string.file_failed, error.message))
            }
        }
    }

    private fun show(people: List<Enrolled>) {
        val rows = people.map(::row)
        view<TextView>(R.id.hint).setText(if (rows.isEmpty()) R.string.nobody else R.string.tap_for_choices)
        view<ListView>(R.id.list).apply {
            adapter = ArrayAdapter(this@PeopleActivity, android.R.layout.simple_list_item_1, rows)
            setOnItemClickListener { _, _, at, _ -> choices(people[at].person) }
        }
    }

    private fun row(enrolled: Enrolled): String {
        val count = resources.getQuantityString(R.plurals.samples, enrolled.samples, enrolled.person, enrolled.samples)
        val consent = enrolled.firstConsent
        val date = DateFormat.getDateInstance(DateFormat.MEDIUM).format(Date(consent.givenMs))
        return getString(R.string.row_with_consent, count, date, consent.textVersion)
    }

    private fun choices(name: String) {
        val actions = linkedMapOf<Int, () -> Unit>(
            R.string.add_sample to {
                setResult(RESULT_OK, Intent().putExtra(ADD_SAMPLE, name))
                finish()
            },
            R.string.rename to { Questions.name(this) { rename(name, it) } },
            R.string.export_one to {
                chosen = name
                chooseDocument(Intent.ACTION_CREATE_DOCUMENT, "application/json", PERSONAL, "facekd-person.json")
            },
            R.string.delete to {
                Questions.confirm(this, getString(R.string.delete_one, name), R.string.delete) { change { it.delete(name) } }
            },
        )
        AlertDialog.Builder(this)
            .setTitle(name)
            .setItems(actions.keys.map(::getString).toTypedArray()) { _, at -> actions.values.elementAt(at)() }
            .show()
    }

    private fun rename(old: String, new: String) {
        if (new != old) change { if (!it.rename(old, new)) tell(getString(R.string.name_taken, new)) }
    }

    private fun tell(message: String) = runOnUiThread { Questions.tell(this, message) }

    private fun click(id: Int, action: () -> Unit) = view<View>(id).setOnClickListener { if (store != null) action() }

    companion object {
        /** In the result: for whom the main screen shall take one more sample. */
        const val ADD_SAMPLE = "add_sample"
        private const val EXPORT = 1
        private const val IMPORT = 2
        private const val PERSONAL = 3
        private const val TYPE = "application/octet-stream"
        private const val CHOSEN = "chosen"
    }
}
