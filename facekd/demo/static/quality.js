/** How well a picture shows a face. The measures and limits are those of core's Quality.kt, which says why. */

/** For a face that is to be named. */
export const PROBE = { eyeDistance: 20, yaw: 0.4, rollDegrees: 30, pitch: [0.25, 0.8], brightness: 20, sharpness: 8 };

/** For a sample that is kept: a bad one harms every later comparison. Aligned faces have 35 pixels between the eyes. */
export const ENROLMENT = { eyeDistance: 30, yaw: 0.25, rollDegrees: 20, pitch: [0.3, 0.75], brightness: 40, sharpness: 40 };

/** Fault -> what is wrong, and what somebody before the camera can do about it. */
export const WORDS = {
  too_small: ["the face is too small", "come closer"],
  turned: ["the face is turned to the side", "look at the camera"],
  tilted: ["the head is tilted", "hold your head upright"],
  nodded: ["the face looks up or down", "look at the camera"],
  too_dark: ["the picture is too dark", "more light"],
  blurred: ["the picture is blurred", "hold still"],
};

/** {eyeDistance, rollDegrees, yaw, pitch, brightness, sharpness} of a face; `crop` is aligned to size x size. */
export function quality({ landmarks, crop }, size) {
  return { ...pose(landmarks), brightness: brightness(crop), sharpness: sharpness(crop, size) };
}

/** What `quality` lacks against `floor`, the gravest first; empty when it will do. */
export function faults(measured, floor) {
  // "not within" rather than "beyond": what is not a number is refused too. A tiny face has no pose worth a word.
  if (!(measured.eyeDistance >= floor.eyeDistance)) return ["too_small"];
  const found = [];
  if (!(Math.abs(measured.yaw) <= floor.yaw)) found.push("turned");
  if (!(Math.abs(measured.rollDegrees) <= floor.rollDegrees)) found.push("tilted");
  if (!(measured.pitch >= floor.pitch[0] && measured.pitch <= floor.pitch[1])) found.push("nodded");
  if (!(measured.brightness >= floor.brightness)) found.push("too_dark");
  if (!(measured.sharpness >= floor.sharpness)) found.push("blurred");
  return found;
}

/** What speaks against these faces as a sample, in a person's words; null when they will do. */
export function refusal(faces, size) {
  if (faces.length === 0) return "no face was found";
  if (faces.length > 1) return "there is more than one face";
  return WORDS[faults(quality(faces[0], size), ENROLMENT)[0]]?.join(": ") ?? null;
}

/** Where a face looks, from its five landmarks alone. */
export function pose([left, right, nose, mouthLeft, mouthRight]) {
  const roll = Math.atan2(right[1] - left[1], right[0] - left[0]);
  const eyeDistance = Math.hypot(right[0] - left[0], right[1] - left[1]);
  const eyes = [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2];
  const mouth = [(mouthLeft[0] + mouthRight[0]) / 2, (mouthLeft[1] + mouthRight[1]) / 2];
  const along = (p) => (p[0] - eyes[0]) * Math.cos(roll) + (p[1] - eyes[1]) * Math.sin(roll);
  const down = (p) => (p[1] - eyes[1]) * Math.cos(roll) - (p[0] - eyes[0]) * Math.sin(roll);
  return { rollDegrees: (roll * 180) / Math.PI, yaw: along(nose) / eyeDistance, pitch: down(nose) / down(mouth), eyeDistance };
}

function grey(crop) {
  return Float32Array.from(
    { length: crop.length / 3 },
    (_, i) => 0.299 * crop[3 * i] + 0.587 * crop[3 * i + 1] + 0.114 * crop[3 * i + 2],
  );
}

/** Mean grey level of RGB bytes (BT.601), 0 to 255. */
export function brightness(crop) {
  return grey(crop).reduce((sum, value) => sum + value, 0) / (crop.length / 3);
}

/** Variance of the 4-neighbour Laplacian of the brightness (Pech-Pacheco 2000), borders left out. */
export function sharpness(crop, size) {
  const levels = grey(crop);
  let [sum, squares] = [0, 0];
  for (let y = 1; y < size - 1; y++) {
    for (let x = 1; x < size - 1; x++) {
      const at = y * size + x;
      const value = levels[at - 1] + levels[at + 1] + levels[at - size] + levels[at + size] - 4 * levels[at];
      sum += value;
      squares += value * value;
    }
  }
  const count = (size - 2) ** 2;
  return squares / count - (sum / count) ** 2;
}
