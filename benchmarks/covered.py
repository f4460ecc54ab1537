"""Trains what tells a covered face, and measures it: writes mien/assets/covered.onnx.

    python benchmarks/covered.py [--data FOLDER] [--faces N] [--epochs N] [--seed N]
        [--write]

FER2013's Training faces, half of them under drawn covers: hands, masks, scarves, walls, phones,
cups, bars, of cloth, knit, print, folds, flat or cut from other faces. The other half keeps its
expression in sight: hats, hair, beards, moustaches, hands beside the face or under the chin. Every
fourth face wears glasses. All are then moved, lit, blurred, shrunk and compressed alike. What
counts is how much of mouth, eyes or face the cover hides.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

import mien
from mien import quality
from mien.covered import standardised
from mien.data import default_data_path, read_dataset
from mien.export.onnx import to_onnx
from mien.preprocess import full_range

#: Faces are drawn on at twice the network's 48 pixels.
SIDE = 96
Y, X = np.mgrid[:SIDE, :SIDE].astype(np.float32)
#: Rows and columns of what an expression needs.
ZONES = {"mouth": (64, 86, 32, 64), "eyes": (32, 48, 18, 78), "face": (28, 88, 20, 76)}
HIDDEN = {"mouth": (0.15, 0.6), "eyes": (0.2, 0.6), "face": (0.2, 0.4)}


def texture(rng: np.random.Generator, other: np.ndarray, skin: float) -> np.ndarray:
    """Cloth, knit, print, folds, another image or nothing, over a grey lit from one side."""
    grey = skin + rng.normal(0, 25) if rng.random() < 0.4 else rng.uniform(8, 245)
    kind, depth = rng.integers(7), rng.uniform(2, 25)
    turn = rng.uniform(0, np.pi)
    along, across = X * np.cos(turn) + Y * np.sin(turn), Y * np.cos(turn) - X * np.sin(turn)
    out = np.full((SIDE, SIDE), grey, np.float32)
    if kind == 0:
        out += depth * np.sin(along * rng.uniform(0.1, 1.2))
    elif kind == 1:
        step = rng.uniform(0.2, 1.0)
        out += depth * np.sin(along * step) * np.sin(across * step * rng.uniform(0.5, 2))
    elif kind == 2:  # folds
        for _ in range(rng.integers(1, 6)):
            bend = across - rng.uniform(0, SIDE) + rng.uniform(-4, 4) * np.sin(along / 20)
            out -= rng.uniform(-2, 3) * depth * np.exp(-((bend / rng.uniform(1, 5)) ** 2))
    elif kind == 3:
        n = int(rng.integers(16, 48))
        y, x = rng.integers(0, 49 - n, 2)
        part = cv2.resize(other[y : y + n, x : x + n], (SIDE, SIDE)).astype(np.float32)
        out += (part - part.mean()) * rng.uniform(0.1, 0.9)
    elif kind == 4:  # print
        for _ in range(rng.integers(2, 12)):
            at = rng.integers(0, SIDE, 2)
            end = at + rng.integers(-30, 31, 2)
            shade = float(grey + rng.normal(0, 50))
            cv2.line(out, at.tolist(), end.tolist(), shade, int(rng.integers(1, 7)), cv2.LINE_AA)
    elif kind == 5:  # spots
        for _ in range(rng.integers(5, 60)):
            at, shade = rng.integers(0, SIDE, 2), float(grey + rng.normal(0, 60))
            cv2.circle(out, at.tolist(), int(rng.integers(1, 6)), shade, -1, cv2.LINE_AA)
    coarse = cv2.GaussianBlur(rng.normal(0, 1, out.shape), (0, 0), rng.uniform(0.5, 6))
    out += rng.uniform(0, 9) * coarse / coarse.std()
    return out + rng.uniform(-0.6, 0.6) * (along - SIDE / 2)


def fingers(rng: np.random.Generator, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    """A hand around (x, y): where it is, and the shading of its fingers."""
    mask, shade = np.zeros((2, SIDE, SIDE), np.float32)
    turn, count, wide = rng.uniform(-90, 90), rng.integers(2, 6), rng.uniform(5, 11)
    step = np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))]) * wide * 1.7
    for k in range(count):
        centre = (np.array([x, y]) + (k - count / 2 + 0.5) * step + rng.normal(0, 2, 2)).astype(int)
        axes = (int(wide), int(rng.uniform(15, 34)))
        lean = turn + rng.normal(0, 6)
        cv2.ellipse(mask, centre.tolist(), axes, lean, 0, 360, 1, -1)
        cv2.ellipse(shade, centre.tolist(), axes, lean, 0, 360, 1, int(rng.integers(1, 4)))
    return mask, -rng.uniform(10, 80) * cv2.GaussianBlur(shade, (0, 0), rng.uniform(0.6, 2))


def polygon(rng: np.random.Generator, points: list[tuple[float, float]]) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.float32)
    moved = np.array(points) + rng.normal(0, 2.5, (len(points), 2))
    cv2.fillPoly(mask, [np.rint(moved).astype(np.int32)], 1)
    return mask


def cover(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | float]:
    """Where something lies over a face, and what it adds to its texture."""
    kind, u = rng.integers(8), rng.uniform
    if kind == 0:  # a mask
        w, top, low, x = u(26, 42), u(44, 58), u(84, 108), 48 + rng.normal(0, 3)
        side = top + u(0, 10)
        corners = [(x - w, side), (x, top - u(0, 8)), (x + w, side), (x + w * u(0.6, 1), 76)]
        return polygon(rng, [*corners, (x, low), (x - w * u(0.6, 1), 76)]), 0.0
    if kind == 1:  # a scarf or a wall
        slope, bow = u(-0.25, 0.25), u(-0.004, 0.006)
        return (u(44, 68) + slope * (X - 48) + bow * (X - 48) ** 2 < Y).astype(np.float32), 0.0
    if kind == 2:
        return fingers(rng, u(30, 66), u(62, 84))
    if kind == 3:  # a door, or hair over one half
        mask = (u(38, 58) + u(-0.3, 0.3) * (Y - 48) < X).astype(np.float32)
        return (mask if rng.random() < 0.5 else mask[:, ::-1]), 0.0
    if kind == 4:  # a phone, a cup
        box = ((u(34, 62), u(64, 90)), (u(26, 56), u(30, 70)), u(-50, 50))
        return polygon(rng, cv2.boxPoints(box).tolist()), 0.0
    if kind == 5:  # over the eyes
        y, high = u(34, 46), u(8, 22)
        return (np.abs(Y - y - u(-0.2, 0.2) * (X - 48)) < high).astype(np.float32), 0.0
    if kind == 6:
        return fingers(rng, u(28, 68), u(32, 48))
    mask = np.zeros((SIDE, SIDE), np.float32)
    at, axes = (int(u(32, 64)), int(u(62, 84))), (int(u(12, 36)), int(u(12, 30)))
    cv2.ellipse(mask, at, axes, u(0, 180), 0, 360, 1, -1)
    return mask, 0.0


def glasses(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Frames and glass of any shape: how much of the face each hides."""
    u = rng.uniform
    frame, glass = np.zeros((2, SIDE, SIDE), np.float32)
    y, wide, high, apart = u(36, 45), u(10, 18), u(7, 15), u(15, 19)
    thick, brow = rng.integers(1, 6, 2)
    power, lower, lift = rng.choice((2.0, 3.0, 6.0)), u(0.7, 1.05), u(0, 5)
    around = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    for side in (-1, 1):
        x = np.abs(np.cos(around)) ** (2 / power) * np.sign(np.cos(around)) * wide
        down = np.abs(np.sin(around)) ** (2 / power) * np.sign(np.sin(around)) * high
        x = np.where(down > 0, x * lower, x)
        down = down - lift * np.maximum(x * side / wide, 0) * (down < 0)
        rim = np.rint(np.stack([48 + side * apart + x, y + down], axis=1)).astype(np.int32)
        cv2.fillPoly(glass, [rim], 1)
        cv2.polylines(frame, [rim], True, 1, int(thick), cv2.LINE_AA)
        cv2.polylines(frame, [rim[down < 0]], False, 1, int(max(thick, brow)), cv2.LINE_AA)
        ends = [(48 + side * (apart + wide), y - 2), (48 + side * 48, y - u(0, 6))]
        cv2.polylines(frame, [np.rint(ends).astype(np.int32)], False, 1, int(thick), cv2.LINE_AA)
    bridge = [(48 - apart + wide, y - 2), (48 + apart - wide, y - 2)]
    cv2.polylines(frame, [np.rint(bridge).astype(np.int32)], False, 1, int(thick), cv2.LINE_AA)
    return frame, glass


def harmless(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | float]:
    """What leaves the expression in sight."""
    kind, u = rng.integers(8), rng.uniform
    mask = np.zeros((SIDE, SIDE), np.float32)
    if kind == 0:  # a hat or hair
        bow = u(-0.004, 0.012)
        return (u(12, 29) + u(-0.15, 0.15) * (X - 48) + bow * (X - 48) ** 2 > Y) * 1.0, 0.0
    if kind == 1:  # a beard, around the mouth
        away = ((X - 48) / u(14, 20)) ** 2 + ((Y - 73) / u(6, 11)) ** 2 > 1
        jaw = ((X - 48) / u(30, 42)) ** 2 + ((Y - 62) / u(30, 42)) ** 2 < 1
        return (away & jaw & (u(58, 66) < Y)) * u(0.2, 0.8), 0.0
    if kind == 2:  # a moustache
        cv2.ellipse(mask, (48, int(u(60, 66))), (int(u(10, 18)), int(u(2, 5))), 0, 0, 360, 1, -1)
        return mask * u(0.4, 1), 0.0
    if kind == 3:  # a hand beside the face, or under the chin
        beside = u(-12, 8) if rng.random() < 0.5 else u(88, 108)
        under = (u(16, 80), u(94, 112))
        return fingers(rng, *((beside, u(10, 96)) if rng.random() < 0.7 else under))
    if kind == 4:  # a collar
        return (u(88, 96) + u(0, 0.01) * (X - 48) ** 2 < Y) * 1.0, 0.0
    return mask, 0.0


def label(mask: np.ndarray) -> float:
    """1 where mouth, eyes or face are hidden, 0 where none is, nan between."""
    part = {n: mask[a:b, c:d].mean() for n, (a, b, c, d) in ZONES.items()}
    if any(part[n] > most for n, (_, most) in HIDDEN.items()):
        return 1.0
    return 0.0 if all(part[n] < least for n, (least, _) in HIDDEN.items()) else float("nan")


def seen(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moved, lit, blurred, shrunk, compressed: 48 pixels wide, as a crop of the pipeline."""
    u = rng.uniform
    matrix = cv2.getRotationMatrix2D((48, 48), rng.normal(0, 7), u(0.88, 1.15))
    matrix[:, 2] += rng.normal(0, 3, 2)
    face = cv2.warpAffine(face, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.25:
        turn = u(0, 2 * np.pi)
        slope = (X - 48) * np.cos(turn) + (Y - 48) * np.sin(turn)
        face = face * np.clip(1 + u(0.2, 0.9) * slope / 48, 0.05, 2)
    if rng.random() < 0.3:
        face = cv2.GaussianBlur(face, (0, 0), u(0.6, 4))
    if rng.random() < 0.25:
        few = int(u(14, 44))
        face = cv2.resize(face, (few, few), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.2:
        face = (face - 128) * u(0.15, 1) + u(70, 180)
    if rng.random() < 0.25:
        face = face + rng.normal(0, u(1, 20), face.shape)
    how = cv2.INTER_AREA if len(face) > 48 else cv2.INTER_LINEAR
    face = np.clip(cv2.resize(face, (48, 48), interpolation=how), 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        code = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, int(u(15, 80))])[1]
        face = cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)
    return full_range(face if rng.random() < 0.5 else np.ascontiguousarray(face[:, ::-1]))


def worn(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A face with glasses: dark or light frames; glass that is clear, tinted or reflects."""
    u = rng.uniform
    matrix = cv2.getRotationMatrix2D((48, 40), rng.normal(0, 4), 1)
    matrix[:, 2] += rng.normal(0, 1.5, 2)
    frame, glass = (cv2.warpAffine(part, matrix, (SIDE, SIDE)) for part in glasses(rng))
    if rng.random() < 0.4:
        glass = glass * u(0, 0.45)
        if rng.random() < 0.5:  # a window in it
            glass = glass * np.clip((X + Y * u(-1, 1) - u(20, 70)) / u(2, 30), 0, 1)
        face = face * (1 - glass) + glass * rng.choice((u(0, 60), u(150, 255)))
    grey = u(0, 60) if rng.random() < 0.7 else u(60, 240)
    frame = cv2.GaussianBlur(frame, (0, 0), u(0.3, 1.2)) * u(0.7, 1)
    return face * (1 - frame) + frame * grey


def drawn(
    face: np.ndarray, other: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """A face under something, or with something beside what counts, or as it is; and its label."""
    big = cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    if rng.random() < 0.25:
        big = worn(big, rng)
    mask, shade = cover(rng) if rng.random() < 0.55 else harmless(rng)
    matrix = cv2.getRotationMatrix2D((48, 48), rng.normal(0, 5), 1)
    mask = cv2.warpAffine(np.float32(mask), matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 2.5))
    over = np.clip(texture(rng, other, float(big.mean())) + shade, 0, 255)
    return seen(big * (1 - mask) + over * mask, rng), label(mask)


def examples(faces: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (N, 48, 48) and their labels, without those between."""
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, len(faces), (count, 2))
    made = [drawn(faces[i], faces[k], rng) for i, k in pairs]
    crops, labels = np.stack([m[0] for m in made]), np.array([m[1] for m in made])
    return crops[~np.isnan(labels)], labels[~np.isnan(labels)]


def network() -> nn.Sequential:
    """Five convolutions and two layers on their 6 × 6 cells: where a cover lies counts."""

    def block(into: int, out: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        return [convolution, nn.BatchNorm2d(out), nn.ReLU()]

    body = [*block(1, 16, 2), *block(16, 24, 2), *block(24, 32, 1), *block(32, 48, 2)]
    body += [*block(48, 48, 1), nn.Conv2d(48, 16, 1), nn.Flatten(), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*body, nn.Linear(16 * 36, 32), nn.ReLU(), nn.Linear(32, 1))


def fit(crops: np.ndarray, labels: np.ndarray, epochs: int, seed: int) -> nn.Sequential:
    """AdamW in one cycle on batches of 256; labels smoothed by .01, every other batch mirrored."""
    torch.manual_seed(seed)
    net = network()
    steps = len(crops) // 256
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.02)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * steps)
    targets = torch.from_numpy(labels).float() * 0.98 + 0.01
    for epoch in track(range(epochs), "epochs", console=Console(stderr=True)):
        order = np.random.default_rng([seed, epoch]).permutation(len(crops))
        for k in range(steps):
            batch = order[k * 256 : (k + 1) * 256]
            x = torch.from_numpy(standardised(crops[batch]))
            logits = net(x.flip(3) if k % 2 else x)[:, 0]
            loss = nn.functional.binary_cross_entropy_with_logits(logits, targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
    return net.eval()


def odds(net: nn.Module, crops: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        parts = np.array_split(crops, len(crops) // 500 + 1)
        return np.concatenate([net(torch.from_numpy(standardised(p)))[:, 0] for p in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--faces", type=int, default=200_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    dataset = read_dataset(args.data or default_data_path(), name="fer2013")
    crops, labels = examples(dataset.images[dataset.splits == "Training"], args.faces, args.seed)
    held = len(crops) * 95 // 100
    net = fit(crops[:held], labels[:held], args.epochs, args.seed)
    clean = dataset.images[dataset.splits == "PublicTest"]
    public = odds(net, np.stack([full_range(face) for face in clean]))
    made, hidden = odds(net, crops[held:]), labels[held:] == 1
    for at in (*np.quantile(public, (0.99, 0.98, 0.97)), *quality.COVERED):
        over = [(part > at).mean() for part in (public, made[hidden], made[~hidden])]
        print(f"above {at:.2f}: {over[0]:.1%} of PublicTest, {over[1]:.1%} of the covered, "
              f"{over[2]:.1%} of the harmless")  # fmt: skip
    if args.write:
        graph = to_onnx(net, (1, SIDE // 2, SIDE // 2))
        path = Path(mien.__file__).parent / "assets" / "covered.onnx"
        path.write_bytes(graph.SerializeToString())


if __name__ == "__main__":
    main()
