"""How does FER2013 frame a face? Fits the crop's scale and shift, and measures what is left.

    python benchmarks/framing.py [--data FOLDER] [--model NAME_OR_ONNX] [--json FILE]

FER2013's Training faces are enlarged and pasted into 480×480 canvases at a random place and size
(20 to 70 % of the side) on three backgrounds; each detector is run; the square that it should
have given is known. Constants are fitted by medians on one half of the images and judged on the
other. With a model, PublicTest faces are cropped back from such canvases and scored beside the
original pixels, with and without turning the eyes level. docs/framing.md holds the outcome.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mien.classify import load_classifier
from mien.data import default_data_path, read_dataset
from mien.detect import Detection, load_detector
from mien.modelinfo import ModelInfo
from mien.preprocess import crop_face, face_square

CANVAS = 480
BACKGROUNDS = ("grey", "edge repeated", "edge blurred")


def paste(face: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int, int]]:
    """A grey canvas with the face in it, as BGR, and (x, y, side) of the face's frame."""
    side = int(rng.uniform(0.2, 0.7) * CANVAS)
    x, y = (int(v) for v in rng.integers(0, CANVAS - side + 1, 2))
    big = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    around = (y, CANVAS - side - y, x, CANVAS - side - x)
    kind = BACKGROUNDS[int(rng.integers(3))]
    if kind == "grey":
        value = int(face.mean())
        canvas = cv2.copyMakeBorder(big, *around, borderType=cv2.BORDER_CONSTANT, value=value)
    else:
        canvas = cv2.copyMakeBorder(big, *around, borderType=cv2.BORDER_REPLICATE)
    if kind == "edge blurred":
        canvas = cv2.GaussianBlur(canvas, (0, 0), 15)
        canvas[y : y + side, x : x + side] = big
    return cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR), (x, y, side)


def measure(faces: np.ndarray, name: str, seed: int) -> list[tuple[Any, Detection | None]]:
    detector, rng, rows = load_detector(name), np.random.default_rng(seed), []
    for face in faces:
        canvas, frame = paste(face, rng)
        found = detector.detect(canvas)
        rows.append((frame, found[0] if found else None))
    return rows


def anchors(d: Detection) -> dict[str, tuple[float, float]]:
    (x, y) = d.box.center
    out = {"box": (x, y)}
    if d.landmarks:
        p = np.mean(d.landmarks, axis=0)
        out["landmarks"] = (float(p[0]), float(p[1]))
        out["mean of both"] = ((x + float(p[0])) / 2, (y + float(p[1])) / 2)
    return out


def units(d: Detection) -> dict[str, float]:
    out = {"sqrt(w h)": math.sqrt(d.box.area), "w": d.box.width, "h": d.box.height}
    if d.landmarks:
        p = np.asarray(d.landmarks)
        out["eyes to mouth"] = float(np.linalg.norm(p[:2].mean(0) - p[3:].mean(0)))
        out["eyes to mouth + eye to eye"] = out["eyes to mouth"] + float(
            np.linalg.norm(p[0] - p[1])
        )
    return out


def judge(px: np.ndarray, py: np.ndarray, ps: np.ndarray, frames: np.ndarray) -> dict[str, float]:
    """Errors of predicted squares (centre, side) in % of the true side."""
    x, y, s = frames.T
    edges = np.stack([px - ps / 2 - x, px + ps / 2 - x - s, py - ps / 2 - y, py + ps / 2 - y - s])
    edges = np.abs(edges) / s * 100
    w = np.minimum(px + ps / 2, x + s) - np.maximum(px - ps / 2, x)
    h = np.minimum(py + ps / 2, y + s) - np.maximum(py - ps / 2, y)
    both = np.clip(w, 0, None) * np.clip(h, 0, None)
    return {
        "edge_median": round(float(np.median(edges)), 2),
        "edge_mean": round(float(edges.mean()), 2),
        "edge_p90": round(float(np.percentile(edges, 90)), 2),
        "dx_median": round(float(np.median(np.abs(px - x - s / 2) / s)) * 100, 2),
        "dy_median": round(float(np.median(np.abs(py - y - s / 2) / s)) * 100, 2),
        "side_sd": round(float(np.std(ps / s)) * 100, 2),
        "iou_mean": round(float(np.mean(both / (s * s + ps * ps - both))), 4),
    }


def fit(rows: list[tuple[Any, Detection | None]]) -> dict[str, Any]:
    """Scale and shift by medians on even rows, errors on odd rows, for every anchor and unit."""
    kept = [(f, d) for f, d in rows if d is not None]
    frames = np.array([f for f, _ in kept], float)
    table = []
    half = np.arange(len(kept)) % 2 == 0
    for anchor in anchors(kept[0][1]):
        for unit in units(kept[0][1]):
            a = np.array([anchors(d)[anchor] for _, d in kept])
            u = np.array([units(d)[unit] for _, d in kept])
            scale = float(np.median(frames[half, 2] / u[half]))
            dy = frames[:, 1] + frames[:, 2] / 2 - a[:, 1]
            shift = float(np.median(dy[half] / u[half]))
            t = ~half
            errors = judge(a[t, 0], a[t, 1] + shift * u[t], scale * u[t], frames[t])
            fitted = {"scale": round(scale, 3), "shift_y": round(shift, 3)}
            table.append({"centre": anchor, "unit": unit, **fitted, **errors})
    table.sort(key=lambda row: row["edge_mean"])
    squares = [face_square(d) for _, d in kept]
    shipped = judge(
        np.array([b.center[0] for b in squares]),
        np.array([b.center[1] for b in squares]),
        np.array([b.width for b in squares]),
        frames,
    )
    return {
        "n": len(rows),
        "found": round(len(kept) / len(rows), 4),
        "fits": table,
        "as_shipped": shipped,
    }


def levelled(canvas: np.ndarray, d: Detection, info: ModelInfo) -> np.ndarray:
    """The crop after turning the canvas so that the eyes are level."""
    (rx, ry), (lx, ly) = d.landmarks[0], d.landmarks[1]
    angle = math.degrees(math.atan2(ly - ry, lx - rx))
    x, y = face_square(d).center
    m = cv2.getRotationMatrix2D((x, y), angle, 1)
    turned = cv2.warpAffine(
        canvas, m, canvas.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return crop_face(turned, face_square(d), info)


def accuracy(model: str, dataset: Any, limit: int, seed: int) -> dict[str, Any]:
    """PublicTest: original pixels against crops from canvases, on the faces that are found."""
    classifier, rng, detector = load_classifier(model), np.random.default_rng(seed), load_detector()
    info = classifier.info
    index = np.flatnonzero(dataset.splits == "PublicTest")[:limit]
    names = [dataset.classes[i] for i in dataset.labels[index]]
    y = np.array([info.labels.index(e) for e in names])
    scales = (0.8, 0.9, 1.0, 1.1, 1.2)
    variants: dict[str, list[np.ndarray]] = {"exact frame": [], "eyes levelled": []}
    variants |= {f"crop scale {s}": [] for s in scales}
    found = []
    for face in dataset.images[index]:
        canvas, (x, y0, side) = paste(face, rng)
        d = next(iter(detector.detect(canvas)), None)
        found.append(d is not None)
        if d is None:
            continue
        exact = cv2.resize(
            canvas[y0 : y0 + side, x : x + side, 0], (48, 48), interpolation=cv2.INTER_AREA
        )
        variants["exact frame"].append(exact)
        variants["eyes levelled"].append(levelled(canvas, d, info))
        for s in scales:
            scaled = dataclasses.replace(info, crop_scale=info.crop_scale * s)
            variants[f"crop scale {s}"].append(crop_face(canvas, d, scaled))
    mask = np.array(found)
    original = classifier.predict_proba(dataset.images[index]).argmax(1)
    out = {
        "n": len(index),
        "found": round(float(mask.mean()), 4),
        "original, all": float((original == y).mean()),
        "original, where found": float((original[mask] == y[mask]).mean()),
    }
    for name, crops in variants.items():
        p = classifier.predict_proba(np.stack(crops)).argmax(1)
        out[name] = float((p == y[mask]).mean())
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in out.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", help="also compare accuracies with this classifier")
    parser.add_argument("--n", type=int, default=3000, help="Training faces for YuNet")
    parser.add_argument("--n-haar", type=int, default=800)
    parser.add_argument("--n-accuracy", type=int, default=3589)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    dataset = read_dataset(args.data or default_data_path(), name="fer2013")
    training = dataset.images[dataset.splits == "Training"]
    order = np.random.default_rng(args.seed).permutation(len(training))
    out: dict[str, Any] = {
        "yunet": fit(measure(training[order[: args.n]], "yunet", args.seed)),
        "haar": fit(measure(training[order[: args.n_haar]], "haar", args.seed)),
    }
    if args.model:
        out["accuracy"] = accuracy(args.model, dataset, args.n_accuracy, args.seed)
    text = json.dumps(out, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
