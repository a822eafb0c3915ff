/** An exported folder on disk, as `openNetwork` wants to read it. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { NetworkError, openNetwork } from "../lib/network.js";

/**
 * @param {object} tf
 * @param {string} folder with `model.json` and its shards
 * @returns {Promise<import("../lib/network.js").Network>}
 * @throws {NetworkError} when files are missing or were not written by figleaf
 */
export async function openFolder(tf, folder) {
  return openNetwork(tf, async (name) => {
    try {
      const content = await readFile(join(folder, name));
      return content.buffer.slice(content.byteOffset, content.byteOffset + content.byteLength);
    } catch (error) {
      throw new NetworkError(`${join(folder, name)}: ${error.code === "ENOENT" ? "no such file" : error.message}; \`figleaf export run=RUN format=[tfjs]\` writes such a folder`);
    }
  });
}
