/** TensorFlow.js in Node: the wasm backend, which needs nothing but npm packages, or a GPU where one was set up. */

import { createRequire } from "node:module";
import { dirname, join, sep } from "node:path";

const require = createRequire(import.meta.url);
const GPU = "@tensorflow/tfjs-node-gpu";

/**
 * @param {object} [options]
 * @param {boolean} [options.gpu] use tfjs-node-gpu where it is installed
 * @param {(text: string) => void} [options.say] told when it is not
 * @returns {Promise<{tf: object, backend: string}>} TensorFlow.js with its backend ready, and that one's name
 */
export async function tensorflow({ gpu = false, say = () => {} } = {}) {
  if (gpu) {
    const found = onGpu(say);
    if (found) return { tf: found, backend: "tensorflow on the GPU (tfjs-node-gpu)" };
  }
  const tf = require("@tensorflow/tfjs");
  const wasm = require("@tensorflow/tfjs-backend-wasm");
  // Standard output is for results: TensorFlow.js recommends its native packages there.
  tf.env().set("IS_TEST", true);
  wasm.setWasmPaths(dirname(require.resolve("@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm")) + sep);
  await tf.setBackend("wasm");
  await tf.ready();
  return { tf, backend: "wasm" };
}

function onGpu(say) {
  try {
    return require(GPU);
  } catch (error) {
    const missing = error.code === "MODULE_NOT_FOUND" && error.message.includes(GPU);
    const why = missing ? "is not installed here" : `does not start (${error.message.split("\n")[0]})`;
    say(`--gpu: ${GPU} ${why}; \`npm install ${GPU}@4.22.0 --prefix ${join(import.meta.dirname, "..")}\` adds it where CUDA is. Going on with the wasm backend.`);
    return null;
  }
}
