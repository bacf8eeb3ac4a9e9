package org.facekd.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test

class MatchingTest {
    private fun at(degrees: Double) =
        floatArrayOf(Math.cos(Math.toRadians(degrees)).toFloat(), Math.sin(Math.toRadians(degrees)).toFloat())

    private val templates = listOf(Template("Ada", at(0.0), 0), Template("Ada", at(30.0), 0), Template("Ben", at(90.0), 0))

    @Test
    fun identifiesTheClosestSampleOrNobody() {
        val match = identify(at(40.0), templates, 0.9)!!
        assertEquals("Ada", match.person)
        assertEquals(Math.cos(Math.toRadians(10.0)), match.scoreCos, 1e-6)
        val unknown = identify(at(180.0), templates, 0.5)!!
        assertNull(unknown.person)
        assertEquals("Ben", unknown.closest)
        assertNull(identify(at(0.0), emptyList(), 0.5))
    }

    @Test
    fun verifiesOnePersonAlone() {
        assertEquals("Ben", verify(at(80.0), "Ben", templates, 0.9)!!.person)
        // Ada is closer, but Ben was asked for.
        assertNull(verify(at(20.0), "Ben", templates, 0.9)!!.person)
        assertNull(verify(at(20.0), "Cleo", templates, 0.0))
    }

    @Test
    fun theThresholdItselfDoesNotPass() {
        // facekd.evaluation.verification: a pair is accepted if its cosine is greater.
        val ada = listOf(Template("Ada", floatArrayOf(1f, 0f), 0))
        assertNull(identify(floatArrayOf(1f, 0f), ada, 1.0)!!.person)
        assertEquals("Ada", identify(floatArrayOf(1f, 0f), ada, Math.nextDown(1.0))!!.person)
    }
}
