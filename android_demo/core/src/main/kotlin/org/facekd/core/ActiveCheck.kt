package org.facekd.core

/** Which way somebody is asked to turn the head: their own left or right, whatever a mirrored preview shows. */
enum class Turn { LEFT, RIGHT }

/** Where an active check stands after a frame. */
enum class Step {
    TURN_LEFT,
    TURN_RIGHT,

    /** Between two turns and after the last. */
    LOOK_AHEAD,
    PASSED,

    /** It took longer than the limit. */
    TOO_LATE,

    /** The head turned the other way. */
    WRONG_TURN,

    /** Who looks ahead after the turns is not who began. */
    OTHER_PERSON,
    ;

    val isOver: Boolean get() = ordinal >= PASSED.ordinal
}

/**
 * An active check: the head is to be turned as asked, at random, and the same person must look ahead before and after.
 * For one track; whoever leaves it begins anew. The numbers are facekd's choice; activecheck.js has the same.
 *
 * A turn is measured by [Pose.yaw], the nose's place along the line of the eyes in eye distances. A flat picture that is
 * turned about its upright axis keeps that ratio but for perspective; a head does not. A picture that is bent, or turned
 * about a slanting axis, may pass: the check is one more hurdle, no proof.
 *
 * @param turns what is asked, in order.
 * @param before embedding of who began, looking ahead.
 * @param thresholdCos above it two embeddings pass as one person.
 */
class ActiveCheck(
    private val turns: List<Turn>,
    private val before: FloatArray,
    private val beganMs: Long,
    private val thresholdCos: Double,
) {
    private var done = 0
    private var turning = true

    init {
        require(turns.isNotEmpty()) { "an active check needs a turn" }
    }

    /** What is asked now, or how it ended. */
    var step: Step = asked()
        private set

    /**
     * The next frame of the track.
     *
     * @param pose of the face; what is not a number asks the same again.
     * @param embedding null where the frame does not suffice for one.
     */
    fun look(timeMs: Long, pose: Pose, embedding: FloatArray?): Step {
        if (step.isOver) return step
        step = when {
            timeMs - beganMs !in 0..LIMIT_MS -> Step.TOO_LATE
            turning -> turn(pose.yaw)
            isAhead(pose) -> ahead(embedding)
            else -> step
        }
        return step
    }

    private fun turn(yaw: Double): Step {
        // The picture is not mirrored when it is analysed: their left is its right.
        val towards = if (turns[done] == Turn.LEFT) yaw else -yaw
        if (towards <= -TURNED) return Step.WRONG_TURN
        if (!(towards >= TURNED)) return step
        turning = false
        return Step.LOOK_AHEAD
    }

    private fun ahead(embedding: FloatArray?): Step {
        if (done + 1 < turns.size) {
            done++
            turning = true
            return asked()
        }
        if (embedding == null) return step
        return if (cosine(before, embedding) > thresholdCos) Step.PASSED else Step.OTHER_PERSON
    }

    private fun asked() = if (turns[done] == Turn.LEFT) Step.TURN_LEFT else Step.TURN_RIGHT

    companion object {
        /** Turns asked for: a film with one turn in it passes one time in four. */
        const val TURNS = 2

        /** For all of them together. */
        const val LIMIT_MS = 12_000L

        /** Somewhat above 30 degrees: a nose stands out by somewhat less than half the distance of the eyes. */
        const val TURNED = 0.3

        /** Below it a face looks ahead. */
        const val AHEAD = 0.15

        fun isAhead(pose: Pose): Boolean = pose.yaw > -AHEAD && pose.yaw < AHEAD
    }
}
