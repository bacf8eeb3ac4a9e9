/** From an aligned crop to an embedding, as config.json describes the model. */

/** RGB bytes [size, size, 3] -> what the file takes: normalised or not, NCHW or NHWC, `batch` times the same face. */
export function pack(crop, { size, colour, mean, std, layout, dtype, takes_pixels: takesPixels, batch }) {
  const area = size * size;
  const one = new (dtype === "uint8" ? Uint8Array : Float32Array)(3 * area);
  for (let pixel = 0; pixel < area; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      const from = colour === "BGR" && !takesPixels ? 2 - channel : channel;
      const value = crop[3 * pixel + from];
      const raw = takesPixels || dtype === "uint8";
      one[layout === "NHWC" ? 3 * pixel + channel : channel * area + pixel] = raw
        ? value
        : (value - mean[channel]) / std[channel];
    }
  }
  const data = new one.constructor(batch * one.length);
  for (let i = 0; i < batch; i++) data.set(one, i * one.length);
  const image = layout === "NHWC" ? [size, size, 3] : [3, size, size];
  return { data, dims: [batch, ...image] };
}

/** The crop mirrored left to right. */
export function mirrored(crop, size) {
  const out = new Uint8ClampedArray(crop.length);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const from = 3 * (y * size + size - 1 - x);
      out.set(crop.subarray(from, from + 3), 3 * (y * size + x));
    }
  }
  return out;
}

/** `vector` divided by its length. */
export function unit(vector) {
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  if (!(length > 0 && Number.isFinite(length))) throw new Error(`an embedding of length ${length} has no direction`);
  return vector.map((value) => value / length);
}

/** Cosine of two vectors, -1 to 1. */
export function cosine(a, b) {
  if (a.length !== b.length) throw new Error(`embeddings of ${a.length} and ${b.length} numbers cannot be compared`);
  let [dot, aa, bb] = [0, 0, 0];
  a.forEach((value, i) => {
    dot += value * b[i];
    aa += value * value;
    bb += b[i] * b[i];
  });
  return dot / Math.sqrt(aa * bb);
}
