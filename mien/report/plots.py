"""Plots of a classifier: confusion matrix, ROC, training curves, from plain series.

Every function returns a complete ``<svg>`` to put inside a page that has :data:`mien.report.style.
STYLE`; :func:`mien.report.svg.standalone` makes a file of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.report.svg import Axes, class_colour, document, rect, text

#: One class's curve: its name, x, y (same length), the area under it.
ClassCurve = tuple[str, Sequence[float], Sequence[float], float]

QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
WIDTH = 440.0


def confusion_matrix(names: Sequence[str], confusion: NDArray[np.integer[Any]]) -> str:
    """Heat map of counts (K, K): shares of a row as shade and percentage, counts below.

    Rows are the true class.
    """
    left, top = 84.0, 40.0
    cell = (WIDTH - left - 4) / len(names)
    height = min(cell, 46.0)
    parts = [
        text(left + cell * len(names) / 2, 13, "predicted", "muted mid"),
        text(left - 8, top - 8, "labelled", "muted end small"),
    ]
    for i, name in enumerate(names):
        y = top + i * height
        support = int(confusion[i].sum())
        parts.append(text(left + (i + 0.5) * cell, top - 8, name, "mid small"))
        parts.append(text(left - 8, y + height / 2, name, "end"))
        parts.append(text(left - 8, y + height / 2 + 13, f"{support:,}", "muted end small"))
        for j, other in enumerate(names):
            count, x = int(confusion[i, j]), left + j * cell
            shade = count / support if support else 0.0
            hint = f"{count} of {support} labelled {name} are predicted {other}"
            fill = "var(--accent)" if i == j else "var(--second)"
            # Small rates are what a reader looks for off the diagonal: the root makes them visible.
            opacity = f' fill-opacity="{math.sqrt(shade):.3f}" rx="4"'
            parts.append(rect(x + 1, y + 1, cell - 2, height - 2, "var(--grid)", extra=' rx="4"'))
            parts.append(rect(x + 1, y + 1, cell - 2, height - 2, fill, hint, opacity))
            on = ' style="fill:var(--surface)"' if shade > 0.38 else ""
            centre = x + cell / 2
            shown = f"{100 * shade:.0f} %" if support else "–"
            parts.append(text(centre, y + height / 2 + 1, shown, "mid strong", on))
            paint = "var(--surface)" if on else "var(--ink)"
            faded = f' style="fill:{paint};opacity:.8"'
            parts.append(text(centre, y + height / 2 + 14, str(count), "mid small", faded))
    return document(
        parts, WIDTH, top + height * len(names) + 4, "Confusion matrix, rates per true class"
    )


def roc_plot(curves: Sequence[ClassCurve]) -> str:
    """ROC curves, one class against the rest: false positive rates, true positive rates, area."""
    axes = Axes()
    axes.grid(QUARTERS, QUARTERS)
    axes.labels("false positive rate", "true positive rate")
    axes.curve((0, 1), (0, 1), "var(--muted)", extra=' stroke-dasharray="4 5"', width=1.2)
    height = draw_curves(axes, curves)
    return document(axes.parts, WIDTH, height, "ROC curves, one class against the rest")


def draw_curves(axes: Axes, curves: Sequence[ClassCurve]) -> float:
    """A line a class and the key below; the picture's height."""
    rows = []
    for name, xs, ys, area in curves:
        axes.curve(xs, ys, class_colour(name), f"{name}: {area:.3f}")
        rows.append((class_colour(name), name, f"{area:.3f}"))
    return axes.key(rows)


#: Panels of :func:`training_curves`: title, and the words in the names of its columns.
_PANELS = (("loss", ("loss",)), ("accuracy", ("acc", "f1")), ("learning rate", ("lr", "learning")))


_SERIES = ("var(--accent)", "var(--second)", "var(--c-surprise)", "var(--c-fear)", "var(--c-happy)")


def training_curves(rows: Sequence[Mapping[str, float]]) -> str:
    """Loss, accuracy and learning rate of each epoch, a panel each; "" if nothing can be drawn.

    Args:
        rows: of :func:`mien.evaluate.curves.read_curves`: "epoch" and the columns of that epoch.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "epoch" and math.isfinite(value):
                series.setdefault(name, []).append((row["epoch"], value))
    parts: list[str] = []
    top = 0.0
    for title, words in _PANELS:
        mine = [n for n in series if _belongs(n, words)]
        if mine:
            parts += _panel(title, [(n, series[n]) for n in sorted(mine)], top)
            top += 222
    return document(parts, WIDTH, top + 4, "Training curves") if parts else ""


def _belongs(name: str, words: Sequence[str]) -> bool:
    return any(name.startswith(w) if w == "lr" else w in name for w in words)


def _panel(
    title: str, series: list[tuple[str, list[tuple[float, float]]]], top: float
) -> list[str]:
    xs, ys = zip(*(p for _, points in series for p in points), strict=True)
    low = 0.0 if min(ys) >= 0 and title != "accuracy" else min(ys)
    high = max(max(ys), low + 1e-9)
    axes = Axes((min(xs), max(max(xs), min(xs) + 1)), (low, high), (58, top + 30, 368, 146))
    share = title == "accuracy" and high <= 1
    ticks = [low + (high - low) * q for q in QUARTERS]
    first, last = axes.x_limits
    epochs = sorted({round(first + (last - first) * q) for q in QUARTERS})
    axes.grid(
        epochs,
        ticks,
        lambda v: f"{v:.0f}",
        (lambda v: f"{100 * v:.0f} %") if share else (lambda v: f"{v:.3g}"),
    )
    axes.parts.append(text(58, top + 16, title, "strong"))
    axes.parts.append(text(58 + 368, axes.bottom + 32, "epoch", "muted end small"))
    at = 150.0
    for i, (name, points) in enumerate(series):
        stroke = _SERIES[i % len(_SERIES)]
        axes.curve([x for x, _ in points], [y for _, y in points], stroke, name)
        if len(points) == 1:
            axes.dot(*points[0], stroke, name)
        axes.parts.append(rect(at, top + 9, 14, 4, stroke, extra=' rx="2"'))
        axes.parts.append(text(at + 19, top + 16, name, "small"))
        at += 32 + 6 * len(name)
    return axes.parts
