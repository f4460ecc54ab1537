"""Njoku et al. 2024: convolutional features with a dense classifier, and a report gone wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mien.evaluate.metrics import averages, chance_agreement, precision_recall_f1
from mien.evaluate.scores import plain
from mien.report import charts
from mien.report import document as doc
from mien.report.document import NOT_RUN, Section, count, figure, percent
from mien.reproduce.run import ClassRow
from mien.reproduce.spec import Extra, load

if TYPE_CHECKING:
    from mien.reproduce.assemble import Assembly

_PAPER = load("njoku2024")
_PRINTED = _PAPER.run("njoku_cnn").report
#: The classes of the validation report as printed.
TABLE_5 = {c: row for c, row in _PRINTED.items() if c not in ("accuracy", "macro", "weighted")}
TABLE_4 = _PAPER.tables["training_report"]
#: Accuracy of tables 4 and 5.
REPORTED_ACCURACY = 0.18

#: Shuffles of the labels.
REPEATS = 1000


@dataclass(frozen=True)
class Side:
    """One classification report."""

    accuracy: float
    per_class: Mapping[str, ClassRow]
    source: str = ""


@dataclass(frozen=True)
class Spread:
    """An accuracy over the shuffles, and as it is expected."""

    mean: float
    std: float
    low: float
    high: float
    expected: float


@dataclass(frozen=True)
class ShuffledRow(ClassRow):
    """Means over the shuffles; a class's support and its share of the predictions stay."""

    predicted_share: float = 0.0


@dataclass(frozen=True)
class Shuffled:
    """The report of right predictions whose labels are in another order."""

    repeats: int
    seed: int
    accuracy: Spread
    per_class: Mapping[str, ShuffledRow]


@dataclass(frozen=True)
class Mislabelled:
    """The paper's report, ours, and ours with shuffled labels."""

    state: str
    split: str
    paper: Side
    paper_training: Side
    ours: Side | None = None
    shuffled: Shuffled | None = None
    largest_distance: float | None = None


def shuffled_report(
    confusion: NDArray[np.int64], classes: Sequence[str], repeats: int = REPEATS, seed: int = 0
) -> Shuffled:
    """The classification report of the same predictions with their labels shuffled.

    Args:
        confusion: int64 (K, K) of the true report, rows = true class. It holds all that matters:
            how many images have each label and each prediction.
        classes: names of the K classes.
        repeats, seed: of the shuffles.
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
    of = (accuracy.mean(), accuracy.std(), accuracy.min(), accuracy.max())
    rates = [np.nanmean(v, axis=0) for v in precision_recall_f1(drawn)]
    share, support = confusion.sum(axis=0) / confusion.sum(), confusion.sum(axis=1)
    rows = zip(*(plain(rate) for rate in rates), support.tolist(), plain(share), strict=True)
    return Shuffled(
        repeats,
        seed,
        Spread(*(plain(v) for v in (*of, chance_agreement(confusion)))),
        {
            name: ShuffledRow(p, r, f, n, predicted_share=part)
            for name, (p, r, f, n, part) in zip(classes, rows, strict=True)
        },
    )


def mislabelled(assembly: Assembly) -> Mislabelled:
    """The paper's report, ours of the first finished seed, and ours with shuffled labels."""
    paper, training = (
        Side(REPORTED_ACCURACY, table, source)
        for table, source in ((TABLE_5, "table 5"), (TABLE_4, "table 4"))
    )
    found = Mislabelled(NOT_RUN, "PublicTest + PrivateTest", paper, training)
    scored = assembly.runs["njoku_cnn"].scored("paper")
    if not scored:
        return found
    scores = scored[0][1].scores
    shuffled = shuffled_report(np.array(scores.confusion, dtype=np.int64), scores.classes)
    gaps = [
        abs(printed - getattr(shuffled.per_class[name], key))
        for name, row in paper.per_class.items()
        for key in ("precision", "recall", "f1")
        if (printed := getattr(row, key)) is not None
    ]
    return dataclasses.replace(
        found,
        state="done",
        ours=Side(scores.accuracy, scores.per_class),
        shuffled=shuffled,
        largest_distance=round(float(max(gaps)), 4),
    )


def _section(value: Mislabelled) -> Section:
    """The paper's report, ours, and ours with shuffled labels, side by side."""
    key, title = "extra-mislabelled-report", "The classification report and what went wrong"
    ours, shuffled = value.ours, value.shuffled
    if ours is None or shuffled is None:
        return Section(
            key, title, [doc.Text(f"{value.split}. Ours: {NOT_RUN}."), _report(value.paper)]
        )
    header = ["class"]
    for name in ("paper", "ours", "labels shuffled"):
        header += [f"precision, {name}", "recall", "F1"]
    rows = []
    for name, mixed in shuffled.per_class.items():
        sides = (value.paper.per_class[name], ours.per_class[name], mixed)
        rates = [figure(v, 2) for side in sides for v in (side.precision, side.recall, side.f1)]
        rows.append([name, *rates, figure(mixed.predicted_share, 2), count(mixed.support)])
    accuracies = [value.paper.accuracy, ours.accuracy, shuffled.accuracy.mean]
    last = [cell for accuracy in accuracies for cell in ("", "", figure(accuracy, 2))]
    rows.append(["accuracy", *last, "", ""])
    bars: list[tuple[str, list[float | None]]] = [
        (name, [value.paper.per_class[name].recall, ours.per_class[name].recall, mixed.recall])
        for name, mixed in shuffled.per_class.items()
    ]
    bars.append(("accuracy", [*accuracies]))
    kinds = ("paper", "ours", "ours, labels shuffled")
    svg = charts.bars(bars, "Recall of each class", kinds)
    chart = doc.Chart("mislabelled-recall", svg, "Recall of each class, and accuracy")
    sums, gap = shuffled.accuracy, 100 * (value.largest_distance or 0)
    said = (
        f"{value.split}. Our predictions, right as they are, with their labels shuffled "
        f"{count(shuffled.repeats)} times (seed {shuffled.seed}): accuracy {percent(sums.mean)} on "
        f"average, from {percent(sums.low)} to {percent(sums.high)}. No printed precision, recall "
        f"or F1 is further than {gap:.1f} points from the mean of the shuffles."
    )
    header += ["share of predictions", "support"]
    training = (
        f"The paper's report of its training images ({value.paper_training.source}) is alike:"
    )
    blocks = (doc.Text(said), doc.Table(header, rows), doc.Charts([chart]), doc.Text(training))
    return Section(key, title, [*blocks, _report(value.paper_training)])


def _report(side: Side) -> doc.Table:
    rows = [
        [name, *(figure(v, 2) for v in (row.precision, row.recall, row.f1)), count(row.support)]
        for name, row in side.per_class.items()
    ]
    rows.append(["accuracy", "", "", figure(side.accuracy, 2), ""])
    return doc.Table(["class", "precision", "recall", "F1", "support"], rows)


SYSTEM = dataclasses.replace(
    _PAPER, extras=(Extra("mislabelled_report", Mislabelled, mislabelled, _section),)
)
