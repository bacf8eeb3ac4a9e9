package org.facekd.core

import java.io.ByteArrayOutputStream
import java.nio.BufferUnderflowException
import java.nio.ByteBuffer

// Field numbers of onnx.proto3.
private const val MODEL_GRAPH = 7
private const val GRAPH_INPUT = 11
private const val GRAPH_OUTPUT = 12
private const val GRAPH_VALUE_INFO = 13
private const val VALUE_TYPE = 2
private const val TYPE_TENSOR = 1
private const val TENSOR_SHAPE = 2

/**
 * YuNet's .onnx for pictures of any size, as OpenCV runs it: the file declares 640x640, though no layer depends on it,
 * and ONNX Runtime holds it to what it declares. Only those declarations are changed.
 *
 * @throws IllegalArgumentException it is no ONNX file.
 */
fun yuNetForAnySize(model: ByteArray): ByteArray = try {
    edit(model) { field, graph -> if (field == MODEL_GRAPH) freeSizes(graph) else graph }
} catch (error: BufferUnderflowException) {
    throw IllegalArgumentException("the detector is no ONNX file: it ends too early", error)
}

private fun freeSizes(graph: ByteArray): ByteArray = edit(graph) { field, value ->
    when (field) {
        GRAPH_INPUT -> editShape(value, ::freeHeightAndWidth)
        GRAPH_OUTPUT -> editShape(value) { null }
        GRAPH_VALUE_INFO -> null
        else -> value
    }
}

private fun editShape(value: ByteArray, change: (ByteArray) -> ByteArray?): ByteArray =
    edit(value) { field, type ->
        if (field != VALUE_TYPE) return@edit type
        edit(type) { kind, tensor ->
            if (kind != TYPE_TENSOR) return@edit tensor
            edit(tensor) { part, shape -> if (part == TENSOR_SHAPE) change(shape) else shape }
        }
    }

/** Of [1, 3, height, width] the last two become unknown: a dimension without a value. */
private fun freeHeightAndWidth(shape: ByteArray): ByteArray {
    var axis = 0
    return edit(shape) { _, dimension -> if (axis++ < 2) dimension else ByteArray(0) }
}

/** A protobuf message whose embedded messages and strings went through [change]; null leaves one out. */
private fun edit(message: ByteArray, change: (Int, ByteArray) -> ByteArray?): ByteArray {
    val input = ByteBuffer.wrap(message)
    val out = ByteArrayOutputStream(message.size)
    while (input.hasRemaining()) {
        val start = input.position()
        val key = varint(input)
        when ((key and 7).toInt()) {
            0 -> varint(input)
            1 -> input.getLong()
            5 -> input.getInt()
            2 -> {
                val length = varint(input)
                if (length > input.remaining()) throw BufferUnderflowException()
                val content = ByteArray(length.toInt()).also { input.get(it) }
                change((key ushr 3).toInt(), content)?.let {
                    write(out, key)
                    write(out, it.size.toLong())
                    out.write(it)
                }
                continue
            }
            else -> throw IllegalArgumentException("the detector is no ONNX file: wire type ${key and 7}")
        }
        out.write(message, start, input.position() - start)
    }
    return out.toByteArray()
}

private fun varint(input: ByteBuffer): Long {
    var value = 0L
    for (shift in 0 until 64 step 7) {
        val byte = input.get().toLong()
        value = value or ((byte and 0x7F) shl shift)
        if (byte >= 0) return value
    }
    throw IllegalArgumentException("the detector is no ONNX file: a number of more than 64 bits")
}

private fun write(out: ByteArrayOutputStream, value: Long) {
    var rest = value
    while (rest ushr 7 != 0L) {
        out.write((rest and 0x7F or 0x80).toInt())
        rest = rest ushr 7
    }
    out.write(rest.toInt())
}
