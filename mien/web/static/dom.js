// Small helpers. No innerHTML anywhere: the page's policy forbids it.
export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, text = null) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  return node;
}

export const percent = (value) => `${Math.round(100 * value)}%`;

// Dark or light text, as mien/draw.py chooses it.
export function inkOn(color) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
  return 0.114 * b + 0.587 * g + 0.299 * r > 115 ? "#12141a" : "#f0f2f5";
}

// What to show of a face: over time the smoothed values and the steady word, else the raw ones.
export function shown(face) {
  const values = face.smoothed ?? face.probabilities;
  const word = face.steady ?? face.emotion;
  return { values, word, sure: values[word] };
}

// One sentence for a screen reader.
export function sentence(faces, name = "") {
  const start = name ? `${name}: ` : "";
  if (!faces.length) return `${start}no face found.`;
  const words = faces.slice(0, 5).map((face, i) => {
    const { word, sure } = shown(face);
    return `face ${face.track ?? i + 1} ${word}, ${Math.round(100 * sure)} percent`;
  });
  const more = faces.length > 5 ? `, and ${faces.length - 5} more` : "";
  return `${start}${faces.length === 1 ? "one face" : `${faces.length} faces`}: ${words.join("; ")}${more}.`;
}
