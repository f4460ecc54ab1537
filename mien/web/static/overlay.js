// Boxes and names over the image, as SVG: sharp at any size, and the same drawing goes into the PNG.
import { PALETTE } from "./facts.js";
import { inkOn, percent, shown, svg } from "./dom.js";

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const pen = document.createElement("canvas").getContext("2d");

function textWidth(text, size, weight) {
  pen.font = `${weight} ${size}px ${FONT}`;
  return pen.measureText(text).width;
}

const overlaps = (a, b) =>
  a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

// Above the box, below it, inside it, or further up: the first place that is free.
function place(box, size, gap, width, height, taken) {
  const x = Math.max(0, Math.min(box.x, width - size.w));
  const rows = [box.y - size.h - gap, box.y + box.h + gap, box.y + gap, box.y - 2 * (size.h + gap)];
  const spots = rows.map((y) => ({ x, y: Math.max(0, Math.min(y, height - size.h)), ...size }));
  return spots.find((spot) => !taken.some((other) => overlaps(spot, other)));
}

// Marks the box of one face, as hovering its card does.
export function markBox(root, index) {
  root.querySelectorAll(".box").forEach((box, i) => box.classList.toggle("marked", i === index));
}

// Fills `root` with the faces of `result`. `unit` is how many image pixels one screen pixel is.
export function paint(root, result, { unit = 1, mirrored = false } = {}) {
  const { width, height } = result;
  root.setAttribute("viewBox", `0 0 ${width} ${height}`);
  root.replaceChildren();
  const taken = [];
  const faces = result.faces.map((face) => {
    const x = mirrored ? width - face.box.x - face.box.width : face.box.x;
    return { face, box: { x, y: face.box.y, w: face.box.width, h: face.box.height } };
  });
  const labels = svg("g");
  for (const [i, { face, box }] of faces.entries()) {
    const { word, label, sure } = shown(face);
    const number = faces.length > 1 ? `${face.track ?? i + 1}  ` : "";
    const color = PALETTE[word] ?? "#c8ccd4"; // a class of another model than this page was loaded with
    const r = 0.12 * Math.min(box.w, box.h);
    const shape = { x: box.x, y: box.y, width: box.w, height: box.h, rx: r, fill: "none" };
    root.append(svg("rect", { ...shape, stroke: "#12141a", "stroke-width": 5 * unit, opacity: 0.75 }));
    root.append(
      svg("rect", { ...shape, stroke: color, "stroke-width": 3 * unit, class: "box", "data-word": word, "data-face": i }),
    );
    const size = Math.max(13 * unit, Math.min(0.15 * box.w, 22 * unit));
    const pad = 0.55 * size;
    let [name, value] = [number + label, percent(sure)];
    const extent = () => ({
      w: textWidth(name, size, 650) + (value ? textWidth(value, 0.88 * size, 450) + 0.45 * size : 0) + 2 * pad,
      h: 1.62 * size,
    });
    const others = faces.filter((other) => other.box !== box).map((other) => other.box);
    const free = (extent, taken) => place(box, extent, 5 * unit, width, height, taken);
    let spot = free(extent(), [...taken, ...others]);
    if (!spot) {
      // No room: the number alone, and the card says the rest.
      [name, value] = [number.trim() || label, ""];
      const short = extent();
      spot = free(short, [...taken, ...others]) ?? free(short, taken) ?? { x: box.x, y: box.y, ...short };
    }
    const first = textWidth(name, size, 650);
    taken.push(spot);
    const ink = inkOn(color);
    const text = { y: spot.y + 1.16 * size, fill: ink, "font-family": FONT };
    labels.append(
      svg("rect", { x: spot.x, y: spot.y, width: spot.w, height: spot.h, rx: 0.42 * size, fill: color }),
      svg("text", { ...text, x: spot.x + pad, "font-size": size, "font-weight": 650, class: "word" }, name),
      svg("text", { ...text, x: spot.x + pad + first + 0.45 * size, "font-size": 0.88 * size, "font-weight": 450 }, value),
    );
  }
  root.append(labels);
}

// The same drawing as an image, for the PNG.
export async function overlayImage(result, mirrored) {
  const { width, height } = result;
  const root = svg("svg", { xmlns: "http://www.w3.org/2000/svg", width, height });
  paint(root, result, { unit: Math.max(width, height) / 900, mirrored });
  const text = new XMLSerializer().serializeToString(root);
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    return image;
  } finally {
    URL.revokeObjectURL(url);
  }
}
