// The page: photos and camera, one image shown at a time.
import { predict, setToken, takeToken } from "./api.js";
import { Camera } from "./camera.js";
import { History } from "./chart.js";
import { $, el, sentence, shown } from "./dom.js";
import { markCard, showFaces, watchCards } from "./faces.js";
import { CSV_COLUMNS, VIDEO_COLUMNS } from "./facts.js";
import { markBox, paint } from "./overlay.js";
import { saveCsv, saveJson, savePng } from "./save.js";

const KEPT = 9000; // live results held for the downloads: five minutes at 30 a second
const photos = []; // {file, url, state: waiting|done|failed, result, error, button}
let current = null; // the photo shown
let live = null; // the newest result of the camera, and the frame it speaks of
let frame = null;
let record = []; // what the camera saw: results with their seconds
let last = { frame: -1, track: 0 }; // the highest numbers in the record
let base = { frame: 0, track: 0 }; // what is added to a stream's numbers: each counts from its start
let chosen = null; // the track in the history
let newest = "photos"; // or "camera": whose results the downloads hold
const times = []; // of the last answers, for frames/s
let latency = 0;
let told = { at: 0, text: "" };

takeToken();
const history = new History($("history"), $("legend"));
const camera = new Camera($("video"), { onResult, onTrouble: trouble, onState, onStream });

function trouble(text, status = 0) {
  if (text && status === 401) $("token-form").hidden = false;
  $("trouble").hidden = !text;
  if ($("trouble").textContent !== (text ?? "")) $("trouble").textContent = text ?? "";
}

// ---- photos -----------------------------------------------------------------------------------

function addFiles(list) {
  const files = [...list];
  if (!files.length) {
    trouble("That holds no image file. Links are never followed: save the image first.");
    return;
  }
  if (camera.state !== "off") camera.stop();
  const fresh = files.map((file) => ({ file, url: URL.createObjectURL(file), state: "waiting" }));
  photos.push(...fresh);
  fresh.forEach(addToStrip);
  select(fresh[0]);
  work();
}

let working = 0;

async function work() {
  while (working < 2) {
    const photo = photos.find((p) => p.state === "waiting");
    if (!photo) return;
    working += 1;
    photo.state = "asked";
    ask(photo).finally(() => {
      working -= 1;
      work();
    });
  }
}

async function ask(photo) {
  try {
    photo.result = await predict(photo.file);
    photo.state = "done";
  } catch (error) {
    photo.state = "failed";
    photo.error = error.message;
    photo.status = error.status;
  }
  mark(photo);
  if (photo === current) show();
  buttons();
}

function addToStrip(photo) {
  const image = el("img", { alt: "", src: photo.url });
  image.addEventListener("error", () => image.remove());
  photo.label = el("span", { className: "mark" });
  photo.button = el("button", { type: "button" }, image, photo.label);
  photo.button.addEventListener("click", () => select(photo));
  photo.item = el("li", {}, photo.button);
  $("strip").append(photo.item);
  mark(photo);
}

function mark(photo) {
  const count = photo.result?.faces.length;
  const text = { done: `${count}`, failed: "!" }[photo.state] ?? "…";
  const words = { done: `${count} ${count === 1 ? "face" : "faces"}`, failed: "could not be read" };
  photo.label.textContent = text;
  photo.item.classList.toggle("failed", photo.state === "failed");
  photo.button.setAttribute("aria-label", `${photo.file.name}, ${words[photo.state] ?? "being read"}`);
}

function select(photo) {
  current = photo;
  newest = "photos";
  for (const other of photos) {
    other.button.setAttribute("aria-current", String(other === photo));
    other.button.tabIndex = other === photo ? 0 : -1;
  }
  photo?.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  show();
  buttons();
}

$("strip").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const next = photos[photos.indexOf(current) + step];
  if (!step || !next) return;
  event.preventDefault();
  select(next);
  next.button.focus();
});

function show() {
  const on = camera.state !== "off";
  const photo = on ? null : current;
  $("empty").hidden = on || Boolean(photo);
  $("media").hidden = !on && (!photo || photo.state === "failed");
  $("video").hidden = !on;
  $("camera-tools").hidden = !on;
  $("strip").hidden = on || photos.length < 2;
  $("live").hidden = !on && !record.length;
  $("media").classList.toggle("live", on);
  $("media").classList.toggle("mirrored", on && $("mirror").checked);
  if (on) {
    $("photo").hidden = $("unseen").hidden = true;
    return;
  }
  if (photo && $("photo").dataset.url !== photo.url) {
    $("photo").dataset.url = $("photo").src = photo.url;
    photo.blank = false;
  }
  $("photo").hidden = !photo || Boolean(photo.blank);
  $("unseen").hidden = !photo?.blank;
  if (photo?.result) $("unseen").style.aspectRatio = `${photo.result.width}/${photo.result.height}`;
  $("photo").alt = photo?.result ? sentence(photo.result.faces, photo.file.name) : (photo?.file.name ?? "");
  trouble(photo?.error ?? null, photo?.status);
  $("overlay").replaceChildren();
  showFaces($("faces"), photo?.result?.faces ?? []);
  $("none").hidden = Boolean(photo?.result?.faces.length);
  $("none").textContent = !photo
    ? "No image yet."
    : { done: "No face was found.", failed: "This one could not be read." }[photo.state] ?? "Looking …";
  if (photo?.result) {
    repaint();
    announce(sentence(photo.result.faces, photo.file.name));
  }
}

$("photo").addEventListener("error", () => {
  if (current) current.blank = true;
  show();
});
$("photo").addEventListener("load", repaint);
$("video").addEventListener("resize", () => {
  const { videoWidth, videoHeight } = $("video");
  if (videoHeight) $("media").style.setProperty("--ratio", videoWidth / videoHeight);
});
new ResizeObserver(repaint).observe($("media"));

function repaint() {
  const on = camera.state !== "off";
  const result = on ? live : current?.result;
  const shownWidth = $("overlay").clientWidth;
  if (result && shownWidth) {
    paint($("overlay"), result, { unit: result.width / shownWidth, mirrored: on && $("mirror").checked });
  }
}

// ---- camera -----------------------------------------------------------------------------------

function onState(state) {
  const words = { off: "Camera", starting: "Starting …", hidden: "Paused", waiting: "Stop" };
  $("camera").textContent = words[state] ?? "Stop";
  document.body.dataset.camera = state;
  if (state === "on") listDevices();
  if (state !== "on") forget();
  const sentenceNow = $("trouble").textContent;
  show();
  if (state !== "on") {
    showFaces($("faces"), state === "off" ? (current?.result?.faces ?? []) : []);
    if (sentenceNow) trouble(sentenceNow); // why the camera went stays to be read
  }
  buttons();
}

// What was seen last is no longer so.
function forget() {
  live = frame = null;
  times.length = 0;
  $("overlay").replaceChildren();
  $("rate").textContent = $("latency").textContent = $("dropped").textContent = "–";
}

function onStream(open) {
  if (open) {
    trouble(null);
    chosen = null; // its numbers are of the stream before
    base = { frame: last.frame + 1, track: last.track };
  } else {
    forget();
    showFaces($("faces"), []);
    buttons();
  }
}

async function listDevices() {
  const devices = await camera.devices();
  $("device-label").hidden = devices.length < 2;
  $("device").replaceChildren(
    ...devices.map((d, i) => el("option", { value: i, textContent: d.label || `Camera ${i}` })),
  );
  $("device").value = camera.number;
}

function onResult(message, milliseconds, image) {
  const now = performance.now();
  const seconds = now / 1000;
  live = message.result;
  live.source = "camera";
  for (const face of live.faces) {
    face.track += base.track;
    last.track = Math.max(last.track, face.track);
  }
  last.frame = base.frame + message.frame;
  frame = image;
  record.push({ time: Math.round(now) / 1000, frame: last.frame, ...live });
  if (record.length > KEPT) record.splice(0, record.length - KEPT);
  times.push(now);
  while (times[0] < now - 2000) times.shift();
  latency = latency ? 0.9 * latency + 0.1 * milliseconds : milliseconds;
  const span = now - times[0];
  if (span > 300) $("rate").textContent = (((times.length - 1) * 1000) / span).toFixed(1);
  $("latency").textContent = `${latency.toFixed(0)} ms`;
  $("dropped").textContent = message.dropped;
  if (!live.faces.some((face) => face.track === chosen)) {
    const next = live.faces[0]?.track ?? chosen;
    if (next !== chosen) history.clear();
    chosen = next;
  }
  history.add(seconds, live.faces.find((face) => face.track === chosen));
  showFaces($("faces"), live.faces, { chosen, onChoose: choose });
  $("none").hidden = live.faces.length > 0;
  $("none").textContent = "No face in view.";
  repaint();
  tell(now);
  if ($("save-json").disabled || $("save-png").disabled) buttons();
}

function choose(track) {
  if (track === chosen) return;
  chosen = track;
  history.clear();
}

// Only a change of word is spoken, and not more often than every three seconds.
function tell(now) {
  const text = live.faces.length ? `Face ${chosen}: ${wordOf(chosen)}.` : "No face in view.";
  if (text !== told.text && now - told.at > 3000) {
    told = { at: now, text };
    announce(text);
  }
}

const wordOf = (track) => shown(live.faces.find((face) => face.track === track)).word;

function announce(text) {
  $("announce").textContent = text;
}

function toggleCamera() {
  if (camera.state !== "off") {
    trouble(null);
    camera.stop();
    return;
  }
  record = [];
  newest = "camera";
  last = { frame: -1, track: 0 };
  chosen = null;
  history.clear();
  trouble(null);
  camera.start();
}

// ---- saving and wiring ------------------------------------------------------------------------

const saved = () => (camera.state !== "off" || (record.length && newest === "camera") ? record : results());
const results = () => photos.filter((photo) => photo.result).map((photo) => photo.result);
const stem = () => (saved() === record ? "mien-camera" : "mien");

function buttons() {
  const some = saved().length > 0;
  $("save-json").disabled = $("save-csv").disabled = !some;
  $("save-png").disabled = !(camera.state === "off" ? current?.result : live);
  $("clear").disabled = !photos.length && !record.length;
}

$("save-json").addEventListener("click", () => saveJson(saved(), `${stem()}.json`));
$("save-csv").addEventListener("click", () =>
  saveCsv(saved(), `${stem()}.csv`, saved() === record ? VIDEO_COLUMNS : CSV_COLUMNS),
);
$("save-png").addEventListener("click", async () => {
  const on = camera.state !== "off";
  const result = on ? live : current.result; // before the wait, in which the next frame may come
  const source = on ? await createImageBitmap(frame) : current.blank ? null : $("photo");
  const name = on ? "camera" : current.file.name.replace(/\.[^.]*$/, "");
  savePng(source, result, on && $("mirror").checked, `${name}-mien.png`);
});
$("clear").addEventListener("click", () => {
  for (const photo of photos) URL.revokeObjectURL(photo.url);
  photos.length = 0;
  record = [];
  $("strip").replaceChildren();
  history.clear();
  select(null);
});

for (const id of ["choose", "empty"]) $(id).addEventListener("click", () => $("files").click());
watchCards((index) => markBox($("overlay"), index));
for (const [kind, marked] of [["pointerover", true], ["pointerout", false]]) {
  $("overlay").addEventListener(kind, (event) => {
    const face = event.target.dataset?.face;
    if (face !== undefined) markCard(marked ? Number(face) : null);
  });
}
$("files").addEventListener("change", () => {
  addFiles($("files").files);
  $("files").value = "";
});
$("camera").addEventListener("click", toggleCamera);
$("mirror").addEventListener("change", () => {
  show();
  repaint();
});
$("wait").addEventListener("change", () => (camera.wait = $("wait").checked));
$("device").addEventListener("change", () => {
  camera.number = Number($("device").value);
  camera.start();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && camera.state !== "off") camera.stop();
});
document.addEventListener("paste", (event) => {
  if (event.target.matches?.("input[type=password]")) return;
  addFiles(event.clipboardData?.files ?? []);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  addFiles(event.dataTransfer?.files ?? []);
});
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken($("token").value.trim());
  $("token-form").hidden = true;
  for (const photo of photos) if (photo.state === "failed") Object.assign(photo, { state: "waiting", error: null, status: 0 });
  show();
  work();
});

// ?camera or ?camera=N (what `mien live` opens) starts it; &wait waits for a lost one.
const query = new URLSearchParams(location.search);
if (query.has("wait")) camera.wait = $("wait").checked = true;
if (query.has("camera")) {
  camera.number = Number.parseInt(query.get("camera"), 10) || 0;
  camera.start();
}
