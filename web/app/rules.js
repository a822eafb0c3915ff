/** What a policy does, in words: its actions, and from which score on each is taken. */

import { make, percent } from "./dom.js";
import { at } from "./operating.js";

/** An action as a sentence, of which the first part stands out. */
export const SENTENCES = {
  block: ["Block.", "It is not to be shown."],
  blur: ["Blur.", "It is to be shown only to those who ask for it."],
  review: ["Review.", "People are to decide: the score is in the band where the policy leaves it to them."],
  pass: ["Pass.", "It may be shown."],
};

/** The rules as items of a list; with the validation pictures' curve what each does, alone or with those above it. */
export function ruleItems({ policy, curve, data }) {
  const items = policy.rules.map(({ action, at_least: least, why }) => {
    const words = [make("b", { textContent: action }), ` from ${Number(least.toFixed(4))}`];
    if (why) words.push(`: ${why}`);
    if (curve) {
      const point = at(curve, least);
      words.push(`. Of the validation pictures of ${data.name} it reaches, with what is above it, ${percent(point.recall)} of the unsafe and ${percent(point.fpr)} of the safe.`);
    }
    return make("li", { dataset: { action } }, ...words);
  });
  if (policy.rules.at(-1).action !== "pass") {
    items.push(make("li", { dataset: { action: "pass" } }, make("b", { textContent: "pass" }), " below; what cannot be read is reviewed."));
  }
  return items;
}
