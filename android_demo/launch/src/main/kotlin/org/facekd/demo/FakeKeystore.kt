package org.facekd.demo

import android.security.keystore.KeyGenParameterSpec
import java.io.InputStream
import java.io.OutputStream
import java.security.Key
import java.security.KeyStoreSpi
import java.security.Provider
import java.security.SecureRandom
import java.security.Security
import java.security.cert.Certificate
import java.security.spec.AlgorithmParameterSpec
import java.util.Collections
import java.util.Date
import java.util.Enumeration
import javax.crypto.KeyGeneratorSpi
import javax.crypto.SecretKey
import javax.crypto.spec.SecretKeySpec

/** Android's Keystore in memory. It proves nothing about the real one. */
class FakeKeystore private constructor() : Provider(NAME, "1", "keys in memory") {
    init {
        putService(object : Service(this, "KeyStore", NAME, Store::class.java.name, null, null) {
            override fun newInstance(parameter: Any?) = Store()
        })
        putService(object : Service(this, "KeyGenerator", "AES", Generator::class.java.name, null, null) {
            override fun newInstance(parameter: Any?) = Generator()
        })
    }

    class Store : KeyStoreSpi() {
        override fun engineGetKey(alias: String, password: CharArray?): Key? = keys[alias]
        override fun engineDeleteEntry(alias: String) {
            keys.remove(alias)
        }

        override fun engineAliases(): Enumeration<String> = Collections.enumeration(keys.keys)
        override fun engineContainsAlias(alias: String) = alias in keys
        override fun engineSize() = keys.size
        override fun engineIsKeyEntry(alias: String) = alias in keys
        override fun engineIsCertificateEntry(alias: String) = false
        override fun engineGetCertificateChain(alias: String): Array<Certificate>? = null
        override fun engineGetCertificate(alias: String): Certificate? = null
        override fun engineGetCertificateAlias(certificate: Certificate): String? = null
        override fun engineGetCreationDate(alias: String) = Date(0)
        override fun engineLoad(stream: InputStream?, password: CharArray?) = Unit
        override fun engineStore(stream: OutputStream?, password: CharArray?) = Unit
        override fun engineSetKeyEntry(a: String, k: Key, p: CharArray?, c: Array<Certificate>?) = Unit
        override fun engineSetKeyEntry(a: String, k: ByteArray, c: Array<Certificate>?) = Unit
        override fun engineSetCertificateEntry(a: String, c: Certificate) = Unit
    }

    class Generator : KeyGeneratorSpi() {
        private lateinit var spec: KeyGenParameterSpec

        override fun engineInit(random: SecureRandom?) = Unit
        override fun engineInit(bits: Int, random: SecureRandom?) = Unit
        override fun engineInit(spec: AlgorithmParameterSpec, random: SecureRandom?) {
            this.spec = spec as KeyGenParameterSpec
        }

        override fun engineGenerateKey(): SecretKey {
            asked += spec
            val bytes = ByteArray(32).also { SecureRandom().nextBytes(it) }
            return SecretKeySpec(bytes, "AES").also { keys[spec.keystoreAlias] = it }
        }
    }

    companion object {
        private const val NAME = "AndroidKeyStore"

        val keys = HashMap<String, SecretKey>()

        /** What each key was asked for with. */
        val asked = mutableListOf<KeyGenParameterSpec>()

        fun install() {
            if (Security.getProvider(NAME) == null) Security.addProvider(FakeKeystore())
            keys.clear()
            asked.clear()
        }
    }
}
