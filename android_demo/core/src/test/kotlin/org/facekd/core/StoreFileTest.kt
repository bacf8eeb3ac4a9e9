package org.facekd.core

import java.io.File
import java.nio.ByteBuffer
import java.security.SecureRandom
import java.util.Random
import javax.crypto.Cipher
import javax.crypto.spec.GCMParameterSpec
import javax.crypto.spec.SecretKeySpec
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Snapshot and log on the disk: what they hold, what damage does to them, what they are taken over from. */
class StoreFileTest {
    @get:Rule
    val folder = TemporaryFolder()

    private val model = "a".repeat(64)
    private val key = SecretKeySpec(ByteArray(32).also { SecureRandom().nextBytes(it) }, "AES")
    private val sealer = Sealer(key)
    private val random = Random(7)
    private lateinit var file: File

    @Before
    fun place() {
        file = File(folder.root, "templates.bin")
    }

    private fun sample(person: String, width: Int = 4) =
        Template(person, FloatArray(width) { random.nextGaussian().toFloat() }, 1_700_000_000_123)

    private fun store(space: EmbeddingSpace = EmbeddingSpace(model), older: Map<String, File> = emptyMap(), above: Long = 1L shl 20) =
        TemplateStore(file, space, older, above) { sealer }

    private fun names(store: TemplateStore = store()) = store.all().map { it.person }

    private fun reason(work: () -> Unit) = assertThrows(TemplateException::class.java) { work() }.reason

    /** One record: where it is in the file, and its content unsealed. */
    private class Record(val from: Int, val to: Int, val content: String)

    /** The file by its description alone. */
    private fun records(bytes: ByteArray = file.readBytes()): List<Record> {
        val input = ByteBuffer.wrap(bytes)
        fun take(count: Int) = ByteArray(count).also { input.get(it) }
        assertEquals("FKTS", String(take(4)))
        assertEquals(3, input.getShort().toInt())
        take(input.getShort().toInt())
        repeat(input.get().toInt()) { take(input.getShort().toInt()) }
        val header = bytes.copyOf(input.position())
        val wrapped = Sealed(take(input.get().toInt()), take(input.get().toInt()))
        val own = SecretKeySpec(sealer.open(wrapped, header), "AES")
        val found = mutableListOf<Record>()
        while (input.hasRemaining()) {
            val from = input.position()
            val length = input.getInt()
            val number = ByteBuffer.allocate(4).putInt(input.getInt()).array()
            input.getInt()
            val end = input.position() + length
            val cipher = Cipher.getInstance("AES/GCM/NoPadding")
            cipher.init(Cipher.DECRYPT_MODE, own, GCMParameterSpec(128, take(input.get().toInt())))
            cipher.updateAAD(header + number)
            assertEquals(found.size, ByteBuffer.wrap(number).getInt())
            found += Record(from, end, String(cipher.doFinal(take(end - input.position())), Charsets.ISO_8859_1))
        }
        return found
    }

    @Test
    fun oneMoreSampleWritesKilobytesAtTheEnd() {
        val store = store()
        store.add(List(600) { sample("Ada", 512) })
        val before = file.readBytes()
        assertEquals("snapshot: how many, then 256 at most in each", 4, records().size)
        store.add(listOf(sample("Ben", 512)))
        assertTrue(file.length() - before.size in 2049..2300)
        assertArrayEquals(before, file.readBytes().copyOf(before.size))
        store.rename("Ben", "Bea")
        assertTrue(file.length() - before.size < 2400)
        assertEquals(listOf("Ada", "Bea"), store().people().keys.toList())
        assertEquals(store.all().map { it.embedding.toList() }, store().all().map { it.embedding.toList() })
    }

    @Test
    fun aDeletionLeavesNothingOfThemInTheFile() {
        val store = store()
        store.add(listOf(sample("Ada"), sample("Zoe")))
        store.add(listOf(sample("Zoe")))
        store.rename("Zoe", "Zadie")
        assertTrue(records().any { "Zoe" in it.content })
        val before = file.readBytes()
        store.delete("Zadie")
        assertTrue(records().none { "Z" in it.content })
        assertEquals(listOf(file.name), folder.root.list()!!.toList())
        // Nor is the key in it that the earlier content was sealed with: its records are not of this file.
        val (old, new) = listOf(before, file.readBytes()).map { records(it) }
        file.writeBytes(file.readBytes() + before.copyOfRange(old.last().from, old.last().to))
        val again = store()
        assertEquals(listOf("Ada"), names(again))
        assertEquals(old.last().run { to - from }.toLong(), again.takeCut())
        assertEquals(new.last().to.toLong(), file.length())
    }

    @Test
    fun everyTruncationIsRefusedOrCutOffWithAWord() {
        store().run { listOf("Ada", "Ben", "Cleo").forEach { add(listOf(sample(it))) } }
        val whole = file.readBytes()
        val found = records()
        val snapshot = found[1].to
        for (length in whole.indices) {
            file.writeBytes(whole.copyOf(length))
            if (length < snapshot) {
                assertEquals("length $length", TemplateException.Reason.DAMAGED, reason { store().all() })
                assertEquals(length.toLong(), file.length())
            } else {
                val kept = found.last { it.to <= length }
                val again = store()
                assertEquals(listOf("Ada", "Ben", "Cleo").take(found.indexOf(kept)), names(again))
                assertEquals(if (length == kept.to) null else (length - kept.to).toLong(), again.takeCut())
                assertNull("told once", again.takeCut())
                assertEquals(kept.to.toLong(), file.length())
            }
        }
    }

    @Test
    fun everyChangedByteIsRefusedOrInTheLastRecordCutOffWithAWord() {
        store().run { listOf("Ada", "Ben", "Cleo").forEach { add(listOf(sample(it))) } }
        val whole = file.readBytes()
        val last = records().last().from
        for (at in whole.indices) {
            file.writeBytes(whole.copyOf().also { it[at] = (it[at].toInt() xor (1 shl random.nextInt(8))).toByte() })
            val again = store()
            if (at < last) {
                assertThrows("byte $at", TemplateException::class.java) { again.all() }
                assertEquals(whole.size.toLong(), file.length())
            } else {
                assertEquals("byte $at", listOf("Ada", "Ben"), names(again))
                assertEquals((whole.size - last).toLong(), again.takeCut())
            }
        }
    }

    @Test
    fun recordsCannotBeLeftOutMovedOrRepeated() {
        store().run { listOf("Ada", "Ben", "Cleo", "Dan").forEach { add(listOf(sample(it))) } }
        val whole = file.readBytes()
        val found = records()
        val start = whole.copyOf(found[0].from)
        fun place(vararg order: Int) = file.writeBytes(order.fold(start) { all, i -> all + whole.copyOfRange(found[i].from, found[i].to) })
        for (order in listOf(intArrayOf(0, 1, 3, 4), intArrayOf(0, 1, 3, 2, 4), intArrayOf(0, 2, 1, 3, 4), intArrayOf(1, 2, 3, 4))) {
            place(*order)
            assertEquals(order.joinToString(), TemplateException.Reason.DAMAGED, reason { store().all() })
        }
        place(0, 1, 2, 3, 4, 4)
        val again = store()
        assertEquals(listOf("Ada", "Ben", "Cleo", "Dan"), names(again))
        assertTrue(again.takeCut()!! > 0)
    }

    @Test
    fun whatAPowerCutLeavesAtTheEndIsCutOffAndTheNextSampleKept() {
        store().add(listOf(sample("Ada")))
        for (rest in listOf(ByteArray(4096), ByteArray(300).also(random::nextBytes), byteArrayOf(1))) {
            val before = file.readBytes()
            file.appendBytes(rest)
            val store = store()
            assertEquals(before.size.toLong(), file.also { store.all() }.length())
            assertEquals(rest.size.toLong(), store.takeCut())
            store.add(listOf(sample("Ben")))
            val again = store()
            assertEquals("Ben", names(again).last())
            assertNull(again.takeCut())
        }
    }

    @Test
    fun nothingIsCutOffForWantOfTheKey() {
        store().add(listOf(sample("Ada")))
        file.appendBytes(ByteArray(10))
        val before = file.readBytes()
        val other = Sealer(SecretKeySpec(ByteArray(32), "AES"))
        assertEquals(TemplateException.Reason.DAMAGED, reason { TemplateStore(file, model) { other }.all() })
        assertEquals(TemplateException.Reason.KEY_REFUSED, reason { TemplateStore(file, model) { throw java.security.ProviderException() }.all() })
        assertArrayEquals(before, file.readBytes())
    }

    @Test
    fun aLongLogIsWrittenAnewAsASnapshot() {
        val store = store(above = 2000)
        val expected = mutableListOf<String>()
        var most = 0
        for (i in 0 until 60) {
            expected += "p$i"
            store.add(listOf(sample("p$i")))
            most = maxOf(most, records().size)
            assertEquals(listOf(file.name), folder.root.list()!!.toList())
        }
        assertEquals(expected, names())
        assertTrue("$most records at once", most in 5..40)
    }

    @Test
    fun aFileOfVersion2IsTakenOver() {
        val samples = listOf(sample("Ada"), sample("Ben"))
        file.writeBytes(oldStore(samples, model, sealer))
        val store = store()
        assertEquals(listOf("Ada", "Ben"), names(store))
        assertEquals("how many, and they: a snapshot of version 3", 2, records().size)
        store.add(listOf(sample("Cleo")))
        assertEquals(listOf("Ada", "Ben", "Cleo"), names())
        assertEquals(samples[1].embedding.toList(), store().all()[1].embedding.toList())
    }

    @Test
    fun samplesOfACompatibleSpaceAreTakenOverAndNoOthers() {
        val (first, second, third) = listOf("1", "2", "3").map { it.repeat(64) }
        val old = File(folder.root, "first.bin")
        TemplateStore(old, first) { sealer }.add(listOf(sample("Ada")))
        assertTrue("not asked for", names(store(EmbeddingSpace(second))).isEmpty())
        val compatible = EmbeddingSpace(second, listOf(first))
        val store = store(compatible, mapOf(first to old))
        assertEquals(listOf("Ada"), names(store))
        assertFalse("in one place only, for a deletion to find", old.exists())
        store.add(listOf(sample("Ben")))
        assertEquals(listOf("Ada", "Ben"), names(store(compatible)))
        // Of those taken over a third model knows nothing, though it accepts the second's own.
        val own = File(folder.root, "third.bin")
        fun asThird(vararg spaces: String) = TemplateStore(own, EmbeddingSpace(third, spaces.toList()), mapOf(second to file)) { sealer }
        assertEquals(TemplateException.Reason.OTHER_MODEL, reason { asThird(second).all() })
        assertEquals(listOf("Ada", "Ben"), names(asThird(second, first)))
        assertEquals(listOf("third.bin"), folder.root.list()!!.toList())
    }

    @Test
    fun anInterruptedTakingOverIsFinished() {
        val older = "1".repeat(64)
        val old = File(folder.root, "old.bin")
        val compatible = EmbeddingSpace(model, listOf(older))
        old.writeBytes(oldStore(listOf(sample("Ada")), older, sealer))
        val bytes = old.readBytes()
        store(compatible, mapOf(older to old)).all()
        old.writeBytes(bytes) // as if the process had ended before it was deleted
        assertEquals(listOf("Ada"), names(store(compatible, mapOf(older to old))))
        assertFalse(old.exists())
    }

    @Test
    fun anotherSpacesFileIsRefusedAndKept() {
        store().add(listOf(sample("Ada")))
        val before = file.readBytes()
        assertEquals(TemplateException.Reason.OTHER_MODEL, reason { store(EmbeddingSpace("b".repeat(64))).all() })
        val newer = before.copyOf().also { it[5] = 4 }
        file.writeBytes(newer)
        assertEquals(TemplateException.Reason.NEWER_VERSION, reason { store().all() })
        assertArrayEquals(newer, file.readBytes())
    }
}
