/** The picture, covered until asked, with the map of what speaks for a class laid over it. */

import { byId, make, paint } from "./dom.js";
import { CIVIDIS, colored, enlarged, toOne } from "./colors.js";
import { view } from "./picture.js";

const MAP_SIDE = 320; // pixels of the longer side: the browser smooths what is left

/** Where the picture stands. */
export class Stage {
  /** @param {object} manifest
   *  @param {(classIndex: number) => Promise<{values: Float32Array, width: number, height: number}>} mapOf */
  constructor(manifest, mapOf) {
    this.mapOf = mapOf;
    this.picture = null;
    byId("map-class").replaceChildren(...manifest.classes.map((name, place) => make("option", { value: String(place), textContent: name })));
    byId("map-class").onchange = () => this.drawMap();
    byId("opacity").oninput = () => {
      byId("map").style.opacity = String(byId("opacity").value / 100);
    };
    byId("map").style.opacity = String(byId("opacity").value / 100);
    byId("show-map").onclick = () => this.showMap(byId("map").hidden);
    byId("cover").onclick = () => this.cover(!document.body.classList.contains("covered"));
    const ramp = new Uint8ClampedArray(1024).fill(255);
    for (let at = 0; at < 256; at += 1) ramp.set(CIVIDIS.subarray(3 * at, 3 * at + 3), 4 * at);
    byId("ramp").getContext("2d").putImageData(new ImageData(ramp, 256, 1), 0, 0);
  }

  /** Show a picture, covered, and the class that the map starts with. */
  async show(picture, classIndex) {
    this.picture = picture;
    this.cover(true);
    const shown = view(picture);
    const canvas = byId("picture");
    canvas.width = shown.width;
    canvas.height = shown.height;
    canvas.getContext("2d").drawImage(shown, 0, 0);
    byId("name").textContent = picture.name;
    byId("size").textContent = `${picture.width} × ${picture.height}`;
    byId("notes").replaceChildren(...picture.notes.map((note) => make("li", { textContent: note })));
    byId("map-class").value = String(classIndex);
    byId("stage").hidden = false;
    byId("drop").hidden = true;
    document.body.classList.add("filled");
    await this.showMap(!byId("map").hidden);
  }

  /** Back to the place where pictures are dropped. */
  clear() {
    this.picture = null;
    this.cover(true);
    byId("stage").hidden = true;
    byId("drop").hidden = false;
    document.body.classList.remove("filled");
  }

  cover(covered) {
    document.body.classList.toggle("covered", covered);
    byId("cover").textContent = covered ? "Uncover" : "Cover";
    byId("picture").setAttribute("aria-label", `The picture, ${covered ? "covered" : "uncovered"}`);
  }

  async showMap(visible) {
    byId("map").hidden = !visible;
    byId("map-controls").hidden = !visible;
    byId("show-map").textContent = visible ? "Hide the map" : "Show the map";
    if (visible) await this.drawMap();
  }

  async drawMap() {
    const map = await this.mapOf(Number(byId("map-class").value));
    const values = toOne(map.values);
    const empty = values.every((value) => value === 0);
    byId("map-words").textContent = empty
      ? "Nothing in this picture speaks for this class: the map is empty."
      : `${map.method}: where the last layer's ${map.width} × ${map.height} cells speak for the class, from nothing to the most in this picture. It shows where the network looked, not why.`;
    const { width, height } = byId("picture");
    const factor = Math.min(1, MAP_SIDE / Math.max(width, height));
    const [across, down] = [width, height].map((length) => Math.max(1, Math.round(factor * length)));
    const large = enlarged(values, map.width, map.height, across, down);
    // What counts little covers little, so that the picture stays to be seen below.
    paint(byId("map"), colored(large, (value) => (empty ? 0 : 0.25 + 0.75 * value)), across, down);
  }
}
