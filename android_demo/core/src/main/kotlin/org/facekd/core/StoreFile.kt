package org.facekd.core

import java.io.EOFException
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.OutputStream
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.security.SecureRandom
import java.util.zip.CRC32
import javax.crypto.spec.SecretKeySpec

/** What a store's file held. [cutBytes]: of a damaged end, which is to be cut off; 0 where there is none. */
internal class Opened(val gallery: Gallery, val file: StoreFile, val cutBytes: Long)

/**
 * The app's own file since version 3: a snapshot, and a log of what came after it.
 *
 *     magic "FKTS", version u16 = 3, embedding space, count u8 of further spaces, each     readable, authenticated
 *     start value (u8 length), the file's key (u8 length), sealed by the Keystore's key
 *     records: length u32 of what follows its sum, number u32 from 0,
 *         CRC-32 of the file's start value, length and number; start value (u8 length), sealed content
 *
 *     content: kind u8, then
 *         0, the first record: u32 samples and u32 records of the snapshot
 *         1: samples ([SampleCodec]), at most [CHUNK]; after the snapshot's, of one enrolment
 *         2: a name and the one that replaces it (UTF-8 with u16 length)
 *
 * Big-endian. Each record is sealed by itself, bound to the readable start of the file and to its number, by a random
 * AES-256 key that each new file has for itself: no record can be left out, moved, repeated or brought from an earlier
 * file, except that the last ones can be missing. The Keystore's key seals this key alone, because a phone's secure
 * hardware takes seconds for what the processor does in milliseconds. The file's key is not kept in memory: without the
 * Keystore nothing is read or written.
 *
 * A record that cannot be read is a damaged end where no later one follows it: a write that was interrupted. Anywhere
 * else, and in the snapshot, which is written to another file and renamed, the file is refused.
 *
 * @property spaces besides the file's own, those that samples were taken over from.
 * @property end where the next record goes.
 */
internal class StoreFile private constructor(
    val spaces: List<String>,
    private val header: ByteArray,
    private val wrapped: Sealed,
    private var next: Int,
    val snapshotBytes: Long,
    end: Long,
) {
    var end = end
        private set

    val logBytes: Long get() = end - snapshotBytes

    /**
     * Adds records at the end and forces them to the disk: all of them or, where that fails, none.
     *
     * @throws TemplateException the key cannot be used now.
     */
    fun append(file: File, contents: List<ByteArray>, keystore: Sealer) {
        val sealer = opened(keystore)
        val bytes = contents.mapIndexed { i, content -> frame(next + i, content, sealer) }.reduce(ByteArray::plus)
        if (file.length() < end) throw IOException("$file is shorter than it was")
        RandomAccessFile(file, "rw").use {
            try {
                it.setLength(end) // without what an interrupted write left
                it.seek(end)
                it.write(bytes)
                it.fd.sync()
            } catch (error: IOException) {
                runCatching { it.setLength(end) } // else the next reading cuts it off
                throw error
            }
        }
        end += bytes.size
        next += contents.size
    }

    private fun opened(keystore: Sealer) = Sealer(SecretKeySpec(keystore.open(wrapped, header), "AES"))

    private fun bound(number: Int): ByteArray = header + ByteBuffer.allocate(4).putInt(number).array()

    private fun sum(length: Int, number: Int): Int {
        val crc = CRC32()
        crc.update(wrapped.iv)
        crc.update(ByteBuffer.allocate(8).putInt(length).putInt(number).array())
        return crc.value.toInt()
    }

    private fun frame(number: Int, content: ByteArray, sealer: Sealer): ByteArray {
        val sealed = sealer.seal(content, bound(number))
        val length = 1 + sealed.iv.size + sealed.content.size
        val out = ByteBuffer.allocate(FRAME_BYTES + length).putInt(length).putInt(number).putInt(sum(length, number))
        return out.put(sealed.iv.size.toByte()).put(sealed.iv).put(sealed.content).array()
    }

    /** The record [number] where it begins in [input]; null where it is damaged or incomplete. */
    private fun record(input: RandomAccessFile, number: Int, sealer: Sealer): ByteBuffer? {
        if (input.length() - input.filePointer < FRAME_BYTES) return null
        val head = ByteBuffer.wrap(ByteArray(FRAME_BYTES).also(input::readFully))
        val length = head.getInt()
        if (head.getInt() != number || head.getInt() != sum(length, number)) return null
        if (length < 1 || input.length() - input.filePointer < length) return null
        val body = ByteBuffer.wrap(ByteArray(length).also(input::readFully))
        return try {
            val iv = body.bytes(body.get().toInt() and 0xFF)
            ByteBuffer.wrap(sealer.open(Sealed(iv, body.bytes(body.remaining())), bound(number)))
        } catch (error: java.nio.BufferUnderflowException) {
            null
        } catch (error: TemplateException) {
            if (error.reason == TemplateException.Reason.DAMAGED) null else throw error
        }
    }

    /** Whether a record of this file with [number] or a later one begins after [from]. */
    private fun follows(input: RandomAccessFile, from: Long, number: Int): Boolean {
        input.seek(from)
        val rest = ByteBuffer.wrap(ByteArray((input.length() - from).toInt()).also(input::readFully))
        return (1..rest.capacity() - FRAME_BYTES).any {
            val found = rest.getInt(it + 4)
            found >= number && rest.getInt(it + 8) == sum(rest.getInt(it), found)
        }
    }

    companion object {
        const val VERSION = 3

        /** Samples in one record: with 512 dimensions half a megabyte, so that reading needs little memory. */
        const val CHUNK = 256
        private const val FRAME_BYTES = 12
        private const val KEY_BYTES = 32
        private const val SNAPSHOT = 0
        private const val SAMPLES = 1
        private const val RENAMED = 2

        fun added(templates: List<Template>): List<ByteArray> =
            templates.chunked(CHUNK) { byteArrayOf(SAMPLES.toByte()) + SampleCodec.write(it) }

        fun renamed(person: String, name: String): ByteArray {
            val (old, new) = listOf(utf8(person), utf8(name))
            return ByteBuffer.allocate(5 + old.size + new.size).put(RENAMED.toByte()).putText(old).putText(new).array()
        }

        /**
         * A new file that holds [gallery] as its snapshot, forced to the disk.
         *
         * @param spaces that samples were taken over from.
         * @throws TemplateException the key cannot be used now.
         */
        fun write(file: File, space: String, spaces: List<String>, gallery: Gallery, keystore: Sealer): StoreFile {
            val names = listOf(space) + spaces
            val texts = names.map(::utf8)
            val header = ByteBuffer.allocate(7 + texts.sumOf { 2 + it.size }).putInt(TemplateFormat.STORE).putShort(VERSION.toShort())
            header.putText(texts.first()).put(spaces.size.toByte())
            texts.drop(1).forEach { header.putText(it) }
            val key = ByteArray(KEY_BYTES).also { SecureRandom().nextBytes(it) }
            val wrapped = keystore.seal(key, header.array())
            val sealer = Sealer(SecretKeySpec(key, "AES"))
            val records = (gallery.size + CHUNK - 1) / CHUNK
            val made = StoreFile(spaces, header.array(), wrapped, records + 1, 0, 0)
            FileOutputStream(file).use { out ->
                out.write(header.array())
                out.short(wrapped.iv)
                out.short(wrapped.content)
                val first = ByteBuffer.allocate(9).put(SNAPSHOT.toByte()).putInt(gallery.size).putInt(records)
                out.write(made.frame(0, first.array(), sealer))
                for (i in 0 until records) {
                    val chunk = gallery.subList(i * CHUNK, minOf((i + 1) * CHUNK, gallery.size))
                    out.write(made.frame(i + 1, added(chunk).single(), sealer))
                }
                out.fd.sync()
            }
            return StoreFile(spaces, header.array(), wrapped, records + 1, file.length(), file.length())
        }

        /** Cuts a damaged end off. */
        fun cut(file: File, end: Long) = RandomAccessFile(file, "rw").use {
            it.setLength(end)
            it.fd.sync()
        }

        private fun OutputStream.short(bytes: ByteArray) {
            write(bytes.size)
            write(bytes)
        }

        /**
         * What [file] holds, or null where it is of an earlier version.
         *
         * @throws TemplateException it is no store, of a space that [space] does not accept, damaged elsewhere than at its
         *     end, or the key cannot be used now.
         */
        fun read(file: File, space: EmbeddingSpace, keystore: Sealer): Opened? = RandomAccessFile(file, "r").use {
            try {
                read(it, space, keystore)
            } catch (error: EOFException) {
                throw TemplateException(TemplateException.Reason.DAMAGED, "the template file is cut short or damaged", error)
            }
        }

        private fun read(input: RandomAccessFile, space: EmbeddingSpace, keystore: Sealer): Opened? {
            if (input.readInt() != TemplateFormat.STORE) {
                throw TemplateException(TemplateException.Reason.NOT_TEMPLATES, "this is no facekd template file")
            }
            val version = input.readUnsignedShort()
            if (version > VERSION) throw TemplateFormat.newer(version, VERSION)
            if (version < VERSION) return null
            val own = input.text()
            val spaces = List(input.readUnsignedByte()) { input.text() }
            (listOf(own) + spaces).find { !space.accepts(it) }?.let { throw TemplateFormat.otherModel(it, space.id) }
            val header = ByteArray(input.filePointer.toInt())
            input.seek(0)
            input.readFully(header)
            val wrapped = Sealed(input.bytes(input.readUnsignedByte()), input.bytes(input.readUnsignedByte()))
            val start = StoreFile(spaces + listOf(own).filter { it != space.id }, header, wrapped, 0, 0, 0)
            val sealer = try {
                start.opened(keystore)
            } catch (error: TemplateException) {
                if (error.reason != TemplateException.Reason.DAMAGED) throw error
                throw TemplateException(error.reason, "the file was changed or its key is gone", error)
            }
            return start.replay(input, sealer)
        }

        private fun RandomAccessFile.bytes(count: Int) = ByteArray(count).also(::readFully)

        private fun RandomAccessFile.text() = bytes(readUnsignedShort()).toString(Charsets.UTF_8)
    }

    private fun replay(input: RandomAccessFile, sealer: Sealer): Opened {
        val builder = GalleryBuilder()
        val first = record(input, 0, sealer) ?: throw damaged("the snapshot")
        val (samples, records) = whole(first) {
            if (get().toInt() != SNAPSHOT) throw damaged("the first record")
            Pair(getInt(), getInt())
        }
        var number = 1
        var snapshot = input.filePointer
        var end = snapshot
        while (end < input.length()) {
            val content = record(input, number, sealer)
            if (content == null) {
                if (number <= records) throw damaged("the snapshot")
                if (follows(input, end, number)) throw damaged("record $number")
                break
            }
            apply(content, builder)
            end = input.filePointer
            if (number == records) {
                if (builder.size != samples) throw damaged("the snapshot")
                snapshot = end
            }
            number++
        }
        if (number <= records) throw damaged("the snapshot")
        val file = StoreFile(spaces, header, wrapped, number, snapshot, end)
        return Opened(builder.build(), file, input.length() - end)
    }

    private fun apply(content: ByteBuffer, builder: GalleryBuilder) {
        when (val kind = content.get().toInt()) {
            SAMPLES -> SampleCodec.read(content).forEach(builder::add)
            RENAMED -> whole(content) { Pair(text(), text()) }.let { (person, name) -> builder.rename(person, name) }
            else -> throw damaged("a record of kind $kind")
        }
    }

    private fun damaged(what: String) =
        TemplateException(TemplateException.Reason.DAMAGED, "the file was changed or cut short: $what cannot be read")
}
