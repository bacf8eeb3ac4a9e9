package org.facekd.core

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.IOException

/** Samples that cannot be read or written. Nothing was changed: after KEY_REFUSED the same may work later. */
class TemplateException(val reason: Reason, message: String, cause: Throwable? = null) : Exception(message, cause) {
    enum class Reason { NOT_TEMPLATES, NEWER_VERSION, OTHER_MODEL, DAMAGED, KEY_REFUSED }
}

/**
 * Enrolled samples as bytes, bound to one model.
 *
 *     magic "FKTS" or "FKTX", version u16, model id (UTF-8 with u16 length)     readable, authenticated
 *     FKTX only: PBKDF2 rounds u32, salt of 16 bytes                            readable, authenticated
 *     start value (u8 length), AES-GCM of the samples                           the rest of the file
 *
 *     samples: width u16, count u32, each: person (UTF-8 with u16 length), created i64 in ms since 1970,
 *         consent given i64 in ms since 1970, version of its text u16,
 *         quality as float64: eye distance, roll, yaw, pitch, brightness, sharpness; float32 values
 *
 * Big-endian. Version 1 had no consent and no quality, and was bound to a bundle whose exported files have different
 * embedding spaces: it is not read. FKTS is the app's own file under its Keystore key, FKTX an export under a passphrase.
 */
object TemplateFormat {
    const val VERSION = 2
    private const val STORE = 0x464B5453
    private const val EXPORT = 0x464B5458
    private const val LARGEST_ITERATIONS = 10_000_000

    /**
     * The app's own file.
     *
     * @throws TemplateException the key cannot be used now.
     */
    fun seal(templates: List<Template>, modelId: String, sealer: Sealer): ByteArray {
        val header = header(STORE, modelId) {}
        return join(header, sealer.seal(samples(templates), header))
    }

    /** @throws TemplateException it is not such a file, of another model, was changed, or the key cannot be used now. */
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
        val header = header(EXPORT, modelId) {
            writeInt(iterations)
            write(salt)
        }
        return join(header, Sealer.fromPassphrase(passphrase, salt, iterations).seal(samples(templates), header))
    }

    /** @throws TemplateException it is not an export, of another model, was changed, or the passphrase is wrong. */
    fun import(bytes: ByteArray, modelId: String, passphrase: CharArray): List<Template> =
        reading(bytes, EXPORT, modelId) { iterations, salt -> Sealer.fromPassphrase(passphrase, salt, iterations) }

    const val SHORTEST_PASSPHRASE = 8

    private fun header(magic: Int, modelId: String, more: DataOutputStream.() -> Unit): ByteArray {
        val bytes = ByteArrayOutputStream()
        DataOutputStream(bytes).apply {
            writeInt(magic)
            writeShort(VERSION)
            text(modelId)
            more()
        }
        return bytes.toByteArray()
    }

    private fun join(header: ByteArray, sealed: Sealed): ByteArray =
        header + sealed.iv.size.toByte() + sealed.iv + sealed.content

    private fun reading(bytes: ByteArray, magic: Int, modelId: String, key: (Int, ByteArray) -> Sealer): List<Template> {
        try {
            val input = DataInputStream(ByteArrayInputStream(bytes))
            if (input.readInt() != magic) throw refuse(TemplateException.Reason.NOT_TEMPLATES, "this is no facekd template file")
            val version = input.readUnsignedShort()
            if (version > VERSION) {
                throw refuse(TemplateException.Reason.NEWER_VERSION, "template file version $version: this app reads up to $VERSION")
            }
            if (version == 1) throw refuse(TemplateException.Reason.OTHER_MODEL, "version 1 does not say which file of a model made it")
            if (version != VERSION) throw refuse(TemplateException.Reason.DAMAGED, "there is no version $version of this file")
            val found = input.text()
            if (found != modelId) {
                throw refuse(
                    TemplateException.Reason.OTHER_MODEL,
                    "the samples were made by another model (${found.take(12)}..., this one is ${modelId.take(12)}...)",
                )
            }
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
            return templates(key(iterations, salt).open(Sealed(iv, content), header))
        } catch (error: IOException) {
            throw TemplateException(TemplateException.Reason.DAMAGED, "the template file is cut short or damaged", error)
        } catch (error: TemplateException) {
            if (error.reason != TemplateException.Reason.DAMAGED || error.cause == null) throw error
            val why = if (magic == EXPORT) "the passphrase is wrong or the file was changed" else "the file was changed or its key is gone"
            throw TemplateException(TemplateException.Reason.DAMAGED, why, error)
        }
    }

    private fun samples(templates: List<Template>): ByteArray {
        val width = templates.firstOrNull()?.embedding?.size ?: 0
        val bytes = ByteArrayOutputStream()
        DataOutputStream(bytes).apply {
            writeShort(width)
            writeInt(templates.size)
            for (template in templates) {
                require(template.embedding.size == width) { "samples of one model have one width" }
                text(template.person)
                writeLong(template.createdMs)
                writeLong(template.consent.givenMs)
                writeShort(template.consent.textVersion)
                val (eyes, pose, brightness, sharpness) = template.quality
                for (value in listOf(eyes, pose.rollDegrees, pose.yaw, pose.pitch, brightness, sharpness)) writeDouble(value)
                template.embedding.forEach { writeFloat(it) }
            }
        }
        return bytes.toByteArray()
    }

    private fun templates(content: ByteArray): List<Template> {
        val input = DataInputStream(ByteArrayInputStream(content))
        val width = input.readUnsignedShort()
        val count = input.readInt()
        val out = mutableListOf<Template>()
        repeat(count) {
            val person = input.text()
            val created = input.readLong()
            val consent = Consent(input.readLong(), input.readUnsignedShort())
            val eyes = input.readDouble()
            val pose = Pose(input.readDouble(), input.readDouble(), input.readDouble())
            val quality = Quality(eyes, pose, input.readDouble(), input.readDouble())
            out += Template(person, FloatArray(width) { input.readFloat() }, created, consent, quality)
        }
        if (input.available() > 0) throw IOException("more after the last sample")
        return out
    }

    private fun refuse(reason: TemplateException.Reason, message: String) = TemplateException(reason, message)
}

private fun DataOutputStream.text(text: String) {
    val bytes = text.toByteArray(Charsets.UTF_8)
    require(bytes.size <= 0xFFFF) { "a name of ${bytes.size} bytes is too long" }
    writeShort(bytes.size)
    write(bytes)
}

private fun DataInputStream.text(): String {
    val bytes = ByteArray(readUnsignedShort())
    readFully(bytes)
    return bytes.toString(Charsets.UTF_8)
}
