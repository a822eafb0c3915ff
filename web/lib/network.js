/**
 * A network that `figleaf export format=[tfjs]` wrote, run by TensorFlow.js: scores, maps, activations, ascent.
 *
 * The page and the Node command use this one module. It imports nothing: `tf` is given, so that the caller chooses the
 * build and the backend. Pictures go in as RGB bytes at the network's size (see `resize.js`); the normalisation is the
 * network's first layer. Images and maps are channels-last and row by row, as TensorFlow.js has them.
 *
 * After every call `tf.memory().numTensors` is what it was before; `dispose()` gives back the weights.
 *
 *     const network = await openNetwork(tf, async (name) => (await fetch(`model/${name}`)).arrayBuffer());
 *     const { score, flagged } = await network.classify(squash(rgb, width, height, network.inputSize));
 *     const { values, width, height } = await network.cam(rgb, network.classes.indexOf("nsfw"));
 */

const START_MEAN = 128; // of the noise that an ascent starts from
const START_SPREAD = 20;
const STEPS = 80;
const STEP_SIZE = 1;
const EPSILON = 1e-8;
const EVERY_MS = 100; // between two calls of `onStep`

/**
 * @typedef {object} Answer
 * @property {Float32Array} logits (C,)
 * @property {Float64Array} probabilities (C,), their softmax
 * @property {number|null} score P(unsafe), the sum over the unsafe classes; null when no class is unsafe
 * @property {boolean|null} flagged whether the score is at least the threshold, or, where none was chosen, whether the
 *   largest logit is an unsafe class's; null when no class is unsafe
 *
 * @typedef {object} Planes
 * @property {Float32Array} values (height, width, channels.length)
 * @property {number} width
 * @property {number} height
 * @property {number[]} channels the numbers of the channels that `values` holds
 *
 * @typedef {object} ClassMap
 * @property {Float32Array} values (height, width): what speaks for the class is above 0, what speaks against it below
 * @property {number} width
 * @property {number} height
 * @property {string} method "CAM" or "Grad-CAM"
 *
 * @typedef {object} Wanted
 * @property {Uint8ClampedArray} rgb (size, size, 3)
 * @property {number} size
 * @property {number} first the filter's mean before its ReLU, on the noise
 * @property {number} response the same on `rgb`
 * @property {boolean} dead whether nothing of the filter passes its ReLU on `rgb`
 */

/** A file of a network, or what was asked of it, is not what it should be; the message says what to do. */
export class NetworkError extends Error {}

/**
 * Read an exported network.
 *
 * @param {object} tf TensorFlow.js 4.22 with its backend ready
 * @param {(name: string) => Promise<ArrayBuffer>} bytesOf gives the files beside `model.json`, and that one
 * @returns {Promise<Network>}
 * @throws {NetworkError} when the files were not written by figleaf or do not belong together
 */
export async function openNetwork(tf, bytesOf) {
  const written = parsed(await bytesOf("model.json"));
  const record = written.userDefinedMetadata?.figleaf;
  if (!record || !written.modelTopology) throw new NetworkError("model.json: not written by figleaf export");
  const weightSpecs = written.weightsManifest.flatMap((group) => group.weights);
  const shards = [];
  for (const path of written.weightsManifest.flatMap((group) => group.paths)) shards.push(await bytesOf(path));
  const weightData = joined(shards);
  const wanted = record.tfjs.weight_bytes;
  if (weightData.byteLength !== wanted) {
    throw new NetworkError(`${weightData.byteLength} bytes of weights, and model.json tells of ${wanted}: export again`);
  }
  const load = async () => ({ modelTopology: written.modelTopology, weightSpecs, weightData });
  return new Network(tf, await tf.loadLayersModel({ load }), record);
}

/** An opened network; made by `openNetwork`. */
export class Network {
  #tf;
  #model;
  #parts = new Map();

  constructor(tf, model, record) {
    this.#tf = tf;
    this.#model = model;
    /** What the export says of the network and its run: the content of `model.json` of a bundle. */
    this.record = record;
    /** @type {string[]} names of the logits, in order */
    this.classes = record.classes;
    /** @type {string[]} the classes whose probabilities add up to the score */
    this.unsafe = record.unsafe;
    /** @type {number|null} a picture is flagged from this score on */
    this.threshold = record.threshold;
    /** @type {number} side of the pictures, in pixels */
    this.inputSize = record.input_size;
    /** @type {string[]} the convolutions, in order: what `activations` and `maximise` take */
    this.convolutions = model.layers.map((layer) => layer.name).filter((name) => name.includes("_conv"));
  }

  /**
   * @param {Uint8Array|Uint8ClampedArray} rgb (S, S, 3)
   * @returns {Promise<Answer>}
   */
  async classify(rgb) {
    const output = this.#tf.tidy(() => this.#model.predict(this.#input(rgb)));
    const logits = await taken(output);
    const probabilities = softmax(logits);
    if (!this.unsafe.length) return { logits, probabilities, score: null, flagged: null };
    const isUnsafe = this.classes.map((name) => this.unsafe.includes(name));
    const score = probabilities.reduce((sum, value, place) => sum + (isUnsafe[place] ? value : 0), 0);
    const flagged = this.threshold === null ? isUnsafe[logits.indexOf(Math.max(...logits))] : score >= this.threshold;
    return { logits, probabilities, score, flagged };
  }

  /**
   * Where the last convolution speaks for a class. With a `gap` head the class's column of the last layer over the
   * activations (Zhou et al. 2016), which needs no gradient; with an `fc` head Grad-CAM of the logit (Selvaraju et al.
   * 2017) before its ReLU: activations times the mean gradient of the logit over space.
   *
   * @param {Uint8Array|Uint8ClampedArray} rgb (S, S, 3)
   * @param {number} classIndex which logit
   * @returns {Promise<ClassMap>}
   */
  async cam(rgb, classIndex) {
    const tf = this.#tf;
    if (!(classIndex in this.classes)) throw new NetworkError(`class ${classIndex}: this network has ${this.classes.length}`);
    const { layer, method } = this.record.cam;
    const map = tf.tidy(() => {
      const activation = this.#upTo(layer).predict(this.#input(rgb));
      const weights = method === "CAM" ? this.#column(classIndex) : this.#meanGradient(layer, activation, classIndex);
      return activation.mul(weights).sum(-1);
    });
    const [, height, width] = map.shape;
    return { values: await taken(map), width, height, method };
  }

  /**
   * What a convolution gives after its ReLU.
   *
   * @param {Uint8Array|Uint8ClampedArray} rgb (S, S, 3)
   * @param {string} layer one of `convolutions`
   * @param {number[]} [channels] default: all
   * @returns {Promise<Planes>}
   */
  async activations(rgb, layer, channels) {
    const tf = this.#tf;
    const count = this.channelsOf(layer);
    channels?.forEach((channel) => this.#requireFilter(layer, channel));
    const planes = tf.tidy(() => {
      const all = this.#upTo(layer).predict(this.#input(rgb));
      // Slices, not a gather: of the few that are wanted.
      return channels ? tf.concat(channels.map((channel) => all.slice([0, 0, 0, channel], [-1, -1, -1, 1])), -1) : all;
    });
    const [, height, width] = planes.shape;
    return { values: await taken(planes), width, height, channels: channels ?? [...Array(count).keys()] };
  }

  /** How many channels a convolution has. */
  channelsOf(layer) {
    this.#requireLayer(layer);
    return this.#model.getLayer(layer).outputShape.at(-1);
  }

  /**
   * A picture that drives a filter as high as gradient ascent finds: steps of length 1 along the gradient over its root
   * mean square, from seeded grey noise. The ascent is on the mean of what enters the ReLU, whose gradient does not die.
   *
   * @param {string} layer one of `convolutions`
   * @param {number} filter
   * @param {object} [options]
   * @param {number} [options.steps] 80
   * @param {number} [options.size] side of the picture in pixels; default: the network's input size
   * @param {number} [options.seed] 0; the noise depends on it, the layer and the filter
   * @param {(done: number, picture: {rgb: Uint8ClampedArray, size: number}) => (void|Promise<void>)} [options.onStep]
   *   called about ten times a second, where steps are that short, and after the last with the part that is done, in
   *   (0, 1]; awaited, so that a page can draw
   * @returns {Promise<Wanted>}
   */
  async maximise(layer, filter, { steps = STEPS, size = this.inputSize, seed = 0, onStep = null } = {}) {
    const tf = this.#tf;
    this.#requireFilter(layer, filter);
    const climbed = this.#climbed(layer, filter);
    const entering = (picture) => climbed.reduce((found, { apply }) => apply(found), picture);
    const ascend = tf.grad((picture) => entering(picture).mean());
    let picture = tf.tensor4d(noise(3 * size * size, `${seed}/${layer}/${filter}`), [1, size, size, 3]);
    try {
      const first = await taken(tf.tidy(() => entering(picture).mean()));
      let said = performance.now();
      for (let step = 1; step <= steps; step += 1) {
        const next = tf.tidy(() => {
          const gradient = ascend(picture);
          const length = gradient.square().mean().sqrt().add(EPSILON);
          return picture.add(gradient.div(length).mul(STEP_SIZE)).clipByValue(0, 255);
        });
        picture.dispose();
        picture = next;
        if (onStep && (performance.now() - said >= EVERY_MS || step === steps)) {
          await onStep(step / steps, { rgb: Uint8ClampedArray.from(await picture.data()), size });
          said = performance.now();
        }
      }
      const [response, peak] = await taken(
        tf.tidy(() => {
          const found = entering(picture);
          return tf.stack([found.mean(), found.max()]);
        }),
      );
      const rgb = Uint8ClampedArray.from(await picture.data());
      return { rgb, size, first: first[0], response, dead: !(peak > 0) };
    } finally {
      tf.dispose([picture, ...climbed.flatMap(({ kept }) => kept)]);
    }
  }

  /** Give the weights back; the network cannot be used afterwards. */
  dispose() {
    this.#parts.clear();
    this.#model.dispose();
  }

  #input(rgb) {
    const size = this.inputSize;
    if (rgb.length !== 3 * size * size) {
      throw new NetworkError(`${rgb.length} bytes: this network takes RGB of ${size} x ${size}, ${3 * size * size} bytes`);
    }
    return this.#tf.tensor4d(Float32Array.from(rgb), [1, size, size, 3]);
  }

  /** The model up to a layer, sharing the weights. */
  #upTo(layer) {
    if (!this.#parts.has(layer)) {
      this.#parts.set(layer, this.#tf.model({ inputs: this.#model.inputs, outputs: this.#model.getLayer(layer).output }));
    }
    return this.#parts.get(layer);
  }

  #place(layer) {
    return this.#model.layers.findIndex(({ name }) => name === layer);
  }

  #column(classIndex) {
    const [kernel] = this.#model.getLayer("predictions").getWeights();
    return kernel.slice([0, classIndex], [-1, 1]).flatten();
  }

  /** (1, 1, 1, channels): how the logit changes with each channel of `activation`, on average over space. */
  #meanGradient(layer, activation, classIndex) {
    const after = this.#model.layers.slice(this.#place(layer) + 1);
    const logit = (x) => through(after, x).slice([0, classIndex], [1, 1]).sum();
    return this.#tf.grad(logit)(activation).mean([1, 2], true);
  }

  /** The steps from a picture to what enters the ReLU of one filter, and the tensors that were made for them. */
  #climbed(layer, filter) {
    const tf = this.#tf;
    const steps = this.#model.layers.slice(0, this.#place(layer)).map((before) => {
      if (before.getClassName() !== "Conv2D") return { apply: (x) => before.apply(x), kept: [] };
      const { apply, kept } = convolution(tf, ...before.getWeights());
      return { apply: before.getConfig().activation === "relu" ? (x) => apply(x).relu() : apply, kept };
    });
    const [kernel, bias] = this.#model.getLayer(layer).getWeights();
    const [one, shift] = tf.tidy(() => [
      // Slices: the wasm backend has no gradient of a gather.
      tf.keep(kernel.slice([0, 0, 0, filter], [-1, -1, -1, 1])),
      tf.keep(bias.slice([filter], [1])),
    ]);
    const last = convolution(tf, one, shift);
    return [...steps, { apply: last.apply, kept: [...last.kept, one, shift] }];
  }

  #requireLayer(layer) {
    if (!this.convolutions.includes(layer)) {
      throw new NetworkError(`${layer}: no convolution of this network: ${this.convolutions.join(", ")}`);
    }
  }

  #requireFilter(layer, filter) {
    const count = this.channelsOf(layer);
    if (!(Number.isInteger(filter) && filter >= 0 && filter < count)) {
      throw new NetworkError(`filter ${filter}: ${layer} has filters 0 to ${count - 1}`);
    }
  }
}

/** The softmax of logits, in double precision. */
export function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Float64Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/** Grey noise in [128, 148), the same for the same text on every machine. */
function noise(count, text) {
  const draw = mulberry32(hashed(text));
  return Float32Array.from({ length: count }, () => START_MEAN + START_SPREAD * draw());
}

/** FNV-1a of a text, 32 bits. */
function hashed(text) {
  let hash = 0x811c9dc5;
  for (const character of text) hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193);
  return hash >>> 0;
}

/** Tommy Ettinger's mulberry32: uniform numbers in [0, 1) from a 32-bit seed. */
function mulberry32(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * A convolution of stride 1 whose gradient is one, too: by the kernel turned around, its channels swapped. That of
 * TensorFlow.js is many times slower on the wasm backend, and asks for the gradient of the weights, which is not there.
 */
function convolution(tf, kernel, bias) {
  const turned = tf.tidy(() => tf.keep(kernel.reverse([0, 1]).transpose([0, 1, 3, 2])));
  const apply = tf.customGrad((x) => ({
    value: tf.conv2d(x, kernel, 1, "same").add(bias),
    gradFunc: (upstream) => tf.conv2d(upstream, turned, 1, "same"),
  }));
  return { apply, kept: [turned] };
}

/** What layers make of `x`. */
function through(layers, x) {
  return layers.reduce((found, layer) => layer.apply(found), x);
}

/** The values of a tensor, which is given back. */
async function taken(tensor) {
  try {
    return await tensor.data();
  } finally {
    tensor.dispose();
  }
}

function parsed(bytes) {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new NetworkError(`model.json: no JSON (${error.message})`);
  }
}

function joined(buffers) {
  const all = new Uint8Array(buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0));
  let at = 0;
  for (const buffer of buffers) {
    all.set(new Uint8Array(buffer), at);
    at += buffer.byteLength;
  }
  return all.buffer;
}
