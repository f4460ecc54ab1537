// The labelling page: one face at a time. All state is the server's; a reload asks for it again.
import { ask, setToken, takeToken } from "./api.js";
import { $, el, percent } from "./dom.js";

let state = null;
let busy = false;
let pending = null; // what was answered while a poll was under way
let fault = ""; // whether an "answer" or a "poll" failed: a poll does not clear an answer's trouble
let shown = null; // the face on the page, and its image's address
let url = null;

takeToken();

function trouble(error) {
  if (error?.status === 401) $("token-form").hidden = false;
  $("trouble").hidden = !error;
  $("trouble").textContent = error?.message ?? "";
}

function occupied(now) {
  busy = now;
  $("stage").setAttribute("aria-busy", now);
}

// One request at a time: no key answers for a face that is not shown yet.
async function turn(body) {
  if (busy) {
    pending = body ?? pending;
    return;
  }
  occupied(true);
  try {
    const options = body && { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } };
    state = await (await ask("v1/label", options || undefined)).json();
    if (body || fault !== "answer") trouble(null);
    fault = fault === "answer" && !body ? fault : "";
    await show();
  } catch (error) {
    fault = body ? "answer" : "poll";
    trouble(error);
  } finally {
    occupied(false);
  }
  const next = pending;
  pending = null;
  if (next && (next.undo || next.face === state?.face?.number)) await turn(next);
}

const key = (index) => (index < 10 ? String((index + 1) % 10) : "");
// Only a face that can be seen is given a class; one that cannot be shown can be skipped.
const answer = (label) =>
  state?.face && (label === "" || shown === state.face.number) && turn({ face: state.face.number, label });

async function show() {
  const { face, done, labelled, skipped, waiting, photos, looked } = state;
  const faces = labelled + skipped + waiting;
  $("progress").max = Math.max(1, faces);
  $("progress").value = labelled + skipped;
  const search = done ? "" : ` · looked at ${looked} of ${photos} photos`;
  const passed = (skipped ? `, ${skipped} skipped` : "") + (state.left_out ? ` · ${state.left_out} unreadable` : "");
  $("counts").textContent = `${labelled} labelled${passed}, ${waiting} to go${search}`;
  $("table").textContent = state.table;
  $("undo").disabled = !state.undo;
  $("skip").disabled = !face;
  classes();
  $("guess-part").hidden = !face?.guess;
  $("guess").querySelector(".name").textContent = face?.guess ?? "";
  $("guess").querySelector(".sure").textContent = face?.guess ? percent(face.sure) : "";
  $("lead").hidden = !!face;
  $("lead").textContent = !done ? "Looking for faces…" : faces ? "All faces are done." : "There is no face in these photos.";
  $("photo").textContent = face?.photo ?? "";
  if (shown !== (face?.number ?? null)) await image(face);
}

async function image(face) {
  shown = null;
  $("face").hidden = true;
  if (url) URL.revokeObjectURL(url);
  url = null;
  if (!face) return;
  url = URL.createObjectURL(await (await ask(`v1/label/${face.number}`)).blob());
  shown = face.number;
  $("face").hidden = false;
  $("face").src = url;
  $("face").alt = `A face of ${face.photo}`;
  const guess = face.guess ? `, perhaps ${face.guess}, ${percent(face.sure)}` : "";
  $("announce").textContent = `Next face${guess}.`;
}

let drawn = ""; // the buttons that are there: rebuilt only where others are wanted

function classes() {
  const names = state.classes.map(({ name }) => name);
  const list = JSON.stringify([names, $("name").value, !state.face]);
  if (list === drawn) {
    const counts = new Map(state.classes.map(({ name, count }) => [name, count]));
    for (const button of $("classes").querySelectorAll("button")) {
      button.querySelector(".muted").textContent = counts.get(button.querySelector(".name").textContent) || "";
    }
    return;
  }
  drawn = list;
  const wanted = $("name").value.trim().toLowerCase();
  $("classes").replaceChildren(
    ...state.classes
      .map(({ name, count }, index) => ({ name, count, index }))
      .filter(({ name }) => name.toLowerCase().includes(wanted))
      .map(({ name, count, index }) => {
        const button = el("button", { type: "button", disabled: !state.face, onclick: () => answer(name) });
        button.append(el("span", { className: "name", textContent: name }), el("span", { className: "muted", textContent: count || "" }));
        if (key(index)) button.append(el("kbd", { textContent: key(index) }));
        return el("li", {}, button);
      }),
  );
}

$("name").addEventListener("input", () => state && classes());
$("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = $("name").value.trim();
  if (!typed || !state?.face) return;
  const known = state.classes.find(({ name }) => name.toLowerCase() === typed.toLowerCase());
  $("name").value = "";
  $("name").blur();
  answer(known?.name ?? typed);
});
$("guess").onclick = () => state?.face?.guess && answer(state.face.guess);
$("skip").onclick = () => answer("");
$("undo").onclick = () => turn({ undo: true });
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken($("token").value.trim());
  $("token-form").hidden = true;
  turn();
});

document.addEventListener("keydown", (event) => {
  if (!state || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const typing = event.target === $("name") || event.target === $("token");
  if (event.key === "Escape" && typing) {
    $("name").value = "";
    event.target.blur();
    classes();
    return;
  }
  const onControl = event.target.closest?.("a, button");
  if (typing || (onControl && (event.key === "Enter" || event.key === " "))) return;
  const place = state.classes.findIndex((_, index) => key(index) === event.key);
  if (place >= 0) answer(state.classes[place].name);
  else if (event.key === "Enter") $("guess").click();
  else if (event.key === " ") $("skip").click();
  else if (event.key === "Backspace") $("undo").click();
  else if (event.key === "/") $("name").focus();
  else return;
  event.preventDefault();
});

// While faces are looked for, the counts grow; the face on the page stays until it is answered.
setInterval(() => (!state || !state.done || !$("trouble").hidden) && turn(), 1000);
turn();
