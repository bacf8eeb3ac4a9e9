/** Who is enrolled, and whom a face resembles. In the page's memory alone: closing or reloading it forgets everyone. */

import { cosine } from "./embedding.js";

export class People {
  #samples = []; // {name, embedding, crop, consent, quality, createdMs}

  /**
   * @param sample {embedding, crop, quality}
   * @param consent {givenMs, textVersion}
   */
  add(name, { embedding, crop, quality = null }, consent = null) {
    this.#samples.push({ name, embedding, crop, quality, consent, createdMs: Date.now() });
  }

  /** What `name` agreed to; null where nothing, or another version of the text. */
  consentOf(name, textVersion) {
    return this.#of(name).findLast(({ consent }) => consent?.textVersion === textVersion)?.consent ?? null;
  }

  /** False where somebody has the new name: two people must not become one. */
  rename(old, name) {
    if (this.#of(name).length > 0) return false;
    for (const sample of this.#of(old)) sample.name = name;
    return true;
  }

  /** Everything that is kept of one person, for a file that they can ask for. */
  data(name) {
    const samples = this.#of(name).map(({ createdMs, consent, quality, embedding }) => ({
      created_ms: createdMs,
      consent: consent && { given_ms: consent.givenMs, text_version: consent.textVersion },
      quality,
      embedding: [...embedding],
    }));
    return { schema_version: 1, person: name, pictures: "one aligned crop a sample, in this page's memory", samples };
  }

  /**
   * Whether new samples may be kept under `name`: core's EnrolmentReview.kt says the rules, and why.
   *
   * @param threshold cosine above which two pass as one person; null: nothing can be said
   * @param ofGallery cosine above which somebody of another name is recognised
   * @returns {kind: "fine", "odd", "name_taken" or "known", sample: the odd one, person: who it is already}
   */
  review(name, embeddings, threshold, ofGallery = threshold) {
    const said = (kind, sample = null, person = null) => ({ kind, sample, person });
    if (threshold === null) return said("fine");
    const scores = embeddings.map((a, i) => embeddings.flatMap((b, j) => (i === j ? [] : [cosine(a, b)])));
    if (scores.flat().some((score) => !(score > threshold))) {
      const means = scores.map((row) => row.reduce((sum, score) => sum + score, 0) / row.length);
      return said("odd", means.lastIndexOf(Math.min(...means)));
    }
    const own = this.#of(name);
    const others = this.#samples.filter((sample) => !own.includes(sample));
    const passes = (embedding) => nearest(embedding, own)?.score > threshold;
    if (own.length > 0 && !embeddings.every(passes)) return said("name_taken");
    const known = embeddings.map((e) => nearest(e, others)).filter((found) => found?.score > ofGallery);
    known.sort((a, b) => b.score - a.score);
    return known.length > 0 ? said("known", null, known[0].name) : said("fine");
  }

  #of(name) {
    return this.#samples.filter((sample) => sample.name === name);
  }

  /** Samples of everyone, or of `name`. */
  count(name = null) {
    return name === null ? this.#samples.length : this.#of(name).length;
  }

  remove(name) {
    this.#samples = this.#samples.filter((sample) => sample.name !== name);
  }

  clear() {
    this.#samples = [];
  }

  /** [{name, count, crop, consent}] in alphabetical order, with each one's first crop and consent. */
  list() {
    const names = [...new Set(this.#samples.map((sample) => sample.name))].sort((a, b) => a.localeCompare(b));
    return names.map((name) => {
      const own = this.#of(name);
      return { name, count: own.length, crop: own[0].crop, consent: own[0].consent };
    });
  }

  /**
   * The most similar sample of all (1:N), or of `name` (1:1).
   *
   * @param threshold cosine above which it is that person; null: nobody decides
   * @returns {closest, score, person: closest, or null where it is nobody}; null when there is nobody to compare with
   */
  match(embedding, threshold, name = null) {
    const best = nearest(embedding, name === null ? this.#samples : this.#of(name));
    if (best === null) return null;
    const { name: closest, score } = best;
    return { closest, score, person: threshold !== null && score > threshold ? closest : null };
  }
}

/** {name, score} of the most similar sample; null when there is none. */
function nearest(embedding, samples) {
  let best = null;
  for (const sample of samples) {
    const score = cosine(embedding, sample.embedding);
    if (best === null || score > best.score) best = { name: sample.name, score };
  }
  return best;
}
