package org.facekd.core

import java.io.File
import java.io.FileOutputStream
import java.io.IOException

/**
 * The enrolled samples of one model in one file. For several threads.
 *
 * Each change is written whole to a second file, forced to the disk and renamed: a power cut leaves the old or the new
 * samples. A file that cannot be opened is never overwritten: reading throws, and so does every change.
 *
 * @param sealer asked each time a file is read or written, so that a key store that failed once can be tried again, and
 *     everything can be deleted without it.
 */
class TemplateStore(private val file: File, private val modelId: String, private val sealer: () -> Sealer) {
    private var loaded: List<Template>? = null

    /** @throws TemplateException the file is of another model, was changed, or its key cannot be used now. */
    @Synchronized
    fun all(): List<Template> = loaded ?: read().also { loaded = it }

    /** Names of the enrolled with their number of samples, in alphabetical order. */
    fun people(): Map<String, Int> = all().groupingBy { it.person }.eachCount().toSortedMap()

    @Synchronized
    fun add(templates: List<Template>) = write(all() + templates)

    /**
     * Gives [person] another name.
     *
     * @return false where somebody has it: two people must not become one.
     */
    @Synchronized
    fun rename(person: String, name: String): Boolean {
        if (all().any { it.person == name }) return false
        write(all().map { if (it.person == person) it.of(name) else it })
        return true
    }

    /** Forgets one person. */
    @Synchronized
    fun delete(person: String) = write(all().filter { it.person != person })

    /** Forgets everyone, whatever state the file is in. */
    @Synchronized
    fun deleteAll() {
        val temporary = temporary()
        if ((file.exists() && !file.delete()) || (temporary.exists() && !temporary.delete())) {
            throw IOException("$file cannot be deleted")
        }
        loaded = emptyList()
    }

    /** Keeps nothing in memory until the samples are next asked for. */
    @Synchronized
    fun release() {
        loaded = null
    }

    private fun read(): List<Template> = if (file.exists()) TemplateFormat.open(file.readBytes(), modelId, usingKey(sealer)) else emptyList()

    private fun write(templates: List<Template>) {
        val bytes = TemplateFormat.seal(templates, modelId, usingKey(sealer))
        val temporary = temporary()
        FileOutputStream(temporary).use {
            it.write(bytes)
            it.fd.sync()
        }
        if (!temporary.renameTo(file)) throw IOException("$file cannot be replaced")
        loaded = templates
    }

    private fun temporary() = File(file.path + ".new")
}
