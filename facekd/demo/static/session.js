/** Names from several frames instead of one: core's Session.kt in JavaScript. */

import { cosine } from "./embedding.js";
import { faults, PROBE } from "./quality.js";
import { overlap } from "./yunet.js";

export const AGREEING = 3; // frames that must agree
const LEAST_OVERLAP = 0.3;
const LONGEST_GAP_MS = 2000;

/**
 * A face belongs to a track where its box overlaps the track's last one and, where both have an embedding, these pass as
 * one person by the threshold in use. A track that a frame does not continue is over. A frame above the floor of quality
 * is a vote; a verdict needs the last AGREEING votes to agree, this frame's among them. A frame below the floor shows no
 * name. Session.kt says the rest, and why.
 */
export class RecognitionSession {
  #tracks = []; // {number, box, embedding, votes, unusable}
  #lastMs = null;
  #begun = 0;
  #agreeing;

  /** @param agreeing frames that must agree; 1 for a picture that stands alone */
  constructor(agreeing = AGREEING) {
    this.#agreeing = agreeing;
  }

  /** Forgets every track: the question, the people or the camera changed. */
  reset() {
    this.#tracks = [];
    this.#lastMs = null;
  }

  /**
   * The next frame.
   *
   * @param picture what the faces were found in; returned with them, so that no label meets another picture
   * @param timeMs of any clock that only goes forward
   * @param seen [{box, quality, embedding}]
   * @param threshold cosine above which two embeddings pass as one person; null: unknown, overlap alone decides
   * @param compare embedding -> {person (null: nobody's), ...} or null when there is nobody to compare with
   * @returns {picture, faces: [{...seen, track, verdict, fault, match}]}; verdict is unusable (fault says why),
   *          undecided, person, unknown or nobody_enrolled
   */
  look(picture, timeMs, seen, threshold, compare) {
    const gap = timeMs - this.#lastMs;
    if (this.#lastMs === null || !(gap >= 0 && gap <= LONGEST_GAP_MS)) this.#tracks = [];
    this.#lastMs = timeMs;
    const judged = seen.map((face) => ({ ...face, faults: faults(face.quality, PROBE) }));
    const followed = this.#follow(judged, threshold);
    this.#tracks = judged.map(
      (face) => followed.get(face) ?? { number: this.#begun++, box: null, embedding: null, votes: [], unusable: 0 },
    );
    return { picture, faces: judged.map((face, i) => this.#judge(this.#tracks[i], face, compare)) };
  }

  #follow(seen, threshold) {
    const pairings = [];
    for (const track of this.#tracks) {
      for (const face of seen) {
        const shared = overlap(track.box, face.box, (value) => value);
        const known = track.embedding !== null && isUsable(face) && threshold !== null;
        if (shared < LEAST_OVERLAP || (known && !(cosine(track.embedding, face.embedding) > threshold))) continue;
        pairings.push({ track, face, shared });
      }
    }
    const found = new Map();
    const taken = new Set();
    for (const { track, face } of pairings.sort((a, b) => b.shared - a.shared)) {
      if (found.has(face) || taken.has(track)) continue;
      found.set(face, track);
      taken.add(track);
    }
    return found;
  }

  #judge(track, { faults: wrong, ...face }, compare) {
    track.box = face.box;
    const said = (verdict, fault = null, match = null) => ({ ...face, track: track.number, verdict, fault, match });
    if (wrong.length > 0 || !face.embedding) {
      track.unusable++;
      if (track.unusable >= this.#agreeing) track.votes = [];
      return said("unusable", wrong[0] ?? null);
    }
    track.unusable = 0;
    track.embedding = face.embedding;
    const match = compare(face.embedding);
    if (match === null) {
      track.votes = [];
      return said("nobody_enrolled");
    }
    track.votes = [...track.votes, match.person].slice(-this.#agreeing);
    const agreed = track.votes.length === this.#agreeing && track.votes.every((vote) => vote === match.person);
    if (!agreed) return said("undecided", null, match);
    return said(match.person === null ? "unknown" : "person", null, match);
  }
}

function isUsable({ faults: wrong, embedding }) {
  return wrong.length === 0 && Boolean(embedding);
}
