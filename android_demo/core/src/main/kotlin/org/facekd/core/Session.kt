package org.facekd.core

/**
 * A face as one picture shows it.
 *
 * @property embedding of length one; null where the quality does not suffice for one.
 */
class Observation(val face: Face, val quality: Quality, val embedding: FloatArray?)

/** What can be said of a face. */
enum class Verdict {
    /** The picture does not suffice; [Judged.fault] says why. */
    UNUSABLE,

    /** Good pictures, but not yet enough that agree. */
    UNDECIDED,

    /** The person of [Judged.match] (1:N), or yes (1:1). */
    PERSON,

    /** None of the enrolled (1:N), or no (1:1): a decision like any other. */
    UNKNOWN,

    /** There is nobody to compare with. */
    NOBODY_ENROLLED,
}

/**
 * One face of one frame, and what is said of it.
 *
 * @property track its number among the faces that were followed; a new one whenever it is not certain who it is.
 * @property match this frame's own comparison; null where there was none.
 */
class Judged(val face: Face, val track: Int, val verdict: Verdict, val fault: Refusal?, val match: Match?)

/** A picture with its faces and what is said of them: one value, so that no label meets another picture. */
class Frame<P>(val picture: P, val faces: List<Judged>)

/**
 * Names from several frames instead of one. The rules and their numbers are facekd's choice; session.js has the same,
 * and both give what tests/android/session_reference.py gives.
 *
 * A face belongs to a track where its box overlaps the track's last one (IoU of at least [leastOverlap]) and, where both
 * have an embedding, these pass as one person by the threshold in use. Pairs are taken by falling overlap. A track that
 * a frame does not continue is over, and every track is after [longestGapMs] without a frame: overlap says nothing then.
 *
 * A frame above [floor] is a vote for a person or for nobody. A verdict needs the last [agreeing] votes of the track to
 * agree, this frame's among them, so a name is never older than the face it stands over. A frame below the floor
 * is no vote and shows no name; [agreeing] of them in a row make the track forget its votes.
 *
 * For one thread.
 */
class RecognitionSession(
    private val agreeing: Int = AGREEING,
    private val floor: QualityFloor = QualityFloor.PROBE,
    private val leastOverlap: Double = 0.3,
    private val longestGapMs: Long = 2000,
) {
    private var tracks: List<Track> = emptyList()
    private var lastMs: Long? = null
    private var begun = 0

    private class Track(val number: Int) {
        var box: Box? = null
        var embedding: FloatArray? = null
        val votes = ArrayDeque<String?>()
        var unusable = 0
    }

    init {
        require(agreeing >= 1) { "at least one frame must agree, got $agreeing" }
    }

    /** Whether [quality] suffices: without it no embedding need be computed. */
    fun isUsable(quality: Quality): Boolean = floor.faults(quality).isEmpty()

    /** Forgets every track: the question, the people or the camera changed. */
    fun reset() {
        tracks = emptyList()
        lastMs = null
    }

    /**
     * The next frame.
     *
     * @param timeMs of any clock that only goes forward.
     * @param thresholdCos above it two embeddings pass as one person.
     * @param compare the question asked of a face, as [identify] or [verify] answer it.
     */
    fun <P> look(
        picture: P,
        timeMs: Long,
        seen: List<Observation>,
        thresholdCos: Double,
        compare: (FloatArray) -> Match?,
    ): Frame<P> {
        val before = lastMs
        if (before == null || timeMs - before !in 0..longestGapMs) tracks = emptyList()
        lastMs = timeMs
        val followed = follow(seen, thresholdCos)
        tracks = seen.map { followed[it] ?: Track(begun++) }
        return Frame(picture, seen.zip(tracks) { observation, track -> judge(track, observation, compare) })
    }

    private fun usable(observation: Observation): FloatArray? =
        observation.embedding?.takeIf { isUsable(observation.quality) }

    private fun follow(seen: List<Observation>, thresholdCos: Double): Map<Observation, Track> {
        class Pairing(val track: Track, val observation: Observation, val overlap: Float)
        val pairings = tracks.flatMap { track ->
            seen.map { Pairing(track, it, intersectionOverUnion(requireNotNull(track.box), it.face.box)) }
        }.filter {
            val known = it.track.embedding
            val found = usable(it.observation)
            it.overlap >= leastOverlap && (known == null || found == null || cosine(known, found) > thresholdCos)
        }
        val found = LinkedHashMap<Observation, Track>()
        for (one in pairings.sortedByDescending { it.overlap }) { // stable: of equal ones the older track first
            if (one.observation !in found && one.track !in found.values) found[one.observation] = one.track
        }
        return found
    }

    private fun judge(track: Track, observation: Observation, compare: (FloatArray) -> Match?): Judged {
        val face = observation.face
        track.box = face.box
        val embedding = usable(observation)
        if (embedding == null) {
            track.unusable++
            if (track.unusable >= agreeing) track.votes.clear()
            return Judged(face, track.number, Verdict.UNUSABLE, floor.faults(observation.quality).firstOrNull(), null)
        }
        track.unusable = 0
        track.embedding = embedding
        val match = compare(embedding)
        if (match == null) {
            track.votes.clear()
            return Judged(face, track.number, Verdict.NOBODY_ENROLLED, null, null)
        }
        track.votes.addLast(match.person)
        if (track.votes.size > agreeing) track.votes.removeFirst()
        val verdict = when {
            track.votes.size < agreeing || track.votes.any { it != match.person } -> Verdict.UNDECIDED
            match.person != null -> Verdict.PERSON
            else -> Verdict.UNKNOWN
        }
        return Judged(face, track.number, verdict, null, match)
    }

    companion object {
        /** Frames that must agree. */
        const val AGREEING = 3
    }
}
