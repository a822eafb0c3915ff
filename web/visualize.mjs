#!/usr/bin/env node
/**
 * What a network's filters look for, what they find in a picture, where it sees a class: `figleaf visualize` without
 * Python, on the folder that `figleaf export run=RUN format=[tfjs]` writes.
 */

import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { colored, enlarged, toOne } from "./app/colors.js";
import { NetworkError } from "./lib/network.js";
import { judged, policyOf } from "./lib/policy.js";
import { squash } from "./lib/resize.js";
import { openFolder } from "./node/files.mjs";
import { PictureError, readPicture, writePng } from "./node/picture.mjs";
import { tensorflow } from "./node/tensorflow.mjs";

const HELP = `usage: node visualize.mjs --model DIR [--image FILE] [--filters N] [--layers A,B] [--steps N] [--seed N] [--out DIR] [--gpu]
   or: npm run visualize -- --model DIR --filters 18 --image x.jpg

  --model DIR    the folder tfjs/ of a bundle: figleaf export run=RUN format=[tfjs]
  --image FILE   a picture to look at; without one only the filters are shown
  --filters N    how many of each layer (default 8)
  --layers A,B   names as in keras.applications (default: one a block)
  --steps N      of the ascent (default 80)
  --seed N       draws the noise that it starts from (default 0)
  --class NAME   the class that the map is for (default: the one with the highest logit)
  --policy FILE  of \`figleaf calibrate\`: scores at its temperature, and what is done with the picture
  --out DIR      default dist
  --gpu          use tfjs-node-gpu where it is installed; says so where it is not

Writes DIR/filters/<layer>_<filter>.png with filters-manifest.json, and, for a picture, DIR/activation/<layer>_<filter>.png,
input.png and cam.png with activation-manifest.json. On standard output one JSON object; how far it is on standard error.
The activations and the map show the picture: keep them where it may be kept.
`;
const OPACITY = 0.6; // of the map over the picture
const SHOWN = ["block1_conv1", "block2_conv1", "block3_conv2", "block4_conv2", "block5_conv3"];

class UsageError extends Error {}

async function main(given) {
  const options = parsed(given);
  if (options.help) {
    process.stdout.write(HELP);
    return;
  }
  if (!options.model) throw new UsageError("--model is missing: the folder that `figleaf export run=RUN format=[tfjs]` writes");
  const steps = whole("steps", options.steps, 1);
  const seed = whole("seed", options.seed, 0);
  const count = whole("filters", options.filters, 1);
  const picture = options.image === undefined ? null : await readPicture(options.image);
  const { tf, backend } = await tensorflow({ gpu: options.gpu, say });
  const network = await openFolder(tf, options.model);
  const policy = options.policy === undefined ? null : await readPolicy(options.policy, network);
  const layers = options.layers ? options.layers.split(",") : shown(network.convolutions);
  const channels = new Map(layers.map((layer) => [layer, [...Array(Math.min(count, network.channelsOf(layer))).keys()]]));
  const place = placeOf(network, options.class);

  const filters = await maximised(network, channels, options.out, { steps, seed });
  const seen = picture && (await looked(network, channels, options.out, picture, basename(options.image), place, policy));
  if (!picture) await rm(join(options.out, "activation"), { recursive: true, force: true });
  const dead = Object.fromEntries(filters.layers.map((layer) => [layer.layerName, layer.dead.length]));
  process.stdout.write(`${JSON.stringify({ out: options.out, backend, layers, dead, score: seen?.score ?? null, ...(policy && seen ? { action: seen.action } : {}), probabilities: seen ? byName(network, seen.probScores) : null })}\n`);
}

function parsed(given) {
  const text = { type: "string" };
  try {
    const { values, positionals } = parseArgs({
      args: given,
      allowPositionals: true,
      options: {
        model: text, image: text, layers: text, class: text, policy: text,
        filters: { ...text, default: "8" }, steps: { ...text, default: "80" }, seed: { ...text, default: "0" },
        out: { ...text, default: "dist" }, gpu: { type: "boolean", default: false }, help: { type: "boolean", short: "h" },
      },
    });
    // npm runs scripts in web/: paths start from where the person is.
    const from = process.env.npm_lifecycle_event === "visualize" ? process.env.INIT_CWD : ".";
    for (const key of ["model", "image", "policy", "out"]) if (values[key] !== undefined) values[key] = resolve(from, values[key]);
    if (positionals.length) throw new UsageError(`${positionals[0]}: unexpected; pictures are given by --image`);
    return values;
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError(error.message);
  }
}

function whole(name, text, least) {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least) throw new UsageError(`--${name} ${text}: expected a whole number, at least ${least}`);
  return value;
}

/** The layers shown by default, a block's last convolution in place of one that a shallower network lacks. */
function shown(convolutions) {
  const found = SHOWN.map((name) => (convolutions.includes(name) ? name : convolutions.findLast((at) => at.startsWith(name.split("_")[0]))));
  return [...new Set(found)];
}

function placeOf(network, name) {
  if (name === undefined) return null;
  const place = network.classes.indexOf(name);
  if (place < 0) throw new UsageError(`--class ${name}: expected one of ${network.classes.join(", ")}`);
  return place;
}

async function maximised(network, channels, out, { steps, seed }) {
  const folder = await emptied(out, "filters");
  const layers = [];
  for (const [layer, numbers] of channels) {
    const row = { layerName: layer, filePaths: [], filters: numbers, responses: [], dead: [] };
    for (const number of numbers) {
      say(`${layer} ${number + 1} of ${numbers.length}`);
      const found = await network.maximise(layer, number, { steps, seed });
      const name = `${layer}_${number}.png`;
      await writePng(join(folder, name), found.rgb, found.size, found.size);
      row.filePaths.push(`filters/${name}`);
      row.responses.push(found.response);
      if (found.dead) row.dead.push(number);
    }
    layers.push(row);
  }
  const manifest = { settings: { recipe: "classic", steps, seed }, layers };
  await writeFile(join(folder, "filters-manifest.json"), `${JSON.stringify(manifest, null, 1)}\n`);
  return manifest;
}

async function readPolicy(path, network) {
  try {
    return policyOf(await readFile(path, "utf8"), { classes: network.classes, unsafe: network.unsafe, runId: network.record.run_id });
  } catch (error) {
    throw new NetworkError(`--policy ${path}: ${error.code === "ENOENT" ? "no such file" : error.message}`);
  }
}

async function looked(network, channels, out, { rgb, width, height }, name, wanted, policy) {
  const folder = await emptied(out, "activation");
  const size = network.inputSize;
  const small = squash(rgb, width, height, size);
  const { probabilities, logits, score, action } = judged(policy, await network.classify(small), network);
  const top = probabilities.indexOf(Math.max(...probabilities));
  const place = wanted ?? top;
  await writePng(join(folder, "input.png"), small, size, size);
  const layers = [];
  for (const [layer, numbers] of channels) {
    const found = await network.activations(small, layer, numbers);
    const row = { layerName: layer, filePaths: [], filters: numbers, dims: [found.height, found.width], peaks: [] };
    for (const [at, number] of numbers.entries()) {
      const plane = Float32Array.from({ length: found.width * found.height }, (_, pixel) => found.values[pixel * numbers.length + at]);
      row.peaks.push(plane.reduce((most, value) => Math.max(most, value), 0));
      const file = `${layer}_${number}.png`;
      await writePng(join(folder, file), Uint8ClampedArray.from(toOne(plane), (value) => 255 * value), found.width, found.height);
      row.filePaths.push(`activation/${file}`);
    }
    layers.push(row);
  }
  const map = await network.cam(small, place);
  const fine = toOne(enlarged(map.values, map.width, map.height, size, size));
  await writePng(join(folder, "cam.png"), overlaid(small, fine), size, size);
  const manifest = {
    name,
    filePath: "activation/input.png",
    classNames: network.classes,
    probScores: [...probabilities],
    logits: [...logits],
    topClass: network.classes[top],
    topProb: probabilities[top],
    score,
    ...(policy ? { action } : {}),
    camImagePath: "activation/cam.png",
    camMethod: map.method,
    camClass: network.classes[place],
    camSilent: fine.every((value) => value === 0),
    layers,
  };
  await writeFile(join(folder, "activation-manifest.json"), `${JSON.stringify(manifest, null, 1)}\n`);
  return manifest;
}

function overlaid(rgb, fine) {
  const colors = colored(fine);
  return Uint8ClampedArray.from(rgb, (value, at) => (1 - OPACITY) * value + OPACITY * colors[4 * Math.floor(at / 3) + (at % 3)]);
}

function byName(network, values) {
  return Object.fromEntries(network.classes.map((name, place) => [name, values[place]]));
}

/** A folder of ours, without the pictures of an earlier run. */
async function emptied(out, name) {
  const folder = join(out, name);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  return folder;
}

function say(text) {
  process.stderr.write(`${text}\n`);
}

main(process.argv.slice(2)).catch((error) => {
  const known = error instanceof UsageError || error instanceof NetworkError || error instanceof PictureError || error.code;
  say(`error: ${known ? error.message : error.stack}`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
});
