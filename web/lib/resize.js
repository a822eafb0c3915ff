/**
 * A picture at the network's size, byte for byte as Pillow gives it: `Image.resize(..., BILINEAR)`.
 *
 * The rule has the name `pillow-bilinear-antialias-squash-v1`: the whole picture is squashed to a square by a triangle
 * filter that widens when the picture shrinks, in Pillow's own integer arithmetic (libImaging/Resample.c): coefficients
 * of 22 bits, along rows and along columns, each pass rounded to bytes. A canvas would resize by its browser's
 * own rule, and the scores would move.
 */

const PRECISION_BITS = 32 - 8 - 2;
const ONE = 2 ** PRECISION_BITS;
const SUPPORT = 1; // of the triangle, in pixels of the larger of the two pictures

export const RESIZE_RULE = "pillow-bilinear-antialias-squash-v1";

/**
 * @param {Uint8Array|Uint8ClampedArray} rgb (height, width, 3)
 * @param {number} width
 * @param {number} height
 * @param {number} size side of the square
 * @returns {Uint8ClampedArray} (size, size, 3)
 */
export function squash(rgb, width, height, size) {
  if (rgb.length !== 3 * width * height) throw new RangeError(`${rgb.length} bytes are no RGB of ${width} x ${height}`);
  if (isColumnsFirst(width, height, size)) {
    const down = alongColumns(rgb, width, height, size);
    return width === size ? down : alongRows(down, width, size, size);
  }
  const across = width === size ? rgb : alongRows(rgb, width, height, size);
  return height === size ? Uint8ClampedArray.from(across) : alongColumns(across, size, height, size);
}

/** Whether columns are resized before rows: from Pillow 13 on where the height falls by more than twice as many pixels. */
function isColumnsFirst(width, height, size) {
  return height > size && height - size > 2 * (width - size);
}

/**
 * What is transparent, on white: Pillow's `alpha_composite` onto an opaque white picture.
 *
 * @param {Uint8Array|Uint8ClampedArray} rgba (pixels, 4), colours not multiplied by alpha
 * @returns {Uint8ClampedArray} (pixels, 3)
 */
export function onWhite(rgba) {
  const rgb = new Uint8ClampedArray((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    const alpha = rgba[from + 3];
    for (let channel = 0; channel < 3; channel += 1) {
      rgb[to + channel] = alpha === 255 ? rgba[from + channel] : blended(rgba[from + channel], alpha);
    }
  }
  return rgb;
}

/**
 * The picture as it is meant to be seen, by the EXIF tag `Orientation`.
 *
 * @param {Uint8Array|Uint8ClampedArray} rgb (height, width, 3) as stored
 * @param {number} width
 * @param {number} height
 * @param {number} orientation 1 to 8; anything else is 1
 * @returns {{rgb: Uint8Array|Uint8ClampedArray, width: number, height: number}}
 */
export function upright(rgb, width, height, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return { rgb, width, height };
  const swapped = orientation >= 5;
  const [newWidth, newHeight] = swapped ? [height, width] : [width, height];
  const mirroredX = [2, 3, 7, 8].includes(orientation);
  const mirroredY = [3, 4, 6, 7].includes(orientation);
  const turned = new Uint8ClampedArray(rgb.length);
  for (let y = 0, to = 0; y < newHeight; y += 1) {
    for (let x = 0; x < newWidth; x += 1, to += 3) {
      const [column, row] = swapped ? [y, x] : [x, y];
      const from = 3 * ((mirroredY ? height - 1 - row : row) * width + (mirroredX ? width - 1 - column : column));
      turned[to] = rgb[from];
      turned[to + 1] = rgb[from + 1];
      turned[to + 2] = rgb[from + 2];
    }
  }
  return { rgb: turned, width: newWidth, height: newHeight };
}

/** Pillow's integers for one channel over white (libImaging/AlphaComposite.c). */
function blended(value, alpha) {
  const coefficient = Math.floor((alpha * 255 * 255 * 128) / (255 * 255));
  const sum = value * coefficient + 255 * (255 * 128 - coefficient) + (0x80 << 7);
  return ((sum >> 8) + sum) >> 8 >> 7;
}

/** For each place of the new line: the first place of the old one that counts, and the integer weights from there. */
function coefficients(length, size) {
  const scale = length / size;
  const stretch = Math.max(scale, 1);
  const support = SUPPORT * stretch;
  return Array.from({ length: size }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(length, Math.trunc(centre + support + 0.5));
    const weights = [];
    let sum = 0;
    for (let at = first; at < end; at += 1) {
      const weight = Math.max(0, 1 - Math.abs((at - centre + 0.5) * (1 / stretch)));
      weights.push(weight);
      sum += weight;
    }
    const integers = Int32Array.from(weights, (weight) => Math.trunc(0.5 + (sum === 0 ? weight : weight * (1 / sum)) * ONE));
    return { first, integers };
  });
}

function alongRows(rgb, width, height, size) {
  const found = new Uint8ClampedArray(3 * size * height);
  for (const [x, { first, integers }] of coefficients(width, size).entries()) {
    for (let y = 0; y < height; y += 1) {
      pixel(rgb, 3 * (y * width + first), 3, integers, found, 3 * (y * size + x));
    }
  }
  return found;
}

function alongColumns(rgb, width, height, size) {
  const found = new Uint8ClampedArray(3 * width * size);
  for (const [y, { first, integers }] of coefficients(height, size).entries()) {
    for (let x = 0; x < width; x += 1) {
      pixel(rgb, 3 * (first * width + x), 3 * width, integers, found, 3 * (y * width + x));
    }
  }
  return found;
}

/** One pixel: the weighted sum of old ones that lie `stride` bytes apart, rounded. Sums stay below 2^31. */
function pixel(rgb, from, stride, integers, found, to) {
  let red = ONE / 2;
  let green = ONE / 2;
  let blue = ONE / 2;
  for (let at = 0, place = from; at < integers.length; at += 1, place += stride) {
    const weight = integers[at];
    red += rgb[place] * weight;
    green += rgb[place + 1] * weight;
    blue += rgb[place + 2] * weight;
  }
  found[to] = red >> PRECISION_BITS;
  found[to + 1] = green >> PRECISION_BITS;
  found[to + 2] = blue >> PRECISION_BITS;
}
