/** An active check: turn the head as asked, measured from landmarks. Core's ActiveCheck.kt says the rules, and why. */

import { cosine } from "./embedding.js";

const LIMIT_MS = 12_000; // for all turns together
const TURNED = 0.3; // of the nose along the line of the eyes, in eye distances
const AHEAD = 0.15; // below it a face looks ahead

export function isOver(step) {
  return ["passed", "too_late", "wrong_turn", "other_person"].includes(step);
}

export function isAhead(yaw) {
  return Math.abs(yaw) < AHEAD;
}

export class ActiveCheck {
  #turns;
  #before;
  #beganMs;
  #threshold;
  #done = 0;
  #isTurning = true;

  /**
   * @param turns "left" and "right", the person's own, in order
   * @param before embedding of who began, looking ahead
   * @param threshold cosine above which two embeddings pass as one person
   */
  constructor(turns, before, beganMs, threshold) {
    this.#turns = turns;
    this.#before = before;
    this.#beganMs = beganMs;
    this.#threshold = threshold;
    this.step = this.#asked(); // what is asked now, or how it ended
  }

  /** The next frame of the track; `embedding` is null where the frame does not suffice for one. */
  look(timeMs, yaw, embedding) {
    if (isOver(this.step)) return this.step;
    const passed = timeMs - this.#beganMs;
    if (!(passed >= 0 && passed <= LIMIT_MS)) this.step = "too_late";
    else if (this.#isTurning) this.step = this.#turn(yaw);
    else if (isAhead(yaw)) this.step = this.#ahead(embedding);
    return this.step;
  }

  #turn(yaw) {
    // The picture is not mirrored when it is analysed: their left is its right.
    const towards = this.#turns[this.#done] === "left" ? yaw : -yaw;
    if (towards <= -TURNED) return "wrong_turn";
    if (!(towards >= TURNED)) return this.step;
    this.#isTurning = false;
    return "look_ahead";
  }

  #ahead(embedding) {
    if (this.#done + 1 < this.#turns.length) {
      this.#done++;
      this.#isTurning = true;
      return this.#asked();
    }
    if (!embedding) return this.step;
    return cosine(this.#before, embedding) > this.#threshold ? "passed" : "other_person";
  }

  #asked() {
    return `turn_${this.#turns[this.#done]}`;
  }
}
