/** What the page says of liveness: the choice, the warning, the words over a face. */

const CHOICES = [
  ["passive", "passive: each picture"],
  ["active", "passive, and turn the head as asked"],
  ["off", "off"],
];

const WARNINGS = {
  absent: "The model has no liveness networks (facekd export --liveness): a photograph of somebody passes as them.",
  off: "Liveness is off: a photograph of somebody passes as them.",
};

const OVER_A_FACE = {
  measuring: "hold still",
  not_live: "not a live face?",
  turn_left: "turn your head to your left",
  turn_right: "turn your head to your right",
  look_ahead: "look at the camera",
  too_late: "not confirmed: it took too long",
  wrong_turn: "not confirmed: turned the other way",
  other_person: "not confirmed: another person",
  wait: "wait: one at a time",
};

/** Fills the choice: passive to begin with; without networks only off. */
export function offerDemands(select, hasNetworks) {
  for (const [value, text] of CHOICES) if (hasNetworks || value === "off") select.add(new Option(text, value));
  select.disabled = !hasNetworks;
}

/** What to warn of, empty where nothing. */
export function warning(demand, hasNetworks) {
  if (!hasNetworks) return WARNINGS.absent;
  return demand === "off" ? WARNINGS.off : "";
}

/** What stands over a face in place of a name; null where liveness allows the name. */
export function withheld(clearance) {
  if (clearance === "clear") return null;
  const text = OVER_A_FACE[clearance];
  return { match: null, state: "neutral", label: text, says: `Not named: ${text}` };
}
