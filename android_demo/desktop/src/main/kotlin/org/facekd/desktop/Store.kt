package org.facekd.desktop

import java.io.File
import java.io.IOException
import java.lang.management.ManagementFactory
import java.util.Locale
import java.util.Random
import javax.crypto.spec.SecretKeySpec
import kotlin.system.exitProcess
import org.facekd.core.EmbeddingSpace
import org.facekd.core.Gallery
import org.facekd.core.Nearest
import org.facekd.core.Sealer
import org.facekd.core.Template
import org.facekd.core.TemplateException
import org.facekd.core.TemplateStore
import org.facekd.core.cosine
import org.facekd.core.identify
import org.facekd.core.unit

private const val SAMPLES_EACH = 3

/** A key in the open: these stores hold random numbers. */
private val sealer = Sealer(SecretKeySpec(ByteArray(32), "AES"))

private fun open(file: String, compactAbove: Long) =
    TemplateStore(File(file), EmbeddingSpace("0".repeat(64)), compactAbove = compactAbove) { sealer }

private fun vector(random: Random, width: Int) = unit(FloatArray(width) { random.nextGaussian().toFloat() })

/**
 * The app's store of samples, measured and interrupted (building/store.py runs it).
 *
 *     store fill FILE PEOPLE WIDTH      random people, three samples each
 *     store use FILE                    opens, searches, adds one sample, renames and deletes; prints what it took
 *     store search FILE ROUNDS          searched as it was until this store, and as it is, in turn
 *     store write FILE WIDTH UNTIL      adds samples, prints the number of each once it is stored; others come and go
 *     store read FILE                   prints the numbers of those that are stored
 *
 * An error is one line, and exit code 1.
 */
fun store(words: List<String>) {
    try {
        when (words.firstOrNull()) {
            "fill" -> fill(words[1], words[2].toInt(), words[3].toInt())
            "use" -> use(words[1])
            "search" -> search(words[1], words[2].toInt())
            "write" -> write(words[1], words[2].toInt(), words[3].toInt())
            "read" -> read(words[1])
            else -> throw IOException("store fill, use, search, write or read, got ${words.firstOrNull()}")
        }
    } catch (error: IOException) {
        fail(error)
    } catch (error: TemplateException) {
        fail(error)
    }
}

private fun fail(error: Exception): Nothing {
    System.err.println("error: ${error.message}")
    exitProcess(1)
}

private fun fill(file: String, people: Int, width: Int) {
    val store = open(file, 1L shl 20)
    val random = Random(1)
    for (some in (0 until people * SAMPLES_EACH).chunked(6000)) {
        store.add(some.map { Template("person ${it / SAMPLES_EACH}", vector(random, width), it.toLong()) })
    }
}

private fun use(file: String) {
    val store = open(file, 1L shl 20)
    val opened = timed { store.all() }
    val probe = store.all()[store.all().size / 2]
    val before = File(file).length()
    val searched = timed { check(identify(probe.embedding, store.all(), 0.5)?.person == probe.person) }
    val added = timed { store.add(listOf(Template("somebody else", vector(Random(2), probe.embedding.size), 1))) }
    val grown = File(file).length() - before
    val renamed = timed { check(store.rename(probe.person, "another name")) }
    val deleted = timed { store.delete("somebody else") }
    val memory = Runtime.getRuntime().maxMemory() shr 20
    println(
        "${store.all().size} samples in a heap of $memory MB: opened in %.0f ms, first search %.0f ms, one more sample wrote %d bytes in %.0f ms, renamed in %.0f ms, deleted in %.0f ms"
            .format(Locale.ROOT, opened, searched, grown, added, renamed, deleted),
    )
}

private fun timed(work: () -> Unit): Double {
    val start = System.nanoTime()
    work()
    return (System.nanoTime() - start) / 1e6
}

/** The search until version 3 of the store: boxed samples, one after another, three sums in float64. */
private fun searchAsItWas(probe: FloatArray, templates: List<Template>): Pair<Template, Double>? =
    templates.map { Pair(it, cosine(probe, it.embedding)) }.maxByOrNull { it.second }

/**
 * In turn, so that whatever else the machine does meets both; the first third is for the compiler. Processor time of the
 * thread, which leaves out what other processes took, and time that passed.
 */
private fun search(file: String, rounds: Int) {
    val gallery = open(file, 1L shl 20).all()
    val boxed = gallery.toList()
    val random = Random(3)
    val values = LongArray(gallery.size * requireNotNull(gallery.width) / 2)
    val (old, new, one, memory) = List(4) { mutableListOf<Took>() }
    var sum = 0L
    repeat(rounds + rounds / 2 + 1) { round ->
        val probe = vector(random, requireNotNull(gallery.width))
        val person = boxed[random.nextInt(boxed.size)].person
        var found: Pair<String, Double>? = null
        val was = took { found = searchAsItWas(probe, boxed)?.let { Pair(it.first.person, it.second) } }
        var again: Nearest? = null
        val now = took { again = gallery.nearest(probe) }
        check(again?.let { Pair(it.person, it.scoreCos) } == found) { "another answer" }
        val verified = took { gallery.nearestOf(person, probe) }
        val read = took { for (value in values) sum += value }
        if (round > rounds / 2) {
            old += was
            new += now
            one += verified
            memory += read
        }
    }
    check(sum == 0L)
    println("${gallery.size} samples of ${gallery.width}, medians of $rounds in turn:")
    for ((name, of) in listOf<Pair<String, (Took) -> Double>>(Pair("processor time", Took::busyMs), Pair("time passed", Took::passedMs))) {
        fun median(all: List<Took>) = all.map(of).sorted()[rounds / 2]
        val ratio = old.zip(new) { was, now -> of(was) / of(now) }.sorted()[rounds / 2]
        println(
            "  %s: as it was %.2f ms, as it is %.2f ms, ratio %.1f; one person verified in %.3f ms; the memory reads %.1f GB/s"
                .format(Locale.ROOT, name, median(old), median(new), ratio, median(one), values.size * 8 / median(memory) / 1e6),
        )
    }
}

private class Took(val busyMs: Double, val passedMs: Double)

private val threads = ManagementFactory.getThreadMXBean()

private fun took(work: () -> Unit): Took {
    val busy = threads.currentThreadCpuTime
    val passed = timed(work)
    return Took((threads.currentThreadCpuTime - busy) / 1e6, passed)
}

/** Every tenth sample another person comes and is deleted again. Small snapshots, so that all ways of writing are met. */
private fun write(file: String, width: Int, until: Int) {
    val store = open(file, 10_000)
    store.takeCut().also { store.all() }
    var next = numbers(store.all()).size
    println("opened $next, cut ${store.takeCut() ?: 0}")
    val random = Random()
    while (next < until) {
        store.add(listOf(Template("kept $next", vector(random, width), 0)))
        println(next++)
        if (next % 10 == 0) {
            store.add(listOf(Template("comes $next", vector(random, width), 0)))
            store.rename("comes $next", "goes $next")
            store.delete("goes $next")
        }
    }
}

private fun read(file: String) = println(numbers(open(file, 10_000).all()).joinToString(" "))

/** Of those that are meant to stay. */
private fun numbers(gallery: Gallery): List<Int> =
    gallery.people().map { it.person }.filter { it.startsWith("kept ") }.map { it.removePrefix("kept ").toInt() }.sorted()
