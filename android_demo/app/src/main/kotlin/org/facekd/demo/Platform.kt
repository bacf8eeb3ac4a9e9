package org.facekd.demo

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Context
import android.content.Intent
import android.view.View

/** The view of the layout that was just set. */
fun <T : View> Activity.view(id: Int): T = requireNotNull(findViewById<T>(id)) { "the layout has no such view" }

/** A service that every Android since API 26 has. */
fun <T : Any> Context.service(type: Class<T>): T = requireNotNull(getSystemService(type)) { "no ${type.simpleName}" }

/** Lets the user choose or name a document in another app; says so where there is none. */
fun Activity.chooseDocument(action: String, type: String, code: Int, title: String? = null) {
    val intent = Intent(action).addCategory(Intent.CATEGORY_OPENABLE).setType(type)
    if (title != null) intent.putExtra(Intent.EXTRA_TITLE, title)
    try {
        startActivityForResult(intent, code)
    } catch (error: ActivityNotFoundException) {
        Questions.tell(this, getString(R.string.no_documents))
    }
}
