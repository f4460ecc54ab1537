"""Njoku et al.'s mistake: right predictions compared with labels in another order.

:func:`shuffled_report` shows what that gives; :func:`disagreement` is the guard that catches it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.evaluate.metrics import averages, chance_agreement, precision_recall_f1
from mien.evaluate.scores import plain

if TYPE_CHECKING:
    from mien.reproduce.assemble import Assembly
    from mien.reproduce.spec import ReportRow

#: Shuffles of the labels.
REPEATS = 1000
#: bfloat16 in training and float32 in scoring may differ by this much; another order by more.
TOLERANCE = 0.01


def disagreement(accuracy: float, measured: float, n: int) -> str:
    """One sentence if a report's accuracy is not the one that training measured; "" if it is.

    Both are of the same weights and the same ``n`` images; only rounding may lie between them.

    Args:
        accuracy: of the report, 0..1.
        measured: by the training loop, batch by batch, 0..1.
        n: images.
    """
    if abs(accuracy - measured) <= max(TOLERANCE, 2 / max(n, 1)):
        return ""
    return (
        f"the report's accuracy on the {n:,} validation images is {accuracy:.4f}, and training "
        f"measured {measured:.4f} with the same weights: predictions and labels are in different "
        "orders, or the checkpoint is not this run's."
    )


def shuffled_report(
    confusion: NDArray[np.int64],
    classes: Sequence[str],
    repeats: int = REPEATS,
    seed: int = 0,
) -> dict[str, Any]:
    """The classification report of the same predictions with their labels shuffled.

    Args:
        confusion: int64 (K, K) of the true report, rows = true class. It holds all that matters:
            how many images have each label and each prediction.
        classes: names of the K classes.
        repeats, seed: of the shuffles.

    Returns:
        accuracy (mean, std, low, high over the shuffles, the exact expectation), and for every
        class precision, recall and F1 (means), support and the share of predictions.
    """
    k = len(classes)
    pairs = np.repeat(np.arange(k * k), confusion.ravel())
    labels, predicted = pairs // k, pairs % k
    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [
            np.bincount(rng.permutation(labels) * k + predicted, minlength=k * k).reshape(k, k)
            for _ in range(repeats)
        ]
    )
    accuracy = averages(drawn)["accuracy"]
    precision, recall, f1 = (np.nanmean(v, axis=0) for v in precision_recall_f1(drawn))
    share = confusion.sum(axis=0) / confusion.sum()
    return {
        "repeats": repeats,
        "seed": seed,
        "accuracy": {
            "mean": plain(accuracy.mean()),
            "std": plain(accuracy.std()),
            "low": plain(accuracy.min()),
            "high": plain(accuracy.max()),
            "expected": plain(chance_agreement(confusion)),
        },
        "per_class": {
            name: {
                "precision": plain(precision[i]),
                "recall": plain(recall[i]),
                "f1": plain(f1[i]),
                "support": int(confusion[i].sum()),
                "predicted_share": plain(share[i]),
            }
            for i, name in enumerate(classes)
        },
    }


def as_report(table: Mapping[str, ReportRow]) -> dict[str, Any]:
    """A paper's printed report in the form of our own."""
    keys = ("precision", "recall", "f1", "support")
    return {name: dict(zip(keys, row, strict=True)) for name, row in table.items()}


def extra(assembly: Assembly) -> dict[str, Any]:
    """``extra.mislabelled_report``: the paper's report, ours, and ours with shuffled labels."""
    from mien.reproduce.papers.njoku2024 import REPORTED_ACCURACY, TABLE_4, TABLE_5

    record: dict[str, Any] = {
        "state": "not run",
        "split": "PublicTest + PrivateTest",
        "paper": {
            "source": "table 5",
            "accuracy": REPORTED_ACCURACY,
            "per_class": as_report(TABLE_5),
        },
        "paper_training": {
            "source": "table 4",
            "accuracy": REPORTED_ACCURACY,
            "per_class": as_report(TABLE_4),
        },
        "ours": None,
        "shuffled": None,
    }
    entry = assembly.score("njoku_cnn", "paper")
    if entry is None:
        return {"mislabelled_report": record}
    scores = entry["scores"]
    confusion = np.array(scores["confusion"], dtype=np.int64)
    shuffled = shuffled_report(confusion, scores["classes"])
    keys = ("precision", "recall", "f1", "support")
    record["ours"] = {
        "accuracy": scores["accuracy"],
        "per_class": {
            name: {key: row[key] for key in keys} for name, row in scores["per_class"].items()
        },
    }
    record["shuffled"] = shuffled
    record["largest_distance"] = _distance(record["paper"], shuffled)
    record["state"] = "done"
    return {"mislabelled_report": record}


def _distance(paper: Mapping[str, Any], shuffled: Mapping[str, Any]) -> float:
    """The largest distance of a printed precision, recall or F1 from the shuffled one's."""
    gaps = [
        abs(row[key] - shuffled["per_class"][name][key])
        for name, row in paper["per_class"].items()
        for key in ("precision", "recall", "f1")
        if not math.isnan(row[key])
    ]
    return round(float(max(gaps)), 4)
