// The camera: getUserMedia, newest frame to the server, and what to say when the camera is gone.
import { Stream, refusal } from "./api.js";

const LONG_SIDE = 640;
const QUALITY = 0.8;
const RETRY = 2000; // ms

const REASONS = {
  NotFoundError: "No camera is there: plug one in.",
  OverconstrainedError: "That camera is not there: choose another.",
  NotAllowedError: "The browser may not use the camera: allow it for this page.",
  NotReadableError: "The camera is busy: close the program that uses it.",
  AbortError: "The camera did not start: unplug it and plug it in again.",
};

export class Camera {
  // Hooks: onResult(message, milliseconds, image), onTrouble(sentence or null), onState(word),
  // onStream(whether a new one opened or the last broke off).
  constructor(video, hooks) {
    this.video = video;
    this.hooks = hooks;
    this.canvas = document.createElement("canvas");
    this.state = "off"; // off, starting, on, hidden, waiting
    this.number = 0; // of the camera, as the system lists them
    this.wait = false; // for a lost camera to come back
    this.run = 0; // every start has a number: what an older one still does is ignored
    document.addEventListener("visibilitychange", () => this.visibility());
    navigator.mediaDevices?.addEventListener("devicechange", () => {
      if (this.state === "waiting") this.start();
    });
  }

  set(state) {
    this.state = state;
    this.hooks.onState(state);
  }

  async start() {
    if (!navigator.mediaDevices) {
      this.fail(new Error("This browser gives the camera to https pages and to localhost only."));
      return;
    }
    this.release();
    if (document.hidden) {
      // Opened in a background tab, or it came back while nobody looks: visibility() starts it.
      this.set("hidden");
      return;
    }
    const run = this.run;
    this.set("starting");
    try {
      const media = await this.open();
      if (run !== this.run) {
        media.getTracks().forEach((track) => track.stop());
        return;
      }
      this.media = media;
      media.getVideoTracks()[0].addEventListener("ended", () => {
        if (run === this.run) this.fail(new Error("The camera was unplugged or taken away."));
      });
      this.video.srcObject = media;
      await this.video.play();
    } catch (error) {
      if (run === this.run) this.fail(error);
      return;
    }
    if (run !== this.run) return;
    this.set("on");
    this.hooks.onTrouble(null);
    this.connect(run);
    this.next(run);
  }

  async open() {
    const size = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
    const listed = await this.devices();
    const wanted = listed[this.number]?.deviceId;
    const video = wanted ? { ...size, deviceId: { exact: wanted } } : { ...size, facingMode: "user" };
    const media = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    if (wanted || this.number === 0) return media;
    // Before the first permission the list is empty: only now can camera N be found.
    media.getTracks().forEach((track) => track.stop());
    const count = (await this.devices()).length;
    if (this.number < count) return this.open();
    throw new Error(`Camera ${this.number} is not there: this machine has ${count}, counted from 0.`);
  }

  async devices() {
    const all = await navigator.mediaDevices.enumerateDevices();
    return all.filter((device) => device.kind === "videoinput" && device.deviceId);
  }

  connect(run) {
    this.stream = new Stream({
      onOpen: () => {
        if (run === this.run) this.hooks.onStream(true);
      },
      onResult: (message, milliseconds, image) => {
        if (run === this.run) this.hooks.onResult(message, milliseconds, image);
      },
      onTrouble: (sentence) => this.hooks.onTrouble(sentence),
      onClose: (code, reason) => {
        if (run !== this.run) return;
        this.hooks.onStream(false);
        this.reconnect(run, reason);
      },
    });
  }

  async reconnect(run, reason) {
    const problem = reason ? null : await refusal();
    if (run !== this.run) return;
    if (problem?.status === 401) {
      this.fail(problem);
      return;
    }
    const why = problem?.message ?? (reason ? `The stream ended: ${reason}.` : "The stream broke off.");
    this.hooks.onTrouble(`${why} Trying again.`);
    this.timer = setTimeout(() => run === this.run && this.connect(run), RETRY);
  }

  // Called for every new image of the camera; those that come too fast are left out.
  next(run) {
    const again = () => run === this.run && this.next(run);
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(again);
    else requestAnimationFrame(again);
    const { video, stream } = this;
    if (this.encoding || !stream.ready || !video.videoWidth) return;
    const scale = Math.min(1, LONG_SIDE / Math.max(video.videoWidth, video.videoHeight));
    const { canvas } = this;
    const [width, height] = [video.videoWidth, video.videoHeight].map((v) => Math.round(v * scale));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const taken = performance.now();
    canvas.getContext("2d", { willReadFrequently: true }).drawImage(video, 0, 0, width, height);
    this.encoding = true;
    canvas.toBlob(
      (blob) => {
        this.encoding = false;
        if (blob && stream.open) stream.send(blob, taken);
      },
      "image/jpeg",
      QUALITY,
    );
  }

  release() {
    this.run += 1;
    clearTimeout(this.timer);
    this.encoding = false;
    this.stream?.close();
    this.media?.getTracks().forEach((track) => track.stop());
    this.media = this.stream = null;
    this.video.srcObject = null;
  }

  stop() {
    this.release();
    this.set("off");
  }

  fail(error) {
    this.release();
    const sentence = REASONS[error.name] ?? error.message;
    if (this.wait && error.name !== "NotAllowedError") {
      this.hooks.onTrouble(`${sentence} Waiting for it to come back.`);
      this.set("waiting");
      this.timer = setTimeout(() => this.state === "waiting" && this.start(), RETRY);
    } else {
      this.hooks.onTrouble(sentence, error.status);
      this.set("off");
    }
  }

  // No image is taken of anybody while nobody looks at the page.
  visibility() {
    if (document.hidden && ["on", "starting", "waiting"].includes(this.state)) {
      this.release();
      this.set("hidden");
    } else if (!document.hidden && this.state === "hidden") {
      this.start();
    }
  }
}
