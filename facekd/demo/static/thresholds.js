/** The threshold that keeps a promise for a gallery: core's GalleryThreshold.kt in JavaScript, which says the rule. */

export const PROMISES = [1e-2, 1e-3, 1e-4]; // shares of the strangers' searches that the user can choose
export const USUAL = 1e-3;
const ROUNDING = 1e-9;
const FEWEST_ABOVE = 30; // pairs that `facekd calibrate` asks for above a threshold, at rates of which ten are in a decade

export class ThresholdTable {
  /**
   * @param source faces that it was measured on
   * @param entries [{far, cos, farHigh}] by falling rate; farHigh null where nobody measured it
   * @param restsOn {identities, pairs} of a calibration; null for thresholds of single comparisons
   */
  constructor(source, entries, restsOn = null) {
    Object.assign(this, { source, entries, restsOn });
  }

  /** The table of a model's config: its calibration, or its thresholds of lists of pairs; null where it has neither. */
  static of({ calibration = null, thresholds }) {
    if (calibration) {
      const entries = calibration.thresholds.map((one) => ({ far: one.far, cos: one.threshold_cos, farHigh: one.far_high }));
      return new ThresholdTable(calibration.faces, entries, {
        identities: calibration.identities,
        pairs: calibration.impostor_pairs,
      });
    }
    if (thresholds.length === 0) return null;
    const sorted = [...thresholds].sort((a, b) => b.far - a.far || a.threshold_cos - b.threshold_cos);
    const entries = new Map(); // of each rate the strictest, and never a less strict one at a lower rate
    let strictest = -Infinity;
    for (const { far, threshold_cos: cos, dataset } of sorted) {
      strictest = Math.max(strictest, cos);
      entries.set(far, { far, cos: strictest, farHigh: null, dataset });
    }
    const source = [...new Set([...entries.values()].map(({ dataset }) => dataset))].join(", ");
    return new ThresholdTable(source, [...entries.values()]);
  }

  get lowestFar() {
    return this.entries.at(-1).far;
  }

  /** The entry of the largest rate that is not above `far`; null where the table ends before. */
  thresholdFor(far) {
    return this.entries.find((entry) => entry.far <= far * (1 + ROUNDING)) ?? null;
  }

  /**
   * The threshold that names a stranger in at most the share `fpir` of the searches of so many samples.
   *
   * @param fpir null: USUAL, or the least that the table supports where it does not support that
   * @returns {kept: true, fpir, samples, cos, atWorst}, or {kept: false, fpir, samples, best (null: every search),
   *          mostSamples that it would support, peopleNeeded for a calibration that supports it}
   */
  forGallery(fpir, samples) {
    const compared = Math.max(1, samples);
    const asked = fpir ?? USUAL;
    const best = compared * this.lowestFar;
    const kept = (share, { cos, farHigh }) => {
      const atWorst = farHigh === null ? null : Math.min(1, farHigh * compared);
      return { kept: true, fpir: share, samples: compared, cos, atWorst };
    };
    const entry = this.thresholdFor(asked / compared);
    if (entry) return kept(asked, entry);
    if (fpir === null && best < 1) return kept(best, this.entries.at(-1));
    return {
      kept: false,
      fpir: asked,
      samples: compared,
      best: best < 1 ? best : null,
      mostSamples: Math.floor((asked / this.lowestFar) * (1 + ROUNDING)),
      peopleNeeded: peopleFor(asked / compared),
    };
  }

  /** Above it two embeddings pass as one person: in following a face, and in the samples of one enrolment. */
  pairCos(fpir) {
    const one = this.forGallery(fpir, 1);
    return one.kept ? one.cos : this.entries.at(-1).cos;
  }
}

function peopleFor(far) {
  return Math.ceil((1 + Math.sqrt(1 + (8 * FEWEST_ABOVE * 10 ** 0.1) / far)) / 2);
}

/** The 1,000 of "1 in 1,000": never more than the rate is worth. */
export function oneIn(rate) {
  return Math.floor((1 + ROUNDING) / rate);
}

const number = (value) => value.toLocaleString("en");
const count = (value, one, many) => `${number(value)} ${value === 1 ? one : many}`;

/**
 * What holds, in words.
 *
 * @param answer of forGallery
 * @param people enrolled
 * @param person of the question "Is it them?"; null for "Who is it?"
 */
export function sentence(answer, people, person = null) {
  const samples = count(answer.samples, "sample", "samples");
  const enrolled = people === 0 ? "nobody enrolled yet" : `${count(people, "person", "people")} (${samples})`;
  const gallery = person === null ? enrolled : `${person} (${samples})`;
  if (answer.kept) {
    const worst = answer.atWorst === null ? "" : `, at worst 1 in ${number(oneIn(answer.atWorst))} (95 % interval)`;
    return `1 in ${number(oneIn(answer.fpir))} strangers, ${gallery}. Threshold ${answer.cos.toFixed(3)}${worst}.`;
  }
  const best =
    answer.best === null ? "no promise is supported" : `the model supports at best 1 in ${number(oneIn(answer.best))}`;
  const fewer =
    answer.mostSamples < 1 ? "" : `enrol at most ${count(answer.mostSamples, "sample", "samples")}, `;
  const whom = people === 0 ? samples : gallery;
  return (
    `1 in ${number(oneIn(answer.fpir))} strangers cannot be promised for ${whom}: ${best}. Nobody is named. Choose ` +
    `another promise, ${fewer}or calibrate the model on about ${number(answer.peopleNeeded)} people (facekd calibrate).`
  );
}

/** What a table rests on, in words. */
export function basis({ source, restsOn }) {
  if (restsOn === null) {
    return (
      `Measured on ${source} for one comparison only: it holds for one person with one sample. For more, the rate is ` +
      "divided by the samples. facekd calibrate measures lower rates, with intervals."
    );
  }
  const { identities, pairs } = restsOn;
  return `Measured on ${source}: ${number(identities)} people, ${number(pairs)} pairs. Other people may differ.`;
}
