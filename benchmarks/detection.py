"""How many faces are found, and at what cost: scenes with one known face, and images without any.

    python benchmarks/detection.py [--data FOLDER] [--faces N] [--min-face F] [--json FILE]

A photo of one face (``london.parquet``: whole portraits; ``muxspace.parquet``: tight, small and
noisy ones) is pasted into a 1280×720 scene with its edges repeated, so that the face (the square
root of its box's area) has a given size; then the scene is turned, darkened, blurred or the face
half covered. A face counts as found where a box's centre lies in it and the boxes overlap by
``IOU`` at least. Sources are photos in which the network alone, looking at a copy of 320 pixels
with its edges repeated, sees exactly one face, of at least .8: what is measured is what scenes do
to it. docs/photos.md holds the outcome.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pillow

from mien.data import default_data_path
from mien.detect import Detector, load_detector, network
from mien.detect.base import fit_long_side, resize

SCENE = (720, 1280)
IOU = 0.3
SIZES = (24, 32, 48, 64, 96, 128, 256, 480)
TURNS = (15, 30, 45, 60, 90, 135, 180, 270)
#: The size at which everything but size is measured.
SIZE = 128
Array = np.ndarray


@dataclass(frozen=True)
class Source:
    """A photo with one face: uint8 (H, W, 3) BGR, the face's box (x, y, w, h) and its label."""

    image: Array
    box: Array
    emotion: str


@dataclass(frozen=True)
class Scene:
    """An image and where its face is: centre and side (square root of the box's area)."""

    image: Array
    centre: tuple[float, float]
    side: float
    emotion: str


def sources(path: Path, count: int, seed: int) -> list[Source]:
    """Photos drawn at random on which the network sees exactly one face."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["image", "emotion"])
    net, out = network.Network(), []
    for i in np.random.default_rng(seed).permutation(len(table)):
        data = table["image"][int(i)].as_py()["bytes"]
        image = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"))[:, :, ::-1]
        around = max(image.shape) // 2
        padded = cv2.copyMakeBorder(image, *[around] * 4, borderType=cv2.BORDER_REPLICATE)
        small = resize(padded, *fit_long_side(*padded.shape[:2], 320, 320))
        rows = net.run(small, 0.3)
        if len(rows) == 1 and rows[0, 14] >= 0.8:
            box = rows[0, :4] * (padded.shape[1] / small.shape[1])
            box[:2] -= around
            out.append(Source(np.ascontiguousarray(image), box, table["emotion"][int(i)].as_py()))
        if len(out) == count:
            break
    return out


def scene(source: Source, side: float, rng: np.random.Generator, turn: float = 0) -> Scene:
    """The face at ``side`` pixels somewhere in a scene, turned clockwise by ``turn`` degrees."""
    x, y, w, h = (float(v) for v in source.box)
    scale, (height, width) = side / math.sqrt(w * h), SCENE
    reach = 0.5 * max(w, h) * scale
    cx, cy = (rng.uniform(reach, max(reach + 1, n - reach)) for n in (width, height))
    image = source.image
    if scale < 0.5:  # averaged first, or warping would alias
        size = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        fx, fy = size[0] / source.image.shape[1], size[1] / source.image.shape[0]
        x, y, w, h, scale = x * fx, y * fy, w * fx, h * fy, 1.0
    matrix = cv2.getRotationMatrix2D((x + w / 2, y + h / 2), -turn, scale)
    matrix[:, 2] += cx - x - w / 2, cy - y - h / 2
    out = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return Scene(np.asarray(out), (cx, cy), side, source.emotion)


def gamma(image: Array, value: float) -> Array:
    table = (255 * (np.arange(256) / 255) ** value).round().astype(np.uint8)
    return np.asarray(cv2.LUT(image, table))


def covered(s: Scene, part: str) -> Array:
    """The scene with half of the face grey, or a blue mask over nose and mouth."""
    (x, y), r, out = s.centre, s.side / 2, s.image.copy()
    left, right, top, bottom = (int(v) for v in (x - r, x + r, y - 1.25 * r, y + 1.25 * r))
    if part == "mask":
        corners = [(-0.75, 0), (0, -0.1), (0.75, 0), (0.7, 0.7), (0, 1.15), (-0.7, 0.7)]
        shape = np.array([(x + a * r, y + b * r) for a, b in corners], np.int32)
        cv2.fillPoly(out, [shape], (190, 150, 110), cv2.LINE_AA)
        return out
    rows = {"lower": (int(y), bottom), "upper": (top, int(y))}.get(part, (top, bottom))
    columns = (left, int(x)) if part == "left" else (left, right)
    out[max(0, rows[0]) : rows[1], max(0, columns[0]) : columns[1]] = (120, 120, 120)
    return out


def from_behind(s: Scene) -> Array:
    """Face and body in the dark before a bright wall."""
    y, x = np.mgrid[: SCENE[0], : SCENE[1]]
    (cx, cy), side = s.centre, s.side
    wall = np.clip(6 * (np.hypot((x - cx) / (0.75 * side), (y - cy) / (0.95 * side)) - 1), 0, 1)
    wall[(abs(x - cx) < 1.3 * side) & (y > cy + 0.6 * side)] = 0
    return np.rint(0.06 * s.image * (1 - wall[:, :, None]) + 250 * wall[:, :, None])


def changes() -> dict[str, Callable[[Scene], Array]]:
    """What is done to a scene with an upright face of ``SIZE``."""
    rng = np.random.default_rng(0)
    dots, grain = rng.random((*SCENE, 1)), rng.normal(size=(*SCENE, 3))

    def blur(share: float) -> Callable[[Scene], Array]:
        return lambda s: np.asarray(cv2.GaussianBlur(s.image, (0, 0), share * s.side))

    def jpeg(s: Scene) -> Array:
        data = cv2.imencode(".jpg", s.image, [cv2.IMWRITE_JPEG_QUALITY, 20])[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))

    out: dict[str, Callable[[Scene], Array]] = {
        "gamma 2": lambda s: gamma(s.image, 2),
        "gamma 4": lambda s: gamma(s.image, 4),
        "12 % light": lambda s: (s.image * 0.12).round().astype(np.uint8),
        "6 % light": lambda s: (s.image * 0.06).round().astype(np.uint8),
        "blur 6 %": blur(0.06),
        "blur 10 %": blur(0.10),
        "JPEG 20": jpeg,
    }
    out["dots 20 %"] = lambda s: np.where(dots < 0.1, 0, np.where(dots > 0.9, 255, s.image))
    out["noise 40"] = lambda s: np.clip(s.image + 40 * grain, 0, 255)
    out["from behind"] = from_behind
    out["blue light"] = lambda s: np.rint(s.image * (1, 0.05, 0.02))
    for part in ("lower", "upper", "left", "mask"):
        out[f"covered: {part}"] = lambda s, part=part: covered(s, part)  # type: ignore[misc]
    return out


def is_found(s: Scene, boxes: Any) -> bool:
    (x, y), half = s.centre, s.side / 2
    for b in boxes:
        bx, by = b.center
        wide = min(b.x + b.width, x + half) - max(b.x, x - half)
        high = min(b.y + b.height, y + half) - max(b.y, y - half)
        both = max(0.0, wide) * max(0.0, high)
        centred = abs(bx - x) <= half and abs(by - y) <= half
        if centred and both >= IOU * (b.area + s.side**2 - both):
            return True
    return False


def cells() -> Iterator[tuple[str, float, float, Any]]:
    """Name, size, turn and change of every cell."""
    for size in SIZES:
        yield f"{size} px", size, 0, None
    for turn in TURNS:
        yield f"turned {turn}°", SIZE, turn, None
    for name, change in changes().items():
        yield name, SIZE, 0, change


def measure(detector: Detector, faces: list[Source], seed: int, only: str = "") -> dict[str, Any]:
    """Recall, boxes beside the face, and milliseconds (median) of every cell."""
    out = {}
    for name, size, turn, change in cells():
        if only and not re.search(only, name):
            continue
        rng, hits, extra, times = np.random.default_rng(seed), 0, 0, []
        for face in faces:
            s = scene(face, size, rng, turn)
            image = s.image if change is None else change(s).astype(np.uint8)
            begin = time.perf_counter()
            found = detector.detect(image)
            times.append(time.perf_counter() - begin)
            hit = is_found(s, [d.box for d in found])
            hits += hit
            extra += len(found) - hit
        out[name] = {
            "recall": round(hits / len(faces), 3),
            "extra": extra,
            "ms": round(1000 * float(np.median(times)), 1),
        }
    return out


def noise(count: int, seed: int) -> Iterator[Array]:
    """Images without faces: noise of every grain, gradients, chequers, stripes and blobs."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        height, width = (int(v) for v in rng.integers(160, 1400, 2))
        kind = i % 6
        if kind == 0:  # white noise of some grain
            grain = int(rng.choice([1, 2, 4, 8, 16, 40]))
            small = rng.integers(0, 256, (height // grain + 1, width // grain + 1, 3))
            image = cv2.resize(small.astype(np.uint8), (width, height))
        elif kind == 1:  # pink noise
            image = np.zeros((height, width, 3), np.float32)
            for octave in range(8):
                n = 2 ** (octave + 1)
                part = rng.normal(size=(n, n, 3)).astype(np.float32) / (octave + 1)
                image += cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)
            image = 128 + 50 * image
        elif kind == 2:  # gradients
            gx, gy = np.linspace(0, 1, width), np.linspace(0, 1, height)
            plane = np.sin(rng.uniform(0, 12) * gx)[None] + np.cos(rng.uniform(0, 12) * gy)[:, None]
            image = 128 + 60 * plane[:, :, None] * rng.uniform(-1, 1, 3)
        elif kind == 3:  # chequers, with some noise
            cell = int(rng.integers(4, 120))
            y, x = np.mgrid[:height, :width] // cell
            image = 40 + 180 * ((x + y) % 2)[:, :, None] + rng.normal(0, 12, (height, width, 3))
        elif kind == 4:  # stripes
            y, x = np.mgrid[:height, :width]
            angle, wave = rng.uniform(0, math.pi), rng.uniform(4, 90)
            image = 128 + 100 * np.sin((x * math.cos(angle) + y * math.sin(angle)) / wave)
            image = image[:, :, None] + rng.normal(0, 20, (height, width, 3))
        else:  # ellipses of any colour: two dots over a third are among them
            image = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
            for _ in range(int(rng.integers(10, 120))):
                centre = (int(rng.integers(width)), int(rng.integers(height)))
                axes = tuple(int(v) for v in rng.integers(4, 120, 2))
                colour = tuple(int(v) for v in rng.integers(0, 256, 3))
                cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        yield np.clip(image, 0, 255).astype(np.uint8)


def faceless() -> Iterator[tuple[str, Array]]:
    """scikit-image's images that show no face (its wheel carries them)."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    left_out = {"astronaut", "camera"}  # a portrait; a man at a camera
    for path in sorted(folder.iterdir()):
        if path.suffix in (".png", ".jpg") and path.stem not in left_out:
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is not None:
                yield path.stem, image


def made_up(detector: Detector, count: int, seed: int) -> dict[str, Any]:
    """Boxes on images without faces; the names of those of scikit-image that got one."""
    boxes = [len(detector.detect(image)) for image in noise(count, seed)]
    named = {name: len(detector.detect(image)) for name, image in faceless()}
    return {
        "noise": {"pictures": len(boxes), "with boxes": sum(n > 0 for n in boxes)},
        "scikit-image": {
            "pictures": len(named),
            "with boxes": {name: n for name, n in named.items() if n},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--detector", default="yunet")
    parser.add_argument("--min-face", type=float)
    parser.add_argument("--faces", type=int, default=144, help="faces a cell and set")
    parser.add_argument("--noise", type=int, default=300)
    parser.add_argument("--only", default="", help="cells whose name fits this expression")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = args.data or default_data_path()
    options = {} if args.min_face is None else {"min_face": args.min_face}
    detector, out = load_detector(args.detector, **options), {}
    for name in ("london", "muxspace"):
        faces = sources(data / f"{name}.parquet", args.faces, args.seed)
        out[name] = measure(detector, faces, args.seed, args.only)
        for cell, row in out[name].items():
            print(f"{name:9} {cell:16} {row['recall']:.3f}  +{row['extra']:<3} {row['ms']:6.1f} ms")
    if not args.only:
        out["made up"] = made_up(detector, args.noise, args.seed)
        print(json.dumps(out["made up"]))
    if args.json:
        args.json.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
