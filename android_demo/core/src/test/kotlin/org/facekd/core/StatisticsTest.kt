package org.facekd.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Test

class StatisticsTest {
    @Test
    fun medianOfTheLastHundred() {
        val values = RecentValues()
        assertNull(values.median())
        listOf(5.0, 1.0, 3.0).forEach(values::add)
        assertEquals(3.0, values.median()!!, 0.0)
        values.add(100.0)
        assertEquals(4.0, values.median()!!, 0.0)
        (1..1000).forEach { values.add(it.toDouble()) }
        assertEquals(100, values.count)
        assertEquals(950.5, values.median()!!, 0.0)
        assertThrows(IllegalArgumentException::class.java) { values.add(Double.NaN) }
    }

    @Test
    fun stagesAreKeptApart() {
        val times = StageTimes()
        assertEquals(7, times.time(Stage.DETECT) { 7 })
        times.add(Stage.MATCH, 2.0)
        assertEquals(2.0, times.medians().getValue(Stage.MATCH)!!, 0.0)
        assertNull(times.medians().getValue(Stage.ALIGN))
    }
}
