package org.facekd.runtime

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.FloatBuffer
import org.facekd.core.Network

/** What ONNX Runtime computes with. Whether a device has it shows only when a session is made. */
enum class Provider(val key: String) {
    CPU("cpu"),
    XNNPACK("xnnpack"),
    NNAPI("nnapi"),
    ;

    companion object {
        /** @throws IllegalArgumentException there is none of this name; lists the valid ones. */
        fun of(key: String): Provider = requireNotNull(entries.find { it.key == key }) {
            "provider '$key': valid are ${entries.joinToString { it.key }}"
        }
    }
}

/**
 * An ONNX file of one float32 image input, run by ONNX Runtime. The same code on a phone and on a desktop.
 *
 * Operators that the provider lacks run on the CPU: that is ONNX Runtime's own rule.
 */
class OrtNetwork(model: ByteArray, provider: Provider, threads: Int) : Network {
    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession
    private val inputName: String

    init {
        require(threads >= 1) { "threads must be at least 1, got $threads" }
        session = OrtSession.SessionOptions().use { options ->
            // XNNPACK has its own pool of threads; ONNX Runtime's beside it would fight for the same cores.
            options.setIntraOpNumThreads(if (provider == Provider.XNNPACK) 1 else threads)
            options.addConfigEntry("session.intra_op.allow_spinning", if (provider == Provider.XNNPACK) "0" else "1")
            when (provider) {
                Provider.CPU -> Unit
                Provider.XNNPACK -> options.addXnnpack(mapOf("intra_op_num_threads" to threads.toString()))
                Provider.NNAPI -> options.addNnapi()
            }
            environment.createSession(model, options)
        }
        inputName = session.inputNames.single()
    }

    override fun run(input: FloatArray, height: Int, width: Int): Map<String, FloatArray> =
        OnnxTensor.createTensor(environment, FloatBuffer.wrap(input), longArrayOf(1, 3, height.toLong(), width.toLong())).use { tensor ->
            session.run(mapOf(inputName to tensor)).use { result ->
                result.associate { (name, value) -> Pair(name, floats(value as OnnxTensor)) }
            }
        }

    override fun close() = session.close()

    private fun floats(tensor: OnnxTensor): FloatArray {
        val buffer = tensor.floatBuffer
        return FloatArray(buffer.remaining()).also { buffer.get(it) }
    }
}
