/** What each filter looks for: the gallery that was made with the page, and the ascent that runs here. */

import { byId, make, paint, tabs } from "./dom.js";

const SHOWN_SPREAD = 56; // standard deviation of what is shown, of 255

/** The gallery and the bench beside it. */
export class Wanted {
  /** @param {object} gallery filters.json: layers with their filters, sprites and responses
   *  @param {Map<string, ImageBitmap>} sprites by the sprite's name
   *  @param {object} network the opened network */
  constructor(gallery, sprites, network) {
    Object.assign(this, { gallery, sprites, network, asked: 0 });
    byId("wanted").hidden = false;
    const made = gallery.layers.some((layer) => layer.filters.length > 0);
    byId("wanted-words").textContent =
      (made ? `Pictures that drive one filter as high as gradient ascent finds (${gallery.recipe}, ${gallery.steps} steps). ` : "") +
      "They show no photograph: they are drawn by the network. Choose a filter to climb here, from noise.";
    byId("filter-number").onchange = () => this.choose(Number(byId("filter-number").value));
    byId("maximise").onclick = () => this.maximise();
    const names = gallery.layers.map((layer) => layer.name);
    tabs(byId("filter-layers"), byId("filters"), names, (name) => this.open(name));
  }

  open(name) {
    this.layer = this.gallery.layers.find((layer) => layer.name === name);
    byId("filter-number").max = String(this.layer.channels - 1);
    byId("filters").replaceChildren(...this.layer.filters.map((filter, place) => make("li", {}, this.tile(filter, place))));
    this.choose(this.layer.filters[0]?.index ?? 0);
  }

  tile({ index, response, dead }, place) {
    const { tile, columns, sprite } = this.layer;
    const canvas = make("canvas", { width: tile, height: tile });
    const [x, y] = [tile * (place % columns), tile * Math.floor(place / columns)];
    canvas.getContext("2d").drawImage(this.sprites.get(sprite), x, y, tile, tile, 0, 0, tile, tile);
    const words = dead ? `${index} dead` : `${index}`;
    const title = dead ? "No input found makes it speak" : `Response ${response.toFixed(2)}`;
    return make("button", { type: "button", title, ariaLabel: `Filter ${words}, ${title}`, dataset: { index }, onclick: () => this.choose(index) }, canvas, words);
  }

  choose(index) {
    this.index = Math.min(this.layer.channels - 1, Math.max(0, Math.round(index) || 0));
    byId("filter-number").value = String(this.index);
    byId("maximise").textContent = "Maximise";
    for (const button of byId("filters").querySelectorAll("button")) {
      button.ariaPressed = String(Number(button.dataset.index) === this.index);
    }
  }

  async maximise() {
    const asked = (this.asked += 1);
    const [layer, index, button] = [this.layer.name, this.index, byId("maximise")];
    button.disabled = true;
    byId("wish-progress").hidden = false;
    const start = performance.now();
    try {
      const found = await this.network.maximise(layer, index, (done, picture) => {
        byId("wish-progress").value = done;
        if (picture) this.paint(picture);
      });
      if (asked !== this.asked) return;
      this.paint(found);
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      const words = found.dead
        ? "it stays silent: no input found makes it speak"
        : `response ${found.first.toFixed(2)} to ${found.response.toFixed(2)}`;
      byId("wish-words").textContent = `Filter ${index} of ${layer}: ${words}, in ${seconds} s.`;
      byId("wish").setAttribute("aria-label", `What filter ${index} of ${layer} looks for`);
    } finally {
      button.disabled = false;
      byId("wish-progress").hidden = true;
    }
  }

  paint({ rgb, size }) {
    paint(byId("wish"), stretched(rgb), size, size);
  }
}

/** The picture with its contrast widened, as such pictures are usually shown: ascent by small steps leaves it grey. */
function stretched(rgb) {
  const mean = rgb.reduce((sum, value) => sum + value, 0) / rgb.length;
  const spread = Math.sqrt(rgb.reduce((sum, value) => sum + (value - mean) ** 2, 0) / rgb.length);
  return Uint8ClampedArray.from(rgb, (value) => 128 + (SHOWN_SPREAD * (value - mean)) / (spread || 1));
}
