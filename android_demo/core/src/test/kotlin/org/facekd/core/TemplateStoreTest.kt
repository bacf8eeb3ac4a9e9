package org.facekd.core

import java.io.File
import java.security.InvalidKeyException
import java.security.KeyStoreException
import java.security.ProviderException
import java.security.SecureRandom
import java.security.UnrecoverableKeyException
import java.util.Random
import javax.crypto.IllegalBlockSizeException
import javax.crypto.SecretKey
import javax.crypto.spec.SecretKeySpec
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class TemplateStoreTest {
    @get:Rule
    val folder = TemporaryFolder()

    private val model = "a".repeat(64)
    private val sealer = Sealer(SecretKeySpec(ByteArray(32).also { SecureRandom().nextBytes(it) }, "AES"))
    private val random = Random(5)
    private lateinit var file: File

    @Before
    fun place() {
        file = File(folder.root, "templates.bin")
    }

    private fun sample(person: String) = Template(person, FloatArray(16) { random.nextGaussian().toFloat() }, 1_700_000_000_123)

    private fun same(a: List<Template>, b: List<Template>) {
        assertEquals(a.map { it.person to it.createdMs }, b.map { it.person to it.createdMs })
        a.zip(b).forEach { (x, y) -> assertArrayEquals(x.embedding, y.embedding, 0f) }
    }

    private fun reason(work: () -> Unit) = assertThrows(TemplateException::class.java) { work() }.reason

    @Test
    fun whatIsStoredReadsBack() {
        val samples = listOf(sample("Ada"), sample("Ben é 名"), sample("Ada"))
        TemplateStore(file, model) { sealer }.apply {
            add(samples.take(1))
            add(samples.drop(1))
        }
        val again = TemplateStore(file, model) { sealer }
        same(samples, again.all())
        assertEquals(mapOf("Ada" to 2, "Ben é 名" to 1), again.people())
        again.delete("Ada")
        assertEquals(mapOf("Ben é 名" to 1), TemplateStore(file, model) { sealer }.people())
        again.deleteAll()
        assertFalse(file.exists())
        assertTrue(TemplateStore(file, model) { sealer }.all().isEmpty())
    }

    @Test
    fun consentAndQualityAreKeptWithEachSample() {
        val quality = Quality(44.0, Pose(1.5, -0.1, 0.5), 120.0, 90.0)
        val sample = Template("Ada", floatArrayOf(1f, 0f), 9, Consent(1_700_000_000_000, 3), quality)
        TemplateStore(file, model) { sealer }.add(listOf(sample))
        val found = TemplateStore(file, model) { sealer }.all().single()
        assertEquals(sample.consent, found.consent)
        assertEquals(quality, found.quality)
    }

    @Test
    fun aNameChangesUnlessSomebodyHasIt() {
        val store = TemplateStore(file, model) { sealer }
        store.add(listOf(sample("Ada"), sample("Ben"), sample("Ada")))
        assertFalse(store.rename("Ada", "Ben"))
        assertEquals(mapOf("Ada" to 2, "Ben" to 1), store.people())
        assertTrue(store.rename("Ada", "Adele"))
        assertEquals(mapOf("Adele" to 2, "Ben" to 1), TemplateStore(file, model) { sealer }.people())
    }

    @Test
    fun whatIsReleasedIsReadAgain() {
        val store = TemplateStore(file, model) { sealer }
        store.add(listOf(sample("Ada")))
        store.release()
        assertEquals(mapOf("Ada" to 1), store.people())
    }

    @Test
    fun namesAndEmbeddingsAreNotInTheClear() {
        val bytes = oldStore(listOf(sample("Adalovelace")), model, sealer)
        assertFalse(String(bytes, Charsets.ISO_8859_1).contains("Adalovelace"))
    }

    @Test
    fun everyChangedByteIsRefused() {
        val bytes = oldStore(listOf(sample("Ada")), model, sealer)
        for (at in bytes.indices) {
            val changed = bytes.copyOf().also { it[at] = (it[at].toInt() xor (1 shl random.nextInt(8))).toByte() }
            assertThrows("byte $at", TemplateException::class.java) { TemplateFormat.open(changed, model, sealer) }
        }
    }

    @Test
    fun everyTruncationAndExtensionIsRefused() {
        val bytes = oldStore(listOf(sample("Ada")), model, sealer)
        for (length in bytes.indices) {
            assertThrows("length $length", TemplateException::class.java) { TemplateFormat.open(bytes.copyOf(length), model, sealer) }
        }
        assertThrows(TemplateException::class.java) { TemplateFormat.open(bytes + 0, model, sealer) }
    }

    @Test
    fun refusalsSayWhy() {
        val bytes = oldStore(listOf(sample("Ada")), model, sealer)
        assertEquals(TemplateException.Reason.OTHER_MODEL, reason { TemplateFormat.open(bytes, "b".repeat(64), sealer) })
        assertEquals(TemplateException.Reason.NOT_TEMPLATES, reason { TemplateFormat.open("JFIF....".toByteArray(), model, sealer) })
        val older = bytes.copyOf().also { it[5] = 1 }
        assertEquals(TemplateException.Reason.OTHER_MODEL, reason { TemplateFormat.open(older, model, sealer) })
        val newer = bytes.copyOf().also { it[5] = 9 }
        assertEquals(TemplateException.Reason.NEWER_VERSION, reason { TemplateFormat.open(newer, model, sealer) })
        val other = Sealer(SecretKeySpec(ByteArray(32), "AES"))
        assertEquals(TemplateException.Reason.DAMAGED, reason { TemplateFormat.open(bytes, model, other) })
    }

    @Test
    fun anUnreadableFileIsNeverOverwritten() {
        TemplateStore(file, model) { sealer }.add(listOf(sample("Ada")))
        val before = file.readBytes()
        val other = TemplateStore(file, "b".repeat(64)) { sealer }
        assertEquals(TemplateException.Reason.OTHER_MODEL, reason { other.add(listOf(sample("Ben"))) })
        assertEquals(TemplateException.Reason.OTHER_MODEL, reason { other.delete("Ada") })
        assertArrayEquals(before, file.readBytes())
    }

    /** A key that its store refuses to use, the way [error] says. */
    private class RefusedKey(private val error: () -> Exception) : SecretKey {
        override fun getAlgorithm() = "AES"
        override fun getFormat() = "RAW"
        override fun getEncoded(): ByteArray = throw error()
    }

    private val refusals = listOf<() -> Exception>(
        { ProviderException("Keystore operation failed") },
        { InvalidKeyException("Key permanently invalidated") },
        { KeyStoreException("the service is gone") },
        { UnrecoverableKeyException("no such key") },
        { IllegalBlockSizeException() },
    )

    @Test
    fun aKeyStoreThatRefusesLosesNothing() {
        TemplateStore(file, model) { sealer }.add(listOf(sample("Ada")))
        val before = file.readBytes()
        for (error in refusals) {
            var works: (() -> Sealer) = { throw error() }
            val store = TemplateStore(file, model) { works() }
            // Refused while the key is fetched, and while it is used.
            for (broken in listOf<() -> Sealer>({ throw error() }, { Sealer(RefusedKey(error)) })) {
                works = broken
                assertEquals(TemplateException.Reason.KEY_REFUSED, reason { store.all() })
                assertEquals(TemplateException.Reason.KEY_REFUSED, reason { store.add(listOf(sample("Ben"))) })
                assertEquals(TemplateException.Reason.KEY_REFUSED, reason { store.delete("Ada") })
            }
            works = { sealer }
            assertEquals(setOf("Ada"), store.people().keys)
            // Refused after reading: what is known stays, on the disk and in memory.
            works = { Sealer(RefusedKey(error)) }
            assertEquals(TemplateException.Reason.KEY_REFUSED, reason { store.add(listOf(sample("Ben"))) })
            assertEquals(setOf("Ada"), store.people().keys)
            assertArrayEquals(before, file.readBytes())
            assertEquals(1, folder.root.list()!!.size)
        }
    }

    @Test
    fun everyoneCanBeDeletedWithoutTheKey() {
        TemplateStore(file, model) { sealer }.add(listOf(sample("Ada")))
        TemplateStore(file, model) { throw ProviderException("Keystore operation failed") }.deleteAll()
        assertFalse(file.exists())
    }

    @Test
    fun aFileLeftByAPowerCutDoesNoHarm() {
        TemplateStore(file, model) { sealer }.add(listOf(sample("Ada")))
        File(file.path + ".new").writeBytes(byteArrayOf(1, 2, 3))
        val again = TemplateStore(file, model) { sealer }
        assertEquals(setOf("Ada"), again.people().keys)
        again.add(listOf(sample("Ben")))
        assertEquals(setOf("Ada", "Ben"), TemplateStore(file, model) { sealer }.people().keys)
        File(file.path + ".new").writeBytes(byteArrayOf(1))
        again.deleteAll()
        assertEquals(0, folder.root.list()!!.size)
    }

    @Test
    fun twoSealsOfTheSameDiffer() {
        val samples = listOf(sample("Ada"))
        assertFalse(oldStore(samples, model, sealer).contentEquals(oldStore(samples, model, sealer)))
    }

    @Test
    fun anExportOpensWithItsPassphraseAlone() {
        val samples = listOf(sample("Ada"), sample("Ben"))
        val phrase = "correct horse".toCharArray()
        val bytes = TemplateFormat.export(samples, model, phrase, iterations = 1000)
        same(samples, TemplateFormat.import(bytes, model, phrase))
        assertEquals(TemplateException.Reason.DAMAGED, reason { TemplateFormat.import(bytes, model, "correct house".toCharArray()) })
        assertEquals(TemplateException.Reason.OTHER_MODEL, reason { TemplateFormat.import(bytes, "c".repeat(64), phrase) })
        assertEquals(TemplateException.Reason.NOT_TEMPLATES, reason { TemplateFormat.open(bytes, model, sealer) })
        // The rounds are bound too: fewer or absurdly many are refused.
        val at = 4 + 2 + 2 + model.length
        for (rounds in listOf(999, 0, -1, Int.MAX_VALUE)) {
            val changed = java.nio.ByteBuffer.wrap(bytes.copyOf()).putInt(at, rounds).array()
            assertEquals(TemplateException.Reason.DAMAGED, reason { TemplateFormat.import(changed, model, phrase) })
        }
        assertThrows(IllegalArgumentException::class.java) { TemplateFormat.export(samples, model, "short".toCharArray()) }
    }
}
