package org.facekd.demo

import android.app.Activity
import android.os.Bundle
import android.view.WindowManager
import android.widget.FrameLayout
import android.widget.TextView
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import kotlin.concurrent.thread
import org.facekd.core.Json

/**
 * Runs a pushed model without the camera and writes one JSON file, for the benchmark harness:
 *
 *     adb shell am start -W -n org.facekd.demo/.BenchmarkActivity --es model PATH --es manifest PATH --es out NAME.json \
 *         --ei threads 1 --ei warmup 5 --ei runs 50 --es provider cpu
 *
 * The file appears whole in getExternalFilesDir(null), renamed when it is finished; an `error` stands in it otherwise.
 */
class BenchmarkActivity : Activity() {
    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        val view = TextView(this)
        val margin = (16 * resources.displayMetrics.density).toInt()
        view.setPadding(margin, margin, margin, margin)
        setContentView(FrameLayout(this).apply {
            fitsSystemWindows = true
            addView(view)
        })
        if (state != null) return // Turned or restored: the run of the first start goes on.
        val out = intent.getStringExtra("out") ?: ""
        view.text = getString(R.string.benchmark_running, out)
        thread(name = "benchmark") {
            val text = try {
                val file = target(out)
                val record = Benchmark(this).run(intent)
                write(file, Json.write(record))
                val error = record["error"]
                if (error == null) getString(R.string.benchmark_done, out) else getString(R.string.benchmark_failed, error)
            } catch (error: IOException) {
                getString(R.string.benchmark_failed, error.message)
            }
            runOnUiThread { view.text = text }
        }
    }

    /** A plain file name: the caller chooses no folder. */
    private fun target(name: String): File {
        if (!Regex("[A-Za-z0-9][A-Za-z0-9._-]*\\.json").matches(name)) throw IOException(getString(R.string.benchmark_name, name))
        return File(getExternalFilesDir(null) ?: throw IOException(getString(R.string.benchmark_storage)), name)
    }

    private fun write(file: File, text: String) {
        val temporary = File(file.path + ".part")
        FileOutputStream(temporary).use {
            it.write(text.toByteArray())
            it.fd.sync()
        }
        if (!temporary.renameTo(file)) throw IOException(getString(R.string.benchmark_unwritten, file.path))
    }
}
