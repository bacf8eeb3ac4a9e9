package org.facekd.core

/** The last [capacity] values and their median. Not for several threads at once. */
class RecentValues(private val capacity: Int = 100) {
    private val values = ArrayDeque<Double>()

    init {
        require(capacity >= 1) { "at least one value must be kept, got $capacity" }
    }

    val count: Int get() = values.size

    fun add(value: Double) {
        require(value.isFinite()) { "a duration must be a number, got $value" }
        if (values.size == capacity) values.removeFirst()
        values.addLast(value)
    }

    /** The median (of an even number, the mean of the middle two); null before the first value. */
    fun median(): Double? {
        if (values.isEmpty()) return null
        val sorted = values.sorted()
        val middle = sorted.size / 2
        return if (sorted.size % 2 == 1) sorted[middle] else (sorted[middle - 1] + sorted[middle]) / 2
    }
}

/** The parts of one frame's way, as the overlay names them. */
enum class Stage { CAMERA, DETECT, ALIGN, EMBED, LIVENESS, MATCH }

/** p50 over the last 100 frames of each stage, in milliseconds. For several threads. */
class StageTimes {
    private val stages = Stage.entries.associateWith { RecentValues() }

    @Synchronized
    fun add(stage: Stage, milliseconds: Double) = stages.getValue(stage).add(milliseconds)

    @Synchronized
    fun medians(): Map<Stage, Double?> = stages.mapValues { it.value.median() }

    /** Runs [work] and notes how long it took. */
    inline fun <T> time(stage: Stage, work: () -> T): T {
        val start = System.nanoTime()
        val result = work()
        add(stage, (System.nanoTime() - start) / 1e6)
        return result
    }
}
