package org.facekd.core

import java.security.GeneralSecurityException
import java.security.InvalidAlgorithmParameterException
import java.security.ProviderException
import java.security.SecureRandom
import javax.crypto.AEADBadTagException
import javax.crypto.Cipher
import javax.crypto.SecretKey
import javax.crypto.SecretKeyFactory
import javax.crypto.spec.GCMParameterSpec
import javax.crypto.spec.PBEKeySpec
import javax.crypto.spec.SecretKeySpec

/** What was sealed and the random start value it was sealed with. */
class Sealed(val iv: ByteArray, val content: ByteArray)

/**
 * AES-GCM with [key]; the start value is the cipher's own, as Android's Keystore demands.
 *
 * `associated` is not encrypted but bound: opening with another one fails.
 */
class Sealer(private val key: SecretKey) {
    /** @throws TemplateException the key cannot be used now. */
    fun seal(content: ByteArray, associated: ByteArray): Sealed = usingKey {
        val cipher = Cipher.getInstance(TRANSFORMATION)
        cipher.init(Cipher.ENCRYPT_MODE, key)
        cipher.updateAAD(associated)
        Sealed(cipher.iv, cipher.doFinal(content))
    }

    /** @throws TemplateException it is another key, anything was changed, or the key cannot be used now. */
    fun open(sealed: Sealed, associated: ByteArray): ByteArray = usingKey {
        // Providers differ in what they throw for less than a tag.
        if (sealed.content.size < TAG_BITS / 8) throw AEADBadTagException("the content is shorter than its tag")
        val cipher = Cipher.getInstance(TRANSFORMATION)
        cipher.init(Cipher.DECRYPT_MODE, key, GCMParameterSpec(TAG_BITS, sealed.iv))
        cipher.updateAAD(associated)
        cipher.doFinal(sealed.content)
    }

    companion object {
        const val TRANSFORMATION = "AES/GCM/NoPadding"
        private const val TAG_BITS = 128
        const val SALT_BYTES = 16

        /** Rounds of PBKDF2-HMAC-SHA256 that OWASP recommended in 2023. */
        const val ITERATIONS = 600_000

        fun newSalt(): ByteArray = ByteArray(SALT_BYTES).also { SecureRandom().nextBytes(it) }

        /** A key from a passphrase. [iterations] comes from the file when it is opened. */
        fun fromPassphrase(passphrase: CharArray, salt: ByteArray, iterations: Int): Sealer {
            val spec = PBEKeySpec(passphrase, salt, iterations, 256)
            try {
                val bytes = SecretKeyFactory.getInstance("PBKDF2WithHmacSHA256").generateSecret(spec).encoded
                return Sealer(SecretKeySpec(bytes, "AES"))
            } finally {
                spec.clearPassword()
            }
        }
    }
}

/**
 * Runs [work] and turns what a key store throws into the outcome that a user understands: refused, nothing lost.
 *
 * Android's fails with checked exceptions (a key that was invalidated, a service that answers wrongly) as well as with
 * the unchecked ProviderException; only a wrong tag or start value says that the content is not what was sealed.
 *
 * @throws TemplateException DAMAGED or KEY_REFUSED.
 */
fun <T> usingKey(work: () -> T): T = try {
    work()
} catch (error: AEADBadTagException) {
    throw TemplateException(TemplateException.Reason.DAMAGED, "the content was changed, or sealed with another key", error)
} catch (error: InvalidAlgorithmParameterException) {
    throw TemplateException(TemplateException.Reason.DAMAGED, "the content was changed", error)
} catch (error: GeneralSecurityException) {
    throw keyRefused(error)
} catch (error: ProviderException) {
    throw keyRefused(error)
}

private fun keyRefused(error: Exception) =
    TemplateException(TemplateException.Reason.KEY_REFUSED, "the key cannot be used now (${error.message ?: error.javaClass.simpleName})", error)
