/** The parts of one picture's way, as the overlay names them. */
export const STAGES = ["camera", "detect", "align", "embed", "liveness", "match"];

/** p50 over the last 100 pictures of each stage, in milliseconds. */
export class StageTimes {
  #values = Object.fromEntries(STAGES.map((stage) => [stage, []]));

  add(ms) {
    for (const [stage, value] of Object.entries(ms)) {
      this.#values[stage].push(value);
      if (this.#values[stage].length > 100) this.#values[stage].shift();
    }
  }

  /** Stage -> median, null before its first value. */
  medians() {
    return Object.fromEntries(STAGES.map((stage) => [stage, median(this.#values[stage])]));
  }
}

function median(values) {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
