/** The page's elements: found by their id, made from plain values. Text is only ever text: no string is parsed as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id; it stands in index.html. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found;
}

/** A new HTML element with properties (`className`, `onclick`, `ariaLabel`, ...), `data-*` attributes and children. */
export function make(tag, properties = {}, ...children) {
  const { dataset = {}, ...rest } = properties;
  const made = Object.assign(document.createElement(tag), rest);
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}

/** A new SVG element with attributes and children. */
export function draw(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/** A canvas that shows RGBA or RGB bytes of this size. */
export function paint(canvas, bytes, width, height) {
  canvas.width = width;
  canvas.height = height;
  const rgba = bytes.length === 4 * width * height ? bytes : opaque(bytes, width * height);
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(rgba), width, height), 0, 0);
  return canvas;
}

function opaque(rgb, pixels) {
  const rgba = new Uint8ClampedArray(4 * pixels).fill(255);
  for (let at = 0; at < pixels; at += 1) rgba.set(rgb.subarray(3 * at, 3 * at + 3), 4 * at);
  return rgba;
}

/** Make `tabs` a row of tabs, one a name; `choose(name)` is called for the one that is chosen, at first `names[0]`. */
export function tabs(list, panel, names, choose) {
  const buttons = names.map((name) => make("button", { type: "button", role: "tab", textContent: name }));
  const select = (at, focus) => {
    buttons.forEach((button, place) => {
      button.ariaSelected = String(place === at);
      button.tabIndex = place === at ? 0 : -1;
    });
    if (focus) buttons[at].focus();
    panel.setAttribute("aria-label", `${panel.dataset.what ?? ""} ${names[at]}`.trim());
    choose(names[at]);
  };
  buttons.forEach((button, at) => {
    button.onclick = () => select(at, false);
    button.onkeydown = (event) => {
      const moved = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
      if (moved === undefined) return;
      event.preventDefault();
      select((moved + names.length) % names.length, true);
    };
  });
  list.replaceChildren(...buttons);
  select(0, false);
}

/** `0.9548` as `95.5 %`. */
export function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

/** A score with as many digits as a decision needs near 0 and 1. */
export function shown(score) {
  return score > 0.995 && score < 1 ? score.toFixed(4) : score < 0.005 && score > 0 ? score.toFixed(4) : score.toFixed(2);
}

/** Let the browser draw and answer keys before going on with long work. */
export function breathe() {
  return new Promise((resolve) => setTimeout(resolve));
}
