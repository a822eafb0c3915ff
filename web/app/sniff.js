/**
 * What a file is, by its first bytes rather than by its name: its format, its size in pixels where the header says it,
 * whether it moves. A picture that is too large is refused by its header, before the browser fills the memory with it.
 */

const ENDINGS = {
  JPEG: ["jpg", "jpeg", "jpe", "jfif", "mpo"],
  PNG: ["png", "apng"],
  GIF: ["gif"],
  WebP: ["webp"],
  AVIF: ["avif", "avifs"],
  BMP: ["bmp", "dib"],
};
const EVERY_ENDING = Object.values(ENDINGS).flat();

/**
 * @param {Uint8Array} bytes the file
 * @returns {{format: string, width?: number, height?: number, moves: boolean, reason?: string}} `reason`: why it is no
 *   picture that can be read here
 */
export function sniff(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length === 0) return { format: "", moves: false, reason: "empty file" };
  if (starts(bytes, [0xff, 0xd8, 0xff])) return { format: "JPEG", moves: false, ...jpegSize(view) };
  if (starts(bytes, "\x89PNG\r\n\x1a\n")) {
    return { format: "PNG", moves: find(bytes, "acTL", 2048) > 0, ...sizeAt(view, 16, "getUint32", false) };
  }
  if (starts(bytes, "GIF8")) return { format: "GIF", moves: gifMoves(bytes), ...sizeAt(view, 6, "getUint16", true) };
  if (starts(bytes, "RIFF") && ascii(bytes, 8, 4) === "WEBP") return { format: "WebP", ...webp(bytes, view) };
  if (starts(bytes, "BM")) return { format: "BMP", moves: false, ...sizeAt(view, 18, "getInt32", true) };
  if (ascii(bytes, 4, 4) === "ftyp") return boxed(bytes, view);
  return { format: "", moves: false, reason: whatElse(bytes) };
}

/** A remark when a name's ending promises another format than the bytes hold; "" when it does not. */
export function misnamed(name, format) {
  const ending = /\.([^.]+)$/.exec(name)?.[1].toLowerCase();
  if (!ending || !format || ENDINGS[format]?.includes(ending)) return "";
  return EVERY_ENDING.includes(ending) || ending.length <= 4 ? `named .${ending}, but it is a ${format} picture` : "";
}

function starts(bytes, signature) {
  return [...signature].every((sign, at) => bytes[at] === (typeof sign === "string" ? sign.charCodeAt(0) : sign));
}

function ascii(bytes, start, length) {
  return String.fromCharCode(...bytes.subarray(start, start + length));
}

/** Where `text` first stands within the first `limit` bytes, or -1. */
function find(bytes, text, limit) {
  const codes = [...text].map((sign) => sign.charCodeAt(0));
  for (let at = 0; at + codes.length <= Math.min(limit, bytes.length); at += 1) {
    if (codes.every((code, step) => bytes[at + step] === code)) return at;
  }
  return -1;
}

function sizeAt(view, at, read, little) {
  const step = read === "getUint16" ? 2 : 4;
  if (view.byteLength < at + 2 * step) return {};
  return { width: Math.abs(view[read](at, little)), height: Math.abs(view[read](at + step, little)) };
}

/** Width and height stand in the first frame header, SOF0 to SOF15 without DHT, JPG and DAC. */
function jpegSize(view) {
  let at = 2;
  while (at + 9 < view.byteLength) {
    if (view.getUint8(at) !== 0xff) return {};
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at += 1;
    } else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { height: view.getUint16(at + 5), width: view.getUint16(at + 7) };
    } else {
      at += 2 + view.getUint16(at + 2);
    }
  }
  return {};
}

/** Whether a GIF holds a second image: its blocks are walked, since the byte of an image can stand anywhere in data. */
function gifMoves(bytes) {
  const table = (packed) => (packed & 0x80 ? 3 << ((packed & 7) + 1) : 0);
  const afterBlocks = (start) => {
    let at = start;
    while (at < bytes.length && bytes[at] !== 0) at += bytes[at] + 1;
    return at + 1;
  };
  let images = 0;
  let at = 13 + table(bytes[10]);
  while (at < bytes.length && bytes[at] !== 0x3b) {
    if (bytes[at] === 0x2c) {
      images += 1;
      if (images > 1) return true;
      at = afterBlocks(at + 11 + table(bytes[at + 9]));
    } else if (bytes[at] === 0x21) {
      at = afterBlocks(at + 2);
    } else {
      return false;
    }
  }
  return false;
}

function webp(bytes, view) {
  const kind = ascii(bytes, 12, 4);
  if (bytes.length < 30) return { moves: false };
  if (kind === "VP8X") {
    const at = (place) => 1 + (bytes[place] | (bytes[place + 1] << 8) | (bytes[place + 2] << 16));
    return { moves: (bytes[20] & 2) !== 0, width: at(24), height: at(27) };
  }
  if (kind === "VP8L") {
    const bits = view.getUint32(21, true);
    return { moves: false, width: 1 + (bits & 0x3fff), height: 1 + ((bits >>> 14) & 0x3fff) };
  }
  return { moves: false, width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
}

/** AVIF and HEIC: boxes; the largest `ispe` is the picture's size, the others are of its tiles and thumbnails. */
function boxed(bytes, view) {
  const brand = ascii(bytes, 8, 4);
  if (["heic", "heix", "hevc", "heim", "heis", "mif1"].includes(brand)) {
    return { format: "HEIC", moves: false, reason: "HEIC is not decoded: convert it to JPEG or AVIF" };
  }
  if (!["avif", "avis"].includes(brand)) return { format: "", moves: false, reason: "a film or another container, not a picture" };
  const size = {};
  for (let from = 0, at; (at = find(bytes.subarray(from), "ispe", 65536)) >= 0; from += at + 4) {
    if (from + at + 16 > bytes.length) break;
    const [width, height] = [view.getUint32(from + at + 8), view.getUint32(from + at + 12)];
    if (width * height > (size.width ?? 0) * (size.height ?? 0)) Object.assign(size, { width, height });
  }
  return { format: "AVIF", moves: brand === "avis", ...size };
}

function whatElse(bytes) {
  const head = ascii(bytes, 0, 64).trimStart().toLowerCase();
  if (head.startsWith("<!doctype") || head.startsWith("<html")) return "not a picture: an HTML page";
  if (head.startsWith("<?xml") || head.startsWith("<svg")) return "not a picture of pixels: XML or SVG";
  if (head.startsWith("%pdf")) return "not a picture: a PDF document";
  if (head.startsWith("ii*\0") || head.startsWith("mm\0*")) return "TIFF is not decoded by browsers: convert it to PNG";
  if (starts(bytes, "\x00\x00\x00\x0cjP")) return "JPEG 2000 is not decoded by browsers: convert it to PNG";
  return bytes.every((byte) => byte === 0) ? "not a picture: only zero bytes" : "not a picture in a known format";
}
