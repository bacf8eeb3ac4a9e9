package org.facekd.core

import java.security.GeneralSecurityException
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
    fun seal(content: ByteArray, associated: ByteArray): Sealed {
        val cipher = Cipher.getInstance(TRANSFORMATION)
        cipher.init(Cipher.ENCRYPT_MODE, key)
        cipher.updateAAD(associated)
        return Sealed(cipher.iv, cipher.doFinal(content))
    }

    /** @throws GeneralSecurityException another key, or anything was changed. */
    fun open(sealed: Sealed, associated: ByteArray): ByteArray {
        // Providers differ in what they throw for less than a tag.
        if (sealed.content.size < TAG_BITS / 8) throw AEADBadTagException("the content is shorter than its tag")
        val cipher = Cipher.getInstance(TRANSFORMATION)
        cipher.init(Cipher.DECRYPT_MODE, key, GCMParameterSpec(TAG_BITS, sealed.iv))
        cipher.updateAAD(associated)
        return cipher.doFinal(sealed.content)
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
