/** What the network was measured on, what was not measured, and where it comes from. */

import { byId, make } from "./dom.js";

const FIRST = new Set(["n", "auroc", "auprc", "accuracy", "recall_at_1fpr", "recall_at_5fpr", "ece", "top1"]);
const CAPTION = "In brackets: 95 % intervals by bootstrap over groups. The numbers of val are those the checkpoint and the threshold were chosen by.";

/** Fill the section from the manifest. */
export function showMeasured(manifest) {
  const { data, network } = manifest;
  const parts = [make("p", { className: "lede", textContent: network.summary })];
  if (data.is_proxy) {
    parts.push(make("p", { className: "caution" }, make("strong", { textContent: `The data, ${data.name}, stand in for the subject. ` }), "No number here says anything about NSFW accuracy."));
  }
  if (manifest.metrics.length) {
    const first = manifest.metrics.filter((metric) => FIRST.has(metric.key));
    const rest = manifest.metrics.filter((metric) => !FIRST.has(metric.key));
    if (first.length) parts.push(table(manifest, first, CAPTION));
    if (rest.length) parts.push(make("details", {}, make("summary", { textContent: "The other numbers" }), table(manifest, rest, "")));
  }
  if (manifest.slices.length) parts.push(slices(manifest));
  parts.push(make("p", { textContent: calibration(manifest) }));
  parts.push(
    make("div", { className: "columns" }, make("div", {}, make("h3", { textContent: "What was not measured" }), make("ul", {}, ...manifest.not_measured.map((textContent) => make("li", { textContent }))))),
    make("dl", { className: "facts" }, ...facts(manifest).map(([term, words]) => make("div", {}, make("dt", { textContent: term }), make("dd", {}, make("code", { textContent: words }))))),
  );
  byId("measured").replaceChildren(...parts);
  byId("foot").textContent = `${manifest.run.name}, made with figleaf ${manifest.figleaf_version}. Research on classifiers, and sorting for people who can overrule it: not made to decide alone about anybody's pictures.`;
}

function table({ data }, metrics, words) {
  const splits = ["val", "test"].filter((split) => metrics.some((metric) => metric[split]));
  const head = make("tr", {}, make("th", { scope: "col" }), ...splits.map((split) => make("th", { scope: "col", textContent: `${split}, ${data.name}` })));
  const rows = metrics.map((metric) => make("tr", {}, make("th", { scope: "row", textContent: metric.name }), ...splits.map((split) => value(metric[split]))));
  const caption = words ? [make("caption", { textContent: words })] : [];
  return make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Metrics" }, make("table", {}, ...caption, make("thead", {}, head), make("tbody", {}, ...rows)));
}

function value(cell) {
  if (!cell) return make("td", { textContent: "" });
  const interval = cell.low === undefined ? [] : [" ", make("small", { textContent: `[${cell.low.toFixed(3)}, ${cell.high.toFixed(3)}]` })];
  return make("td", {}, cell.count ? cell.value.toLocaleString("en") : cell.value.toFixed(3), ...interval);
}

function slices({ data, slices: found }) {
  const rows = found.map(({ name, n, auroc }) => make("tr", {}, make("th", { scope: "row", textContent: name }), make("td", { textContent: n === null ? "" : n.toLocaleString("en") }), make("td", { textContent: auroc.toFixed(3) })));
  const head = ["", "pictures", `AUROC, test, ${data.name}`].map((textContent) => make("th", { scope: "col", textContent }));
  return make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "By kind of picture" }, make("table", {}, make("caption", { textContent: "By kind of picture, where it holds safe and unsafe ones." }), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
}

function calibration({ metrics, policy }) {
  if (policy) {
    return `Scores are calibrated: logits are divided by ${policy.temperature.toPrecision(3)}, the temperature of the policy. The numbers above are of the scores before that; those that only ask for the order are the same for two classes.`;
  }
  const error = metrics.find((metric) => metric.key === "ece")?.test?.value;
  const measured = error === undefined ? "" : ` On the test pictures a score is off the share of unsafe ones by ${(100 * error).toFixed(1)} points on average.`;
  return `Scores are the network's own: they were not calibrated.${measured}`;
}

function facts({ run, data, licence, git_commit: commit, network }) {
  return [
    ["Run", run.id],
    ["Data", `${data.name}, ${data.hash.slice(0, 16)}`],
    ["Code", commit.slice(0, 16) || "unknown"],
    ["Licence of the weights", licence],
    ["Weights", `${network.megabytes.toFixed(1)} MB, ${network.dtype}`],
    ["Resize rule", network.resize_rule],
  ];
}
