package org.facekd.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class JsonTest {
    @Test
    fun readsEveryKind() {
        val found = Json.parse(""" {"a": [1, -2.5e-3, true, false, null], "b\n\u00e9\\": {"": "x/\/"}, "c": [] , "d": {}} """)
        val expected = mapOf(
            "a" to listOf(1.0, -0.0025, true, false, null),
            "b\né\\" to mapOf("" to "x//"),
            "c" to emptyList<Any>(),
            "d" to emptyMap<String, Any>(),
        )
        assertEquals(expected, found)
    }

    @Test
    fun whatIsWrittenReadsBack() {
        val value = mapOf("text \"\\\u0001\u2028é" to listOf(1.5, mapOf("x" to null), emptyList<Any>()), "yes" to true)
        assertEquals(value, Json.parse(Json.write(value)))
        assertEquals("{\"n\": 3}", Json.write(mapOf("n" to 3)))
        assertThrows(IllegalArgumentException::class.java) { Json.write(Double.NaN) }
    }

    @Test
    fun refusesEverythingElse() {
        val broken = listOf("", "{", "[1,]", "[1 2]", "{\"a\" 1}", "{\"a\": 1, \"a\": 2}", "01", "1.", "tru", "\"\\u12\"", "\"a", "[] x", "'a'", "\"\t\"", "-", "[".repeat(9999))
        for (text in broken) assertThrows(text.take(20), IllegalArgumentException::class.java) { Json.parse(text) }
    }
}
