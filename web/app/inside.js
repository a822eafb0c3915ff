/** The picture as each layer sees it: a tile a channel. */

import { byId, make, paint, tabs } from "./dom.js";
import { colored, toOne } from "./colors.js";

const FIRST = 24;

/** The activations of the picture at hand. */
export class Inside {
  /** @param {string[]} layers the layers that are shown
   *  @param {(layer: string) => Promise<{values: Float32Array, width: number, height: number, channels: number}>} activationsOf */
  constructor(layers, activationsOf) {
    this.activationsOf = activationsOf;
    this.all = false;
    this.layers = layers;
    this.layer = layers[0];
    byId("more-channels").onclick = () => {
      this.all = !this.all;
      this.draw();
    };
  }

  /** Show the picture that was classified last; hidden when there is none. */
  async show(hasPicture) {
    byId("inside").hidden = !hasPicture;
    if (!hasPicture) return;
    if (byId("layers").childElementCount) await this.load();
    else tabs(byId("layers"), byId("channels"), this.layers, (layer) => this.choose(layer));
  }

  choose(layer) {
    this.layer = layer;
    return this.load();
  }

  async load() {
    const layer = this.layer;
    const found = await this.activationsOf(layer);
    if (layer !== this.layer) return;
    this.found = found;
    this.draw();
  }

  draw() {
    const { values, width, height, channels } = this.found;
    const mean = new Float32Array(channels);
    const most = new Float32Array(channels);
    values.forEach((value, at) => {
      mean[at % channels] += value / (width * height);
      most[at % channels] = Math.max(most[at % channels], value);
    });
    const order = [...mean.keys()].sort((a, b) => mean[b] - mean[a] || a - b);
    const shown = order.slice(0, this.all ? channels : FIRST);
    byId("channels").replaceChildren(...shown.map((channel) => this.tile(channel, most[channel])));
    byId("inside-words").textContent =
      `The picture after ${this.layer}: ${channels} channels of ${width} × ${height}, the strongest first, each from nothing to its own most. ` +
      "The tiles show the picture, so they are covered with it.";
    const more = byId("more-channels");
    more.hidden = channels <= FIRST;
    more.textContent = this.all ? `Show the strongest ${FIRST}` : `Show all ${channels}`;
  }

  tile(channel, most) {
    const { values, width, height, channels } = this.found;
    const one = Float32Array.from({ length: width * height }, (_, at) => values[at * channels + channel]);
    const label = most > 0 ? `${channel}` : `${channel}: silent`;
    const canvas = paint(make("canvas", { className: "hideable", role: "img", ariaLabel: `Channel ${label}` }), colored(toOne(one)), width, height);
    return make("figure", {}, make("div", { className: "tile" }, canvas), make("figcaption", { textContent: label }));
  }
}
