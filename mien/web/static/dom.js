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

// Black or white text, whichever has the higher contrast: at least 4.5 on any colour (WCAG AA).
export function inkOn(color) {
  const light = [1, 3, 5]
    .map((i) => parseInt(color.slice(i, i + 2), 16) / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2] > 0.179 ? "#000" : "#fff";
}

// What to show of a face: over time the smoothed values and the steady word, else the raw ones.
// A smoothed face without a steady word is unsure: its largest bar is shown, but not named.
export function shown(face) {
  const values = face.smoothed ?? face.probabilities;
  const nameless = face.smoothed && !face.steady;
  const largest = () => Object.keys(values).reduce((a, b) => (values[b] > values[a] ? b : a));
  const word = face.steady ?? (nameless ? largest() : face.emotion);
  const label = nameless ? "unsure" : face.unsure ? `${word}?` : word;
  return { values, word, label, sure: values[word] };
}

// One sentence for a screen reader.
export function sentence(faces, name = "") {
  const start = name ? `${name}: ` : "";
  if (!faces.length) return `${start}no face found.`;
  const words = faces.slice(0, 5).map((face, i) => {
    const { word, sure } = shown(face);
    const doubt = face.unsure ? "perhaps " : "";
    return `face ${face.track ?? i + 1} ${doubt}${word}, ${Math.round(100 * sure)} percent`;
  });
  const more = faces.length > 5 ? `, and ${faces.length - 5} more` : "";
  return `${start}${faces.length === 1 ? "one face" : `${faces.length} faces`}: ${words.join("; ")}${more}.`;
}
