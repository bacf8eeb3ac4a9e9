/** Who is enrolled, and whom a face resembles. In the page's memory alone: closing or reloading it forgets everyone. */

import { cosine } from "./embedding.js";

export class People {
  #samples = []; // {name, embedding, crop}

  add(name, { embedding, crop }) {
    this.#samples.push({ name, embedding, crop });
  }

  remove(name) {
    this.#samples = this.#samples.filter((sample) => sample.name !== name);
  }

  clear() {
    this.#samples = [];
  }

  /** [{name, count, crop}] in alphabetical order, with each one's first crop. */
  list() {
    const names = [...new Set(this.#samples.map((sample) => sample.name))].sort((a, b) => a.localeCompare(b));
    return names.map((name) => {
      const own = this.#samples.filter((sample) => sample.name === name);
      return { name, count: own.length, crop: own[0].crop };
    });
  }

  /**
   * The most similar sample of all (1:N), or of `name` (1:1).
   *
   * @param threshold cosine above which it is that person; null: nobody decides
   * @returns {closest, score, person: closest, or null where it is nobody}; null when there is nobody to compare with
   */
  match(embedding, threshold, name = null) {
    let best = null;
    for (const sample of this.#samples) {
      if (name !== null && sample.name !== name) continue;
      const score = cosine(embedding, sample.embedding);
      if (best === null || score > best.score) best = { closest: sample.name, score };
    }
    return best && { ...best, person: threshold !== null && best.score > threshold ? best.closest : null };
  }
}
