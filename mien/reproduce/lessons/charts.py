"""The lessons' own plots: several networks' curves in one picture, and recalls before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from mien.report.charts import PaperPoint
from mien.report.svg import (
    Axes,
    class_colour,
    diamond,
    document,
    line,
    percent_tick,
    round_ticks,
    text,
)

FIRST, SECOND, INK = "var(--accent)", "var(--second)", "var(--ink)"
WIDTH = 440.0

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One curve: (epoch, fraction) points of each seed, and of their mean."""

    name: str
    stroke: str
    mean: Points
    each: Sequence[Points] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Gap:
    """A bracket right of epoch ``at`` from ``low`` to ``high`` with its length in points."""

    at: float
    low: float
    high: float
    stroke: str
    words: str
    hint: str


def accuracy_curves(
    lines: Sequence[Line],
    label: str,
    gaps: Sequence[Gap] = (),
    since: tuple[float, str] | None = None,
    paper: Mapping[str, tuple[str, Sequence[PaperPoint]]] | None = None,
) -> str:
    """Accuracy by epoch.

    Args:
        lines: drawn in order; the seeds of each are thin.
        label: read to the blind.
        gaps: at most two, drawn side by side.
        since: an epoch with a few words: a thin upright line.
        paper: what is measured -> the stroke of its diamonds, and the paper's points.
    """
    paper = paper or {}
    marks = [m for _, points in paper.values() for m in points]
    drawn = [p for ln in lines for points in (ln.mean, *ln.each) for p in points]
    xs, ys = ([p[i] for p in drawn] + [m[i] for m in marks] for i in (0, 1))
    first, last = min(xs), max(max(xs), min(xs) + 1)
    y_ticks = [t for t in round_ticks(min(ys), max(ys)) if t <= 1 + 1e-9]
    axes = Axes((first, last), (y_ticks[0], y_ticks[-1]), (58, 14, 372 - 38 * len(gaps), 230))
    whole = [t for t in round_ticks(first, last, 8) if first <= t <= last and t == round(t)]
    axes.grid(whole, y_ticks, lambda v: f"{v:.0f}")
    axes.labels("epoch", "accuracy")
    if since:
        x, dots = axes.px(since[0]), ' stroke-dasharray="2 4"'
        axes.parts.append(line(x, axes.top, x, axes.bottom, "var(--muted)", dots))
        side = "end" if since[0] > (first + last) / 2 else ""
        at = x - 6 if side else x + 6
        axes.parts.append(text(at, axes.bottom - 8, since[1], f"muted small {side}".strip()))
    for ln in lines:
        _draw(axes, ln)
    for name, (stroke, points) in paper.items():
        for x, value, epoch in points:
            hint = f"the paper, epoch {epoch:g}: {name} {100 * value:.2f} %"
            axes.parts.append(diamond(axes.px(x), axes.py(value), stroke, hint))
    for i, found in enumerate(gaps):
        _bracket(axes, axes.px(found.at) + 9 + 36 * i, found)
    return document(axes.parts, WIDTH, _key(axes, lines, bool(marks)), label)


def _draw(axes: Axes, ln: Line) -> None:
    """The mean, over the seeds as thin lines where there are several."""
    dash = ' stroke-dasharray="6 4"' if ln.dashed else ""
    if len(ln.each) > 1:
        for i, points in enumerate(ln.each):
            faded = f'{dash} stroke-opacity=".35"'
            hint = f"{ln.name}, seed {i}"
            axes.curve([p[0] for p in points], [p[1] for p in points], ln.stroke, hint, faded, 1)
    xs, ys = [p[0] for p in ln.mean], [p[1] for p in ln.mean]
    axes.curve(xs, ys, ln.stroke, ln.name, dash, 2.2)
    if len(xs) == 1:
        axes.dot(xs[0], ys[0], ln.stroke, ln.name)


def _bracket(axes: Axes, x: float, found: Gap) -> None:
    top, bottom = axes.py(found.high), axes.py(found.low)
    wide = ' stroke-width="1.6"'
    for y in (top, bottom):
        axes.parts.append(line(x - 4, y, x, y, found.stroke, wide))
    axes.parts.append(line(x, top, x, bottom, found.stroke, wide))
    content = text(x + 4, (top + bottom) / 2 + 4, found.words, "small strong")
    axes.parts.append(content.replace("</text>", f"<title>{escape(found.hint)}</title></text>"))


def _key(axes: Axes, lines: Sequence[Line], paper: bool) -> float:
    """Names below the axes in two columns; returns the picture's height."""
    top = axes.bottom + 54
    cells = len(lines) + paper
    for i, ln in enumerate(lines):
        x, y = 58 + 190 * (i % 2), top + 18 * (i // 2)
        dash = ' stroke-width="2.2"' + (' stroke-dasharray="6 4"' if ln.dashed else "")
        axes.parts.append(line(x, y - 4, x + 22, y - 4, ln.stroke, dash))
        axes.parts.append(text(x + 28, y, ln.name, "small"))
    if paper:
        i = len(lines)
        x, y = 58 + 190 * (i % 2), top + 18 * (i // 2)
        axes.parts.append(diamond(x + 11, y - 4, INK))
        axes.parts.append(text(x + 28, y, "the paper", "small"))
    return top + 18 * ((cells - 1) // 2) + 10


def recalls(
    rows: Sequence[tuple[str, str, float, float]], names: tuple[str, str], label: str
) -> str:
    """Of each class (name, note, before, after) a hollow dot, a full one and a line between.

    Args:
        rows: fractions; a name that is no class is drawn in the colour of text.
        names: of the hollow and of the full dot.
        label: read to the blind.
    """
    left, top, step = 112.0, 30.0, 31.0
    axes = Axes((0, 1), (0, 1), (left, top, WIDTH - left - 24, step * len(rows)))
    axes.grid((0, 0.2, 0.4, 0.6, 0.8, 1.0), (), percent_tick)
    parts = axes.parts
    for i, (name, note, before, after) in enumerate(rows):
        y = top + step * (i + 0.5)
        fill = class_colour(name) if note else INK
        parts.append(text(left - 10, y + (0 if note else 4), name, "end" + " strong" * (not note)))
        if note:
            parts.append(text(left - 10, y + 12, note, "muted small end"))
        a, b = axes.px(before), axes.px(after)
        parts.append(line(a, y, b, y, fill, ' stroke-width="2"'))
        parts.append(_dot(a, y, fill, True, f"{name}, {names[0]}: {100 * before:.1f} %"))
        parts.append(_dot(b, y, fill, False, f"{name}, {names[1]}: {100 * after:.1f} %"))
    x = left
    for name, hollow in zip(names, (True, False), strict=True):
        parts += [_dot(x + 5, 11, INK, hollow), text(x + 16, 15, name, "small")]
        x += 40 + 6 * len(name)
    return document(parts, WIDTH, axes.bottom + 24, label)


def _dot(x: float, y: float, colour: str, hollow: bool, hint: str = "") -> str:
    fill = "var(--surface)" if hollow else colour
    tip = f"<title>{escape(hint)}</title>" if hint else ""
    return (
        f'<circle cx="{x:.2f}" cy="{y:.2f}" r="5.5" fill="{fill}" stroke="{colour}" '
        f'stroke-width="2">{tip}</circle>'
    )
