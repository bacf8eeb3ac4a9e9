package org.facekd.demo

import android.app.Activity
import android.content.Context
import android.view.View

/** The view of the layout that was just set. */
fun <T : View> Activity.view(id: Int): T = requireNotNull(findViewById<T>(id)) { "the layout has no such view" }

/** A service that every Android since API 26 has. */
fun <T : Any> Context.service(type: Class<T>): T = requireNotNull(getSystemService(type)) { "no ${type.simpleName}" }
