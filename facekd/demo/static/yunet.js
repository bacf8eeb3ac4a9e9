/**
 * YuNet (Wu et al. 2023) as OpenCV's FaceDetectorYN runs it: photograph in the top left corner, black up to the next
 * multiple of 32, BGR, 0 to 255.
 */

const STRIDES = [8, 16, 32];

// As facekd/data/detection.py, which says why.
const SMALLEST_SEARCH_PIXELS = 320;
const MOST_FACE_PIXELS = 300;
const BEST_FACE_PIXELS = 160;

/** Longer sides in pixels at which a picture of `longest` pixels is searched, the largest first. */
export function searchSides(longest, largest) {
  const sides = [Math.min(longest, largest)];
  while (sides.at(-1) > SMALLEST_SEARCH_PIXELS) sides.push(Math.floor(sides.at(-1) / 2));
  return sides;
}

/**
 * One face for each that was found at one or more sizes: that whose size there was nearest to BEST_FACE_PIXELS.
 *
 * @param levels [{faces, scale}] the largest size first; faces in pixels of the picture
 * @returns faces by falling score
 */
export function bestPlaced(levels, { nmsThreshold = 0.3 } = {}) {
  const found = [];
  for (const [number, { faces, scale }] of levels.entries()) {
    for (const face of faces) {
      const size = scale * Math.sqrt(Math.max(face.box[2] * face.box[3], 1e-6));
      if (size > MOST_FACE_PIXELS && number < levels.length - 1) continue;
      found.push({ face, distance: Math.abs(Math.log(size / BEST_FACE_PIXELS)) });
    }
  }
  const kept = [];
  for (const { face } of found.sort((a, b) => a.distance - b.distance)) {
    if (kept.every((other) => overlap(face.box, other.box, (value) => value) <= nmsThreshold)) kept.push(face);
  }
  return kept.sort((a, b) => b.score - a.score);
}

/** RGBA pixels -> {data: float32 [1, 3, height, width], width, height}. */
export function yunetInput({ data, width, height }) {
  const right = Math.ceil(width / 32) * 32;
  const bottom = Math.ceil(height / 32) * 32;
  const area = right * bottom;
  const out = new Float32Array(3 * area);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = 4 * (y * width + x);
      const to = y * right + x;
      out[to] = data[from + 2];
      out[area + to] = data[from + 1];
      out[2 * area + to] = data[from];
    }
  }
  return { data: out, width: right, height: bottom };
}

/**
 * Faces by falling score from the outputs cls_S, obj_S, bbox_S, kps_S.
 *
 * score = sqrt(cls obj); a box's centre and landmarks are offsets from its cell in strides, its size the exponential.
 *
 * @param outputs name -> Float32Array
 * @param width, height of the padded input
 * @returns [{box: [left, top, width, height], landmarks: [[x, y] x 5], score}], pixels of the input
 */
export function decode(outputs, width, height, { scoreThreshold = 0.6, nmsThreshold = 0.3 } = {}) {
  const found = [];
  for (const stride of STRIDES) {
    const columns = width / stride;
    const cells = columns * (height / stride);
    const [cls, obj, bbox, kps] = ["cls", "obj", "bbox", "kps"].map((head) => outputs[`${head}_${stride}`]);
    for (let cell = 0; cell < cells; cell++) {
      const score = Math.sqrt(clamp(cls[cell]) * clamp(obj[cell]));
      if (score < scoreThreshold) continue;
      const column = cell % columns;
      const row = Math.floor(cell / columns);
      const [dx, dy, w, h] = bbox.subarray(4 * cell, 4 * cell + 4);
      const across = Math.exp(w) * stride;
      const down = Math.exp(h) * stride;
      const landmarks = [0, 1, 2, 3, 4].map((i) => [
        (kps[10 * cell + 2 * i] + column) * stride,
        (kps[10 * cell + 2 * i + 1] + row) * stride,
      ]);
      const box = [(column + dx) * stride - across / 2, (row + dy) * stride - down / 2, across, down];
      found.push({ box, landmarks, score });
    }
  }
  return suppress(found, nmsThreshold);
}

/** The best box of each overlapping group (greedy). */
function suppress(faces, threshold) {
  const kept = [];
  for (const face of faces.sort((a, b) => b.score - a.score)) {
    if (kept.every((other) => overlap(other.box, face.box) <= threshold)) kept.push(face);
  }
  return kept;
}

/** Intersection over union of boxes, by default on whole pixels, as OpenCV's Rect2i has them. */
export function overlap(a, b, rounded = Math.trunc) {
  const [al, at, aw, ah] = a.map(rounded);
  const [bl, bt, bw, bh] = b.map(rounded);
  const across = Math.max(0, Math.min(al + aw, bl + bw) - Math.max(al, bl));
  const down = Math.max(0, Math.min(at + ah, bt + bh) - Math.max(at, bt));
  const union = aw * ah + bw * bh - across * down;
  return union <= 0 ? 1 : (across * down) / union;
}

function clamp(value) {
  return Math.min(1, Math.max(0, value));
}
