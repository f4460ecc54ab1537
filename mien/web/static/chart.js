// The history of one face: the seven probabilities as stacked bands, newest at the right.
import { PALETTE } from "./facts.js";
import { el, inkOn, percent, shown } from "./dom.js";

const SPAN = 30; // seconds
const GAP = 0.5; // a hole in the bands where the face was not seen for longer

export class History {
  constructor(canvas, legend) {
    this.canvas = canvas;
    this.points = [];
    this.drawn = 0;
    this.described = 0;
    for (const [name, color] of Object.entries(PALETTE)) {
      const chip = el("i");
      chip.style.background = color;
      legend.append(el("span", {}, chip, name));
    }
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  clear() {
    this.points = [];
    this.draw();
    this.canvas.setAttribute("aria-label", "No face seen yet");
  }

  add(seconds, face) {
    if (face) this.points.push({ seconds, values: shown(face).values });
    while (this.points.length && this.points[0].seconds < seconds - SPAN - 1) this.points.shift();
    this.now = seconds;
    const time = performance.now();
    if (time - this.drawn > 100) this.draw(); // ten a second are enough for the eye
    if (time - this.described > 2000) this.describe(time);
  }

  draw() {
    this.drawn = performance.now();
    const { canvas, points } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const g = canvas.getContext("2d");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    if (!points.length) return;
    const x = (seconds) => width * (1 - (this.now - seconds) / SPAN);
    for (const run of runs(points)) this.bands(g, run, x, height);
    this.names(g, width, height);
  }

  bands(g, run, x, height) {
    const base = new Array(run.length).fill(0);
    for (const [name, color] of Object.entries(PALETTE)) {
      g.beginPath();
      run.forEach((p, i) => g.lineTo(x(p.seconds), height * (1 - base[i])));
      for (let i = run.length - 1; i >= 0; i -= 1) {
        base[i] += run[i].values[name] ?? 0;
        g.lineTo(x(run[i].seconds), height * (1 - base[i]));
      }
      g.closePath();
      g.fillStyle = color;
      g.fill();
      g.strokeStyle = getComputedStyle(this.canvas).backgroundColor;
      g.lineWidth = 0.7;
      g.stroke();
    }
  }

  // A band that is thick enough wherever its name would stand carries it at its right end.
  names(g, width, height) {
    const last = this.points[this.points.length - 1];
    if (this.now - last.seconds > GAP) return;
    g.font = "600 13px system-ui, sans-serif";
    g.textAlign = "right";
    g.textBaseline = "middle";
    const bases = new Map(); // of every point under the longest name, the height reached so far
    for (const [name, color] of Object.entries(PALETTE)) {
      const from = this.now - ((g.measureText(name).width + 20) / width) * SPAN;
      let [low, high] = [0, 1]; // what the band covers all along the name
      for (const point of this.points) {
        const base = bases.get(point) ?? 0;
        const top = base + (point.values[name] ?? 0);
        bases.set(point, top);
        if (point.seconds >= from) [low, high] = [Math.max(low, base), Math.min(high, top)];
      }
      if ((high - low) * height > 18 && this.points[0].seconds < from) {
        g.fillStyle = inkOn(color);
        g.fillText(name, width - 10, height * (1 - (low + high) / 2));
      }
    }
  }

  describe(time) {
    this.described = time;
    const sums = {};
    for (const { values } of this.points) {
      for (const [name, value] of Object.entries(values)) sums[name] = (sums[name] ?? 0) + value;
    }
    const count = this.points.length;
    const best = Object.entries(sums).sort((a, b) => b[1] - a[1]).slice(0, 2);
    const words = best.map(([name, sum]) => `${name} ${percent(sum / count)}`);
    const label = count ? `The last ${SPAN} seconds on average: ${words.join(", ")}` : "No face seen yet";
    this.canvas.setAttribute("aria-label", label);
  }
}

function runs(points) {
  const out = [];
  for (const point of points) {
    const run = out[out.length - 1];
    if (run && point.seconds - run[run.length - 1].seconds <= GAP) run.push(point);
    else out.push([point]);
  }
  return out.filter((run) => run.length > 1);
}
