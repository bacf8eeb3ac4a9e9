/** How often a stranger may be named: what the user chooses, and the threshold that it takes for who is enrolled. */

import { basis, oneIn, PROMISES, sentence } from "./thresholds.js";

const NO_TABLE =
  "This model has no measured thresholds, so nobody is named: the page shows whom a face resembles most.";

export class NamingPromise {
  #table = null;
  #people;
  #select;
  #row;
  #note;

  /**
   * @param people enrolled
   * @param select where the user chooses; an empty value leaves it to the table
   * @param row hidden where there is nothing to choose
   * @param note says what holds
   */
  constructor(people, select, row, note) {
    this.#people = people;
    this.#select = select;
    this.#row = row;
    this.#note = note;
  }

  /** @param table of the model; null where it has none */
  offer(table) {
    this.#table = table;
    for (const fpir of PROMISES) this.#select.add(new Option(`1 in ${oneIn(fpir).toLocaleString("en")}`, String(fpir)));
    this.#row.hidden = table === null;
    this.say(null);
  }

  get #fpir() {
    return this.#select.value === "" ? null : Number(this.#select.value);
  }

  /** What the promise comes to (ThresholdTable.forGallery) for everyone, or for one person; null without a table. */
  limits(person) {
    return this.#table?.forGallery(this.#fpir, this.#people.count(person)) ?? null;
  }

  /** Cosine above which two embeddings pass as one person; null without a table. */
  get pairLimit() {
    return this.#table?.pairCos(this.#fpir) ?? null;
  }

  /** Cosine above which somebody of all who are enrolled is recognised; that of a pair where nothing can be promised. */
  get galleryLimit() {
    const everyone = this.limits(null);
    return everyone?.kept ? everyone.cos : this.pairLimit;
  }

  /** Writes what holds now. @param person of the question "Is it them?"; null for "Who is it?" */
  say(person) {
    const answer = this.limits(person);
    const text = answer
      ? `${sentence(answer, this.#people.list().length, person)} ${basis(this.#table)}`
      : NO_TABLE;
    if (this.#note.textContent !== text) this.#note.textContent = text;
    this.#note.classList.toggle("wrong", answer?.kept === false);
  }
}
