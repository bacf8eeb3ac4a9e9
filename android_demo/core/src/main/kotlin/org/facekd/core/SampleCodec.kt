package org.facekd.core

import java.nio.BufferUnderflowException
import java.nio.ByteBuffer

/**
 * Samples as bytes, in the app's file and in exports. Big-endian:
 *
 *     width u16, count u32, each: person (UTF-8 with u16 length), created i64 in ms since 1970,
 *         consent given i64 in ms since 1970, version of its text u16,
 *         quality as float64: eye distance, roll, yaw, pitch, brightness, sharpness; float32 values
 */
internal object SampleCodec {
    private const val FIXED_BYTES = 2 + 8 + 8 + 2 + 6 * 8

    fun write(templates: List<Template>): ByteArray {
        val width = templates.firstOrNull()?.embedding?.size ?: 0
        require(width <= 0xFFFF) { "embeddings of $width dimensions are too wide" }
        val names = templates.map { utf8(it.person) }
        val out = ByteBuffer.allocate(6 + names.sumOf { it.size + FIXED_BYTES + 4 * width })
        out.putShort(width.toShort()).putInt(templates.size)
        for ((index, template) in templates.withIndex()) { // one at a time: a gallery makes each anew
            require(template.embedding.size == width) { "samples of one model have one width" }
            out.putText(names[index]).putLong(template.createdMs)
            out.putLong(template.consent.givenMs).putShort(template.consent.textVersion.toShort())
            val (eyes, pose, brightness, sharpness) = template.quality
            for (value in listOf(eyes, pose.rollDegrees, pose.yaw, pose.pitch, brightness, sharpness)) out.putDouble(value)
            out.asFloatBuffer().put(template.embedding)
            out.skip(4 * width)
        }
        return out.array()
    }

    /** @throws TemplateException these are no samples. */
    fun read(content: ByteBuffer): List<Template> = whole(content) {
        val width = getShort().toInt() and 0xFFFF
        val count = getInt()
        if (count < 0 || count.toLong() * (FIXED_BYTES + 4 * width) > remaining()) throw BufferUnderflowException()
        List(count) {
            val person = text()
            val created = getLong()
            val consent = Consent(getLong(), getShort().toInt() and 0xFFFF)
            val eyes = getDouble()
            val pose = Pose(getDouble(), getDouble(), getDouble())
            val quality = Quality(eyes, pose, getDouble(), getDouble())
            val embedding = FloatArray(width).also { asFloatBuffer().get(it) }
            skip(4 * width)
            Template(person, embedding, created, consent, quality)
        }
    }
}

/** [text] in UTF-8, short enough for [putText]. */
internal fun utf8(text: String): ByteArray = text.toByteArray(Charsets.UTF_8).also {
    require(it.size <= 0xFFFF) { "a name of ${it.size} bytes is too long" }
}

internal fun ByteBuffer.putText(utf8: ByteArray): ByteBuffer = putShort(utf8.size.toShort()).put(utf8)

internal fun ByteBuffer.text(): String = bytes(getShort().toInt() and 0xFFFF).toString(Charsets.UTF_8)

internal fun ByteBuffer.bytes(count: Int): ByteArray {
    if (count > remaining()) throw BufferUnderflowException()
    return ByteArray(count).also { get(it) }
}

/** By the supertype: ByteBuffer's own `position`, of Java 9, is in no Android before 13. */
private fun ByteBuffer.skip(count: Int) {
    (this as java.nio.Buffer).position(position() + count)
}

/**
 * What [read] finds in all of [content].
 *
 * @throws TemplateException there is less or more in it.
 */
internal fun <T> whole(content: ByteBuffer, read: ByteBuffer.() -> T): T = try {
    content.read().also { if (content.hasRemaining()) throw TemplateException(TemplateException.Reason.DAMAGED, "more follows its end") }
} catch (error: BufferUnderflowException) {
    throw TemplateException(TemplateException.Reason.DAMAGED, "the file is cut short or damaged", error)
}
