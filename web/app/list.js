/** Several pictures: a grid of covered thumbnails with their scores, and the scores as CSV. */

import { byId, make, shown } from "./dom.js";
import { view } from "./picture.js";
import { UNREADABLE } from "../lib/policy.js";

const THUMB = 160;

/** The list; entries keep the file, so that one can be opened again, and a thumbnail, so that memory stays small. */
export class List {
  /** @param {object} reading says what is flagged
   *  @param {(file: File, name: string) => void} open */
  constructor(reading, open) {
    Object.assign(this, { reading, open, entries: [], sorted: false });
    byId("clear").onclick = () => this.clear();
    byId("csv").onclick = () => this.download();
    byId("by-score").onclick = () => {
      this.sorted = !this.sorted;
      byId("by-score").ariaPressed = String(this.sorted);
      this.draw();
    };
  }

  /** Add a picture that was scored, or a file with the reason why it was not. */
  add(file, name, picture, result, reason) {
    const thumb = picture && view(picture, THUMB);
    this.entries.push({ file, name, thumb, result, reason });
  }

  clear() {
    this.entries = [];
    this.draw();
  }

  /** Draw anew, as after a change of the threshold. */
  draw() {
    byId("list").hidden = this.entries.length === 0;
    const scored = this.entries.filter((entry) => entry.result);
    const value = (entry) => (entry.result ? entry.result.score ?? Math.max(...entry.result.probabilities) : -1);
    const order = this.sorted ? [...this.entries].sort((a, b) => value(b) - value(a)) : this.entries;
    byId("tiles").replaceChildren(...order.map((entry) => make("li", {}, this.tile(entry))));
    const flagged = scored.filter((entry) => entry.result.score !== null && this.reading.isFlagged(entry.result.score)).length;
    byId("list-words").textContent =
      `${this.entries.length} files, ${scored.length} scored` +
      `${this.decided(flagged)}. ` +
      "The thumbnails stay covered; choose one to look at it.";
    byId("csv-text").value = this.csv();
  }

  /** How many of the list are flagged, or what the policy does with how many. */
  decided(flagged) {
    const { hasScore, policy, threshold } = this.reading;
    if (!hasScore) return "";
    if (!policy) return `, ${flagged} flagged from ${shown(threshold)}`;
    const counts = new Map();
    for (const { result } of this.entries) {
      const action = result?.action ?? UNREADABLE;
      counts.set(action, (counts.get(action) ?? 0) + 1);
    }
    return [...counts].map(([action, count]) => `, ${action}: ${count}`).join("");
  }

  tile({ file, name, thumb, result, reason }) {
    if (!result) {
      return make(
        "button",
        { type: "button", disabled: true, dataset: this.reading.policy ? { action: UNREADABLE } : {} },
        make("span", { className: "thumb" }),
        ...(this.reading.policy ? [make("span", { className: "row" }, make("span", { className: "flag", textContent: UNREADABLE }))] : []),
        make("span", { className: "filename", textContent: name }),
        make("span", { className: "why", textContent: reason }),
      );
    }
    const canvas = make("canvas", { width: thumb.width, height: thumb.height, ariaHidden: "true" });
    canvas.getContext("2d").drawImage(thumb, 0, 0);
    const best = result.probabilities.indexOf(Math.max(...result.probabilities));
    const flagged = this.reading.hasScore && this.reading.isFlagged(result.score);
    const words = result.action ?? (this.reading.hasScore ? (flagged ? "flagged" : "not flagged") : this.reading.manifest.classes[best]);
    const number = shown(result.score ?? result.probabilities[best]);
    return make(
      "button",
      { type: "button", dataset: { flagged, ...(result.action ? { action: result.action } : {}) }, onclick: () => this.open(file, name) },
      make("span", { className: "thumb" }, canvas),
      make("span", { className: "row" }, make("span", { className: "num", textContent: number }), make("span", { className: "flag", textContent: words })),
      make("span", { className: "filename", textContent: name }),
    );
  }

  /** A row a file, errors too. A name that a spreadsheet would take for a formula gets an apostrophe before it. */
  csv() {
    const { classes } = this.reading.manifest;
    const { policy } = this.reading;
    const judged = (action) => (policy ? [action] : []);
    const head = ["file", "score", "threshold", "flagged", ...judged("action"), ...classes.map((name) => `p(${name})`), "error"];
    const rows = this.entries.map(({ name, result, reason }) => {
      if (!result) return [name, "", "", "", ...judged(UNREADABLE), ...classes.map(() => ""), reason];
      const flagged = this.reading.hasScore ? String(this.reading.isFlagged(result.score)) : "";
      const score = this.reading.hasScore ? result.score.toFixed(6) : "";
      const threshold = this.reading.hasScore && !policy ? String(this.reading.threshold) : "";
      return [name, score, threshold, flagged, ...judged(result.action), ...result.probabilities.map((value) => value.toFixed(6)), ""];
    });
    return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  }

  download() {
    const url = URL.createObjectURL(new Blob([this.csv()], { type: "text/csv" }));
    make("a", { href: url, download: "scores.csv" }).click();
    // The browser takes the file after this turn; a minute is more than it needs.
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}

function cell(text) {
  const inert = /^[=+\-@\t\r]/.test(text) && !/^-?[\d.]+$/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}
