/** Picture files in Node: decoded by the project's rule, and written as PNG. */

import { stat } from "node:fs/promises";
import sharp from "sharp";
import { onWhite, upright } from "../lib/resize.js";

const MAX_PIXELS = 100_000_000;
const FORMATS = new Set(["jpeg", "png", "webp", "gif", "tiff", "heif"]); // heif: AVIF; HEIC has no free decoder in sharp

/** A file is no picture that can be used; the message names it and says why. */
export class PictureError extends Error {}

/**
 * Decode a file: its first frame, upright by EXIF, what is transparent on white, colour profiles ignored.
 *
 * @param {string} path
 * @returns {Promise<{rgb: Uint8Array|Uint8ClampedArray, width: number, height: number}>} rgb (height, width, 3)
 * @throws {PictureError}
 */
export async function readPicture(path) {
  await requireFile(path);
  try {
    // Reading stops at the first error in the data: half a picture would get a score, too.
    const image = sharp(path, { limitInputPixels: MAX_PIXELS, failOn: "truncated", pages: 1 });
    const { format, orientation } = await image.metadata();
    if (!FORMATS.has(format)) throw new PictureError(`${path}: ${format} pictures are not read: save it as PNG or JPEG`);
    const { data, info } = await image.toColourspace("srgb").ensureAlpha().raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
    return upright(onWhite(data), info.width, info.height, orientation ?? 1);
  } catch (error) {
    if (error instanceof PictureError) throw error;
    throw new PictureError(`${path}: no picture that can be decoded (${error.message.split("\n")[0]})`);
  }
}

/**
 * @param {string} path
 * @param {Uint8Array|Uint8ClampedArray} values (height, width, channels): grey or RGB
 * @param {number} width
 * @param {number} height
 */
export async function writePng(path, values, width, height) {
  const channels = values.length / (width * height);
  await sharp(Buffer.from(values), { raw: { width, height, channels } }).png().toFile(path);
}

async function requireFile(path) {
  let found;
  try {
    found = await stat(path);
  } catch (error) {
    throw new PictureError(`${path}: ${error.code === "ENOENT" ? "no such file" : `cannot be read (${error.code})`}`);
  }
  if (!found.isFile()) throw new PictureError(`${path}: ${found.isDirectory() ? "a folder, not a file" : "not a regular file"}`);
  if (!found.size) throw new PictureError(`${path}: empty file`);
}
