/**
 * Five-point alignment: similarity onto ArcFace's template, bilinear, black outside. (x, y) in pixels, the centre of the
 * top left pixel at (0, 0); landmarks left eye, right eye, nose, mouth corners, as the viewer sees them.
 */

const TEMPLATE_112 = [
  [38.2946, 51.6963],
  [73.5318, 51.5014],
  [56.0252, 71.7366],
  [41.5493, 92.3655],
  [70.7299, 92.2041],
];

/** The template for a square of `size`: by size / 112 where divisible, else by size / 128 and moved right by 8. */
export function template(size) {
  if (size % 112 === 0) return TEMPLATE_112.map(([x, y]) => [(x * size) / 112, (y * size) / 112]);
  return TEMPLATE_112.map(([x, y]) => [((x + 8) * size) / 128, (y * size) / 128]);
}

/**
 * Least-squares similarity x' = a x - b y + tx, y' = b x + a y + ty (Umeyama 1991). In the plane its solution without
 * reflection is that of complex least squares, target = z source + t: no SVD is needed.
 */
export function similarity(source, target) {
  const [sx, sy] = mean(source);
  const [tx, ty] = mean(target);
  let along = 0;
  let across = 0;
  let variance = 0;
  source.forEach(([px, py], i) => {
    const [x, y] = [px - sx, py - sy];
    const [u, v] = [target[i][0] - tx, target[i][1] - ty];
    along += x * u + y * v;
    across += x * v - y * u;
    variance += x * x + y * y;
  });
  if (!(variance > 1e-9)) throw new Error("the landmarks lie in one point: the face cannot be aligned");
  const a = along / variance;
  const b = across / variance;
  return { a, b, tx: tx - a * sx + b * sy, ty: ty - b * sx - a * sy };
}

/** RGBA pixels and landmarks -> the aligned face, RGB bytes [size, size, 3]. */
export function align(image, landmarks, size) {
  const { a, b, tx, ty } = similarity(landmarks, template(size));
  const square = a * a + b * b;
  const out = new Uint8ClampedArray(3 * size * size);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const [u, v] = [x - tx, y - ty];
      sample(image, (a * u + b * v) / square, (a * v - b * u) / square, out, 3 * (y * size + x));
    }
  }
  return out;
}

/** Writes the bilinear value at (x, y) to out[at..at + 2]. */
function sample({ data, width, height }, x, y, out, at) {
  const left = Math.floor(x);
  const top = Math.floor(y);
  const dx = x - left;
  const dy = y - top;
  let red = 0;
  let green = 0;
  let blue = 0;
  for (let corner = 0; corner < 4; corner++) {
    const cx = left + (corner & 1);
    const cy = top + (corner >> 1);
    if (cx < 0 || cy < 0 || cx >= width || cy >= height) continue;
    const weight = (corner & 1 ? dx : 1 - dx) * (corner >> 1 ? dy : 1 - dy);
    const from = 4 * (cy * width + cx);
    red += weight * data[from];
    green += weight * data[from + 1];
    blue += weight * data[from + 2];
  }
  out[at] = Math.floor(red + 0.5);
  out[at + 1] = Math.floor(green + 0.5);
  out[at + 2] = Math.floor(blue + 0.5);
}

function mean(points) {
  const sum = points.reduce(([x, y], [u, v]) => [x + u, y + v], [0, 0]);
  return sum.map((value) => value / points.length);
}
