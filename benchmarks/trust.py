"""When is an answer unsure? Fits the rule of ``mien.quality`` and measures what it costs and saves.

    python benchmarks/trust.py [--data FOLDER] [--model NAME_OR_ONNX] [--faces N] [--write]
        [--json FILE] [--plot FILE]

PublicTest faces, and Training faces under every condition of the photo panel (turned, dark,
blurred, small, covered, masked) and under drawn cloth and hands, are pasted into scenes and go
through the pipeline. Only faces count whose label most FER+ raters share: what is wrong there is
wrong, not a matter of taste. Half of the answers give the two numbers of the rule, the other half
judges it; the rule that ships is judged on all of them, so with another seed than it was fitted
with. Never fitted on other people's photos. ``--write`` puts the numbers into mien/quality.py.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mien import quality, zoo
from mien.data import default_data_path, read_dataset
from mien.data.ferplus import majority_labels
from mien.emotions import ALL, Emotion
from mien.panel.conditions import CONDITIONS, Condition
from mien.pipeline import Analyzer
from mien.report.plots import Panel, panels
from mien.report.svg import standalone
from mien.results import Face, Quality

#: Share of the clean right answers that the rule may mark unsure (a margin below 5 %).
SPENT = 0.03
#: Share of the corrupted wrong answers that may come with ``CONFIDENT`` and as sure.
MISLEADING = 0.1
#: The smallest penalty: with less a face of ten pixels could be sure of .8.
LEAST = 4
#: The largest penalty: beyond it far more right answers are marked for hardly a wrong one.
MOST = 7
CONFIDENT = 0.6


def cloth(image: np.ndarray, place: Any, key: str) -> tuple[np.ndarray, Any]:
    """Woven cloth of any grey from the nose down."""
    rng, (x, y, side) = np.random.default_rng(sum(key.encode())), place
    across = np.arange(image.shape[1]) - x
    line = y + side * rng.uniform(0, 0.12) + rng.uniform(-0.1, 0.1) * across
    weave = rng.normal(
        0, rng.uniform(4, 16), [max(2, n * 48 // int(side)) for n in image.shape[:2]]
    )
    weave = cv2.resize(weave, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    over = np.clip(rng.uniform(20, 235) + weave, 0, 255).astype(np.uint8)[..., None]
    return np.where((np.arange(len(image))[:, None] > line)[..., None], over, image), place


def hand(image: np.ndarray, place: Any, key: str) -> tuple[np.ndarray, Any]:
    """Four fingers with darker edges over the mouth, as light as the cheeks."""
    rng, (x, y, side) = np.random.default_rng(sum(key.encode())), place
    grey = float(np.median(image[int(y) - 4 : int(y) + 5, int(x - side / 5) : int(x + side / 5)]))
    out, lean = image.copy(), rng.uniform(-0.3, 0.3)
    for k in range(4):
        low = y + side * (0.12 + 0.1 * k)
        ends = [(int(x + s * side * 0.3), int(low + s * lean * side * 0.3)) for s in (-1, 1)]
        for shade, wide in ((0.6, 0.1), (1, 0.085)):
            cv2.line(out, *ends, (grey * shade,) * 3, int(wide * side), cv2.LINE_AA)
    return out, place


#: Drawn by other means than those that ``mien.covered`` was trained on.
COVERS = (Condition("cloth", "covered", cloth), Condition("hand", "covered", hand))


@dataclass(frozen=True)
class Answer:
    """One face that went through the pipeline."""

    condition: str
    face: Face
    label: Emotion

    @property
    def right(self) -> bool:
        return self.face.emotion is self.label


def scene(face: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Any]:
    """The face at 64 to 160 pixels in a scene twice as wide, edges repeated and blurred."""
    side = int(rng.uniform(64, 160))
    x, y = (int(v) for v in rng.integers(0, side + 1, 2))
    big = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    around = (y, side - y, x, side - x)
    canvas = cv2.copyMakeBorder(big, *around, borderType=cv2.BORDER_REPLICATE)
    canvas = cv2.GaussianBlur(canvas, (0, 0), side / 16)
    canvas[y : y + side, x : x + side] = big
    return cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR), (x + side / 2, y + side / 2, float(side))


def collect(analyzer: Analyzer, dataset: Any, count: int, seed: int) -> Iterator[Answer]:
    """``count`` Training faces a condition, and eight times as many clean ones of PublicTest."""
    rng = np.random.default_rng(seed)
    voted = majority_labels(dataset.votes)
    shared = np.array([ALL[v] is dataset.classes[k] if v >= 0 else False
                       for v, k in zip(voted, dataset.labels, strict=True)])  # fmt: skip
    for condition in (*CONDITIONS, *COVERS):
        clean = condition.name == "clean"
        split = "PublicTest" if clean else "Training"
        rows = rng.permutation(np.flatnonzero(shared & (dataset.splits == split)))
        for i in rows[: 8 * count if clean else count]:
            image, place = condition.change(*scene(dataset.images[i], rng), str(i))
            for face in analyzer.analyze(image, color="bgr").faces:
                x, y = face.box.center
                if np.hypot(x - place[0], y - place[1]) < place[2] / 2:
                    yield Answer(condition.name, face, dataset.classes[dataset.labels[i]])
                    break


def trust(rule: quality.Rule, answers: list[Answer]) -> np.ndarray:
    """float (N,)."""
    return np.array([rule.trust(a.face.confidence, a.face.parts or Quality()) for a in answers])


def fit(answers: list[Answer]) -> quality.Rule:
    """The mildest penalty that keeps ``MISLEADING``; ``least`` spends ``SPENT``."""
    right = np.array([a.right for a in answers])
    clean = np.array([a.condition == "clean" for a in answers])
    high = np.array([a.face.confidence >= CONFIDENT for a in answers])
    for penalty in range(LEAST, MOST + 1):
        values = trust(quality.Rule(penalty, 0), answers)
        least = round(float(np.quantile(values[clean & right], SPENT)), 2)
        if (high & (values >= least))[~clean & ~right].mean() <= MISLEADING:
            break
    return quality.Rule(penalty, least)


def judge(rule: quality.Rule, answers: list[Answer]) -> dict[str, Any]:
    """What the rule marks, per condition, for all corrupted ones, and the risk by coverage."""
    sure = trust(rule, answers) >= rule.least
    right = np.array([a.right for a in answers])
    high = np.array([a.face.confidence for a in answers]) >= CONFIDENT
    names = np.array([a.condition for a in answers])

    def share(values: np.ndarray) -> float | None:
        return round(float(values.mean()), 3) if len(values) else None

    def row(chosen: np.ndarray) -> dict[str, Any]:
        wrong = chosen & ~right
        return {
            "faces": int(chosen.sum()),
            "right": share(right[chosen]),
            "right of the sure": share(right[chosen & sure]),
            "right, but unsure": share(~sure[chosen & right]),
            "wrong with .6": share(high[wrong]),
            "wrong with .6 and sure": share((high & sure)[wrong]),
        }

    order = {name: row(names == name) for name in dict.fromkeys(names.tolist())}
    return {**order, "all corrupted": row(names != "clean"), "curve": curve(rule, answers, right)}


def curve(rule: quality.Rule, answers: list[Answer], right: np.ndarray) -> dict[str, list[float]]:
    """Share of wrong answers among the 10, 20 … 100 % most trusted, by confidence and by rule."""
    by = {
        "confidence": np.array([a.face.confidence for a in answers]),
        "rule": trust(rule, answers),
    }
    out = {}
    for name, values in by.items():
        wrong = ~right[np.argsort(-values, kind="stable")]
        out[name] = [round(float(wrong[: max(1, len(wrong) * k // 10)].mean()), 3)
                     for k in range(1, 11)]  # fmt: skip
    return out


def drawn(curves: dict[str, list[float]]) -> str:
    """The two risk–coverage curves as one SVG."""
    names = {"confidence": "confidence alone", "rule": "with quality (unsure)"}
    points = {
        names[key]: list(zip(range(10, 101, 10), risks, strict=True))
        for key, risks in curves.items()
    }
    top = 0.1 * (int(10 * max(max(risks) for risks in curves.values())) + 1)
    title = "Error rate by share answered, %"
    panel = Panel(title, points, [top * k / 4 for k in range(5)])
    return standalone(panels([panel], [0, 25, 50, 75, 100], title, dots=True))


def write(rule: quality.Rule) -> None:
    path = Path(quality.__file__)
    values = ", ".join(f"{k}={v}" for k, v in asdict(rule).items())
    text = re.sub(r"(?m)^RULE = Rule\(.*\)$", f"RULE = Rule({values})", path.read_text("utf-8"))
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default=zoo.DEFAULT)
    parser.add_argument("--faces", type=int, default=400, help="Training faces a condition")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="the risk–coverage curves as SVG")
    args = parser.parse_args()
    dataset = read_dataset(args.data or default_data_path(), name="fer2013")
    answers = list(collect(Analyzer(args.model), dataset, args.faces, args.seed))
    rule = fit(answers[::2])
    out = {
        "rule": asdict(rule),
        "judged": judge(rule, answers[1::2]),
        "shipped": {"rule": asdict(quality.RULE), "judged": judge(quality.RULE, answers)},
    }
    print(json.dumps(out, indent=1))
    if args.json:
        args.json.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        args.plot.write_text(drawn(out["shipped"]["judged"]["curve"]), encoding="utf-8")
    if args.write:
        write(rule)


if __name__ == "__main__":
    main()
