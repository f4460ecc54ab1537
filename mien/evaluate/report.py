"""Report: every figure of one evaluation with where it came from, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._system import file_sha256
from mien.emotions import Label
from mien.evaluate.metrics import FEW
from mien.evaluate.scores import Scores, plain
from mien.modelinfo import ModelInfo
from mien.report.document import figure, percent

_KEPT = ("accuracy", "macro_f1", "ece")
#: What a report says of a model as its file does.
_SAID = (
    *("name", "architecture", "recipe", "seed"),
    *("parameters", "multiply_adds", "precision", "temperature"),
)


@dataclass(frozen=True)
class Mistake:
    """One wrong prediction; ``image`` is uint8 (H, W) and never leaves the HTML page."""

    id: str
    true: Label
    predicted: Label
    confidence: float
    probability_of_true: float
    image: NDArray[np.uint8]

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "true": self.true.value,
            "predicted": self.predicted.value,
            "confidence": plain(self.confidence),
            "probability_of_true": plain(self.probability_of_true),
        }


@dataclass(frozen=True)
class Report:
    """What :func:`mien.evaluate.evaluate` found.

    Attributes:
        scores: the figures of the whole split.
        twin_free: the same without samples that have an exact duplicate in another split; None
            where duplicates were not looked for.
        model: name, recipe, parameters and whatever else describes the model.
        data: name, source and SHA-256 of the dataset; its classes; which samples were left out.
        protocol, split: which samples; "" where the caller did not say.
        tta: "none", "flip" (probabilities averaged over a face and its mirror image) or "ten"
            (over both at five places).
        bootstrap, seed: of the intervals.
        seconds, faces_per_second: time in the model alone, both halves of the flip included.
        mistakes: the wrong predictions the model was surest of, surest first.
        notes: warnings, a sentence each.
        versions, command, created: what made the report, and when (ISO 8601, UTC).
    """

    scores: Scores
    twin_free: Scores | None
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    protocol: str = ""
    split: str = ""
    tta: str = "none"
    bootstrap: int = 1000
    seed: int = 0
    seconds: float = 0.0
    mistakes: tuple[Mistake, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    created: str = ""

    @property
    def n(self) -> int:
        """Samples scored."""
        return self.scores.n

    @property
    def accuracy(self) -> float:
        """Share of samples whose most probable class is the true one, 0..1."""
        return self.scores.summary["accuracy"]

    @property
    def macro_f1(self) -> float:
        """Unweighted mean F1 of the classes that occur, 0..1."""
        return self.scores.summary["macro_f1"]

    @property
    def faces_per_second(self) -> float:
        """Throughput of the model alone."""
        return self.n / self.seconds if self.seconds > 0 else float("nan")

    def figures(self) -> dict[str, float]:
        """The few figures that a record of a model keeps, to six digits."""
        scores = {key: round(self.scores.summary[key], 6) for key in _KEPT}
        found: dict[str, float] = {**scores, "n": self.n}
        if self.twin_free is not None:
            found["twin_free_accuracy"] = round(self.twin_free.summary["accuracy"], 6)
            found["twin_free_n"] = self.twin_free.n
        return found

    def to_dict(self) -> dict[str, Any]:
        """The whole report for JSON: no images; undefined figures are null."""
        twin_free = None
        if self.twin_free is not None:
            twin_free = {"removed": self.n - self.twin_free.n, **self.twin_free.to_dict()}
        return {
            "model": plain(dict(self.model)),
            "data": plain(dict(self.data)),
            "protocol": self.protocol,
            "split": self.split,
            "tta": self.tta,
            **self.scores.to_dict(),
            "twin_free": twin_free,
            "curves": self.scores.curves_to_dict(),
            "mistakes": [m.to_dict() for m in self.mistakes],
            "notes": list(self.notes),
            "bootstrap": {"resamples": self.bootstrap, "seed": self.seed, "level": 0.95},
            "seconds": plain(self.seconds),
            "faces_per_second": plain(self.faces_per_second),
            "versions": dict(self.versions),
            "command": self.command,
            "created": self.created,
        }

    def to_json(self) -> str:
        """:meth:`to_dict` as one JSON object; rows of numbers stay on a line."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


def interval(scores: Scores, name: str) -> str:
    """The 95 % interval of ``name`` in percent, e.g. "69.60–72.60"; "" where there is none."""
    low, high = scores.intervals.get(name, (float("nan"), float("nan")))
    return f"{100 * low:.2f}–{100 * high:.2f}" if np.isfinite(low) else ""


#: Rows of the summary tables: (key in Scores.summary, title, in percent).
SUMMARY_ROWS: tuple[tuple[str, str, bool], ...] = (
    ("accuracy", "Accuracy", True),
    ("balanced_accuracy", "Balanced accuracy", True),
    ("macro_f1", "Macro F1", True),
    ("macro_precision", "Macro precision", True),
    ("macro_recall", "Macro recall", True),
    ("weighted_f1", "Weighted F1", True),
    ("weighted_precision", "Weighted precision", True),
    ("weighted_recall", "Weighted recall", True),
    ("top2_accuracy", "Top-2 accuracy", True),
    ("cohen_kappa", "Cohen's kappa", False),
    ("macro_roc_auc", "Macro ROC area (one-vs-rest)", False),
    ("macro_average_precision", "Macro average precision", False),
    ("mean_confidence", "Mean confidence", True),
    ("ece", "Expected calibration error (15 bins)", True),
    ("brier", "Brier score", False),
    ("nll", "Negative log-likelihood", False),
    ("aurc", "Area under risk–coverage", False),
)


def summary_cells(scores: Scores, key: str, in_percent: bool) -> tuple[str, str]:
    """One figure of ``scores`` and its interval, as text."""
    value = scores.summary[key]
    return (percent(value) if in_percent else figure(value)), interval(scores, key)


def describe_model(info: ModelInfo) -> dict[str, Any]:
    """What a report says of the model."""
    said = {key: getattr(info, key) for key in _SAID}
    return {**said, "trained_on": f"{info.training_data} ({info.protocol})"}


def facts_of(classifier: Any, model: str | Path) -> dict[str, Any]:
    """What a report says of a loaded model, with the SHA-256 of its file."""
    path = Path(getattr(classifier, "path", None) or model)
    return {**describe_model(classifier.info), "sha256": file_sha256(path)}


def title(report: Report) -> str:
    """E.g. "mien_distilled on fer2013, PrivateTest"."""
    on = f"{report.model.get('name', 'model')} on {report.data.get('name', '')}"
    return f"{on}, {report.split}" if report.split else on


def provenance(report: Report) -> list[tuple[str, str]]:
    """What produced the figures, as (name, text) rows; empty ones are left out."""
    model = {k: v for k, v in report.model.items() if k != "name" and v not in ("", None, {}, 0)}
    excluded = report.data.get("excluded") or {}
    time = f"{report.seconds:.2f} s, {report.faces_per_second:,.0f} faces/s"
    wilson = "; accuracy's is Wilson's" if report.n < FEW else ""
    rows = [
        ("Model", str(report.model.get("name", ""))),
        *((k.replace("_", " ").capitalize(), _text(v)) for k, v in model.items()),
        ("Data", str(report.data.get("name", ""))),
        ("Data SHA-256", str(report.data.get("sha256", ""))),
        ("Protocol", report.protocol),
        ("Split", f"{report.split} ({report.n:,} samples)" if report.split else f"{report.n:,}"),
        ("Left out", ", ".join(f"{n} of {c}" for c, n in excluded.items())),
        ("Test-time augmentation", report.tta),
        ("Intervals", f"95 %, {report.bootstrap} bootstrap resamples, seed {report.seed}{wilson}"),
        ("Time in the model", time if report.seconds > 0 else ""),  # "": there were answers already
        ("Versions", ", ".join(f"{k} {v}" for k, v in report.versions.items())),
        ("Command", report.command),
        ("Made", report.created),
    ]
    return [(name, text) for name, text in rows if text]


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(v) for v in value)
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
