// nsfwjs for peers.py: a line of JSON when it is loaded, then one for each path on standard input.
// The argument is the folder with its packages. Its model is the one that `nsfwjs.load()` takes by default.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { readFileSync, statSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";

const start = performance.now();
const require = createRequire(join(process.argv[2], "package.json"));
const tf = require("@tensorflow/tfjs");
const wasm = require("@tensorflow/tfjs-backend-wasm");
const nsfwjs = require("nsfwjs");
const sharp = require("sharp");
const cores = Number(process.env.PEER_CORES);
sharp.concurrency(cores);
wasm.setWasmPaths(join(dirname(require.resolve("@tensorflow/tfjs-backend-wasm")), "/"));
if (cores > 1) wasm.setThreadsCount(cores);
await tf.setBackend("wasm");
const model = await nsfwjs.load();
const folder = join(dirname(require.resolve("nsfwjs")), "..", "models", "mobilenet_v2");
const bytes = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
console.log(JSON.stringify({
  mb: bytes / 1e6, input_px: 224, threshold: "likeliest class", load_s: (performance.now() - start) / 1e3,
}));
for await (const path of createInterface({ input: process.stdin })) {
  const begun = performance.now();
  const { data, info } = await sharp(readFileSync(path)).rotate().removeAlpha().toColourspace("srgb").raw()
    .toBuffer({ resolveWithObject: true });
  const pixels = tf.tensor3d(new Uint8Array(data), [info.height, info.width, 3], "int32");
  const found = Object.fromEntries((await model.classify(pixels)).map((entry) => [entry.className, entry.probability]));
  pixels.dispose();
  const unsafe = ["Porn", "Hentai", "Sexy"];
  const likeliest = Object.keys(found).reduce((a, b) => (found[a] >= found[b] ? a : b));
  console.log(JSON.stringify({
    ms: performance.now() - begun,
    score: unsafe.reduce((sum, name) => sum + (found[name] ?? 0), 0),
    flagged: unsafe.includes(likeliest),
  }));
}
