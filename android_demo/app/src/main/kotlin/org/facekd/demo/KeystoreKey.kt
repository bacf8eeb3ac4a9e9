package org.facekd.demo

import android.security.keystore.KeyGenParameterSpec
import android.security.keystore.KeyProperties
import java.io.IOException
import java.security.KeyStore
import java.security.KeyStoreException
import javax.crypto.KeyGenerator
import javax.crypto.SecretKey
import org.facekd.core.Sealer

/** The AES key that never leaves the phone's Keystore. */
object KeystoreKey {
    private const val STORE = "AndroidKeyStore"
    private const val ALIAS = "facekd.templates"

    /**
     * The key, made at first use.
     *
     * @throws GeneralSecurityException or ProviderException, as the Keystore has it; TemplateStore explains either.
     */
    @Synchronized
    fun sealer(): Sealer {
        val store = KeyStore.getInstance(STORE)
        try {
            store.load(null)
        } catch (error: IOException) {
            throw KeyStoreException(error)
        }
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
