package org.facekd.core

import java.io.File
import java.io.IOException
import java.nio.channels.FileChannel
import java.nio.file.StandardOpenOption

/**
 * The enrolled samples of one embedding space in one file ([StoreFile]). For several threads.
 *
 * Added samples and other names are appended: one sample of 512 dimensions writes 2.2 kB. A deletion writes all that is
 * left to a second file, forces it to the disk and renames it, so that nothing of the deleted is left in either; the
 * same is done where the log has grown. Whenever the process ends, the file holds all changes that returned and, at
 * most, the one under way. A file that cannot be opened is never overwritten: reading throws, and so does every change.
 * Only a damaged end, of a change that was interrupted, is cut off; [takeCut] tells.
 *
 * Files of version 2, and those of [older] spaces where there is none of this one yet, are taken over when first read.
 *
 * @param older files of spaces that [space] is compatible with, by id.
 * @param compactAbove bytes of log at which everything is written anew; at least half the rest of the file.
 * @param sealer asked each time a file is read or written, so that a key store that failed once can be tried again, and
 *     everything can be deleted without it.
 */
class TemplateStore(
    private val file: File,
    private val space: EmbeddingSpace,
    private val older: Map<String, File> = emptyMap(),
    private val compactAbove: Long = 1L shl 20,
    private val sealer: () -> Sealer,
) {
    constructor(file: File, modelId: String, sealer: () -> Sealer) : this(file, EmbeddingSpace(modelId), sealer = sealer)

    /** [file] is null until something is stored. */
    private class State(val gallery: Gallery, val file: StoreFile?)

    private var loaded: State? = null
    private var cutBytes = 0L

    /** @throws TemplateException the file is of another model, was changed, or its key cannot be used now. */
    @Synchronized
    fun all(): Gallery = state().gallery

    /** Names of the enrolled with their number of samples, in alphabetical order. */
    fun people(): Map<String, Int> = all().people().associate { Pair(it.person, it.samples) }

    /** Bytes of a damaged end that were cut off since this was last asked, in which a sample may have been; else null. */
    @Synchronized
    fun takeCut(): Long? = cutBytes.takeIf { it > 0 }.also { cutBytes = 0 }

    @Synchronized
    fun add(templates: List<Template>) {
        val state = state()
        if (templates.isEmpty()) return
        state.gallery.check(templates)
        append(state, StoreFile.added(templates)) { it + templates }
    }

    /**
     * Gives [person] another name.
     *
     * @return false where somebody has it: two people must not become one.
     */
    @Synchronized
    fun rename(person: String, name: String): Boolean {
        val state = state()
        if (state.gallery.isEnrolled(name)) return false
        if (state.gallery.isEnrolled(person)) append(state, listOf(StoreFile.renamed(person, name))) { it.renamed(person, name) }
        return true
    }

    /** Forgets one person. */
    @Synchronized
    fun delete(person: String) {
        val state = state()
        if (state.gallery.isEnrolled(person)) rewrite(state.gallery.without(person), state.file?.spaces.orEmpty())
    }

    /** Forgets everyone, whatever state the file is in. */
    @Synchronized
    fun deleteAll() {
        for (each in listOf(file, temporary())) if (each.exists()) remove(each)
        syncFolder()
        loaded = State(Gallery.EMPTY, null)
    }

    /** Keeps nothing in memory until the samples are next asked for. */
    @Synchronized
    fun release() {
        loaded = null
    }

    private fun state(): State = loaded ?: read().also { loaded = it }

    private fun read(): State {
        val interrupted = temporary()
        if (interrupted.exists()) remove(interrupted)
        val (id, source) = listOf(Pair(space.id, file)).plus(older.toList()).find { it.second.exists() } ?: return State(Gallery.EMPTY, null)
        val keystore = usingKey(sealer)
        val opened = StoreFile.read(source, space, keystore)
        if (opened == null || source != file) {
            val gallery = opened?.gallery ?: Gallery.of(TemplateFormat.open(source.readBytes(), id, keystore))
            rewrite(gallery, opened?.file?.spaces ?: listOf(id).filter { it != space.id })
        } else {
            if (opened.cutBytes > 0) StoreFile.cut(file, opened.file.end)
            loaded = State(opened.gallery, opened.file)
        }
        cutBytes += opened?.cutBytes ?: 0
        // What was taken over is not kept twice: a deletion must find it in one place.
        val state = requireNotNull(loaded)
        older.filterKeys { it in state.file?.spaces.orEmpty() }.values.filter { it.exists() }.forEach(::remove)
        return state
    }

    private fun append(state: State, contents: List<ByteArray>, change: (Gallery) -> Gallery) {
        val to = state.file ?: return rewrite(change(state.gallery), emptyList())
        to.append(file, contents, usingKey(sealer))
        loaded = State(change(state.gallery), to)
        if (to.logBytes > maxOf(compactAbove, to.snapshotBytes / 2)) compact(requireNotNull(loaded), to)
    }

    /** The change is stored already: where this fails, for want of room or of the key, the log is only longer. */
    private fun compact(state: State, from: StoreFile) {
        try {
            rewrite(state.gallery, from.spaces)
        } catch (error: IOException) {
            return
        } catch (error: TemplateException) {
            return
        }
    }

    private fun rewrite(gallery: Gallery, spaces: List<String>) {
        val temporary = temporary()
        try {
            val written = StoreFile.write(temporary, space.id, spaces, gallery, usingKey(sealer))
            if (!temporary.renameTo(file)) throw IOException("$file cannot be replaced")
            loaded = State(gallery, written)
        } finally {
            temporary.delete() // it is there only if that failed
        }
        syncFolder()
    }

    private fun remove(unwanted: File) {
        if (!unwanted.delete()) throw IOException("$unwanted cannot be deleted")
    }

    /** A power cut must not bring back a file that was replaced or deleted. Not every system can do it. */
    private fun syncFolder() {
        try {
            FileChannel.open(file.absoluteFile.parentFile.toPath(), StandardOpenOption.READ).use { it.force(true) }
        } catch (error: IOException) {
            return
        }
    }

    private fun temporary() = File(file.path + ".new")
}
