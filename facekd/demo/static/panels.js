/** The lists beside and below the picture. Text goes in as text: a name is never read as markup. */

import { cropCanvas } from "./stage.js";
import { STAGES } from "./statistics.js";

/** One row a face: crop, what was said of it, and its cosine on a scale with the threshold's mark. */
export function showFaces(list, faces, size, threshold) {
  list.replaceChildren(
    ...faces
      .filter((face) => face.crop)
      .map((face) => {
        const row = element("li", { className: face.state });
        const name = element("div", { className: "name" });
        name.append(element("span", { textContent: face.says }));
        row.append(cropCanvas(face.crop, size), name);
        if (face.match) {
          name.append(element("b", { textContent: face.match.score.toFixed(3), title: "cosine" }));
          row.append(meter(face.match.score, threshold));
        }
        return row;
      }),
  );
}

function meter(score, threshold) {
  const place = (cosine) => `${100 * Math.min(1, Math.max(0, cosine))}%`;
  const bar = element("div", { className: "meter", ariaHidden: "true" });
  const filled = element("i");
  filled.style.width = place(score);
  bar.append(filled);
  if (threshold !== null) {
    const mark = element("u", { title: `threshold ${threshold.toFixed(3)}` });
    mark.style.left = place(threshold);
    bar.append(mark);
  }
  return bar;
}

/** Everyone enrolled, since which consent; `actions` are [word, what it does with the name] and become buttons. */
export function showPeople(list, people, size, actions) {
  list.replaceChildren(
    ...people.map(({ name, count, crop, consent }) => {
      const row = element("li");
      const text = element("div", { textContent: name });
      text.append(element("div", { className: "quiet small", textContent: count === 1 ? "1 sample" : `${count} samples` }));
      if (consent) {
        const date = new Date(consent.givenMs).toLocaleDateString("en", { dateStyle: "medium" });
        text.append(element("div", { className: "quiet small", textContent: `consent of ${date}, text ${consent.textVersion}` }));
      }
      const buttons = element("div", { className: "actions" });
      for (const [word, act] of actions) {
        const button = element("button", { type: "button", textContent: word, ariaLabel: `${word} ${name}` });
        button.addEventListener("click", () => act(name));
        buttons.append(button);
      }
      text.append(buttons);
      row.append(cropCanvas(crop, size), text);
      return row;
    }),
  );
}

/** The median of each stage, with its share of the whole. */
export function showTimes(list, medians) {
  const whole = STAGES.reduce((sum, stage) => sum + (medians[stage] ?? 0), 0);
  list.replaceChildren(
    ...STAGES.map((stage) => {
      const value = medians[stage];
      const column = element("div");
      const share = element("div", { className: "share", ariaHidden: "true" });
      const filled = element("i");
      filled.style.width = `${whole > 0 ? (100 * (value ?? 0)) / whole : 0}%`;
      share.append(filled);
      column.append(
        element("dt", { textContent: stage }),
        element("dd", { textContent: value === null ? "–" : value.toFixed(1) }),
        share,
      );
      return column;
    }),
  );
}

function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}
