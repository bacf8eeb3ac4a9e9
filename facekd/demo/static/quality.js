/** What a picture must be for enrolment: a bad sample harms every later comparison. The limits are facekd's choice. */

const LEAST_EYE_DISTANCE = 30; // pixels; aligned faces have 35
const LARGEST_ROLL_DEGREES = 20;
const LARGEST_YAW = 0.25; // the nose beside the eyes' middle, in eye distances
const PITCH = [0.3, 0.75]; // the nose between the eyes' line (0) and the mouth's (1)
const LEAST_SHARPNESS = 40; // variance of the Laplacian of the aligned crop (Pech-Pacheco 2000)

/** What speaks against these faces as a sample, in a person's words; null when they will do. */
export function refusal(faces, size) {
  if (faces.length === 0) return "no face was found";
  if (faces.length > 1) return "there is more than one face";
  const { rollDegrees, yaw, pitch, eyeDistance } = pose(faces[0].landmarks);
  if (!(eyeDistance >= LEAST_EYE_DISTANCE)) return "the face is too small: come closer";
  if (!(Math.abs(yaw) <= LARGEST_YAW)) return "the face is turned to the side: look at the camera";
  if (!(Math.abs(rollDegrees) <= LARGEST_ROLL_DEGREES)) return "the head is tilted: hold it upright";
  if (!(pitch >= PITCH[0] && pitch <= PITCH[1])) return "the face looks up or down: look at the camera";
  if (sharpness(faces[0].crop, size) < LEAST_SHARPNESS) return "the picture is blurred: hold still, more light";
  return null;
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

/** Variance of the 4-neighbour Laplacian of the brightness, borders left out. */
export function sharpness(crop, size) {
  const grey = Float32Array.from({ length: size * size }, (_, i) =>
    Math.round(0.299 * crop[3 * i] + 0.587 * crop[3 * i + 1] + 0.114 * crop[3 * i + 2]),
  );
  let [sum, squares] = [0, 0];
  for (let y = 1; y < size - 1; y++) {
    for (let x = 1; x < size - 1; x++) {
      const at = y * size + x;
      const value = grey[at - 1] + grey[at + 1] + grey[at - size] + grey[at + size] - 4 * grey[at];
      sum += value;
      squares += value * value;
    }
  }
  const count = (size - 2) ** 2;
  return squares / count - (sum / count) ** 2;
}
