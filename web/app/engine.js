/** TensorFlow.js and the network: made ready before the door is closed, and asked by everything else on the page. */

import { breathe } from "./dom.js";
import { openNetwork } from "../lib/network.js";
import { judged } from "../lib/policy.js";
import { squash } from "../lib/resize.js";
import { bytesOf } from "./source.js";

const WASM = "engine/tfjs-backend-wasm-simd.wasm";
const CLIMBED_AT_MOST = 96; // pixels a side: filters need no more to show what they look for, and the steps stay short

/**
 * The network of the page. It has run once when this returns: what it needs is compiled, and asks for nothing later.
 *
 * @param {import("../lib/policy.js").Policy|null} policy what is done with pictures
 * @returns {Promise<Engine>}
 */
export async function openEngine(policy) {
  const { tf } = globalThis;
  if (!tf?.wasm) throw new Error("TensorFlow.js did not load: the folder engine/ of this page is not complete");
  await startBackend(tf);
  const network = await openNetwork(tf, (name) => bytesOf(`model/${name}`));
  await network.classify(new Uint8Array(3 * network.inputSize ** 2));
  return new Engine(network, policy);
}

/** What the page asks of the network. Maps and activations are of the picture that it was last told to look at. */
class Engine {
  #network;
  #policy;
  #seen = null;

  constructor(network, policy) {
    this.#network = network;
    this.#policy = policy;
    /** @type {string[]} the convolutions, in order */
    this.convolutions = network.convolutions;
  }

  /** A picture's bytes at the network's size, (S, S, 3). */
  squashed({ rgba, width, height }) {
    const rgb = new Uint8ClampedArray(3 * width * height);
    for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
      rgb[to] = rgba[from];
      rgb[to + 1] = rgba[from + 1];
      rgb[to + 2] = rgba[from + 2];
    }
    return squash(rgb, width, height, this.#network.inputSize);
  }

  /** The answer to squashed bytes, with the policy's action where there is one, and how long the network took. */
  async classify(rgb) {
    const start = performance.now();
    const answer = await this.#network.classify(rgb);
    return { ...judged(this.#policy, answer, this.#network), ms: performance.now() - start };
  }

  /** From here on maps and activations are of these bytes. */
  lookAt(rgb) {
    this.#seen = rgb;
  }

  mapOf(classIndex) {
    return this.#network.cam(this.#seen, classIndex);
  }

  async activationsOf(layer) {
    const { values, width, height, channels } = await this.#network.activations(this.#seen, layer);
    return { values, width, height, channels: channels.length };
  }

  /** `onStep(done, picture)` is called now and then, and the page can draw and answer keys after each. */
  maximise(layer, filter, onStep) {
    const drawn = (done, picture) => {
      onStep(done, picture);
      return breathe();
    };
    const size = Math.min(this.#network.inputSize, CLIMBED_AT_MOST);
    return this.#network.maximise(layer, filter, { size, onStep: drawn });
  }
}

/** The backend on WebAssembly, from bytes that are at hand; the same sums on every machine, unlike a graphics card's. */
async function startBackend(tf) {
  // The backend with threads starts workers from addresses of its own, which the page's policy refuses.
  tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", false);
  if (!(await tf.env().getAsync("WASM_HAS_SIMD_SUPPORT"))) {
    throw new Error("this browser cannot run WebAssembly with SIMD: it is older than 2023, or WebAssembly is switched off");
  }
  const bytes = await bytesOf(WASM);
  tf.env().platform.fetch = async () => new Response(bytes);
  tf.wasm.setWasmPaths("engine/", true);
  if (!(await tf.setBackend("wasm"))) throw new Error("TensorFlow.js could not start on WebAssembly in this browser");
  await tf.ready();
}
