/** Cividis (Nuñez, Anderton & Renslow 2018): as even to the eye with any colour vision as without. */

const STOPS =
  "00224e 002a5f 003170 1a386f 2a3f6d 38476c 434e6c 4d556c 575d6d 61656f 6a6c71 737475 7d7c78 868379 918b78 9b9476 " +
  "a59c74 b0a571 bcae6c c6b667 d2c060 dec958 e9d34e f6dd3f fee838";
const KNOTS = STOPS.split(" ").map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

/** 256 colours, (256, 3) bytes. */
export const CIVIDIS = Uint8ClampedArray.from({ length: 768 }, (_, at) => {
  const place = (Math.floor(at / 3) / 255) * (KNOTS.length - 1);
  const below = Math.min(KNOTS.length - 2, Math.floor(place));
  return KNOTS[below][at % 3] + (place - below) * (KNOTS[below + 1][at % 3] - KNOTS[below][at % 3]);
});

/** Values in [0, 1] as RGBA bytes; `alpha(value)` in [0, 1] says how much each covers. */
export function colored(values, alpha = () => 1) {
  const rgba = new Uint8ClampedArray(4 * values.length);
  values.forEach((value, at) => {
    const color = 3 * Math.round(255 * Math.min(1, Math.max(0, value)));
    rgba.set(CIVIDIS.subarray(color, color + 3), 4 * at);
    rgba[4 * at + 3] = Math.round(255 * alpha(value));
  });
  return rgba;
}

/** Values (h, w) between the centres of their cells, (height, width): bilinear, constant beyond the outermost centres. */
export function enlarged(values, w, h, width, height) {
  const places = (length, cells) =>
    Array.from({ length }, (_, at) => {
      const place = Math.min(cells - 1, Math.max(0, ((at + 0.5) * cells) / length - 0.5));
      const first = Math.floor(place);
      return [first, Math.min(cells - 1, first + 1), place - first];
    });
  const across = places(width, w);
  const found = new Float32Array(width * height);
  let to = 0;
  for (const [above, below, down] of places(height, h)) {
    for (const [left, right, over] of across) {
      const upper = values[above * w + left] * (1 - over) + values[above * w + right] * over;
      const lower = values[below * w + left] * (1 - over) + values[below * w + right] * over;
      found[to] = upper * (1 - down) + lower * down;
      to += 1;
    }
  }
  return found;
}

/** Values scaled so that 0 stays 0 and the largest is 1; all zero when none is above 0. */
export function toOne(values) {
  const most = values.reduce((max, value) => Math.max(max, value), 0);
  return Float32Array.from(values, (value) => (most > 0 ? Math.max(0, value) / most : 0));
}
