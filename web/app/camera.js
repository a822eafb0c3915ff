/** A picture from the camera: the film is covered, too, and stops as soon as it is not needed. */

import { byId } from "./dom.js";
import { PictureError } from "./picture.js";

const WHY = {
  NotAllowedError: "The camera was not allowed, by you or by the frame that this page stands in.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera is in use by another program.",
};

/** The viewfinder. */
export class Camera {
  /** @param {(picture: Blob) => void} give  @param {(error: Error) => void} complain */
  constructor(give, complain) {
    Object.assign(this, { give, complain, stream: null });
    byId("take").onclick = () => this.take();
    byId("leave-camera").onclick = () => this.close();
  }

  async open() {
    byId("trouble").hidden = true;
    try {
      if (!navigator.mediaDevices) throw new PictureError("Cameras are only for pages from https or from this machine.");
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      this.complain(error instanceof PictureError ? error : new PictureError(WHY[error.name] ?? `The camera cannot be used: ${error.message}`));
      return;
    }
    const video = byId("video");
    video.srcObject = this.stream;
    await video.play();
    byId("drop").hidden = true;
    byId("viewfinder").hidden = false;
    byId("take").focus();
  }

  async take() {
    const video = byId("video");
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    this.close();
    this.give(await canvas.convertToBlob({ type: "image/png" }));
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
    byId("video").srcObject = null;
    byId("viewfinder").hidden = true;
    byId("drop").hidden = false;
  }
}
