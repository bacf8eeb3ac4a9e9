package org.facekd.demo

import android.content.Context
import android.util.AttributeSet
import android.widget.ScrollView

/** As high as its content, but at most two fifths of the screen: with large text it scrolls, and the picture stays. */
class ControlsView(context: Context, attributes: AttributeSet?) : ScrollView(context, attributes) {
    override fun onMeasure(widthSpec: Int, heightSpec: Int) {
        val most = minOf(MeasureSpec.getSize(heightSpec), resources.displayMetrics.heightPixels * 2 / 5)
        super.onMeasure(widthSpec, MeasureSpec.makeMeasureSpec(most, MeasureSpec.AT_MOST))
    }
}
