// Runs the page's session, quality measures and their limits on core's vectors: node run_session.mjs STATIC RESOURCES
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { inflateSync } from "node:zlib";

const [, , folder, resources] = process.argv;
const load = (name) => import(pathToFileURL(`${folder}/${name}`));
const { RecognitionSession } = await load("session.js");
const { LivenessSession, cropRegion, cropTo, distribution } = await load("liveness.js");
const { People } = await load("people.js");
const quality = await load("quality.js");
const json = (name) => JSON.parse(readFileSync(`${resources}/${name}`, "utf8"));

const sessions = json("session.json").map(({ threshold, asked, gallery, frames }) => {
  const people = new People();
  for (const { person, embedding } of gallery) people.add(person, { embedding, crop: null });
  const session = new RecognitionSession();
  return frames.map((frame) => {
    const compare = (embedding) => people.match(embedding, threshold, asked);
    const { picture, faces } = session.look(frame, frame.time_ms, frame.faces, threshold, compare);
    if (picture !== frame || faces.some((face, i) => face.box !== frame.faces[i].box)) throw new Error("another picture");
    return faces.map(({ track, verdict, fault, match }) => ({
      track,
      verdict,
      fault,
      person: match?.person ?? null,
      score: match?.score ?? null,
    }));
  });
});

const liveness = json("liveness.json").map(({ demand, threshold, live_above: liveAbove, draws, gallery, frames }) => {
  const people = new People();
  for (const { person, embedding } of gallery) people.add(person, { embedding, crop: null });
  const session = new RecognitionSession();
  const checked = new LivenessSession(demand, liveAbove, () => draws.shift());
  return frames.map((frame) => {
    const { faces } = session.look(frame, frame.time_ms, frame.faces, threshold, (e) => people.match(e, threshold));
    return checked.look(faces, frame.time_ms, threshold);
  });
});

const reviews = json("enrolment.json").map(({ person, threshold, samples, stored }) => {
  const people = new People();
  for (const { person: name, embedding } of stored) people.add(name, { embedding, crop: null });
  return people.review(person, samples, threshold);
});

const vectors = json("vectors.json");
const pixels = inflateSync(readFileSync(`${resources}/faces.bin`));
const side = 112;
const measures = vectors.detector.faces.map(({ landmarks }, i) => {
  const from = 3 * vectors.scene ** 2 + 3 * side * side * i;
  return quality.quality({ landmarks, crop: new Uint8ClampedArray(pixels.subarray(from, from + 3 * side * side)) }, side);
});
const scene = { data: new Uint8ClampedArray(4 * vectors.scene ** 2), width: vectors.scene, height: vectors.scene };
for (let i = 0; i < vectors.scene ** 2; i++) scene.data.set(pixels.subarray(3 * i, 3 * i + 3), 4 * i);
const crops = {
  regions: vectors.liveness.regions.map(({ box, width, height, scale }) => cropRegion(box, width, height, scale)),
  pixels: vectors.liveness.crops.map(({ box, scale, size }) => [
    ...cropTo(scene, cropRegion(box, vectors.scene, vectors.scene, scale), size, size),
  ]),
  softmax: distribution(vectors.liveness.logits, false),
  none: [cropRegion([0, 0, 0, 9], 100, 100, 2.7), cropRegion([NaN, 0, 9, 9], 100, 100, 2.7)],
};
console.log(JSON.stringify({ liveness, crops, sessions, reviews, measures, floors: { PROBE: quality.PROBE, ENROLMENT: quality.ENROLMENT } }));
