/** The page: camera or picture, the question asked of each face, enrolment. */

import { LivenessSession } from "./liveness.js";
import { offerDemands, warning, withheld } from "./livenesspanel.js";
import { showFaces, showPeople, showTimes } from "./panels.js";
import { People } from "./people.js";
import { NamingPromise } from "./promise.js";
import { quality, refusal, WORDS } from "./quality.js";
import { Recogniser } from "./recogniser.js";
import { RecognitionSession } from "./session.js";
import { drawScene } from "./stage.js";
import { StageTimes } from "./statistics.js";
import { ThresholdTable } from "./thresholds.js";

const MOST_FACES = 5; // a crowd must not stop the picture
const CAMERA_SAMPLES = 3;
const SAMPLE_INTERVAL_MS = 700; // apart in time, so that the samples differ
const CONSENT_VERSION = 1; // of the text in index.html: a change of its meaning needs another

const $ = (id) => document.getElementById(id);
const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
const people = new People();
const promise = new NamingPromise(people, $("promise"), $("promise_row"), $("promise_note"));
const recogniser = new Recogniser();
const times = new StageTimes();
let size; // of an aligned crop, in pixels
let camera = null; // {stream, mirrored}
const session = new RecognitionSession();
let liveness = new LivenessSession("off", 0);
let livenessConfig = null; // {threshold, models} of config.json; null where the model has no networks
let seen = { bitmap: null, faces: [], isStill: false }; // one picture with its own faces: nothing is drawn over another
let shown = []; // those faces with what is said of them
let enrolling = null; // {name, consent, wanted, samples, lastMs}
let pictureConsent = null; // {name, consent} of the picture that is being chosen

// What the networks allow, once they are there.

try {
  const started = await recogniser.start();
  size = started.config.input.size;
  describe(started);
  promise.offer(ThresholdTable.of(started.config));
  livenessConfig = started.config.liveness;
  offerDemands($("liveness"), livenessConfig !== null);
  demandLiveness();
  for (const id of ["camera", "picture", "enrol_camera", "enrol_picture"]) $(id).disabled = false;
  $("loading").textContent = "Start the camera, or look at a picture.";
} catch (error) {
  $("loading").textContent = `This cannot run here: ${error.message}`;
}
showTimes($("times"), times.medians());

function describe({ config, threads, loadMs, cosine }) {
  const test = cosine === null ? "no golden face to test itself with" : `self-test cosine ${cosine.toFixed(5)}`;
  const plural = threads === 1 ? "1 thread" : `${threads} threads`;
  $("model").textContent = `${config.name} · ${config.precision} · ${config.embedding_width} numbers a face\n${test} · ${plural} · loaded in ${(loadMs / 1000).toFixed(1)} s`;
}

$("liveness").addEventListener("change", demandLiveness);

function demandLiveness() {
  const demand = $("liveness").value;
  liveness = new LivenessSession(demand, livenessConfig?.threshold ?? 0);
  put("liveness_warning", warning(demand, livenessConfig !== null));
  $("liveness_limits").hidden = livenessConfig === null;
}

/** The person of "Is it them?"; null while everyone is asked for. */
function askedFor() {
  return question() === "verify" && $("whom").value !== "" ? $("whom").value : null;
}

// Looking at pictures.

$("camera").addEventListener("click", () => (camera ? stopCamera() : startCamera()));

async function startCamera() {
  $("camera").disabled = true; // until the browser has asked and was answered
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: "user" } });
    const facing = stream.getVideoTracks()[0].getSettings().facingMode;
    camera = { stream, mirrored: facing !== "environment" };
    stream.getVideoTracks()[0].addEventListener("ended", stopCamera); // unplugged, or taken back
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stopCamera();
    return say(`The camera cannot be used: ${error.message}`, true);
  } finally {
    $("camera").disabled = false;
  }
  session.reset();
  $("camera").textContent = "Stop the camera";
  say("");
  watch(camera);
}

function stopCamera() {
  for (const track of camera?.stream.getTracks() ?? []) track.stop();
  camera = null;
  enrolling = null;
  if (!seen.isStill) judge({ ...seen, faces: [] });
  $("camera").textContent = "Start the camera";
}

/** A frame is taken whenever the worker is free, and shown once it is analysed: a later one would carry its names. */
async function watch(own) {
  while (camera === own) {
    const begun = performance.now();
    try {
      const bitmap = await createImageBitmap(video);
      const taken = performance.now() - begun;
      const { faces, ms } = await recogniser.look(await createImageBitmap(bitmap), MOST_FACES, {
        live: true,
        tests: $("liveness").value !== "off",
      });
      if (camera !== own) return bitmap.close();
      judge({ bitmap, faces, isStill: false }, begun, { camera: taken, ...ms });
      if (enrolling) takeSample(faces);
    } catch (error) {
      stopCamera();
      return say(`The picture cannot be analysed: ${error.message}`, true);
    }
    await new Promise(requestAnimationFrame);
  }
}

chooseFile("picture", "picture_file", lookAt);

/** Shows one picture and its faces in place of the camera. */
async function lookAt(file) {
  const picture = await read(file);
  if (!picture) return;
  stopCamera();
  judge({ ...picture, isStill: true }, 0, { camera: picture.readMs, ...picture.ms });
  say(picture.faces.length ? "" : "No face was found.");
}

/** {bitmap, faces, ms, readMs} of a picture's file; null and a word to the user where it is none. */
async function read(file) {
  const begun = performance.now();
  try {
    const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
    const readMs = performance.now() - begun;
    return { bitmap, readMs, ...(await recogniser.look(await createImageBitmap(bitmap), MOST_FACES)) };
  } catch (error) {
    say(`${file.name} cannot be looked at: ${error.message}`, true);
    return null;
  }
}

// Naming.

/** Says of each face of a picture who it is, and shows both; `ms` are the times of the stages before. */
function judge(picture, timeMs = 0, ms = null) {
  const begun = performance.now();
  const asked = askedFor();
  const holds = promise.limits(asked);
  const embedded = picture.faces.filter((face) => face.embedding);
  const judging = picture.isStill ? new RecognitionSession(1) : session; // a picture that stands alone has no others
  const { faces } = judging.look(
    picture.bitmap,
    timeMs,
    embedded.map((face) => ({ ...face, quality: quality(face, size) })),
    promise.pairLimit,
    // What cannot be promised is not said.
    (embedding) => (holds?.kept === false ? null : people.match(embedding, holds?.cos ?? null, asked)),
  );
  // A picture that somebody chose shows no live face: nothing is tested there.
  const clearances = picture.isStill ? faces.map(() => "clear") : liveness.look(faces, timeMs, promise.pairLimit);
  const rest = picture.faces.filter((face) => !face.embedding); // of a crowd
  if (!picture.isStill && faces.some(({ verdict }) => verdict === "person" || verdict === "unknown")) acknowledge();
  const named = faces.map((face, i) => ({ ...face, ...(withheld(clearances[i]) ?? words(face, asked, holds, picture.isStill)) }));
  const said = [...named, ...rest.map(unnamed)];
  if (ms) {
    times.add({ ...ms, match: performance.now() - begun });
    showTimes($("times"), times.medians());
  }
  show(picture, said);
}

/** Draws a picture with its own faces, in place of the last one. */
function show(picture, faces) {
  if (seen.bitmap !== picture.bitmap) seen.bitmap?.close();
  seen = picture;
  shown = faces;
  if (seen.bitmap) {
    $("empty").hidden = true;
    const isMirrored = !seen.isStill && (camera?.mirrored ?? true);
    drawScene($("view"), seen.bitmap, seen.bitmap.width, seen.bitmap.height, faces, isMirrored);
  }
  const holds = promise.limits(askedFor());
  showFaces($("faces"), faces, size, holds?.kept ? holds.cos : null);
  // For those who hear the page: who is there, when that changes.
  put("heard", faces.map(({ says }) => says).join(", "));
}

function unnamed(face) {
  return { ...face, match: null, state: "neutral", label: "", says: "A face" };
}

/** What a verdict of the session is called. */
function words({ verdict, fault, match }, asked, holds, isStill) {
  if (verdict === "nobody_enrolled" && people.count() > 0) {
    return { state: "neutral", label: "not named", says: "Not named: the promise is not supported" };
  }
  if (verdict === "nobody_enrolled") return { state: "neutral", label: "", says: "A face; nobody is enrolled" };
  if (verdict === "unusable") {
    const text = WORDS[fault][isStill ? 0 : 1];
    return { state: "neutral", label: text, says: `Not named: ${text}` };
  }
  const score = match.score.toFixed(2);
  if (holds === null) return { state: "neutral", label: `like ${match.closest} ${score}`, says: `Most like ${match.closest}` };
  if (verdict === "undecided") return { state: "neutral", label: "hold still", says: "Not named yet: hold still" };
  const isThem = verdict === "person";
  const state = isThem ? "known" : "unknown";
  if (asked !== null) return { state, label: `${isThem ? "yes" : "no"} ${score}`, says: isThem ? `Yes, ${asked}` : `Not ${asked}` };
  const name = isThem ? match.person : "unknown";
  return { state, label: `${name} ${score}`, says: name };
}

function question() {
  return document.querySelector("input[name=question]:checked").value;
}

for (const input of document.querySelectorAll("input[name=question]")) input.addEventListener("change", refresh);
$("whom").addEventListener("change", refresh);
$("promise").addEventListener("change", refresh);

/** After a change of the question or of the people: the lists, and a still picture, say what holds now. */
function refresh() {
  const list = people.list();
  const chosen = $("whom").value;
  $("whom").replaceChildren(...list.map(({ name }) => new Option(name, name, false, name === chosen)));
  $("whom_row").hidden = question() !== "verify";
  showPeople($("people"), list, size, [
    ["Add a sample", addSample],
    ["Rename", rename],
    ["Export", exportData],
    ["Delete", (name) => forget(() => people.remove(name), `${name} is deleted.`)],
  ]);
  $("nobody").hidden = list.length > 0;
  $("forget").hidden = list.length < 2;
  promise.say(askedFor());
  session.reset();
  if (seen.isStill) judge(seen);
  else show(seen, shown.map(unnamed)); // The next frame answers.
}

// Enrolling and forgetting.

$("enrol").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  if (name === "") return say("A name is needed.", true);
  const consent = await consentOf(name);
  if (!consent) return;
  if (event.submitter?.value === "picture") {
    pictureConsent = { name, consent };
    return $("enrol_file").click();
  }
  await enrolFromCamera(name, consent, CAMERA_SAMPLES);
});

async function enrolFromCamera(name, consent, wanted) {
  if (!camera && !$("camera").disabled) await startCamera();
  if (camera) enrolling = { name, consent, wanted, samples: [], lastMs: 0 };
}

/** Asked of each person, once for each version of the text; null when they do not agree. */
async function consentOf(name) {
  const given = people.consentOf(name, CONSENT_VERSION);
  if (given) return given;
  for (const place of document.querySelectorAll("#consent .who")) place.textContent = name;
  const isGiven = (await ask("consent")) === "agree";
  return isGiven ? { givenMs: Date.now(), textVersion: CONSENT_VERSION } : null;
}

/** Opens a dialogue; the value of the button that closed it. */
async function ask(id) {
  const dialog = $(id);
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue;
}

async function addSample(name) {
  const consent = await consentOf(name);
  if (consent) await enrolFromCamera(name, consent, 1);
}

async function rename(name) {
  $("new_name").value = name;
  if ((await ask("rename")) !== "save") return;
  const next = $("new_name").value.trim();
  if (next === "" || next === name) return;
  if (!people.rename(name, next)) return say(`Somebody is enrolled as ${next} already.`, true);
  forget(() => {}, `${name} is now ${next}.`);
}

function exportData(name) {
  const blob = new Blob([JSON.stringify(people.data(name), null, 1)], { type: "application/json" });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: "facekd-person.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  say(`The data of ${name} are in facekd-person.json.`);
}

function takeSample(faces) {
  const wrong = refusal(faces, size);
  if (wrong) return progress(`Not usable: ${wrong}.`);
  if (performance.now() - enrolling.lastMs < SAMPLE_INTERVAL_MS) return;
  enrolling.lastMs = performance.now();
  enrolling.samples.push(faces[0]);
  if (enrolling.samples.length < enrolling.wanted) {
    return progress(`Hold still: ${enrolling.samples.length} of ${enrolling.wanted} samples.`);
  }
  const { name, samples, consent } = enrolling;
  const found = reviewed(name, samples);
  if (found.kind === "odd") {
    samples.splice(found.sample, 1);
    return say(`Sample ${found.sample + 1} shows another person than the others. It was dropped; one more is needed.`, true);
  }
  enrolling = null;
  enrol(name, samples, consent);
}

function reviewed(name, samples) {
  return people.review(name, samples.map(({ embedding }) => embedding), promise.pairLimit, promise.galleryLimit);
}

$("enrol_file").addEventListener("change", async () => {
  const [file] = $("enrol_file").files;
  $("enrol_file").value = "";
  if (!pictureConsent) return;
  const { name, consent } = pictureConsent;
  const picture = file && (await read(file));
  if (!picture) return;
  const wrong = refusal(picture.faces, size);
  if (wrong) say(`${file.name} is not usable: ${wrong}.`, true);
  else await enrol(name, [picture.faces[0]], consent);
  picture.bitmap.close();
});

/** Keeps samples of one person, if nothing speaks against it; who looks like somebody enrolled is asked about. */
async function enrol(name, samples, consent) {
  const { kind, person } = reviewed(name, samples);
  if (kind === "name_taken") {
    return say(`Another person is enrolled as ${name}. Nothing was stored: choose another name.`, true);
  }
  let owner = name;
  if (kind === "known") {
    for (const place of document.querySelectorAll("#known .who")) place.textContent = name;
    for (const place of document.querySelectorAll("#known .known_as")) place.textContent = person;
    const answer = await ask("known");
    if (answer !== "two" && answer !== "same") return say("Nothing was stored.");
    if (answer === "same") owner = person;
  }
  for (const sample of samples) people.add(owner, { ...sample, quality: quality(sample, size) }, consent);
  $("name").value = "";
  say(`${owner} is enrolled.`);
  refresh();
}

$("forget").addEventListener("click", () => {
  enrolling = null; // what was begun is forgotten too
  pictureConsent = null;
  forget(() => people.clear(), "Everyone is deleted.");
});

function forget(change, message) {
  change();
  say(message);
  refresh();
}

// Small things.

function chooseFile(button, input, then) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", () => {
    const [file] = $(input).files;
    $(input).value = "";
    if (file) then(file);
  });
}

/** Writes only what changed: a status is read aloud each time it is written. */
function put(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

/** Something was done, or went wrong. */
function say(text, isWrong = false) {
  put("status", text);
  $("status").classList.toggle("wrong", isWrong);
}

/** How far something is: an error stays until it is pressed, a decision shows that it is over, or something is done. */
function progress(text) {
  if (!$("status").classList.contains("wrong")) say(text);
}

function acknowledge() {
  if ($("status").classList.contains("wrong")) say("");
}

$("status").addEventListener("click", acknowledge);
