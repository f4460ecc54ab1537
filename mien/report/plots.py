"""Plots of a classifier, as SVG strings, from plain series: confusion, calibration, ROC, curves.

Every function returns a complete ``<svg>`` to put inside a page that has :data:`mien.report.svg.
STYLE`; :func:`mien.report.svg.standalone` makes a file of it. Words stand beside the curves or
below them, never on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mien.report import svg
from mien.report.document import NOT_RUN

#: One class's curve: its name, x, y (same length), the area under it.
ClassCurve = tuple[str, Sequence[float], Sequence[float], float]
#: A class's row of :func:`class_bars`: name, precision, recall, F1, samples.
ClassRow = tuple[str, float, float, float, int]

_DASHED = ' stroke-dasharray="4 5"'


@dataclass(frozen=True)
class Cell:
    """A cell of a heat map: shade 0..1, words, a hint, small words below, colour."""

    shade: float
    words: str
    hint: str = ""
    below: str = ""
    colour: str = "var(--accent)"


def cells(
    rows: Sequence[tuple[str, str]],
    columns: Sequence[str],
    grid: Sequence[Sequence[Cell | None]],
    title: str,
    *,
    top: float = 36.0,
    height: float = 30.0,
) -> str:
    """A grid of shaded cells; rows are (name, small words below it), None is an empty cell."""
    left = min(max((svg.wide(r[0], 6.2) for r in rows), default=60) + 14, 215)
    longest = max((svg.wide(part) for c in columns for part in c.split("\n")), default=30)
    cell = max((svg.WIDTH - left - 4) / max(len(columns), 1), longest + 6, 40.0)
    parts = []
    for j, name in enumerate(columns):
        lines = name.split("\n")
        for k, part in enumerate(lines):
            y = top - 8 - 13 * (len(lines) - 1 - k)
            parts.append(svg.text(left + (j + 0.5) * cell, y, part, "mid small"))
    for i, (name, below) in enumerate(rows):
        middle = top + height * (i + 0.5)
        parts.append(svg.text(left - 8, middle + (0 if below else 4), name, "end small"))
        parts.append(svg.text(left - 8, middle + 13, below, "muted end small") if below else "")
        for j, found in enumerate(grid[i]):
            x = left + j * cell
            box = (x + 1, top + height * i + 1, cell - 2, height - 2)
            hint = f"{name}, {columns[j].replace(chr(10), ' ')}: {NOT_RUN}"
            parts.append(svg.rect(*box, "var(--grid)", "" if found else hint, ' rx="4"'))
            if found is None:
                parts.append(svg.text(x + cell / 2, middle + 4, "·", "mid muted"))
                continue
            extra = f' rx="4" fill-opacity="{found.shade:.3f}"'
            parts.append(svg.rect(*box, found.colour, found.hint, extra))
            on = "surface" if found.shade > 0.55 else "ink"
            style = f' style="fill:var(--{on})"'
            y = middle + (1 if found.below else 4)
            parts.append(svg.text(x + cell / 2, y, found.words, "mid small strong", style))
            if found.below:
                parts.append(svg.text(x + cell / 2, y + 13, found.below, "mid small", style))
    width = max(left + cell * len(columns) + 4, svg.WIDTH)
    return svg.document(parts, width, top + height * len(rows) + 4, title)


def confusion_matrix(names: Sequence[str], confusion: Any) -> str:
    """Heat map of counts, int (K, K), rows the true class: shares of a row, counts below."""

    def shown(i: int, j: int, support: int) -> Cell | None:
        if not support:
            return None
        count = int(confusion[i, j])
        hint = f"{count} of {support} labelled {names[i]} are predicted {names[j]}"
        colour = "var(--accent)" if i == j else "var(--second)"
        # Small rates are what a reader looks for off the diagonal: the root makes them visible.
        shade = math.sqrt(count / support)
        return Cell(shade, f"{100 * count / support:.0f} %", hint, f"{count:,}", colour)

    support = [int(row.sum()) for row in confusion]
    grid = [[shown(i, j, n) for j in range(len(names))] for i, n in enumerate(support)]
    rows = [(name, f"{n:,}") for name, n in zip(names, support, strict=True)]
    title = "Confusion matrix: rows are labels, columns predictions, in percent of the row"
    return cells(rows, names, grid, title, top=22, height=44)


def class_bars(rows: Sequence[ClassRow]) -> str:
    """F1 of each class as a bar, with precision and recall as marks; best class first."""
    rows = sorted(rows, key=lambda row: -row[3])
    names = [row[0] for row in rows]
    axes, middles = svg.row_axes(names, (0, 1), svg.QUARTERS, step=42, right=44)
    for (name, precision, recall, f1, support), middle in zip(rows, middles, strict=True):
        axes.add(svg.text(axes.left - 8, middle + 17, f"{support:,}", "muted end small"))
        hint = f"{name}: F1 {f1:.3f}, precision {precision:.3f}, recall {recall:.3f}"
        width, colour = axes.px(f1) - axes.left, svg.class_colour(name)
        axes.add(svg.rect(axes.left, middle - 12, width, 24, colour, hint, ' rx="4"'))
        low, high = sorted((axes.px(precision), axes.px(recall)))
        axes.parts += [
            svg.line(low, middle, high, middle, "var(--ink)", ' stroke-opacity=".5"'),
            svg.diamond(axes.px(precision), middle),
            svg.disc(axes.px(recall), middle, "var(--ink)"),
            svg.text(svg.WIDTH - 4, middle + 4, f"{100 * f1:.1f}", "end strong"),
        ]
    entries = [("box", "var(--muted)", "F1"), ("diamond", "var(--ink)", "precision")]
    axes.head_key([*entries, ("disc", "var(--ink)", "recall")])
    return axes.image("F1, precision and recall of each class")


def reliability_diagram(
    edges: Sequence[float],
    count: Sequence[int],
    accuracy: Sequence[float],
    confidence: Sequence[float],
) -> str:
    """Accuracy of each confidence bin against its confidence, with the number of samples below.

    Args:
        edges: B + 1 of them, 0 to 1.
        count, accuracy, confidence: B each; the last two are NaN in an empty bin.
    """
    axes = svg.Axes(box=(58, 34, 360, 230))
    axes.grid((), svg.QUARTERS)
    axes.labels("confidence", "accuracy", below=80)
    parts, base, most = axes.parts, axes.bottom + 48, max(*count, 1)
    bins = zip(edges, edges[1:], count, accuracy, confidence, strict=False)
    for low, high, n, right, sure in bins:
        if not n:
            continue
        x, width = axes.px(low) + 1, axes.px(high) - axes.px(low) - 2
        hint = f"{n:,} samples: confidence {sure:.3f}, accuracy {right:.3f}"
        y, top = axes.py(right), axes.py(max(right, sure))
        parts.append(svg.rect(x, y, width, axes.bottom - y, "var(--accent)", hint))
        gap = axes.py(min(right, sure)) - top
        parts.append(svg.rect(x, top, width, gap, "var(--gap)", hint, ' fill-opacity=".38"'))
        parts.append(svg.rect(x, base - 42 * n / most, width, 42 * n / most, "var(--muted)", hint))
    axes.curve((0, 1), (0, 1), "var(--ink)", extra=_DASHED, width=1.3)
    soft = "color-mix(in srgb,var(--gap) 38%,var(--surface))"
    entries = [("box", "var(--accent)", "accuracy"), ("box", soft, "gap to confidence")]
    parts.append(svg.key([*entries, ("box", "var(--muted)", "samples")], axes.left, 15)[0])
    for tick in svg.QUARTERS:
        parts.append(svg.text(axes.px(tick), base + 15, svg.percent_tick(tick), "muted mid small"))
    return axes.image("Reliability diagram: accuracy against confidence", base + 40)


def roc_plot(curves: Sequence[ClassCurve]) -> str:
    """ROC curves, one class against the rest: false positive rates, true positive rates, area."""
    axes = svg.Axes()
    axes.grid(svg.QUARTERS, svg.QUARTERS)
    axes.labels("false positive rate", "true positive rate")
    axes.curve((0, 1), (0, 1), "var(--muted)", extra=_DASHED, width=1.2)
    return _class_curves(axes, curves, "ROC curves, one class against the rest")


def pr_plot(curves: Sequence[ClassCurve]) -> str:
    """Precision–recall curves, one class against the rest: recall, precision, area."""
    axes = svg.Axes()
    axes.grid(svg.QUARTERS, svg.QUARTERS)
    axes.labels("recall", "precision")
    return _class_curves(axes, curves, "Precision–recall curves, one class against the rest")


def _class_curves(axes: svg.Axes, curves: Sequence[ClassCurve], title: str) -> str:
    entries: list[svg.Key] = []
    for name, xs, ys, area in curves:
        axes.curve(xs, ys, svg.class_colour(name), f"{name}: {area:.3f}")
        entries.append(("line", svg.class_colour(name), f"{name} {area:.3f}"))
    return axes.image(title, axes.key(entries))


def risk_coverage(
    xs: Sequence[float], ys: Sequence[float], marks: Sequence[tuple[float, float]]
) -> str:
    """Error rate (ys) when only the surest share (xs) is answered; ``marks`` are named below."""
    highest = max(ys)
    step = next((s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if highest <= 5 * s), 0.25)
    axes = svg.Axes(y=(0.0, min(max(step * 2, highest * 1.12), 1.0)))
    ticks = [step * i for i in range(11) if step * i <= axes.y_limits[1] + 1e-9]
    axes.grid(svg.QUARTERS, ticks)
    axes.labels("share answered (surest first)", "error rate")
    outline = axes.points((*xs, xs[-1], xs[0]), (*ys, 0.0, 0.0))
    fill = 'fill="var(--accent)" fill-opacity=".14"'
    axes.add(f'<polygon points="{outline}" {fill}/>')
    axes.curve(xs, ys, "var(--accent)")
    entries: list[svg.Key] = []
    for share, risk in marks:
        words = f"{100 * share:.0f} % answered: {100 * risk:.1f} % wrong"
        axes.dot(share, risk, "var(--accent)", words, 4.5)
        entries.append(("disc", "var(--accent)", words))
    return axes.image("Error rate against the share answered", axes.key(entries))


@dataclass(frozen=True)
class Panel:
    """A small chart of :func:`panels`.

    Attributes:
        title: above it.
        lines: name -> points.
        ticks: of the y axis; the first and last are its limits.
        percent: the values are fractions.
    """

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    ticks: Sequence[float]
    percent: bool = True


_SERIES = ("var(--accent)", "var(--second)", "var(--c-surprise)", "var(--c-fear)", "var(--c-happy)")


def panels(
    drawn: Sequence[Panel],
    x_ticks: Sequence[float],
    title: str,
    *,
    columns: int = 1,
    dots: bool = False,
) -> str:
    """Small charts over the same x axis, ``columns`` side by side, each with its key below."""
    width = 366.0 if columns == 1 else 268.0
    step, high = width + 62, 146.0 + 78
    parts: list[str] = []
    for i, panel in enumerate(drawn):
        left, top = 58 + (i % columns) * step, 30 + (i // columns) * high
        limits = (panel.ticks[0], panel.ticks[-1])
        axes = svg.Axes((x_ticks[0], x_ticks[-1]), limits, (left, top, width, 146))
        tick: Callable[[float], str] = svg.percent_tick if panel.percent else "{:.3g}".format
        axes.grid(x_ticks, panel.ticks, "{:.0f}".format, tick)
        axes.add(svg.text(left, top - 12, panel.title, "strong"))
        entries: list[svg.Key] = []
        for (name, points), stroke in zip(panel.lines.items(), _SERIES * 9, strict=False):
            xs, ys = zip(*points, strict=True)
            axes.curve(xs, ys, stroke, name)
            entries.append(("line", stroke, name))
            for x, y in points if dots else ():
                axes.dot(x, y, stroke, f"{name} {x:g}: {y:.1%}", 3)
        axes.key(entries, 36)
        parts += axes.parts
    rows = -(-len(drawn) // columns)
    return svg.document(
        parts, columns * step + 12 if columns > 1 else svg.WIDTH, rows * high, title
    )


#: Panels of :func:`training_curves`: title, and the words in the names of its columns.
_PANELS = (("loss", ("loss",)), ("accuracy", ("acc", "f1")), ("learning rate", ("lr", "learning")))


def training_curves(rows: Sequence[Mapping[str, float]]) -> str:
    """Loss, accuracy and learning rate of each epoch, a panel each; "" if nothing can be drawn.

    Args:
        rows: of :func:`mien.train.folder.read_curves`: "epoch" and the columns of that epoch.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "epoch" and math.isfinite(value):
                series.setdefault(name, []).append((row["epoch"], value))
    drawn: list[Panel] = []
    for title, words in _PANELS:
        mine = {n: series[n] for n in sorted(series) if any(_belongs(n, w) for w in words)}
        if mine:
            ys = [y for points in mine.values() for _, y in points]
            low = 0.0 if min(ys) >= 0 and title != "accuracy" else min(ys)
            high = max(*ys, low + 1e-9)
            ticks = [low + (high - low) * q for q in svg.QUARTERS]
            drawn.append(Panel(title, mine, ticks, title == "accuracy" and high <= 1))
    if not drawn:
        return ""
    first, last = rows[0]["epoch"], max(rows[-1]["epoch"], rows[0]["epoch"] + 1)
    epochs = sorted({round(first + (last - first) * q) for q in svg.QUARTERS})
    return panels(drawn, epochs, "Training curves by epoch")


def _belongs(name: str, word: str) -> bool:
    return name.startswith(word) if word == "lr" else word in name
