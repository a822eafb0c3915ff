/** The page's own files: fetched from beside index.html, or, in the single file, unpacked from what it holds. */

const packed = (name) => document.getElementById(`file:${name}`);

/** Whether this is the single file, which holds everything and asks for nothing. */
export const isSingle = packed("manifest.json") !== null;

/** The bytes of one of the page's own files. A packed one can be had once: its text is dropped. */
export async function bytesOf(name) {
  if (!isSingle) {
    const response = await fetch(name);
    if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
    return response.arrayBuffer();
  }
  const element = packed(name);
  if (!element) throw new Error(`${name}: not in this file`);
  const text = atob(element.textContent);
  element.remove();
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return bytes.buffer;
}

/** The value of one of the page's own JSON files. */
export async function jsonOf(name) {
  return JSON.parse(new TextDecoder().decode(await bytesOf(name)));
}
