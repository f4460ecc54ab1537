"""Plots as SVG strings: of a report, and of a training run's curves.

Every function returns a complete ``<svg>`` to put inside a page that has :data:`mien.evaluate.svg.
STYLE`; :func:`mien.evaluate.svg.standalone` makes a file of it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mien.emotions import Emotion
from mien.errors import DataError
from mien.evaluate.metrics import Curve, Ints, row_rates, thin
from mien.evaluate.scores import Scores
from mien.evaluate.svg import (
    Axes,
    colour,
    diamond,
    document,
    line,
    num,
    percent_tick,
    rect,
    text,
)

#: One class's curve: emotion, x, y (same length), area under it.
ClassCurve = tuple[Emotion, Sequence[float], Sequence[float], float]

_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_WIDTH = 440.0


def confusion_matrix(scores: Scores) -> str:
    """Heat map: row rates as shade and percentage, counts below; rows are the true class."""
    return confusion_heat_map([c.value for c in scores.classes], scores.confusion)


def confusion_heat_map(names: Sequence[str], confusion: Ints) -> str:
    """:func:`confusion_matrix` of counts (K, K) alone, rows the true class."""
    rates = row_rates(confusion)
    left, top = 84.0, 40.0
    cell = (_WIDTH - left - 4) / len(names)
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
            count, rate = int(confusion[i, j]), float(rates[i, j])
            x, known = left + j * cell, not math.isnan(rate)
            shade = rate if known else 0.0
            hint = f"{count} of {support} labelled {name} are predicted {other}"
            fill = "var(--accent)" if i == j else "var(--second)"
            # Small rates are what a reader looks for off the diagonal: the root makes them visible.
            opacity = f' fill-opacity="{math.sqrt(shade):.3f}" rx="4"'
            parts.append(rect(x + 1, y + 1, cell - 2, height - 2, "var(--grid)", extra=' rx="4"'))
            parts.append(rect(x + 1, y + 1, cell - 2, height - 2, fill, hint, opacity))
            on = ' style="fill:var(--surface)"' if shade > 0.38 else ""
            centre = x + cell / 2
            shown = f"{100 * rate:.0f} %" if known else "–"
            parts.append(text(centre, y + height / 2 + 1, shown, "mid strong", on))
            paint = "var(--surface)" if on else "var(--ink)"
            faded = f' style="fill:{paint};opacity:.8"'
            parts.append(text(centre, y + height / 2 + 14, str(count), "mid small", faded))
    return document(
        parts, _WIDTH, top + height * len(names) + 4, "Confusion matrix, rates per true class"
    )


def per_class_bars(scores: Scores) -> str:
    """F1 of each class as a bar, with precision and recall as marks; best class first."""
    rows = [(c, s) for c, s in scores.per_class.items() if s.support]
    rows.sort(key=lambda row: -row[1].f1)
    step, top = 42.0, 26.0
    axes = Axes(box=(84, top, _WIDTH - 84 - 44, step * len(rows)))
    axes.grid(_QUARTERS, ())
    parts = axes.parts
    for i, (emotion, s) in enumerate(rows):
        y = top + i * step
        middle = y + step / 2
        parts.append(text(76, middle, emotion.value, "end"))
        parts.append(text(76, middle + 13, f"{s.support:,}", "muted end small"))
        width = axes.px(s.f1) - axes.left
        hint = f"{emotion.value}: F1 {s.f1:.3f}, precision {s.precision:.3f}, recall {s.recall:.3f}"
        parts.append(rect(axes.left, y + 9, width, step - 18, colour(emotion), hint, ' rx="4"'))
        low, high = sorted((axes.px(s.precision), axes.px(s.recall)))
        parts.append(line(low, middle, high, middle, "var(--ink)", ' stroke-opacity=".5"'))
        parts.append(diamond(axes.px(s.precision), middle))
        parts.append(_circle(axes.px(s.recall), middle))
        parts.append(text(_WIDTH - 4, middle + 4, f"{100 * s.f1:.1f}", "end strong"))
    parts += [
        rect(84, 7, 14, 8, "var(--muted)", extra=' rx="2"'),
        text(103, 15, "F1", "small"),
        diamond(136, 11),
        text(146, 15, "precision", "small"),
        _circle(214, 11),
        text(224, 15, "recall", "small"),
    ]
    return document(parts, _WIDTH, axes.bottom + 24, "F1, precision and recall of each class")


def _circle(x: float, y: float) -> str:
    return (
        f'<circle cx="{num(x)}" cy="{num(y)}" r="5" fill="var(--ink)" '
        'stroke="var(--surface)" stroke-width="1.5"/>'
    )


def reliability_diagram(scores: Scores) -> str:
    """Accuracy of each confidence bin against its confidence, with the number of samples below."""
    data = scores.reliability
    axes = Axes(box=(58, 14, 360, 230))
    axes.grid((), _QUARTERS)
    parts = axes.parts
    most = max(int(data.count.max()), 1)
    low_top, low_height = axes.bottom + 6, 42.0
    for b in range(len(data.count)):
        x0, x1 = axes.px(data.edges[b]) + 1, axes.px(data.edges[b + 1]) - 1
        n = int(data.count[b])
        if not n:
            continue
        acc, conf = float(data.accuracy[b]), float(data.confidence[b])
        hint = f"{n} samples: confidence {conf:.3f}, accuracy {acc:.3f}"
        parts.append(
            rect(x0, axes.py(acc), x1 - x0, axes.bottom - axes.py(acc), "var(--accent)", hint)
        )
        high, low = axes.py(max(acc, conf)), axes.py(min(acc, conf))
        parts.append(rect(x0, high, x1 - x0, low - high, "var(--gap)", hint, ' fill-opacity=".38"'))
        share = low_height * n / most
        parts.append(
            rect(x0, low_top + low_height - share, x1 - x0, share, "var(--muted)", f"{n} samples")
        )
    axes.curve((0, 1), (0, 1), "var(--ink)", extra=' stroke-dasharray="4 5"', width=1.3)
    keys = (
        ("var(--accent)", "1", "accuracy"),
        ("var(--gap)", ".38", "gap to confidence"),
        ("var(--muted)", "1", "samples"),
    )
    for i, (fill, opacity, name) in enumerate(keys):
        y = axes.top + 12 + 17 * i
        style = f' rx="2" fill-opacity="{opacity}"'
        parts.append(rect(axes.left + 12, y - 7, 14, 8, fill, extra=style))
        parts.append(text(axes.left + 32, y + 1, name, "small"))
    base = low_top + low_height
    for tick in _QUARTERS:
        parts.append(text(axes.px(tick), base + 15, percent_tick(tick), "muted mid small"))
    parts.append(text(axes.left + axes.width / 2, base + 33, "confidence", "muted mid"))
    ece = f"Reliability diagram, expected calibration error {data.ece:.4f}"
    return document(parts, _WIDTH, base + 40, ece)


def roc_curves(scores: Scores) -> str:
    """One-vs-rest ROC curves, a line a class, with the areas."""
    return roc_plot(_one_vs_rest(scores, scores.roc))


def roc_plot(curves: Sequence[ClassCurve]) -> str:
    """:func:`roc_curves` of points alone: false positive rates, true positive rates, area."""
    axes = Axes()
    axes.grid(_QUARTERS, _QUARTERS)
    axes.labels("false positive rate", "true positive rate")
    axes.curve((0, 1), (0, 1), "var(--muted)", extra=' stroke-dasharray="4 5"', width=1.2)
    height = _draw_curves(axes, curves)
    return document(axes.parts, _WIDTH, height, "ROC curves, one class against the rest")


def pr_curves(scores: Scores) -> str:
    """One-vs-rest precision–recall curves, a line a class, with the average precisions."""
    axes = Axes()
    axes.grid(_QUARTERS, _QUARTERS)
    axes.labels("recall", "precision")
    height = _draw_curves(axes, _one_vs_rest(scores, scores.pr))
    return document(
        axes.parts, _WIDTH, height, "Precision–recall curves, one class against the rest"
    )


def _one_vs_rest(scores: Scores, curves: dict[Emotion, Curve | None]) -> list[ClassCurve]:
    found = []
    for emotion in scores.classes:
        curve = curves[emotion]
        if curve is not None:
            t = thin(curve, 201)
            found.append((emotion, t.x.tolist(), t.y.tolist(), curve.area))
    return found


def _draw_curves(axes: Axes, curves: Sequence[ClassCurve]) -> float:
    """A line a class and the key below; the picture's height."""
    rows = []
    for emotion, xs, ys, area in curves:
        axes.curve(xs, ys, colour(emotion), f"{emotion}: {area:.3f}")
        rows.append((colour(emotion), emotion.value, f"{area:.3f}"))
    return axes.key(rows)


def risk_coverage(scores: Scores) -> str:
    """Error rate when only the surest share is answered, with the points at 50, 80 and 100 %."""
    curve = thin(scores.risk, 301)
    highest = float(np.max(curve.y))
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25) if highest <= 5 * s or s == 0.25)
    axes = Axes(y=(0.0, min(max(step * 2, highest * 1.12), 1.0)))
    ticks = [step * i for i in range(11) if step * i <= axes.y_limits[1] + 1e-9]
    axes.grid(_QUARTERS, ticks)
    axes.labels("share answered (surest first)", "error rate")
    xs, ys = curve.x.tolist(), curve.y.tolist()
    outline = " ".join(f"{num(axes.px(x))},{num(axes.py(y))}" for x, y in zip(xs, ys, strict=True))
    floor = f"{num(axes.px(xs[-1]))},{num(axes.bottom)} {num(axes.px(xs[0]))},{num(axes.bottom)}"
    axes.parts.append(
        f'<polygon points="{outline} {floor}" fill="var(--accent)" fill-opacity=".14"/>'
    )
    axes.curve(xs, ys, "var(--accent)", f"AURC {scores.risk.area:.4f}")
    for share in (0.5, 0.8, 1.0):
        risk = risk_at(scores.risk, share)
        axes.dot(share, risk, "var(--accent)", f"{share:.0%} answered: {risk:.1%} wrong", 4.5)
        anchor = "end strong" if share == 1.0 else "mid strong"
        shown = f"{100 * risk:.1f} %"
        axes.parts.append(text(axes.px(share), axes.py(risk) - 10, shown, anchor))
    return document(axes.parts, _WIDTH, axes.bottom + 40, "Risk against coverage")


def risk_at(curve: Curve, coverage: float) -> float:
    """The error rate among the surest ``coverage`` (0..1) of the samples."""
    index = max(math.ceil(coverage * len(curve.y) - 1e-9) - 1, 0)
    return float(curve.y[index])


#: Panels of :func:`plot_curves`: title, and the words in the names of its columns.
_PANELS = (("loss", ("loss",)), ("accuracy", ("acc", "f1")), ("learning rate", ("lr", "learning")))
_SERIES = ("var(--accent)", "var(--second)", "var(--c-surprise)", "var(--c-fear)", "var(--c-happy)")


def read_curves(metrics_csv: str | Path) -> dict[str, list[tuple[float, float]]]:
    """A training log's columns as (epoch, mean over the epoch's rows) points.

    ``metrics_csv`` has a header with ``epoch`` and one column a figure, blank where a row does not
    have it, as Lightning's CSV logger writes it.

    Raises:
        DataError: the file cannot be read or has no ``epoch`` column.
    """
    path = Path(metrics_csv)
    sums: dict[str, dict[float, list[float]]] = {}
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                epoch = float(row["epoch"])
                for name, cell in row.items():
                    if name not in ("epoch", "step") and cell:
                        sums.setdefault(name, {}).setdefault(epoch, []).append(float(cell))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} is not a training log with an 'epoch' column: {error}") from error
    return {
        name: [(epoch, sum(v) / len(v)) for epoch, v in sorted(epochs.items())]
        for name, epochs in sums.items()
    }


def plot_curves(metrics_csv: str | Path) -> str:
    """Loss, accuracy and learning rate per epoch, a panel each, from a training log.

    Raises:
        DataError: see :func:`read_curves`; or nothing in the log can be plotted.
    """
    series = read_curves(metrics_csv)
    parts: list[str] = []
    top = 0.0
    for title, words in _PANELS:
        mine = [n for n in series if _belongs(n, words, series)]
        if mine:
            parts += _panel(title, [(n, series[n]) for n in sorted(mine)], top)
            top += 222
    if not parts:
        raise DataError(f"{metrics_csv} has no loss, accuracy or learning-rate column to plot.")
    return document(parts, _WIDTH, top + 4, "Training curves")


def _belongs(name: str, words: Sequence[str], series: dict[str, list[tuple[float, float]]]) -> bool:
    lowered = name.lower()
    if lowered.endswith("_step") and f"{name[:-5]}_epoch" in series:
        return False
    return any(lowered.startswith(w) if w == "lr" else w in lowered for w in words)


def _panel(
    title: str, series: list[tuple[str, list[tuple[float, float]]]], top: float
) -> list[str]:
    finite = [p for _, points in series for p in points if math.isfinite(p[1])]
    xs, ys = [p[0] for p in finite] or [0.0], [p[1] for p in finite] or [0.0]
    low = 0.0 if min(ys) >= 0 and title != "accuracy" else min(ys)
    high = max(max(ys), low + 1e-9)
    axes = Axes((min(xs), max(max(xs), min(xs) + 1)), (low, high), (58, top + 30, 368, 146))
    share = title == "accuracy" and high <= 1
    ticks = [low + (high - low) * q for q in _QUARTERS]
    first, last = axes.x_limits
    epochs = sorted({round(first + (last - first) * q) for q in _QUARTERS})
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
        kept = [p for p in points if math.isfinite(p[1])]
        axes.curve([p[0] for p in kept], [p[1] for p in kept], stroke, name)
        if len(kept) == 1:
            axes.dot(*kept[0], stroke, name)
        axes.parts.append(rect(at, top + 9, 14, 4, stroke, extra=' rx="2"'))
        axes.parts.append(text(at + 19, top + 16, name, "small"))
        at += 32 + 6 * len(name)
    return axes.parts
