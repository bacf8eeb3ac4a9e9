package org.facekd.core

/** What is demanded before a name is shown. */
enum class LivenessDemand { OFF, PASSIVE, ACTIVE }

/** What liveness lets be said of a face. */
enum class Clearance {
    /** What the recognition says. */
    CLEAR,

    /** Not yet enough frames that agree. */
    MEASURING,

    /** Taken for a picture of a face. */
    NOT_LIVE,

    /** The check asks for this. */
    TURN_LEFT,
    TURN_RIGHT,
    LOOK_AHEAD,

    /** The check failed so; another begins after a while. */
    TOO_LATE,
    WRONG_TURN,
    OTHER_PERSON,

    /** Somebody else is being checked. */
    WAIT,
}

/**
 * Whether the faces of a [RecognitionSession] may be named. The decision rests on the frames of the face's own track, as the
 * name does. The rules and numbers are facekd's choice; livenesssession.js has the same, and both give what
 * tests/android/liveness_reference.py gives.
 *
 * A frame that is good enough for an embedding is a vote: live if its score is above the threshold. A track is live, or is
 * not, where its last [agreeing] votes agree; [agreeing] frames in a row that are no vote make it forget them, and a track
 * that a frame does not continue is forgotten. Nobody is named whose track is not live. Whose track is decidedly not live
 * is not called unknown either.
 *
 * Where the demand is [LivenessDemand.ACTIVE], whoever is named and live must also pass an [ActiveCheck], once a track and
 * one track at a time: the largest face's first, while it looks ahead. A failed one is followed by another after [PAUSE_MS].
 *
 * For one thread.
 *
 * @param draw the turns of one check, at random.
 */
class LivenessSession(
    private val demand: LivenessDemand,
    private val threshold: Double,
    private val agreeing: Int = RecognitionSession.AGREEING,
    private val draw: () -> List<Turn> = { List(ActiveCheck.TURNS) { Turn.entries.random() } },
) {
    private class Track {
        val votes = ArrayDeque<Boolean>()
        var missing = 0
        var check: ActiveCheck? = null
        var failedMs = 0L
        val isChecking: Boolean get() = check?.step?.isOver == false
    }

    private var tracks: Map<Int, Track> = emptyMap()

    /**
     * The next frame: [judged] as the recognition judged [seen], in the same order.
     *
     * @param scores of each face; null where it was not measured.
     * @param thresholdCos above it two embeddings pass as one person.
     */
    fun look(judged: List<Judged>, seen: List<Observation>, scores: List<Double?>, timeMs: Long, thresholdCos: Double): List<Clearance> {
        if (demand == LivenessDemand.OFF) return judged.map { Clearance.CLEAR }
        tracks = judged.associate { Pair(it.track, tracks[it.track] ?: Track()) }
        judged.forEachIndexed { at, one -> vote(tracks.getValue(one.track), one, scores[at]) }
        if (demand == LivenessDemand.ACTIVE) check(judged, seen, timeMs, thresholdCos)
        return judged.zip(seen) { one, observation -> clearance(tracks.getValue(one.track), one, observation) }
    }

    private fun vote(track: Track, judged: Judged, score: Double?) {
        if (judged.verdict == Verdict.UNUSABLE || score == null) {
            track.missing++
            if (track.missing >= agreeing) track.votes.clear()
            return
        }
        track.missing = 0
        track.votes.addLast(score > threshold)
        if (track.votes.size > agreeing) track.votes.removeFirst()
    }

    /** Live, not live, or (null) not decided. */
    private fun liveness(track: Track): Boolean? =
        track.votes.firstOrNull()?.takeIf { first -> track.votes.size == agreeing && track.votes.all { it == first } }

    private fun check(judged: List<Judged>, seen: List<Observation>, timeMs: Long, thresholdCos: Double) {
        judged.forEachIndexed { at, one ->
            val track = tracks.getValue(one.track)
            if (!track.isChecking) return@forEachIndexed
            val embedding = seen[at].embedding?.takeIf { one.verdict != Verdict.UNUSABLE }
            val step = track.check?.look(timeMs, seen[at].quality.pose, embedding)
            if (step?.isOver == true) track.failedMs = timeMs
        }
        if (tracks.values.any { it.isChecking }) return
        val next = judged.indices.filter { mayBegin(judged[it], seen[it], timeMs) }.maxByOrNull { seen[it].face.box.run { width * height } } ?: return
        val embedding = seen[next].embedding ?: return
        tracks.getValue(judged[next].track).check = ActiveCheck(draw(), embedding, timeMs, thresholdCos)
    }

    private fun mayBegin(judged: Judged, seen: Observation, timeMs: Long): Boolean {
        val track = tracks.getValue(judged.track)
        if (judged.verdict != Verdict.PERSON || liveness(track) != true || !ActiveCheck.isAhead(seen.quality.pose)) return false
        val step = track.check?.step ?: return true
        return step != Step.PASSED && timeMs - track.failedMs >= PAUSE_MS
    }

    private fun clearance(track: Track, judged: Judged, seen: Observation): Clearance {
        val check = track.check
        if (check != null && track.isChecking) return shown(check.step)
        if (judged.verdict != Verdict.PERSON && judged.verdict != Verdict.UNKNOWN) return Clearance.CLEAR
        val live = liveness(track)
        return when {
            live == false -> Clearance.NOT_LIVE
            judged.verdict == Verdict.UNKNOWN -> Clearance.CLEAR
            live == null -> Clearance.MEASURING
            demand == LivenessDemand.PASSIVE || check?.step == Step.PASSED -> Clearance.CLEAR
            check == null -> if (ActiveCheck.isAhead(seen.quality.pose)) Clearance.WAIT else Clearance.LOOK_AHEAD
            else -> shown(check.step)
        }
    }

    private fun shown(step: Step): Clearance = when (step) {
        Step.TURN_LEFT -> Clearance.TURN_LEFT
        Step.TURN_RIGHT -> Clearance.TURN_RIGHT
        Step.LOOK_AHEAD -> Clearance.LOOK_AHEAD
        Step.PASSED -> Clearance.CLEAR
        Step.TOO_LATE -> Clearance.TOO_LATE
        Step.WRONG_TURN -> Clearance.WRONG_TURN
        Step.OTHER_PERSON -> Clearance.OTHER_PERSON
    }

    companion object {
        /** Between a failed check and the next. */
        const val PAUSE_MS = 3000L
    }
}
