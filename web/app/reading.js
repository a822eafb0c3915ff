/** The score and what it means: the number, the decision, the scale with the validation pictures, every class. */

import { byId, draw, make, percent, shown } from "./dom.js";
import { at, histogram } from "./operating.js";
import { SENTENCES, ruleItems } from "./rules.js";

const BINS = 50;
const [WIDTH, HEIGHT, MIDDLE, BAR] = [1000, 136, 74, 50];
const SCALE = "Validation pictures by their score: unsafe ones above the line, safe ones below. What is flagged is drawn full.";
const NO_CURVE = "No scores of validation pictures come with this network, so nobody can say what a threshold does.";

/** The reading of one network; `show(result)` puts an answer on it. */
export class Reading {
  /** @param {object} manifest what the page was built with
   *  @param {(threshold: number) => void} onThreshold called when the person moves it */
  constructor(manifest, onThreshold) {
    this.manifest = manifest;
    this.curve = manifest.operating;
    this.policy = manifest.policy;
    this.threshold = this.policy ? leastFlagged(this.policy) : manifest.threshold ?? 0.5;
    this.score = null;
    this.hasScore = manifest.unsafe.length > 0;
    byId("operating").hidden = !this.hasScore;
    if (!this.hasScore) return;
    byId("scale-words").textContent = this.curve ? SCALE : "";
    if (this.policy) {
      this.showRules();
      return;
    }
    this.slider = byId("threshold");
    this.slider.value = this.threshold;
    this.slider.oninput = () => {
      this.move(Number(this.slider.value));
      onThreshold(this.threshold);
    };
    byId("presets").replaceChildren(...this.presets(onThreshold));
    this.move(this.threshold);
  }

  /** In place of a threshold to move: the policy was made with a promise, which another one would not keep. */
  showRules() {
    byId("operating-title").textContent = "What the policy does";
    byId("threshold-row").hidden = byId("axis").hidden = byId("presets").hidden = byId("point").hidden = true;
    byId("rules").hidden = false;
    byId("rules").replaceChildren(...ruleItems({ policy: this.policy, curve: this.curve, data: this.manifest.data }));
    this.drawScale();
  }

  presets(onThreshold) {
    return (this.curve?.presets ?? []).map(({ name, threshold }) =>
      make("button", {
        type: "button",
        textContent: name,
        dataset: { threshold },
        onclick: () => {
          this.move(threshold);
          onThreshold(threshold);
        },
      }),
    );
  }

  /** Flag from this score on. */
  move(threshold) {
    this.threshold = threshold;
    this.slider.value = threshold;
    this.slider.setAttribute("aria-valuetext", this.effect());
    byId("point").replaceChildren(...this.point());
    for (const button of byId("presets").children) {
      button.ariaPressed = String(Number(button.dataset.threshold) === threshold);
    }
    this.drawScale();
    this.decide();
  }

  isFlagged(score) {
    return score >= this.threshold;
  }

  /** Put an answer on the page; null for none. */
  show(result) {
    this.score = result && this.hasScore ? result.score : null;
    this.action = result?.action ?? null;
    byId("verdict").hidden = this.score === null;
    byId("classes-box").hidden = result === null;
    if (result) {
      byId("classes").replaceChildren(...this.manifest.classes.map((name, place) => this.classRow(name, result.probabilities[place])));
      byId("timing").dataset.ms = String(result.ms);
      byId("timing").textContent = `${result.ms.toFixed(0)} ms, for ${this.manifest.network.input_size} × ${this.manifest.network.input_size} pixels`;
    }
    if (this.hasScore) this.drawScale();
    this.decide();
  }

  /** In one sentence, for the live region. */
  spoken(name, result) {
    if (!this.hasScore) {
      const best = result.probabilities.indexOf(Math.max(...result.probabilities));
      return `${name}: ${this.manifest.classes[best]}, ${percent(result.probabilities[best])}`;
    }
    if (this.policy) return `${name}: score ${shown(result.score)}, ${result.action}`;
    return `${name}: score ${shown(result.score)}, ${this.isFlagged(result.score) ? "flagged" : "not flagged"} at ${shown(this.threshold)}`;
  }

  decide() {
    if (this.score === null) return;
    const flagged = this.isFlagged(this.score);
    byId("score").textContent = shown(this.score);
    byId("verdict").dataset.flagged = String(flagged);
    const what = this.manifest.unsafe.join(" or ");
    if (this.policy) {
      const [first, rest] = SENTENCES[this.action];
      byId("verdict").dataset.action = this.action;
      byId("decision").replaceChildren(make("strong", { textContent: first }), ` ${rest} The network gives ${percent(this.score)} to ${what}.`);
      return;
    }
    byId("decision").replaceChildren(
      make("strong", { textContent: flagged ? "Flagged." : "Not flagged." }),
      ` The network gives ${percent(this.score)} to ${what}; pictures are flagged from ${shown(this.threshold)}.`,
    );
  }

  classRow(name, probability) {
    const fill = make("i", { className: this.manifest.unsafe.includes(name) ? "unsafe" : "" });
    fill.style.width = `${100 * probability}%`;
    return make(
      "div",
      {},
      make("dt", { textContent: name }),
      make("span", { className: "bar", ariaHidden: "true" }, fill),
      make("dd", { textContent: percent(probability) }),
    );
  }

  effect() {
    if (!this.curve) return `${shown(this.threshold)}`;
    const point = at(this.curve, this.threshold);
    return `${shown(this.threshold)}: flags ${percent(point.recall)} of the unsafe and ${percent(point.fpr)} of the safe validation pictures`;
  }

  point() {
    if (!this.curve) return [NO_CURVE];
    const { manifest, curve } = this;
    const point = at(curve, this.threshold);
    const bold = (text) => make("b", { textContent: text });
    const chosen = this.threshold === manifest.threshold ? `, chosen by ${manifest.threshold_rule}` : "";
    return [
      "At ", bold(shown(this.threshold)), `${chosen}: of the ${(curve.n_safe + curve.n_unsafe).toLocaleString("en")} validation pictures of `,
      bold(manifest.data.name), ", it flags ", bold(percent(point.recall)), ` of the unsafe (${point.flaggedUnsafe} of ${curve.n_unsafe}) and `,
      bold(percent(point.fpr)), ` of the safe (${point.flaggedSafe} of ${curve.n_safe}). `,
      point.precision === null ? "It flags none." : `Of those it flags, ${percent(point.precision)} are unsafe, where the mix is theirs.`,
    ];
  }

  /** Unsafe pictures above the line, safe ones below; what is flagged is drawn full. */
  drawScale() {
    const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    const cut = WIDTH * Math.min(1, this.threshold);
    const cuts = this.policy ? this.policy.rules.map((rule) => WIDTH * rule.at_least) : [cut];
    svg.append(draw("rect", { class: "shade", x: cut, y: 14, width: WIDTH - cut, height: HEIGHT - 24 }));
    if (this.curve) svg.append(...this.bars());
    svg.append(
      draw("line", { class: "base", x1: 0, x2: WIDTH, y1: MIDDLE, y2: MIDDLE }),
      ...cuts.map((x) => draw("line", { class: "cut", x1: x, x2: x, y1: 14, y2: HEIGHT - 10 })),
    );
    if (this.score !== null) {
      const here = WIDTH * this.score;
      // The scale is stretched to the width of the page; the pin is drawn with equal sides for a width of 500 pixels.
      svg.append(draw("path", { class: "here", d: `M${here} ${MIDDLE}L${here - 15} 12Q${here - 17} 0 ${here} 0Q${here + 17} 0 ${here + 15} 12Z` }));
    }
    byId("scale").replaceChildren(svg);
  }

  bars() {
    const counts = histogram(this.curve, BINS);
    const most = Math.sqrt(Math.max(...counts.safe, ...counts.unsafe, 1));
    const width = WIDTH / BINS;
    return ["unsafe", "safe"].flatMap((side) =>
      counts[side].map((count, bin) => {
        const height = (BAR * Math.sqrt(count)) / most;
        const faded = (bin + 0.5) / BINS < this.threshold ? " faded" : "";
        return draw("rect", { class: side + faded, x: bin * width + 2, y: side === "unsafe" ? MIDDLE - height : MIDDLE, width: width - 4, height });
      }),
    );
  }
}

/** The score from which on a policy does anything but let pass; beyond every score where it does nothing. */
function leastFlagged(policy) {
  return policy.rules.findLast((rule) => rule.action !== "pass")?.at_least ?? Infinity;
}
