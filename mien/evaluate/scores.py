"""All figures of one split in one frozen record, and their form in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.emotions import Label
from mien.evaluate import metrics
from mien.evaluate.metrics import Curve, Floats, Ints, Reliability


@dataclass(frozen=True)
class ClassScores:
    """One row of the per-class table; figures are NaN where they are not defined."""

    precision: float
    recall: float
    f1: float
    support: int
    predicted: int
    roc_auc: float
    average_precision: float


@dataclass(frozen=True)
class Scores:
    """Every figure of one split (or of its part without exact duplicates) with its curves.

    ``summary`` holds the scalars by name (see :func:`score`); ``intervals`` the 95 % bootstrap
    intervals of accuracy, balanced accuracy and macro F1; ``roc`` and ``pr`` are None for a class
    without the samples a curve needs.
    """

    n: int
    classes: tuple[Label, ...]
    summary: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_class: dict[Label, ClassScores]
    confusion: Ints
    reliability: Reliability
    risk: Curve
    roc: dict[Label, Curve | None]
    pr: dict[Label, Curve | None]

    def to_dict(self) -> dict[str, Any]:
        """Scalars, intervals, per-class table and confusion matrix, ready for JSON (no curves)."""
        record: dict[str, Any] = {"n": self.n}
        for name, value in self.summary.items():
            record[name] = plain(value)
            if name in self.intervals:
                record[f"{name}_ci"] = plain(self.intervals[name])
        record["classes"] = [c.value for c in self.classes]
        record["per_class"] = {c.value: plain(vars(s)) for c, s in self.per_class.items()}
        record["confusion"] = self.confusion.tolist()
        record["confusion_rates"] = plain(metrics.row_rates(self.confusion))
        return record

    def curves_to_dict(self) -> dict[str, Any]:
        """Reliability bins and the curves, thinned to 101 points each, ready for JSON."""

        def points(curve: Curve | None, x: str, y: str) -> dict[str, Any] | None:
            if curve is None:
                return None
            t = metrics.thin(curve)
            threshold = np.where(np.isfinite(t.threshold), t.threshold, np.nan)
            return {
                x: plain(t.x),
                y: plain(t.y),
                "threshold": plain(threshold),
                "area": plain(t.area),
            }

        names = {c: c.value for c in self.classes}
        return {
            "reliability": plain(vars(self.reliability)),
            "risk_coverage": points(self.risk, "coverage", "risk"),
            "roc": {names[c]: points(v, "fpr", "tpr") for c, v in self.roc.items()},
            "pr": {names[c]: points(v, "recall", "precision") for c, v in self.pr.items()},
        }


def plain(value: Any) -> Any:
    """Numbers for JSON: numpy to Python, six decimals, NaN and infinity to None."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return round(float(value), 6) if np.isfinite(value) else None
    return value


def score(
    labels: Ints,
    probabilities: Floats,
    classes: Sequence[Label],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Scores:
    """All figures for ``labels`` (N,) and ``probabilities`` (N, K); N must be at least 1."""
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    confidence = probabilities.max(axis=1)
    correct = predicted == labels
    confusion = metrics.confusion_matrix(labels, predicted, len(classes))
    calibration = metrics.reliability(confidence, correct)
    risk = metrics.risk_coverage(confidence, correct)
    roc = {c: metrics.roc_curve(probabilities[:, k], labels == k) for k, c in enumerate(classes)}
    pr = {c: metrics.pr_curve(probabilities[:, k], labels == k) for k, c in enumerate(classes)}
    intervals = metrics.bootstrap_intervals(confusion, resamples=bootstrap, seed=seed)
    roc_areas = np.array([v.area for v in roc.values() if v is not None])
    pr_areas = np.array([v.area for v in pr.values() if v is not None])
    nan = float("nan")
    means = metrics.averages(confusion)
    summary = {name: float(means[name]) for name in ("accuracy", "balanced_accuracy")}
    summary |= {name: float(v) for name, v in means.items() if name not in summary}
    summary |= {
        "top2_accuracy": metrics.top_k_accuracy(labels, probabilities, 2),
        "cohen_kappa": metrics.cohen_kappa(confusion),
        "macro_roc_auc": float(roc_areas.mean()) if len(roc_areas) else nan,
        "macro_average_precision": float(pr_areas.mean()) if len(pr_areas) else nan,
        "ece": calibration.ece,
        "mean_confidence": float(confidence.mean()),
        "brier": metrics.brier_score(labels, probabilities),
        "nll": metrics.negative_log_likelihood(labels, probabilities),
        "aurc": risk.area,
    }
    shown = ("accuracy", "balanced_accuracy", "macro_f1")
    return Scores(
        n=len(labels),
        classes=tuple(classes),
        summary=summary,
        intervals={name: intervals[name] for name in shown},
        per_class=_class_table(confusion, classes, roc, pr),
        confusion=confusion,
        reliability=calibration,
        risk=risk,
        roc=roc,
        pr=pr,
    )


def _class_table(
    confusion: Ints,
    classes: Sequence[Label],
    roc: dict[Label, Curve | None],
    pr: dict[Label, Curve | None],
) -> dict[Label, ClassScores]:
    precision, recall, f1 = metrics.precision_recall_f1(confusion)

    def area(curve: Curve | None) -> float:
        return float("nan") if curve is None else curve.area

    return {
        c: ClassScores(
            precision=float(precision[k]),
            recall=float(recall[k]),
            f1=float(f1[k]),
            support=int(confusion[k].sum()),
            predicted=int(confusion[:, k].sum()),
            roc_auc=area(roc[c]),
            average_precision=area(pr[c]),
        )
        for k, c in enumerate(classes)
    }
