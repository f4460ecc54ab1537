"""What the lessons share: mean curves, means of scores, and words that fit any measured figure.

Figures are shown to a tenth of a point. Differences are taken of the shown figures, so that what a
reader subtracts on paper is what the page says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mien.report.document import count, number
from mien.reproduce.score_sections import done_seeds

Record = Mapping[str, Any]
Rows = list[dict[str, float]]

#: Curves whose means are taken, where every seed has them.
_COLUMNS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class Lesson:
    """One lesson that is measured.

    Attributes:
        sentences: three to six, each a whole one, in Markdown.
        svg: the plot; alt: what it shows, for those who do not see it.
        key: how to read the plot, in a few words.
        runs: ids of the runs whose figures it uses.
        trial, command: one thing to try, and how.
        first_seed: the figures are of the first finished seed, not means.
    """

    sentences: Sequence[str]
    svg: str
    alt: str
    key: str
    runs: Sequence[str]
    trial: str
    command: str
    first_seed: bool = False


@dataclass(frozen=True)
class Curve:
    """One run: its finished seeds' points and the mean of them.

    Attributes:
        rows: by epoch, the means over seeds, of the epochs that every seed has.
        each: column -> of each seed the (epoch, value) points.
    """

    rows: Rows
    each: dict[str, list[list[tuple[float, float]]]] = field(default_factory=dict)

    @property
    def last(self) -> dict[str, float]:
        """The last epoch that every seed has."""
        return self.rows[-1]


def run_of(record: Record, run_id: str) -> Record:
    """The run called ``run_id``; {} where the record has none."""
    return next((r for r in record.get("runs") or () if r.get("id") == run_id), {})


def curve_of(run: Record) -> Curve | None:
    """The mean curves of a run; None unless every finished seed has accuracies of both kinds."""
    tables = [{int(r["epoch"]): r for r in seed.get("curves") or ()} for seed in done_seeds(run)]
    shared = sorted(set.intersection(*(set(t) for t in tables))) if tables else []
    rows: Rows = []
    for epoch in shared:
        row = {"epoch": float(epoch)}
        for column in _COLUMNS:
            values = [number(t[epoch].get(column)) for t in tables]
            known = [v for v in values if v is not None]
            if len(known) == len(tables):
                row[column] = sum(known) / len(known)
        rows.append(row)
    rows = [r for r in rows if "train_accuracy" in r and "val_accuracy" in r]
    if not rows:
        return None
    each = {
        column: [
            [(float(e), v) for e in sorted(t) if (v := number(t[e].get(column))) is not None]
            for t in tables
        ]
        for column in _COLUMNS
    }
    return Curve(rows, each)


def scores_of(run: Record, key: str) -> list[Record]:
    """Of each finished seed or fold the score called ``key`` ("test", "paper")."""
    return [
        e
        for seed in done_seeds(run)
        for e in seed.get("scores") or ()
        if e.get("key") == key and number((e.get("scores") or {}).get("accuracy")) is not None
    ]


def accuracies(run: Record, key: str) -> list[float]:
    """The accuracy of every finished seed or fold under the score ``key``."""
    return [float(e["scores"]["accuracy"]) for e in scores_of(run, key)]


def mean(values: Sequence[float]) -> float:
    """The mean of at least one value."""
    return sum(values) / len(values)


def spread(values: Sequence[float]) -> str:
    """ "97.3 ± 0.8 %": mean and standard deviation (n - 1); of one value that alone."""
    if len(values) < 2:
        return pct(values[0])
    middle = mean(values)
    std = math.sqrt(sum((v - middle) ** 2 for v in values) / (len(values) - 1))
    return f"{100 * middle:.1f} ± {100 * std:.1f} %"


def tenth(value: float) -> float:
    """A fraction as it is shown: to a tenth of a percent."""
    return round(100 * value, 1)


def pct(value: float, digits: int = 1) -> str:
    """.642 -> "64.2 %"."""
    return f"{100 * value:.{digits}f} %"


def gap(high: float, low: float) -> float:
    """``high`` minus ``low`` in points, as a reader would subtract them."""
    return round(tenth(high) - tenth(low), 1)


def pts(value: float) -> str:
    """14.2 -> "14.2 points", 1.0 -> "1.0 point", -.3 -> "0.3 points"."""
    shown = f"{abs(value):.1f}"
    return f"{shown} point{'' if shown == '1.0' else 's'}"


def moved(start: float, end: float) -> str:
    """ "climbs from 58.0 to 72.2 %", "falls from …" or "stays at 58.0 %"."""
    change = gap(end, start)
    if change == 0:
        return f"stays at {pct(start)}"
    return f"{'climbs' if change > 0 else 'falls'} from {tenth(start):.1f} to {pct(end)}"


def two_errors(first: float, second: float, n: float, m: float | None = None) -> float:
    """Two standard errors, in points, of the difference of two accuracies.

    As if ``n`` images had been drawn for the one and ``m`` (else ``n``) others for the other: two
    networks asked about the same images differ by less.
    """
    m = n if m is None else m
    return 200 * math.sqrt(first * (1 - first) / n + second * (1 - second) / m)


def verdict(better: float, other: float, n: float, what: str) -> str:
    """What a difference of two accuracies on the same ``n`` images allows to say of ``what``."""
    noise = round(two_errors(better, other, n), 1)
    change = gap(better, other)
    known = f"two standard errors of such a difference are at most {pts(noise)}"
    if abs(change) <= noise:
        return f"{known}, so these runs do not show that {what} changed the accuracy."
    helped = "raised" if change > 0 else "lowered"
    return f"{known}, so {what} {helped} it by more than the choice of these images explains."


def lowest_loss(curve: Curve) -> tuple[int, float, float] | None:
    """Epoch and value of the lowest mean validation loss, and the last one; None without any."""
    rows = [r for r in curve.rows if "val_loss" in r]
    if not rows:
        return None
    low = min(rows, key=lambda r: r["val_loss"])
    return int(low["epoch"]), low["val_loss"], rows[-1]["val_loss"]


def class_counts(record: Record, dataset: str = "fer2013") -> dict[str, dict[str, int]]:
    """Split -> class -> images of one of the record's datasets; {} where it is not described."""
    found = [d for d in record.get("data") or () if d.get("name") == dataset]
    return dict(found[0].get("counts") or {}) if found else {}


def images(counts: Mapping[str, Mapping[str, int]], split: str) -> int | None:
    """How many images a split has; None where it is not known."""
    return sum(counts[split].values()) if split in counts else None


def weights(run: Record) -> str:
    """ "5,155,847": the numbers that training sets."""
    found = run.get("parameters") or {}
    return count(found.get("trainable") or found.get("total"))


def convolutions(run: Record) -> int:
    """How many convolutions the network has."""
    return sum(str(layer.get("type")) == "Conv2D" for layer in run.get("layers") or ())
