/** Drawing: the picture, the boxes, the crops. */

const COLOURS = { known: "#53d69b", unknown: "#ffb264", neutral: "#b9c6ff" };

const LEAST_SIDE = 720; // small pictures are drawn larger, so that words on them stay small
const LEAST_TEXT = 13; // on the screen, in CSS pixels: a telephone shows the picture reduced

/** Draws `source` and its faces; a mirrored picture keeps its words readable. */
export function drawScene(canvas, source, width, height, faces, isMirrored) {
  const scale = Math.max(1, LEAST_SIDE / Math.max(width, height));
  const size = { width: Math.round(width * scale), height: Math.round(height * scale) };
  if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.setTransform(isMirrored ? -scale : scale, 0, 0, scale, isMirrored ? size.width : 0, 0);
  context.drawImage(source, 0, 0, width, height);
  context.setTransform(scale, 0, 0, scale, 0, 0);
  const line = Math.max(width, height) / 260;
  const reduced = Math.min(canvas.clientWidth / width, canvas.clientHeight / height) || 1;
  const textSize = Math.max(line * 7, LEAST_TEXT / reduced);
  for (const face of faces) drawFace(context, face, width, line, textSize, isMirrored);
}

function drawFace(context, { box, landmarks, label, state }, width, line, textSize, isMirrored) {
  const flip = (x) => (isMirrored ? width - x : x);
  const [left, top, across, down] = [isMirrored ? width - box[0] - box[2] : box[0], box[1], box[2], box[3]];
  context.strokeStyle = context.fillStyle = COLOURS[state];
  context.lineWidth = line;
  context.lineCap = "round";
  const arm = Math.min(across, down) / 4;
  context.beginPath();
  for (const [x, y, sx, sy] of [
    [left, top, 1, 1],
    [left + across, top, -1, 1],
    [left + across, top + down, -1, -1],
    [left, top + down, 1, -1],
  ]) {
    context.moveTo(x, y + sy * arm);
    context.arcTo(x, y, x + sx * arm, y, arm / 2);
    context.lineTo(x + sx * arm, y);
  }
  context.stroke();
  for (const [x, y] of landmarks) {
    context.beginPath();
    context.arc(flip(x), y, line * 0.8, 0, 2 * Math.PI);
    context.fill();
  }
  if (label) drawLabel(context, label, [left, top, down], width, textSize);
}

/** Dark words on the state's colour, above the box or, where there is no room, below it. */
function drawLabel(context, text, [left, top, down], width, size) {
  context.font = `600 ${size}px system-ui, sans-serif`;
  const across = context.measureText(text).width + size;
  const x = Math.max(0, Math.min(left, width - across));
  const above = top - size * 2;
  const y = above >= 0 ? above : top + down + size * 0.4;
  context.beginPath();
  context.roundRect(x, y, across, size * 1.6, size * 0.4);
  context.fill();
  context.fillStyle = "#10141b";
  context.textBaseline = "middle";
  context.fillText(text, x + size / 2, y + size * 0.83);
}

/** A canvas that shows an aligned crop (RGB bytes). */
export function cropCanvas(crop, size) {
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  canvas.ariaHidden = "true";
  const image = new ImageData(size, size);
  for (let i = 0; i < size * size; i++) {
    image.data.set(crop.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
