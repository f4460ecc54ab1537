"""What a robustness run found: figures from the cells, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.splits import PUBLISHED
from mien.evaluate.scores import plain
from mien.robustness.corruptions import CORRUPTIONS, FRAMING, CellKey

Floats = NDArray[np.float64]

_TIGHTER, _LOOSER, *_SHIFTS = FRAMING
#: How the crop misses -> the cells whose mean is shown.
_MISSES = {
    "15 % tighter": [_TIGHTER],
    "15 % looser": [_LOOSER],
    "shifted by 10 %, mean of 4": _SHIFTS,
}


@dataclass(frozen=True)
class Cell:
    """The answers to one corruption at one severity in one variant.

    Attributes:
        key: which.
        correct: bool (N,), in the order of the sample ids.
        confidence: mean probability of the class answered.
        ece: expected calibration error (15 bins).
        seconds: time in the model.
    """

    key: CellKey
    correct: NDArray[np.bool_]
    confidence: float
    ece: float
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of the samples answered correctly."""
        return float(self.correct.mean())


@dataclass(frozen=True)
class Figure:
    """An accuracy, and what it lost against the same faces untouched, both 0..1.

    ``error`` is the standard error of the loss. It is paired: taken of the differences face by
    face, so it is smaller than that of two independent accuracies.
    """

    accuracy: float
    loss: float
    error: float

    def to_dict(self) -> dict[str, float]:
        return {
            "accuracy": round(self.accuracy, 6),
            "loss": round(self.loss, 6),
            "loss_se": round(self.error, 6),
        }


@dataclass(frozen=True)
class RobustnessReport:
    """What :func:`mien.robustness.robustness` found.

    Attributes:
        cells: every scored cell, the clean one first.
        run: version, model, data, split and number of samples.
        twin_free: bool (N,), samples without an exact duplicate elsewhere, in the order of
            the ids; or None.
        generator: see :func:`mien.robustness.corruptions.generator_record`.
        notes, versions, command, created: as in :class:`mien.evaluate.Report`.
    """

    cells: tuple[Cell, ...]
    run: Mapping[str, Any]
    twin_free: NDArray[np.bool_] | None = None
    generator: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    created: str = ""

    @cached_property
    def _by_key(self) -> dict[CellKey, Cell]:
        return {cell.key: cell for cell in self.cells}

    @property
    def clean(self) -> Cell:
        """The untouched images."""
        return self._by_key[CellKey("clean", 0)]

    @property
    def n(self) -> int:
        return len(self.clean.correct)

    @property
    def seconds(self) -> float:
        """Time in the model, all cells."""
        return sum(cell.seconds for cell in self.cells)

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The corruptions scored, in order."""
        return tuple(dict.fromkeys(c.key.corruption for c in self.cells if c.key.severity))

    @property
    def severities(self) -> tuple[int, ...]:
        return tuple(sorted({c.key.severity for c in self.cells if c.key.severity}))

    def cell(self, corruption: str, severity: int, variant: str | None = None) -> Figure:
        """One cell; over all its variants unless one is named."""
        variants = CORRUPTIONS[corruption].variants if variant is None else (variant,)
        return self._figure(self._rows([CellKey(corruption, severity, v) for v in variants]))

    def corruption(self, name: str) -> Figure:
        """The mean over a corruption's severities."""
        return self._figure(self._mean([name]))

    @property
    def mean(self) -> Figure:
        """The mean over all corruptions, each of the same weight."""
        return self._figure(self._mean(self.corruptions))

    @property
    def retained(self) -> float:
        """Share of the clean accuracy that is left on the mean of the corruptions."""
        return ratio(self.mean.accuracy, self.clean.accuracy)

    @property
    def framing(self) -> dict[str, Figure]:
        """Crops 15 % tighter, 15 % looser, shifted by 10 %; empty where they were not scored."""
        if not all(key in self._by_key for key in FRAMING):
            return {}
        each = {f"shifted by 10 % {key.variant}": [key] for key in _SHIFTS}
        return {name: self._figure(self._rows(keys)) for name, keys in {**_MISSES, **each}.items()}

    def _rows(self, keys: Any) -> Floats:
        """Share of the given cells in which each sample is right, float64 (N,)."""
        right = [self._by_key[k].correct for k in keys]
        return np.asarray(np.mean(right, axis=0), np.float64)

    def _mean(self, names: Any) -> Floats:
        rows = [
            self._rows([CellKey(name, s, v) for v in CORRUPTIONS[name].variants])
            for name in names
            for s in self.severities
        ]
        return np.asarray(np.mean(rows, axis=0), np.float64)

    def _figure(self, right: Floats, keep: NDArray[np.bool_] | None = None) -> Figure:
        clean = self.clean.correct.astype(np.float64)
        if keep is not None:
            right, clean = right[keep], clean[keep]
        difference = clean - right
        spread = float(difference.std(ddof=1)) if len(difference) > 1 else math.nan
        return Figure(
            accuracy=float(right.mean()),
            loss=float(difference.mean()),
            error=spread / math.sqrt(len(difference)),
        )

    def without_twins(self) -> dict[str, Any] | None:
        """Figures of the samples without an exact duplicate; None if not asked for."""
        keep = self.twin_free
        if keep is None or not keep.any():
            return None
        record: dict[str, Any] = {
            "n": int(keep.sum()),
            "clean": float(self.clean.correct[keep].mean()),
            "mean": self._figure(self._mean(self.corruptions), keep).to_dict(),
        }
        if self.framing:
            record["framing"] = {
                name: self._figure(self._rows(keys), keep).to_dict()
                for name, keys in _MISSES.items()
            }
        return record

    def _corruption_record(self, name: str) -> dict[str, Any]:
        c = CORRUPTIONS[name]
        levels = {}
        for severity in self.severities:
            cells = [self._by_key[CellKey(name, severity, v)] for v in c.variants]
            levels[str(severity)] = {
                "strength": c.strengths[severity - 1],
                **self.cell(name, severity).to_dict(),
                "confidence": float(np.mean([x.confidence for x in cells])),
                "ece": float(np.mean([x.ece for x in cells])),
                "variants": {x.key.variant: x.accuracy for x in cells if x.key.variant},
            }
        mean = self.corruption(name)
        return {
            "group": c.group,
            "unit": c.unit,
            **mean.to_dict(),
            "retained": ratio(mean.accuracy, self.clean.accuracy),
            "severities": levels,
        }

    def to_dict(self) -> dict[str, Any]:
        """Every figure, JSON-ready; the answers to single samples stay in the kept predictions."""
        accuracy = self.clean.accuracy
        return {
            "fer2013c": self.run["version"],
            "generator": dict(self.generator),
            "run": dict(self.run),
            "clean": {
                "accuracy": plain(accuracy),
                "se": plain(math.sqrt(accuracy * (1 - accuracy) / self.n)),
                "confidence": plain(self.clean.confidence),
                "ece": plain(self.clean.ece),
            },
            "mean": {**self.mean.to_dict(), "retained": plain(self.retained)},
            "corruptions": {n: plain(self._corruption_record(n)) for n in self.corruptions},
            "framing": {name: f.to_dict() for name, f in self.framing.items()},
            "twin_free": plain(self.without_twins()),
            "notes": list(self.notes),
            "seconds": plain(self.seconds),
            "versions": dict(self.versions),
            "command": self.command,
            "created": self.created,
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)


def ratio(top: float, bottom: float) -> float:
    """``top / bottom``; NaN where ``bottom`` is 0."""
    return top / bottom if bottom else math.nan


def points(lost: Figure) -> str:
    """A loss in points with twice its standard error: "−2.3 ± 0.8"; minus means lost."""
    sign = "−" if lost.loss > 0 else "+"
    return f"{sign}{100 * abs(lost.loss):.1f} ± {200 * lost.error:.1f}"


def title(report: RobustnessReport) -> str:
    """E.g. "mien_distilled on FER2013-C, PublicTest"; own data corrupted likewise is "team-C"."""
    data = report.run.get("data", "fer2013")
    name = "FER2013-C" if data in PUBLISHED else f"{data}-C"
    on, split = f"{report.run['model'].get('name', 'model')} on {name}", report.run.get("split")
    return f"{on}, {split}" if split else on


def provenance(report: RobustnessReport) -> list[tuple[str, str]]:
    """What produced the figures, as (name, text) rows."""
    run, differs = report.run, report.generator.get("differs")
    same = "as published, byte for byte"
    rows = [
        ("Benchmark", f"{run['version']}, images SHA-256 {report.generator.get('sha256', '')}"),
        ("Images", f"differ here in {', '.join(differs)}" if differs else same),
        ("Model", ", ".join(f"{k} {v}" for k, v in run["model"].items() if v not in ("", None))),
        ("Data", f"{run['data']}, SHA-256 {run['data_sha256']}"),
        ("Split", f"{run['split']} ({report.n:,} samples)"),
        ("Test-time augmentation", str(run["tta"])),
        ("Time in the model", f"{report.seconds:.1f} s"),
        ("Versions", ", ".join(f"{k} {v}" for k, v in report.versions.items())),
        ("Command", report.command),
        ("Made", report.created),
    ]
    return [(name, text) for name, text in rows if text]
