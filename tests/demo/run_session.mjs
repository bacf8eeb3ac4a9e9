// Runs the page's session, quality measures and their limits on core's vectors: node run_session.mjs STATIC RESOURCES
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { inflateSync } from "node:zlib";

const [, , folder, resources] = process.argv;
const load = (name) => import(pathToFileURL(`${folder}/${name}`));
const { RecognitionSession } = await load("session.js");
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
console.log(JSON.stringify({ sessions, reviews, measures, floors: { PROBE: quality.PROBE, ENROLMENT: quality.ENROLMENT } }));
