package org.facekd.demo

import android.content.Context
import android.content.pm.PackageManager
import android.os.Build
import android.security.keystore.KeyGenParameterSpec
import android.security.keystore.KeyProperties
import java.io.IOException
import java.security.KeyStore
import java.security.KeyStoreException
import java.security.ProviderException
import javax.crypto.KeyGenerator
import javax.crypto.SecretKey
import org.facekd.core.Sealer

/** The AES key that never leaves the phone's Keystore. */
object KeystoreKey {
    private const val STORE = "AndroidKeyStore"
    private const val PREFIX = "facekd.templates"

    // The first one, without a number, could be used while the phone was locked.
    private const val ALIAS = "$PREFIX.2"

    /**
     * The key, made at first use: for an unlocked phone alone, in a StrongBox where there is one.
     *
     * @throws GeneralSecurityException or ProviderException, as the Keystore has it; TemplateStore explains either.
     */
    @Synchronized
    fun sealer(context: Context): Sealer = Sealer(open().getKey(ALIAS, null) as SecretKey? ?: make(context))

    /**
     * Forgets every key that this app ever made for samples.
     *
     * @throws GeneralSecurityException or ProviderException, as the Keystore has it.
     */
    @Synchronized
    fun delete() {
        val store = open()
        store.aliases().toList().filter { it.startsWith(PREFIX) }.forEach(store::deleteEntry)
    }

    private fun open(): KeyStore = KeyStore.getInstance(STORE).apply {
        try {
            load(null)
        } catch (error: IOException) {
            throw KeyStoreException(error)
        }
    }

    private fun make(context: Context): SecretKey {
        val hasStrongBox = Build.VERSION.SDK_INT >= 28 &&
            context.packageManager.hasSystemFeature(PackageManager.FEATURE_STRONGBOX_KEYSTORE)
        if (hasStrongBox) {
            try {
                return generate(strongBox = true)
            } catch (error: ProviderException) {
                // It is there but cannot take this key now (StrongBoxUnavailableException): the ordinary Keystore can.
            }
        }
        return generate(strongBox = false)
    }

    private fun generate(strongBox: Boolean): SecretKey {
        val spec = KeyGenParameterSpec.Builder(ALIAS, KeyProperties.PURPOSE_ENCRYPT or KeyProperties.PURPOSE_DECRYPT)
            .setBlockModes(KeyProperties.BLOCK_MODE_GCM)
            .setEncryptionPaddings(KeyProperties.ENCRYPTION_PADDING_NONE)
            .setKeySize(256)
        if (Build.VERSION.SDK_INT >= 28) {
            spec.setUnlockedDeviceRequired(true)
            spec.setIsStrongBoxBacked(strongBox)
        }
        return KeyGenerator.getInstance(KeyProperties.KEY_ALGORITHM_AES, STORE).apply { init(spec.build()) }.generateKey()
    }
}
