package org.facekd.core

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.IOException
import java.nio.ByteBuffer

/** Samples that cannot be read or written. Nothing was changed: after KEY_REFUSED the same may work later. */
class TemplateException(val reason: Reason, message: String, cause: Throwable? = null) : Exception(message, cause) {
    enum class Reason { NOT_TEMPLATES, NEWER_VERSION, OTHER_MODEL, DAMAGED, KEY_REFUSED }
}

/**
 * Enrolled samples as bytes, bound to one model and sealed whole: exports, and the app's own file up to version 2.
 *
 *     magic "FKTS" or "FKTX", version u16, model id (UTF-8 with u16 length)     readable, authenticated
 *     FKTX only: PBKDF2 rounds u32, salt of 16 bytes                            readable, authenticated
 *     start value (u8 length), AES-GCM of the samples ([SampleCodec])           the rest of the file
 *
 * Big-endian. Version 1 had no consent and no quality, and was bound to a bundle whose exported files have different
 * embedding spaces: it is not read. FKTS was the app's own file under its Keystore key ([StoreFile] has it since
 * version 3), FKTX is an export under a passphrase.
 */
object TemplateFormat {
    const val VERSION = 2
    internal const val STORE = 0x464B5453
    private const val EXPORT = 0x464B5458
    private const val LARGEST_ITERATIONS = 10_000_000

    /** @throws TemplateException it is not a store of version 2, of another model, was changed, or the key cannot be used now. */
    fun open(bytes: ByteArray, modelId: String, sealer: Sealer): List<Template> = reading(bytes, STORE, modelId) { _, _ -> sealer }

    /** A file for another device or for safe keeping, readable with the passphrase alone. */
    fun export(
        templates: List<Template>,
        modelId: String,
        passphrase: CharArray,
        iterations: Int = Sealer.ITERATIONS,
    ): ByteArray {
        require(passphrase.size >= SHORTEST_PASSPHRASE) { "the passphrase needs $SHORTEST_PASSPHRASE characters" }
        val salt = Sealer.newSalt()
        val bytes = ByteArrayOutputStream()
        DataOutputStream(bytes).apply {
            writeInt(EXPORT)
            writeShort(VERSION)
            utf8(modelId).let {
                writeShort(it.size)
                write(it)
            }
            writeInt(iterations)
            write(salt)
        }
        val header = bytes.toByteArray()
        val sealed = Sealer.fromPassphrase(passphrase, salt, iterations).seal(SampleCodec.write(templates), header)
        return header + sealed.iv.size.toByte() + sealed.iv + sealed.content
    }

    /** @throws TemplateException it is not an export, of another model, was changed, or the passphrase is wrong. */
    fun import(bytes: ByteArray, modelId: String, passphrase: CharArray): List<Template> =
        reading(bytes, EXPORT, modelId) { iterations, salt -> Sealer.fromPassphrase(passphrase, salt, iterations) }

    const val SHORTEST_PASSPHRASE = 8

    private fun reading(bytes: ByteArray, magic: Int, modelId: String, key: (Int, ByteArray) -> Sealer): List<Template> {
        try {
            val input = DataInputStream(ByteArrayInputStream(bytes))
            if (input.readInt() != magic) throw refuse(TemplateException.Reason.NOT_TEMPLATES, "this is no facekd template file")
            val version = input.readUnsignedShort()
            if (version > VERSION) throw newer(version, VERSION)
            if (version == 1) throw refuse(TemplateException.Reason.OTHER_MODEL, "version 1 does not say which file of a model made it")
            if (version != VERSION) throw refuse(TemplateException.Reason.DAMAGED, "there is no version $version of this file")
            val found = ByteArray(input.readUnsignedShort()).also { input.readFully(it) }.toString(Charsets.UTF_8)
            if (found != modelId) throw otherModel(found, modelId)
            var iterations = 0
            var salt = ByteArray(0)
            if (magic == EXPORT) {
                iterations = input.readInt()
                // A bound, so that a changed file cannot keep the app busy for hours.
                if (iterations !in 1..LARGEST_ITERATIONS) throw refuse(TemplateException.Reason.DAMAGED, "the file is damaged")
                salt = ByteArray(Sealer.SALT_BYTES).also { input.readFully(it) }
            }
            val header = bytes.copyOf(bytes.size - input.available())
            val iv = ByteArray(input.readUnsignedByte()).also { input.readFully(it) }
            val content = ByteArray(input.available()).also { input.readFully(it) }
            return SampleCodec.read(ByteBuffer.wrap(key(iterations, salt).open(Sealed(iv, content), header)))
        } catch (error: IOException) {
            throw TemplateException(TemplateException.Reason.DAMAGED, "the template file is cut short or damaged", error)
        } catch (error: TemplateException) {
            if (error.reason != TemplateException.Reason.DAMAGED || error.cause == null) throw error
            val why = if (magic == EXPORT) "the passphrase is wrong or the file was changed" else "the file was changed or its key is gone"
            throw TemplateException(TemplateException.Reason.DAMAGED, why, error)
        }
    }

    internal fun newer(version: Int, newest: Int) =
        refuse(TemplateException.Reason.NEWER_VERSION, "template file version $version: this app reads up to $newest")

    internal fun otherModel(found: String, own: String) = refuse(
        TemplateException.Reason.OTHER_MODEL,
        "the samples were made by another model (${found.take(12)}..., this one is ${own.take(12)}...)",
    )

    private fun refuse(reason: TemplateException.Reason, message: String) = TemplateException(reason, message)
}
