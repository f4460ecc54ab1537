// Downloads, made in the browser from what is on the page.
import { LANDMARKS } from "./facts.js";
import { el } from "./dom.js";
import { overlayImage } from "./overlay.js";

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

export function saveJson(records, name) {
  download(new Blob([JSON.stringify(records, null, 1)], { type: "application/json" }), name);
}

// Text that a spreadsheet would run as a formula gets a quote before it: a file's name is not ours.
function cell(value) {
  if (value === null || value === undefined) return "";
  let text = typeof value === "boolean" ? (value ? "True" : "False") : String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// Flat rows, one a face, with the cells of `mien predict --csv` and `mien video --csv`.
function rows(record) {
  const image = { ...record, faces: record.faces.length };
  if (!record.faces.length) return [image];
  return record.faces.map((face, i) => {
    const row = { ...image, ...face, face: i + 1 };
    for (const [key, value] of Object.entries(face.box)) row[`box_${key}`] = value;
    face.landmarks.forEach(([x, y], n) => {
      row[`${LANDMARKS[n]}_x`] = x;
      row[`${LANDMARKS[n]}_y`] = y;
    });
    for (const [key, value] of Object.entries(face.quality_parts ?? {})) row[`quality_${key}`] = value;
    if (face.smoothed && !face.steady) row.steady = "unsure";
    for (const [key, value] of Object.entries(face.probabilities)) row[`p_${key}`] = value;
    for (const [key, value] of Object.entries(face.smoothed ?? {})) row[`s_${key}`] = value;
    return row;
  });
}

export function saveCsv(records, name, columns) {
  const lines = [columns, ...records.flatMap(rows).map((row) => columns.map((key) => row[key]))];
  const text = lines.map((line) => line.map(cell).join(",")).join("\n") + "\n";
  download(new Blob([text], { type: "text/csv" }), name);
}

// `source` is an img, a bitmap, or null where the browser cannot show the image.
export async function savePng(source, result, mirrored, name) {
  const canvas = el("canvas", { width: result.width, height: result.height });
  const g = canvas.getContext("2d");
  const overlay = await overlayImage(result, mirrored);
  if (mirrored) g.setTransform(-1, 0, 0, 1, result.width, 0);
  if (source) g.drawImage(source, 0, 0, result.width, result.height);
  g.setTransform(1, 0, 0, 1, 0, 0);
  g.drawImage(overlay, 0, 0, result.width, result.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  download(blob, name);
}
