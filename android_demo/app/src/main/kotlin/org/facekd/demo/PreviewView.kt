package org.facekd.demo

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Matrix
import android.graphics.Paint
import android.graphics.RectF
import android.util.AttributeSet
import android.util.TypedValue
import android.view.View
import org.facekd.core.Face

/**
 * A face in the picture and what is said of it.
 *
 * @property spoken without the score, which changes with every picture.
 * @property known it is a person's name.
 * @property decided it is a decision, a name or "unknown", and not advice.
 */
class Labelled(val face: Face, val text: String, val spoken: String, val known: Boolean, val decided: Boolean)

/** A picture with what was found in this very picture: nothing is ever drawn over another one. */
class Shown(val picture: Bitmap, val mirrored: Boolean, val faces: List<Labelled>)

/**
 * The camera's picture with a box and a name for each face.
 *
 * It draws the very image that is analysed, not a second stream of the camera: boxes lie where the faces are, whatever
 * the device's sensor orientation and aspect ratio. A front camera is mirrored here, and only here. For those who hear
 * the screen, the description says who is there (the layout makes it a live region).
 */
class PreviewView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    var shown: Shown? = null
        private set
    private val place = Matrix()
    private val box = RectF()

    // Scaled with the user's text size.
    private val textPixels = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_SP, 16f, resources.displayMetrics)
    private val margin = textPixels / 4
    private val text = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        color = context.getColor(R.color.overlay_text)
        textSize = textPixels
    }
    private val ground = Paint().apply { color = context.getColor(R.color.overlay_ground) }
    private val frame = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        style = Paint.Style.STROKE
        strokeWidth = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_DIP, 3f, resources.displayMetrics)
    }

    /** Null: the camera is closed, and nobody is in the picture. */
    fun show(shown: Shown?) {
        this.shown = shown
        val faces = shown?.faces ?: emptyList()
        val names = faces.joinToString { it.spoken }
        val said = if (faces.isEmpty()) context.getString(R.string.preview) else context.getString(R.string.preview_faces, names)
        // Only when it changes: each time it is set it is read aloud.
        if (said != contentDescription) contentDescription = said
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        val current = shown ?: return
        val bitmap = current.picture
        val scale = minOf(width.toFloat() / bitmap.width, height.toFloat() / bitmap.height)
        val left = (width - bitmap.width * scale) / 2
        val top = (height - bitmap.height * scale) / 2
        place.setScale(scale, scale)
        if (current.mirrored) place.postScale(-1f, 1f, bitmap.width * scale / 2, 0f)
        place.postTranslate(left, top)
        canvas.drawBitmap(bitmap, place, null)
        for (labelled in current.faces) draw(canvas, labelled)
    }

    private fun draw(canvas: Canvas, labelled: Labelled) {
        val found = labelled.face.box
        box.set(found.left, found.top, found.left + found.width, found.top + found.height)
        place.mapRect(box)
        frame.color = context.getColor(if (labelled.known) R.color.face_known else R.color.face_unknown)
        canvas.drawRect(box, frame)
        val high = textPixels + 2 * margin
        val wide = text.measureText(labelled.text) + 2 * margin
        // Beside the box, but within the view.
        val left = minOf(box.left, width - wide).coerceAtLeast(0f)
        val below = if (box.top - high >= 0) box.top else minOf(box.bottom + high, height.toFloat())
        canvas.drawRect(left, below - high, left + wide, below, ground)
        canvas.drawText(labelled.text, left + margin, below - margin - text.descent() / 2, text)
    }
}
