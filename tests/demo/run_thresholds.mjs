// What the page's thresholds.js makes of core's vectors: node run_thresholds.mjs STATIC GALLERY.JSON
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , folder, vectors] = process.argv;
const { basis, oneIn, sentence, ThresholdTable } = await import(pathToFileURL(`${folder}/thresholds.js`));
const { People } = await import(pathToFileURL(`${folder}/people.js`));
const { tables, cases } = JSON.parse(readFileSync(vectors, "utf8"));

const answers = cases.map(({ table, fpir, samples }) => {
  const said = ThresholdTable.of(tables[table]).forGallery(fpir, samples);
  if (said.kept) {
    return { kept: true, fpir: said.fpir, threshold_cos: said.cos, at_worst: said.atWorst, one_in: oneIn(said.fpir) };
  }
  return {
    kept: false,
    fpir: said.fpir,
    best_one_in: said.best === null ? null : oneIn(said.best),
    most_samples: said.mostSamples,
    people_needed: said.peopleNeeded,
  };
});

const made = ThresholdTable.of(tables.made);
const pairs = ThresholdTable.of(tables["pairs alone"]);
const sentences = {
  kept: sentence(made.forGallery(1e-3, 111), 37),
  refused: sentence(pairs.forGallery(1e-3, 200), 200),
  hopeless: sentence(pairs.forGallery(1e-3, 1000), 1000),
  usual: sentence(pairs.forGallery(null, 4), 2),
  verify: sentence(made.forGallery(1e-3, 1), 2, "Ada"),
  empty: sentence(pairs.forGallery(1e-4, 0), 0),
  basis: [basis(made), basis(pairs)],
};

// Somebody who resembles Ada more than two strangers do, but not as much as a gallery asks for.
const people = new People();
people.add("Ada", { embedding: [1, 0], crop: null });
const reviews = [0.5, 0.7].map((ofGallery) => people.review("Bea", [[0.6, 0.8]], 0.5, ofGallery).kind);
const pairCos = [1e-2, 1e-3, 1e-4, null].map((fpir) => pairs.pairCos(fpir));
console.log(JSON.stringify({ answers, sentences, reviews, pairCos, empty: ThresholdTable.of({ thresholds: [] }) }));
