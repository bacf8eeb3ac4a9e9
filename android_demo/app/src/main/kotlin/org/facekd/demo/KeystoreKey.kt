package org.facekd.demo

import android.security.keystore.KeyGenParameterSpec
import android.security.keystore.KeyProperties
import java.security.KeyStore
import javax.crypto.KeyGenerator
import javax.crypto.SecretKey
import org.facekd.core.Sealer

/** The AES key that never leaves the phone's Keystore. */
object KeystoreKey {
    private const val STORE = "AndroidKeyStore"
    private const val ALIAS = "facekd.templates"

    /** The key, made at first use. */
    @Synchronized
    fun sealer(): Sealer {
        val store = KeyStore.getInstance(STORE).apply { load(null) }
        return Sealer(store.getKey(ALIAS, null) as SecretKey? ?: make())
    }

    private fun make(): SecretKey {
        val spec = KeyGenParameterSpec.Builder(ALIAS, KeyProperties.PURPOSE_ENCRYPT or KeyProperties.PURPOSE_DECRYPT)
            .setBlockModes(KeyProperties.BLOCK_MODE_GCM)
            .setEncryptionPaddings(KeyProperties.ENCRYPTION_PADDING_NONE)
            .setKeySize(256)
            .build()
        return KeyGenerator.getInstance(KeyProperties.KEY_ALGORITHM_AES, STORE).apply { init(spec) }.generateKey()
    }
}
