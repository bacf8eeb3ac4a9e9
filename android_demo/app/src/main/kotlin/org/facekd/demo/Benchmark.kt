package org.facekd.demo

import ai.onnxruntime.OrtException
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import java.io.File
import java.io.IOException
import org.facekd.core.Manifest
import org.facekd.core.ManifestException
import org.facekd.core.cosine
import org.facekd.core.parseGoldenEmbedding
import org.facekd.runtime.OrtNetwork
import org.facekd.runtime.Provider

/** Measures one model with one provider; schema 1 of the record that the benchmark harness collects. */
class Benchmark(private val context: Context) {
    /** The record; with `error` in place of `finished` when something failed. */
    fun run(intent: Intent): Map<String, Any?> {
        val record = linkedMapOf<String, Any?>("schema_version" to 1)
        try {
            measure(intent, record)
            record["android"] = device()
            record["finished"] = true
        } catch (error: IOException) {
            record["error"] = error.message
        } catch (error: IllegalArgumentException) {
            record["error"] = error.message
        } catch (error: ManifestException) {
            record["error"] = error.message
        } catch (error: OrtException) {
            record["error"] = error.message
        } catch (error: LinkageError) {
            record["error"] = context.getString(R.string.no_runtime)
        }
        return record
    }

    private fun measure(intent: Intent, record: MutableMap<String, Any?>) {
        fun path(name: String) = File(requireNotNull(intent.getStringExtra(name)) { "--es $name PATH is missing" })
        fun count(name: String, least: Int): Int {
            val value = intent.getIntExtra(name, -1)
            require(value >= least) { "--ei $name N is missing or below $least" }
            return value
        }
        val manifestFile = path("manifest")
        val manifest = Manifest.parse(manifestFile.readText())
        val folder = manifestFile.absoluteFile.parentFile
        val provider = Provider.of(intent.getStringExtra("provider") ?: "")
        val threads = count("threads", 1)
        val warmup = count("warmup", 0)
        val runs = count("runs", 1)
        val model = path("model").readBytes()
        val crop = Pictures.decode(File(folder, manifest.goldenCrop).readBytes())
        val golden = parseGoldenEmbedding(File(folder, manifest.goldenEmbedding).readText())
        val spec = manifest.input
        val input = spec.normalise(crop)
        record["model_sha256"] = Engine.sha256(model)
        record["provider"] = provider.key
        record["threads"] = threads
        val start = System.nanoTime()
        OrtNetwork(model, provider, threads).use { network ->
            record["load_ms"] = millisecondsSince(start)
            val first = System.nanoTime()
            val outputs = network.run(input, spec.height, spec.width)
            record["first_ms"] = millisecondsSince(first)
            val embedding = requireNotNull(outputs[manifest.output]) { "the model has no output '${manifest.output}'" }
            repeat(warmup) { network.run(input, spec.height, spec.width) }
            record["latencies_ms"] = List(runs) {
                val began = System.nanoTime()
                network.run(input, spec.height, spec.width)
                millisecondsSince(began)
            }
            record["cosine_to_golden"] = cosine(embedding, golden)
        }
    }

    /** After the runs: what they did to battery and temperature. */
    private fun device(): Map<String, Any?> {
        val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
        val tenths = battery?.getIntExtra(BatteryManager.EXTRA_TEMPERATURE, Int.MIN_VALUE) ?: Int.MIN_VALUE
        val power = context.service(PowerManager::class.java)
        return linkedMapOf(
            "release" to Build.VERSION.RELEASE,
            "sdk" to Build.VERSION.SDK_INT,
            "model" to "${Build.MANUFACTURER} ${Build.MODEL}",
            "soc" to if (Build.VERSION.SDK_INT >= 31) "${Build.SOC_MANUFACTURER} ${Build.SOC_MODEL}" else Build.HARDWARE,
            "battery_celsius" to if (tenths == Int.MIN_VALUE) null else tenths / 10.0,
            "thermal_status" to if (Build.VERSION.SDK_INT >= 29) power.currentThermalStatus else null,
        )
    }

    private fun millisecondsSince(nanoTime: Long): Double = (System.nanoTime() - nanoTime) / 1e6
}
