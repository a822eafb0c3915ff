/** A file to pixels, by the project's rule: upright by EXIF, no colour conversion, what is transparent laid onto white. */

import { misnamed, sniff } from "./sniff.js";

const MAX_PIXELS = 100_000_000;
const MAX_BYTES = 256 * 1024 * 1024;
const SHOWN = 1280; // pixels of the longer side that are kept to be looked at

/** Why a file is no picture that can be used, in words for the person who chose it. */
export class PictureError extends Error {}

/**
 * @typedef {object} Picture
 * @property {string} name the file's name: text, nothing else
 * @property {number} width
 * @property {number} height
 * @property {Uint8ClampedArray} rgba opaque, (height, width, 4)
 * @property {string[]} notes what a person should know: first frame only, misnamed
 */

/**
 * @param {Blob} file
 * @param {string} name
 * @returns {Promise<Picture>}
 * @throws {PictureError}
 */
export async function readPicture(file, name) {
  if (file.size > MAX_BYTES) throw new PictureError(`file of ${megabytes(file.size)}; at most ${megabytes(MAX_BYTES)} are read`);
  const found = sniff(await bytesOf(file));
  if (found.reason) throw new PictureError(found.reason);
  if (found.width * found.height > MAX_PIXELS) throw new PictureError(tooLarge(found.width, found.height));
  const bitmap = await decoded(file, found.format);
  try {
    if (bitmap.width * bitmap.height > MAX_PIXELS) throw new PictureError(tooLarge(bitmap.width, bitmap.height));
    const notes = [misnamed(name, found.format), found.moves ? "it moves: only its first frame is looked at" : ""];
    return { name, ...pixels(bitmap), notes: notes.filter(Boolean) };
  } finally {
    bitmap.close();
  }
}

/** A canvas of at most 1280 pixels a side, to be looked at. */
export function view(picture, side = SHOWN) {
  const whole = new OffscreenCanvas(picture.width, picture.height);
  whole.getContext("2d").putImageData(new ImageData(picture.rgba, picture.width, picture.height), 0, 0);
  const factor = Math.min(1, side / Math.max(picture.width, picture.height));
  const size = [picture.width, picture.height].map((length) => Math.max(1, Math.round(factor * length)));
  const shown = new OffscreenCanvas(...size);
  shown.getContext("2d").drawImage(whole, 0, 0, ...size);
  return shown;
}

/** Whether this browser gives pages the pixels that are there: some change them, against recognition of browsers. */
export function readsPixelsTruly() {
  const sent = Uint8ClampedArray.from({ length: 4 * 256 }, (_, at) => (at % 4 === 3 ? 255 : (at * 37) % 256));
  const canvas = new OffscreenCanvas(16, 16);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.putImageData(new ImageData(sent, 16, 16), 0, 0);
  return context.getImageData(0, 0, 16, 16).data.every((value, at) => value === sent[at]);
}

async function bytesOf(file) {
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new PictureError("it cannot be read: a folder, or a file that has changed or gone");
  }
}

async function decoded(file, format) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "default" });
  } catch {
    throw new PictureError(`broken: this browser cannot decode the ${format} picture`);
  }
}

function pixels(bitmap) {
  const { width, height } = bitmap;
  try {
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    return { width, height, rgba: context.getImageData(0, 0, width, height).data };
  } catch {
    throw new PictureError(`${width} × ${height} pixels are more than this browser has memory for`);
  }
}

function tooLarge(width, height) {
  return `${width} × ${height} pixels; at most ${MAX_PIXELS / 1e6} million are looked at`;
}

function megabytes(bytes) {
  return `${(bytes / 1048576).toFixed(0)} MB`;
}
