"""The figures of a report, as pure numpy functions of labels and probabilities.

Conventions, the same everywhere:

* ``labels`` is int64 (N,), indices into the model's classes; ``probabilities`` is (N, K), rows
  summing to 1; a confusion matrix is int64 (K, K), rows = true class, columns = predicted class.
* A class without a single sample in the split has no recall, F1, ROC or PR curve: its figures are
  NaN (``null`` in JSON) and macro averages are taken over the classes that do occur.
* A class that occurs but is never predicted has precision 0 and F1 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mien.emotions import Label

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Bins of the reliability diagram and the expected calibration error (Guo et al. 2017 use 15).
CALIBRATION_BINS = 15
#: Cells of resampled matrices that are held at a time: of many classes a few matrices.
_CELLS = 4_000_000


def confusion_matrix(labels: Ints, predicted: Ints, n_classes: int) -> Ints:
    """Counts (K, K) of (true class, predicted class)."""
    flat = np.bincount(labels * n_classes + predicted, minlength=n_classes * n_classes)
    return flat.reshape(n_classes, n_classes).astype(np.int64)


def _divide(top: Floats, bottom: Floats, empty: float) -> Floats:
    """``top / bottom``, and ``empty`` where ``bottom`` is 0."""
    result: Floats = np.full(np.broadcast_shapes(top.shape, bottom.shape), empty)
    np.divide(top, bottom, out=result, where=bottom != 0)
    return result


def row_rates(confusion: Ints) -> Floats:
    """The confusion matrix with rows summing to 1; NaN in the rows of classes without samples."""
    counts = confusion.astype(np.float64)
    return _divide(counts, counts.sum(axis=1, keepdims=True), np.nan)


def precision_recall_f1(confusion: Ints) -> tuple[Floats, Floats, Floats]:
    """Per-class precision, recall and F1, each float64 (..., K), from matrices (..., K, K)."""
    counts = confusion.astype(np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    support, claimed = counts.sum(axis=-1), counts.sum(axis=-2)
    occurs = support > 0
    precision = np.where(occurs | (claimed > 0), _divide(hits, claimed, 0.0), np.nan)
    recall = _divide(hits, support, np.nan)
    f1 = np.where(occurs, _divide(2 * hits, support + claimed, 0.0), np.nan)
    return precision, recall, f1


def _mean(values: Floats, weights: Floats) -> Floats:
    """Mean over the last axis with ``weights``, leaving out entries of weight 0; NaN if all are."""
    used = np.where(weights > 0, values, 0.0)
    return _divide((used * weights).sum(axis=-1), weights.sum(axis=-1), np.nan)


#: Samples under which accuracy's interval is Wilson's.
FEW = 1000


def averages(confusion: Ints) -> dict[str, Floats]:
    """Accuracy, balanced accuracy and macro and weighted precision, recall and F1.

    ``confusion`` is (..., K, K); each value has shape (...). Balanced accuracy is the macro recall.
    """
    support = confusion.sum(axis=-1).astype(np.float64)
    occurs = (support > 0).astype(np.float64)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).sum(axis=-1).astype(np.float64)
    result = {"accuracy": _divide(hits, support.sum(axis=-1), np.nan)}
    for name, values in zip(
        ("precision", "recall", "f1"), precision_recall_f1(confusion), strict=True
    ):
        result[f"macro_{name}"] = _mean(values, occurs)
        result[f"weighted_{name}"] = _mean(values, support)
    result["balanced_accuracy"] = result["macro_recall"]
    return result


def bootstrap_intervals(
    confusion: Ints, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of every figure of :func:`averages` (Efron 1979).

    To draw N samples with replacement and count (true, predicted) pairs is to draw from a
    multinomial with the matrix's cell rates, so the resamples are drawn as whole matrices: the
    nonparametric bootstrap exactly, vectorised, and independent of the samples' order.

    Of few samples, most of them right, it is too narrow (a point where all are): under
    ``FEW`` accuracy has Wilson's interval.
    """
    n = int(confusion.sum())
    if n == 0 or resamples < 1:
        return dict.fromkeys(averages(confusion), (float("nan"), float("nan")))
    rng = np.random.default_rng(seed)
    used = np.flatnonzero(confusion)
    parts: list[dict[str, Floats]] = []
    step = max(1, _CELLS // confusion.size)
    for start in range(0, resamples, step):
        cells = np.zeros((min(step, resamples - start), confusion.size), np.int64)
        cells[:, used] = rng.multinomial(n, confusion.ravel()[used] / n, size=len(cells))
        parts.append(averages(cells.reshape(-1, *confusion.shape)))
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    tail = 100 * (1 - level) / 2
    bounds = {name: np.nanpercentile(values, (tail, 100 - tail)) for name, values in drawn.items()}
    found = {name: (float(low), float(high)) for name, (low, high) in bounds.items()}
    if n < FEW:
        found["accuracy"] = wilson(
            int(np.trace(confusion)), n, NormalDist().inv_cdf((1 + level) / 2)
        )
    return found


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = right / n, z * z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    reach = z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def top_k_accuracy(labels: Ints, probabilities: Floats, k: int = 2) -> float:
    """Share of samples whose true class is among the ``k`` most probable.

    Ties are broken by class order, as argmax does, so ``k=1`` is the accuracy.
    """
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return share((best == labels[:, None]).any(axis=1))


def share(flags: NDArray[np.bool_]) -> float:
    """Share of the flags that are set; nan where there are none."""
    return float(flags.mean()) if len(flags) else float("nan")


def brier_score(labels: Ints, probabilities: Floats) -> float:
    """Multi-class Brier score (Brier 1950): mean squared distance to the one-hot label, 0..2."""
    target = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - target) ** 2).sum(axis=1).mean())


def negative_log_likelihood(labels: Ints, probabilities: Floats) -> float:
    """Mean of -ln p(true class), in nats; probabilities are clipped at 1e-12 to stay finite."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(chosen, 1e-12, None)).mean())


def _sums(group: Ints, values: Floats, groups: int) -> Floats:
    """Sum of ``values`` in each group, float64 (groups,)."""
    return np.bincount(group, values, groups).astype(np.float64)


@dataclass(frozen=True)
class Reliability:
    """Top-label calibration in equal-width bins (Guo et al. 2017).

    Attributes:
        edges: (bins + 1,), 0 to 1; bin ``b`` holds confidences in ``(edges[b], edges[b + 1]]``.
        count: samples in each bin.
        confidence, accuracy: their means; NaN in an empty bin.
        ece: sum over bins of count / N * |accuracy - confidence|.
    """

    edges: Floats
    count: Ints
    confidence: Floats
    accuracy: Floats
    ece: float


def reliability(
    confidence: Floats, correct: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> Reliability:
    """Bin the top-label confidences (N,) and compare each bin's confidence with its accuracy."""
    which = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins).astype(np.int64)
    sizes = count.astype(np.float64)
    mean_confidence = _divide(_sums(which, confidence, bins), sizes, np.nan)
    accuracy = _divide(_sums(which, correct.astype(np.float64), bins), sizes, np.nan)
    gaps = np.nan_to_num(np.abs(accuracy - mean_confidence))
    ece = float((gaps * sizes).sum() / sizes.sum()) if len(confidence) else float("nan")
    return Reliability(np.linspace(0, 1, bins + 1), count, mean_confidence, accuracy, ece)


@dataclass(frozen=True)
class Curve:
    """A curve with its area.

    ``x``, ``y`` are float64 (P,); ``threshold`` (P,) is the score at or above which a sample counts
    as positive (or, for risk–coverage, is answered); the first is ``inf`` where nothing is.
    """

    x: Floats
    y: Floats
    threshold: Floats
    area: float


def _ranked(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Distinct thresholds, falling, with the true and false positives at or above each."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    true = np.cumsum(positive[order])[last].astype(np.float64)
    return ordered[last], true, (last + 1) - true


def roc_curve(scores: Floats, positive: NDArray[np.bool_]) -> Curve | None:
    """ROC: false positive rate against true positive rate; area by trapezia.

    None where the split has no positive or no negative sample, for then no rate is defined.
    """
    total = int(positive.sum())
    if total in (0, len(positive)):
        return None
    threshold, true, false = _ranked(scores, positive)
    x = np.concatenate([[0.0], false / (len(positive) - total)])
    y = np.concatenate([[0.0], true / total])
    area = float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum())
    return Curve(x, y, np.concatenate([[np.inf], threshold]), area)


def pr_curve(scores: Floats, positive: NDArray[np.bool_]) -> Curve | None:
    """Recall against precision; the area is the average precision (steps, no interpolation).

    None where the split has no positive sample.
    """
    total = int(positive.sum())
    if total == 0:
        return None
    threshold, true, false = _ranked(scores, positive)
    recall, precision = true / total, true / (true + false)
    area = float((np.diff(recall, prepend=0.0) * precision).sum())
    x, y = np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])
    return Curve(x, y, np.concatenate([[np.inf], threshold]), area)


def risk_coverage(confidence: Floats, correct: NDArray[np.bool_]) -> Curve:
    """Error rate among the answered (y) against the share answered (x), surest first.

    The area (AURC, Geifman et al. 2019) is the mean risk over the coverages 1/N, 2/N, … 1. Samples
    of equal confidence come in no particular order: each counts as its group's mean error.
    """
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    wrong = (~correct[order]).astype(np.float64)
    _, group, size = np.unique(-ordered, return_inverse=True, return_counts=True)
    wrong = (np.bincount(group, wrong) / size)[group]
    answered = np.arange(1, len(wrong) + 1)
    risk = np.cumsum(wrong) / answered
    return Curve(answered / len(wrong), risk, ordered, float(risk.mean()))


def thin(curve: Curve, points: int = 101) -> Curve:
    """At most ``points`` points of ``curve``, ends kept, spread evenly over its length."""
    if len(curve.x) <= points:
        return curve
    steps = np.abs(np.diff(curve.x)) + np.abs(np.diff(curve.y))
    length = np.concatenate([[0.0], np.cumsum(steps)])
    keep = np.searchsorted(length, np.linspace(0, length[-1], points))
    keep = np.unique(np.append(np.clip(keep, 0, len(length) - 1), len(length) - 1))
    return Curve(curve.x[keep], curve.y[keep], curve.threshold[keep], curve.area)


def chance_agreement(confusion: Ints) -> float:
    """The accuracy that predictions with these class counts reach if paired at random."""
    n = float(confusion.sum())
    return float((confusion.sum(axis=0) / n * (confusion.sum(axis=1) / n)).sum())


def cohen_kappa(confusion: Ints) -> float:
    """Cohen's kappa (1960): agreement beyond chance, 1 = perfect, 0 = chance; NaN if undefined."""
    n, chance = float(confusion.sum()), chance_agreement(confusion)
    return float("nan") if chance == 1 else float((np.trace(confusion) / n - chance) / (1 - chance))


def suspicions(confusion: Ints, classes: Sequence[Label]) -> list[str]:
    """Signs that labels and predictions do not belong together, each as one sentence.

    Published reports have been wrong by comparing labels with predictions in another order
    (accuracy .18 for a network that has .65), so two traces of that are looked for: predictions
    independent of the labels, and another naming of the classes that fits far better.
    """
    n, k = int(confusion.sum()), len(classes)
    if n < 100 or (confusion.sum(axis=0) > 0).sum() < 2:
        return []
    found = []
    accuracy, chance = float(np.trace(confusion)) / n, chance_agreement(confusion)
    if accuracy < chance + 3 * np.sqrt(chance * (1 - chance) / n):
        found.append(
            f"Accuracy {accuracy:.3f} is no better than pairing the same predictions with the "
            f"labels at random ({chance:.3f}): the model has learned nothing, or its predictions "
            "and the labels are in different orders."
        )
    if k <= 8:
        orders = np.array(list(permutations(range(k))))
        hits = sum(confusion[orders[:, j], j] for j in range(k)) / n
        best = orders[int(np.argmax(hits))]
        if float(np.max(hits)) > accuracy + 0.2:
            moved = ", ".join(
                f"{classes[j].value} means {classes[t].value}" for j, t in enumerate(best) if j != t
            )
            found.append(
                f"Accuracy would be {np.max(hits):.3f} instead of {accuracy:.3f} if {moved}: the "
                "model's classes seem to be listed in the wrong order."
            )
    return found
