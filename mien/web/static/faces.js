// The list of faces with a bar for every emotion. Nodes are kept from frame to frame.
import { PALETTE } from "./facts.js";
import { el, percent, shown } from "./dom.js";

const rows = [];
let onMark = () => {};

// Called with the index of the face whose card the pointer is on, or null.
export const watchCards = (call) => (onMark = call);

// Marks the card of one face, as hovering its box does.
export function markCard(index) {
  rows.forEach((row, i) => row.item.classList.toggle("marked", i === index));
  if (index !== null) rows[index]?.item.scrollIntoView({ block: "nearest" });
}

function makeRow(onChoose) {
  const dot = el("span", { className: "dot" });
  const word = el("span", { className: "word" });
  const sure = el("span", { className: "sure" });
  const number = el("span", { className: "number" });
  const who = el("button", { type: "button", className: "who" }, dot, word, sure, number);
  const bars = el("dl", { className: "bars" });
  const item = el("li", {}, who, bars);
  const row = { item, dot, word, sure, number, who, bars, cells: {} };
  for (const [name, color] of Object.entries(PALETTE)) {
    const fill = el("i");
    fill.style.background = color;
    const value = el("dd");
    const bar = el("div", { className: "bar" }, fill);
    bar.setAttribute("aria-hidden", "true");
    const line = el("div", {}, el("dt", { textContent: name }), bar, value);
    bars.append(line);
    row.cells[name] = { line, fill, value };
  }
  who.addEventListener("click", () => onChoose(row.key));
  item.addEventListener("pointerenter", () => onMark(rows.indexOf(row)));
  item.addEventListener("pointerleave", () => onMark(null));
  return row;
}

const set = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

// `chosen` is the track that the history shows; null while looking at photos.
export function showFaces(list, faces, { chosen = null, onChoose = () => {} } = {}) {
  const live = faces.some((face) => face.track !== undefined);
  list.classList.toggle("photo", !live);
  while (rows.length < faces.length) rows.push(makeRow((key) => rows.choose?.(key)));
  rows.choose = onChoose;
  faces.forEach((face, i) => {
    const row = rows[i];
    const { values, word, label, sure } = shown(face);
    row.key = face.track ?? i;
    row.dot.style.background = PALETTE[word];
    set(row.word, label);
    set(row.sure, percent(sure));
    set(row.number, `face ${face.track ?? i + 1}`);
    row.who.disabled = !live;
    row.item.classList.toggle("chosen", live && row.key === chosen);
    if (live) row.who.setAttribute("aria-pressed", String(row.key === chosen));
    else row.who.removeAttribute("aria-pressed");
    for (const [name, cell] of Object.entries(row.cells)) {
      const value = values[name] ?? 0;
      cell.fill.style.transform = `scaleX(${value.toFixed(4)})`;
      set(cell.value, percent(value));
      cell.line.classList.toggle("best", name === word);
    }
    if (list.children[i] !== row.item) list.append(row.item);
  });
  while (list.children.length > faces.length) list.lastElementChild.remove();
}
