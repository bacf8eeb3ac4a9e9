package org.facekd.core

/** JSON (RFC 8259) to and from Map, List, String, Double, Boolean and null: core uses no Android class for it. */
object Json {
    /** @throws IllegalArgumentException not JSON; says where. */
    fun parse(text: String): Any? {
        val reader = Reader(text)
        val value = reader.value(0)
        reader.end()
        return value
    }

    /** Maps, lists, strings, numbers, booleans and null as text. */
    fun write(value: Any?): String = buildString { put(value) }

    private fun StringBuilder.put(value: Any?) {
        when (value) {
            null -> append("null")
            is String -> quoted(value)
            is Boolean, is Int, is Long -> append(value.toString())
            is Number -> {
                require(value.toDouble().isFinite()) { "JSON has no $value" }
                append(value.toString())
            }
            is Map<*, *> -> {
                append('{')
                value.entries.forEachIndexed { i, (key, item) ->
                    if (i > 0) append(", ")
                    quoted(key as String)
                    append(": ")
                    put(item)
                }
                append('}')
            }
            is List<*> -> {
                append('[')
                value.forEachIndexed { i, item ->
                    if (i > 0) append(", ")
                    put(item)
                }
                append(']')
            }
            else -> throw IllegalArgumentException("JSON cannot hold a ${value.javaClass.name}")
        }
    }

    private fun StringBuilder.quoted(text: String) {
        append('"')
        for (c in text) {
            when {
                c == '"' || c == '\\' -> append('\\').append(c)
                c < ' ' || c == '\u2028' || c == '\u2029' -> append(String.format("\\u%04x", c.code))
                else -> append(c)
            }
        }
        append('"')
    }

    private class Reader(private val text: String) {
        private var at = 0

        fun value(depth: Int): Any? {
            if (depth > MAX_DEPTH) fail("nested deeper than $MAX_DEPTH")
            space()
            return when (val c = peek()) {
                '{' -> map(depth)
                '[' -> list(depth)
                '"' -> string()
                't' -> word("true", true)
                'f' -> word("false", false)
                'n' -> word("null", null)
                else -> if (c == '-' || c in '0'..'9') number() else fail("unexpected '$c'")
            }
        }

        fun end() {
            space()
            if (at < text.length) fail("more after the end")
        }

        private fun map(depth: Int): Map<String, Any?> {
            val out = LinkedHashMap<String, Any?>()
            at++
            space()
            if (peek() == '}') return out.also { at++ }
            while (true) {
                space()
                if (peek() != '"') fail("expected a name")
                val key = string()
                space()
                if (peek() != ':') fail("expected ':'")
                at++
                if (out.containsKey(key)) fail("'$key' stands twice")
                out[key] = value(depth + 1)
                space()
                when (peek()) {
                    ',' -> at++
                    '}' -> return out.also { at++ }
                    else -> fail("expected ',' or '}'")
                }
            }
        }

        private fun list(depth: Int): List<Any?> {
            val out = mutableListOf<Any?>()
            at++
            space()
            if (peek() == ']') return out.also { at++ }
            while (true) {
                out += value(depth + 1)
                space()
                when (peek()) {
                    ',' -> at++
                    ']' -> return out.also { at++ }
                    else -> fail("expected ',' or ']'")
                }
            }
        }

        private fun string(): String {
            at++
            val out = StringBuilder()
            while (true) {
                val c = peek()
                at++
                when {
                    c == '"' -> return out.toString()
                    c == '\\' -> out.append(escape())
                    c < ' ' -> fail("a control character in a string")
                    else -> out.append(c)
                }
            }
        }

        private fun escape(): Char {
            val c = peek()
            at++
            return when (c) {
                '"', '\\', '/' -> c
                'b' -> '\b'
                'f' -> '\u000C'
                'n' -> '\n'
                'r' -> '\r'
                't' -> '\t'
                'u' -> {
                    val code = text.substring(at, minOf(at + 4, text.length)).toIntOrNull(16)?.takeIf { at + 4 <= text.length }
                    at += 4
                    (code ?: fail("a broken \\u escape")).toChar()
                }
                else -> fail("unknown escape '\\$c'")
            }
        }

        private fun number(): Double {
            val match = NUMBER.find(text, at)?.takeIf { it.range.first == at } ?: fail("a broken number")
            at = match.range.last + 1
            return match.value.toDouble()
        }

        private fun word(word: String, value: Any?): Any? {
            if (!text.startsWith(word, at)) fail("expected $word")
            at += word.length
            return value
        }

        private fun space() {
            while (at < text.length && text[at] in " \t\n\r") at++
        }

        private fun peek(): Char = if (at < text.length) text[at] else fail("ends too early")

        private fun fail(what: String): Nothing = throw IllegalArgumentException("not JSON at character $at: $what")
    }

    private const val MAX_DEPTH = 64
    private val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
}
