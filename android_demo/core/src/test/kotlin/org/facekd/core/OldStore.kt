package org.facekd.core

import java.io.ByteArrayOutputStream
import java.io.DataOutputStream

/** The app's file as version 2 wrote it, by its description alone. */
fun oldStore(templates: List<Template>, modelId: String, sealer: Sealer): ByteArray {
    val header = bytes {
        writeInt(0x464B5453)
        writeShort(2)
        writeUTF(modelId)
    }
    val sealed = sealer.seal(
        bytes {
            writeShort(templates.firstOrNull()?.embedding?.size ?: 0)
            writeInt(templates.size)
            for (one in templates) {
                one.person.toByteArray().let {
                    writeShort(it.size)
                    write(it)
                }
                writeLong(one.createdMs)
                writeLong(one.consent.givenMs)
                writeShort(one.consent.textVersion)
                val pose = one.quality.pose
                val numbers = doubleArrayOf(one.quality.eyeDistance, pose.rollDegrees, pose.yaw, pose.pitch)
                (numbers + one.quality.brightness + one.quality.sharpness).forEach(::writeDouble)
                one.embedding.forEach(::writeFloat)
            }
        },
        header,
    )
    return header + sealed.iv.size.toByte() + sealed.iv + sealed.content
}

private fun bytes(write: DataOutputStream.() -> Unit): ByteArray =
    ByteArrayOutputStream().also { DataOutputStream(it).write() }.toByteArray()
