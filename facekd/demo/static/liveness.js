/** Passive liveness: core's Liveness.kt and LivenessSession.kt in JavaScript, which say the rules, and why. */

import { ActiveCheck, isAhead, isOver } from "./activecheck.js";
import { AGREEING } from "./session.js";

const PAUSE_MS = 3000; // between a failed check and the next

/**
 * The box [left, top, width, height] enlarged by `scale` about its centre, no larger than the picture and moved into it.
 *
 * @returns [left, top, right, bottom] in whole pixels, right and bottom belonging to it; null where the box is none
 */
export function cropRegion([left, top, across, down], width, height, scale) {
  const isBox = across > 0 && down > 0 && [left, top, across, down].every(Number.isFinite);
  if (!isBox || Math.min(width, height) < 2) return null;
  const fitting = Math.min(scale, (width - 1) / across, (height - 1) / down);
  const [x0, x1] = inside(left + across / 2, across * fitting, width - 1);
  const [y0, y1] = inside(top + down / 2, down * fitting, height - 1);
  return [x0, y0, x1, y1];
}

/** The first and last pixel of an interval, moved to lie within 0 and `most`. */
function inside(middle, side, most) {
  let near = middle - side / 2;
  let far = middle + side / 2;
  if (near < 0) [near, far] = [0, far - near];
  if (far > most) [near, far] = [near - (far - most), most];
  return [Math.trunc(near), Math.trunc(far)];
}

/** A region of RGBA pixels as RGB bytes [height, width, 3], bilinear between pixel centres, without averaging. */
export function cropTo({ data, width: pitch }, [left, top, right, bottom], width, height) {
  const columns = taps(left, right, width);
  const rows = taps(top, bottom, height);
  const out = new Uint8ClampedArray(3 * width * height);
  rows.forEach(([above, below, dy], y) => {
    columns.forEach(([before, after, dx], x) => {
      for (let channel = 0; channel < 3; channel++) {
        const at = (row, column) => data[4 * (row * pitch + column) + channel];
        const upper = at(above, before) * (1 - dx) + at(above, after) * dx;
        const lower = at(below, before) * (1 - dx) + at(below, after) * dx;
        out[3 * (y * width + x) + channel] = Math.floor(upper * (1 - dy) + lower * dy + 0.5);
      }
    });
  });
  return out;
}

/** Of each of `count` places: two pixels and the second one's share. */
function taps(from, to, count) {
  const ratio = (to - from + 1) / count;
  return Array.from({ length: count }, (_, i) => {
    const place = Math.min(Math.max((i + 0.5) * ratio - 0.5, 0), to - from);
    const first = Math.floor(place);
    return [from + first, Math.min(from + first + 1, to), place - first];
  });
}

/** RGB bytes -> the network's input, float32 [1, 3, h, w] in its channel order. */
export function livenessInput(crop, { size: [height, width], colour, mean, std }) {
  const area = height * width;
  const out = new Float32Array(3 * area);
  for (let pixel = 0; pixel < area; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      const from = colour === "BGR" ? 2 - channel : channel;
      out[channel * area + pixel] = (crop[3 * pixel + from] - mean[channel]) / std[channel];
    }
  }
  return { data: out, dims: [1, 3, height, width] };
}

/** What a network gives, as probabilities. */
export function distribution(values, isDistribution) {
  if (isDistribution) return [...values];
  const most = Math.max(...values);
  const powers = Array.from(values, (value) => Math.exp(value - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/**
 * Whether the faces of a RecognitionSession may be named. A frame good enough for an embedding is a vote of the face's
 * track; nobody is named whose track is not live. Where a check is demanded, it must be passed once a track.
 *
 * @param demand "off", "passive" or "active"
 * @param threshold live above it
 * @param draw () -> turns of one check, at random
 */
export class LivenessSession {
  #tracks = new Map(); // number -> {votes, missing, check, failedMs}
  #demand;
  #threshold;
  #draw;

  constructor(demand, threshold, draw = randomTurns) {
    this.#demand = demand;
    this.#threshold = threshold;
    this.#draw = draw;
  }

  /**
   * The next frame.
   *
   * @param faces as the recognition session returns them, each with `live`, the score, or null where it was not measured
   * @param threshold cosine above which two embeddings pass as one person
   * @returns of each face: clear, measuring, not_live, turn_left, turn_right, look_ahead, too_late, wrong_turn,
   *          other_person or wait
   */
  look(faces, timeMs, threshold) {
    if (this.#demand === "off") return faces.map(() => "clear");
    const fresh = () => ({ votes: [], missing: 0, check: null, failedMs: 0 });
    this.#tracks = new Map(faces.map(({ track }) => [track, this.#tracks.get(track) ?? fresh()]));
    for (const face of faces) this.#vote(this.#tracks.get(face.track), face);
    if (this.#demand === "active") this.#check(faces, timeMs, threshold);
    return faces.map((face) => this.#clearance(this.#tracks.get(face.track), face));
  }

  #vote(track, { verdict, live }) {
    if (verdict === "unusable" || live === null || live === undefined) {
      track.missing++;
      if (track.missing >= AGREEING) track.votes = [];
      return;
    }
    track.missing = 0;
    track.votes = [...track.votes, live > this.#threshold].slice(-AGREEING);
  }

  #check(faces, timeMs, threshold) {
    for (const { track: number, verdict, quality, embedding } of faces) {
      const track = this.#tracks.get(number);
      if (!isChecking(track)) continue;
      const step = track.check.look(timeMs, quality.yaw, verdict === "unusable" ? null : embedding);
      if (isOver(step)) track.failedMs = timeMs;
    }
    if ([...this.#tracks.values()].some(isChecking)) return;
    const size = ({ box }) => box[2] * box[3];
    const next = faces
      .filter((face) => this.#mayBegin(face, timeMs))
      .reduce((largest, face) => (largest === null || size(face) > size(largest) ? face : largest), null);
    if (next === null) return;
    this.#tracks.get(next.track).check = new ActiveCheck(this.#draw(), next.embedding, timeMs, threshold);
  }

  #mayBegin({ track: number, verdict, quality }, timeMs) {
    const track = this.#tracks.get(number);
    if (verdict !== "person" || liveness(track) !== true || !isAhead(quality.yaw)) return false;
    if (track.check === null) return true;
    return track.check.step !== "passed" && timeMs - track.failedMs >= PAUSE_MS;
  }

  #clearance(track, { verdict, quality }) {
    if (isChecking(track)) return track.check.step;
    if (verdict !== "person" && verdict !== "unknown") return "clear";
    const live = liveness(track);
    if (live === false) return "not_live";
    if (verdict === "unknown") return "clear";
    if (live === null) return "measuring";
    if (this.#demand === "passive" || track.check?.step === "passed") return "clear";
    if (track.check !== null) return track.check.step;
    return isAhead(quality.yaw) ? "wait" : "look_ahead";
  }
}

/** Live, not live, or (null) not decided. */
function liveness({ votes }) {
  return votes.length === AGREEING && votes.every((vote) => vote === votes[0]) ? votes[0] : null;
}

function isChecking({ check }) {
  return check !== null && !isOver(check.step);
}

function randomTurns() {
  return [...crypto.getRandomValues(new Uint8Array(2))].map((byte) => (byte % 2 ? "left" : "right"));
}
