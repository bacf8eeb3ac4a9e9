/** Detector and face model, beside the page so that it stays fluent. Answers one message at a time. */

import * as ort from "./ort/ort.wasm.min.mjs";
import { align } from "./alignment.js";
import { cosine, mirrored, pack, unit } from "./embedding.js";
import { cropRegion, cropTo, distribution, livenessInput } from "./liveness.js";
import { bestPlaced, decode, searchSides, yunetInput } from "./yunet.js";

// Of the picture that is searched for faces: the camera's must be quick, a chosen one may show a small face.
const CAMERA_SIDE = 640;
const PICTURE_SIDE = 3072;
const LEAST_GOLDEN_COSINE = 0.99;

const answers = { start, look };
let config;
let detector;
let model;
let liveness = []; // sessions of config.liveness.models

self.onmessage = async ({ data: { id, kind, content } }) => {
  try {
    self.postMessage({ id, result: await answers[kind](content) });
  } catch (error) {
    self.postMessage({ id, error: error.message ?? String(error) });
  }
};

/** Loads the networks and runs the golden crop. -> {threads, loadMs, cosine, bound}; cosine null without a golden crop. */
async function start() {
  const begun = performance.now();
  config = await (await fetch("./config.json")).json();
  ort.env.wasm.wasmPaths = new URL("./ort/", self.location.href).href;
  // Beyond four a network this small gains nothing; half the cores are left to the camera and the page.
  const cores = Math.max(1, Math.floor(navigator.hardwareConcurrency / 2));
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, cores) : 1;
  ort.env.logLevel = "error";
  const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
  detector = await ort.InferenceSession.create("./detector.onnx", options);
  const externalData = config.weights.map((path, i) => ({ path, data: `./weights/${i}` }));
  model = await ort.InferenceSession.create("./model.onnx", { ...options, externalData });
  for (const i of config.liveness?.models.keys() ?? []) {
    liveness.push(await ort.InferenceSession.create(`./liveness/${i}.onnx`, options));
  }
  const golden = await selfTest();
  return { config, threads: ort.env.wasm.numThreads, loadMs: performance.now() - begun, ...golden };
}

async function selfTest() {
  if (!config.golden) return { cosine: null, bound: null };
  const { data, width, height } = await pixels(await (await fetch("./golden.png")).blob());
  const crop = new Uint8ClampedArray(3 * width * height);
  for (let i = 0; i < width * height; i++) crop.set(data.subarray(4 * i, 4 * i + 3), 3 * i);
  const found = cosine(await raw(crop), config.golden.embedding);
  const bound = Math.max(LEAST_GOLDEN_COSINE, config.golden.min_cosine);
  if (!(found >= bound)) {
    throw new Error(`on the golden face this browser's cosine is ${found.toFixed(5)}, at least ${bound} is needed`);
  }
  return { cosine: found, bound };
}

/**
 * Faces of a picture, the largest first.
 *
 * @param bitmap ImageBitmap; closed here
 * @param most   how many are embedded
 * @param live   a picture of the camera
 * @param tests  whether liveness is measured
 * @returns {width, height, faces: [{box, landmarks, score, crop, embedding, live}], ms: {detect, align, embed, liveness}};
 *          crop, embedding (float32, length one, f(x) + f(flip(x))) and live (mean probability that it is a live face)
 *          are null beyond `most`, live also where it is not measured
 */
async function look({ bitmap, most, live, tests }) {
  const image = await pixels(bitmap);
  const begun = performance.now();
  const faces = await detect(bitmap, image, live ? CAMERA_SIDE : PICTURE_SIDE);
  bitmap.close();
  const ms = { detect: performance.now() - begun, align: 0, embed: 0, liveness: 0 };
  faces.sort((a, b) => b.box[2] * b.box[3] - a.box[2] * a.box[3]);
  for (const [place, face] of faces.entries()) {
    face.crop = face.embedding = face.live = null;
    if (place >= most) continue;
    const start = performance.now();
    face.crop = align(image, face.landmarks, config.input.size);
    const aligned = performance.now();
    face.embedding = await embed(face.crop);
    ms.align += aligned - start;
    const embedded = performance.now();
    if (tests) face.live = await liveScore(image, face.box);
    ms.embed += embedded - aligned;
    ms.liveness += performance.now() - embedded;
  }
  return { width: image.width, height: image.height, faces, ms };
}

async function detect(bitmap, image, largestSide) {
  const longest = Math.max(image.width, image.height);
  const levels = [];
  for (const side of searchSides(longest, largestSide)) {
    levels.push({ faces: await search(bitmap, image, side / longest), scale: side / longest });
  }
  return bestPlaced(levels);
}

/** Faces of the picture reduced by `scale`, in pixels of the picture. */
async function search(bitmap, image, scale) {
  const fitted = scale < 1 ? await pixels(bitmap, scale) : image;
  const { data, width, height } = yunetInput(fitted);
  const outputs = await run(detector, new ort.Tensor("float32", data, [1, 3, height, width]));
  const scaled = (value, axis) => (value * (axis % 2 ? image.height : image.width)) / (axis % 2 ? fitted.height : fitted.width);
  return decode(outputs, width, height).map(({ box, landmarks, score }) => ({
    box: box.map(scaled),
    landmarks: landmarks.map((point) => point.map(scaled)),
    score,
  }));
}

/** The model's own output for an aligned crop. */
async function raw(crop) {
  const { data, dims } = pack(crop, config.input);
  const outputs = await run(model, new ort.Tensor(config.input.dtype, data, dims));
  const values = outputs[config.output];
  if (values?.length !== dims[0] * config.embedding_width) {
    throw new Error(`the model has no output ${config.output} of ${config.embedding_width} numbers`);
  }
  return values.slice(0, config.embedding_width);
}

/** f(x) + f(flip(x)), of length one: what the thresholds were measured with. */
async function embed(crop) {
  const [plain, flipped] = [await raw(crop), await raw(mirrored(crop, config.input.size))];
  return unit(plain.map((value, i) => value + flipped[i]));
}

/** Mean probability of the networks that the face in `box` is live; null without networks, or a crop. */
async function liveScore(image, box) {
  const found = [];
  for (const [i, spec] of (config.liveness?.models ?? []).entries()) {
    const region = cropRegion(box, image.width, image.height, spec.crop_scale);
    if (region === null) return null;
    const [height, width] = spec.input.size;
    const { data, dims } = livenessInput(cropTo(image, region, width, height), spec.input);
    const outputs = await run(liveness[i], new ort.Tensor("float32", data, dims));
    found.push(distribution(outputs[spec.output], spec.probabilities)[spec.real_class]);
  }
  return found.length === 0 ? null : found.reduce((sum, value) => sum + value, 0) / found.length;
}

async function run(session, tensor) {
  const results = await session.run({ [session.inputNames[0]]: tensor });
  return Object.fromEntries(Object.entries(results).map(([name, value]) => [name, value.data]));
}

/** RGBA pixels of a bitmap or an image file, reduced by `scale`. */
async function pixels(source, scale = 1) {
  const bitmap = source instanceof Blob ? await createImageBitmap(source, { colorSpaceConversion: "none" }) : source;
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}
