/** The page: opens the network, closes the door, and takes pictures. */

import { Camera } from "./camera.js";
import { breathe, byId, make } from "./dom.js";
import { openEngine } from "./engine.js";
import { Inside } from "./inside.js";
import { List } from "./list.js";
import { showMeasured } from "./measured.js";
import { PictureError, readPicture, readsPixelsTruly } from "./picture.js";
import { Reading } from "./reading.js";
import { narrow, seal } from "./seal.js";
import { bytesOf, isSingle, jsonOf } from "./source.js";
import { Stage } from "./stage.js";
import { Wanted } from "./wanted.js";
import { UNREADABLE } from "../lib/policy.js";

const MANIFEST = "manifest.json";
const MOST_AT_ONCE = 500;

let reading;
let stage;
let inside;
let list;
let network;
let queue = Promise.resolve();

/** One thing after the other: the network works on one picture at a time. */
function enqueue(work) {
  queue = queue.then(work).catch(complain);
  return queue;
}

function say(text) {
  byId("status").textContent = text;
}

function complain(error) {
  const known = error instanceof PictureError;
  if (!known) console.error(error);
  byId("trouble").textContent = known ? error.message : `Something went wrong: ${error.message}`;
  byId("trouble").hidden = false;
}

function badly(name, error) {
  const why = error instanceof PictureError ? error.message : `it could not be scored (${error.message})`;
  return new PictureError(`${name}: ${why}${reading.policy ? `; the policy leaves it to people: ${UNREADABLE}` : ""}`);
}

async function start() {
  const state = byId("seal");
  byId("about").textContent = "Opening the network.";
  const manifest = await jsonOf(MANIFEST);
  if (!isSingle) narrow(manifest.files);
  showMeasured(manifest);
  network = await openEngine(manifest.policy);
  const gallery = manifest.filters ? await openGallery(manifest.filters) : null;
  seal();
  state.dataset.state = "sealed";
  byId("seal-text").textContent = "Sealed: this page can ask for nothing any more";
  reading = new Reading(manifest, () => list.draw());
  list = new List(reading, (file, name) => enqueue(() => open(file, name, true)));
  stage = new Stage(manifest, (classIndex) => network.mapOf(classIndex));
  inside = new Inside(network.convolutions, (layer) => network.activationsOf(layer));
  if (gallery) new Wanted(gallery.index, gallery.sprites, network);
  byId("about").replaceChildren(...introduction(manifest));
  takePictures();
  document.documentElement.dataset.ready = "true";
}

function introduction({ run, data, network: net, unsafe }) {
  const bold = (textContent) => make("strong", { textContent });
  const what = unsafe.length ? ["how much of a picture's probability goes to ", bold(unsafe.join(" or "))] : ["which class a picture belongs to"];
  const caution = data.is_proxy ? " These data stand in for the subject: a score says nothing about NSFW." : "";
  const truth = readsPixelsTruly() ? "" : " This browser changes the pixels that pages read, against being recognised: scores are off here.";
  return [
    "The network ", bold(run.name), ` (${net.short}) runs in this page, on your machine. Trained on `, bold(data.name), ", it says ", ...what,
    `.${caution}${truth} Every picture stays covered until you uncover it; Escape covers it again.`,
  ];
}

async function openGallery(name) {
  const index = await jsonOf(name);
  const sprites = new Map();
  for (const { sprite } of index.layers.filter((layer) => layer.sprite)) {
    sprites.set(sprite, await createImageBitmap(new Blob([await bytesOf(sprite)], { type: "image/png" })));
  }
  return { index, sprites };
}

/** One picture is opened, several become a list. */
function take(files, name = (file) => file.name) {
  const chosen = [...files].slice(0, MOST_AT_ONCE);
  if (!chosen.length) return;
  if (chosen.length === 1) enqueue(() => open(chosen[0], name(chosen[0]), false));
  else enqueue(() => scoreAll(chosen, files.length));
}

async function open(file, name, fromList) {
  byId("trouble").hidden = true;
  say(`Reading ${name}`);
  await breathe();
  try {
    const picture = await readPicture(file, name);
    const rgb = network.squashed(picture);
    const result = await network.classify(rgb);
    network.lookAt(rgb);
    const first = reading.manifest.unsafe[0];
    const place = first ? reading.manifest.classes.indexOf(first) : result.probabilities.indexOf(Math.max(...result.probabilities));
    reading.show(result);
    await stage.show(picture, place);
    await inside.show(true);
    say(`${reading.spoken(name, result)}. The picture is covered.`);
    if (fromList) byId("look").focus();
  } catch (error) {
    reset();
    say("");
    throw badly(name, error);
  }
}

async function scoreAll(files, given) {
  byId("trouble").hidden = true;
  for (const [at, file] of files.entries()) {
    say(`Scoring ${at + 1} of ${files.length}`);
    byId("list-words").textContent = `Scoring ${at + 1} of ${files.length}`;
    await breathe();
    try {
      const picture = await readPicture(file, file.name);
      list.add(file, file.name, picture, await network.classify(network.squashed(picture)), "");
    } catch (error) {
      list.add(file, file.name, null, null, error instanceof PictureError ? error.message : `not scored: ${error.message}`);
    }
    if (at % 8 === 7) list.draw();
  }
  reset();
  list.draw();
  say(byId("list-words").textContent);
  byId("list").scrollIntoView();
  if (given > files.length) throw new PictureError(`${given} files: the first ${files.length} were taken; give the others afterwards`);
}

function reset() {
  stage.clear();
  reading.show(null);
  inside.show(false);
}

function takePictures() {
  const drop = byId("drop");
  const input = byId("files");
  const camera = new Camera((blob) => enqueue(() => open(blob, "camera picture", false)), complain);
  byId("pick").disabled = byId("camera").disabled = false;
  byId("pick").onclick = () => input.click();
  input.onchange = () => {
    take(input.files);
    input.value = "";
  };
  byId("camera").onclick = () => camera.open();
  byId("another").onclick = () => {
    reset();
    byId("pick").focus();
  };
  let depth = 0;
  addEventListener("dragenter", () => drop.classList.toggle("over", (depth += 1) > 0));
  addEventListener("dragleave", () => drop.classList.toggle("over", (depth -= 1) > 0));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    depth = 0;
    if (event.dataTransfer.files.length) take(event.dataTransfer.files);
    else complain(new PictureError("That was no file. Pictures from other pages have to be saved first: this page cannot fetch them."));
  });
  addEventListener("paste", (event) => {
    if (event.target instanceof HTMLTextAreaElement) return;
    if (event.clipboardData.files.length) take(event.clipboardData.files);
    else complain(new PictureError("There is no picture in the clipboard."));
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") stage.cover(true);
  });
}

start().catch((error) => {
  byId("seal").dataset.state = "broken";
  byId("seal-text").textContent = "Not opened";
  byId("about").textContent = "The network could not be opened.";
  complain(error);
});
