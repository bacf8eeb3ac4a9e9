package org.facekd.core

/**
 * An image in memory.
 *
 * Coordinates everywhere in core are (x, y) in pixels, the centre of the top left pixel at (0, 0).
 *
 * @property pixels 0xAARRGGBB, row by row; alpha is ignored and written as 255.
 */
class RgbImage(val width: Int, val height: Int, val pixels: IntArray) {
    init {
        require(width > 0 && height > 0) { "an image must have pixels, got ${width}x$height" }
        require(pixels.size == width * height) { "${width}x$height needs ${width * height} pixels, got ${pixels.size}" }
    }

    constructor(width: Int, height: Int) : this(width, height, IntArray(width * height))

    operator fun get(x: Int, y: Int): Int = pixels[y * width + x]
}

internal const val OPAQUE: Int = 0xFF shl 24

internal fun rgb(red: Int, green: Int, blue: Int): Int = OPAQUE or (red shl 16) or (green shl 8) or blue

internal val Int.red: Int get() = (this shr 16) and 0xFF
internal val Int.green: Int get() = (this shr 8) and 0xFF
internal val Int.blue: Int get() = this and 0xFF

/** Brightness 0 to 255 by BT.601's weights. */
internal val Int.grey: Float get() = 0.299f * red + 0.587f * green + 0.114f * blue
