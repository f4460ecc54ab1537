"""The report's charts as SVG strings: ours and the paper's figures in one picture.

Filled marks are ours; hollow diamonds and hollow bars are the paper's. Built on the parts of
:mod:`mien.report.svg`, so that colours follow the page and every chart can be a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from mien.report.document import NOT_RUN, number
from mien.report.svg import (
    Axes,
    class_colour,
    diamond,
    document,
    line,
    num,
    percent_tick,
    rect,
    round_ticks,
    text,
)

_WIDTH = 440.0
_OURS = "var(--accent)"
_PAPER = "var(--ink)"
#: Colour of each curve by the end of its column's name.
_PARTS = (("train", "training", "var(--second)"), ("val", "validation", _OURS))

#: One mark of the paper: (epoch on our axis, value, the epoch the paper prints).
PaperPoint = tuple[float, float, float]


def _wide(words: str, size: float = 7.0) -> float:
    """About the width of ``words`` in pixels."""
    return size * len(words)


def _diamonds(axes: Axes, paper: Sequence[PaperPoint], stroke: str, name: str, share: bool) -> None:
    for x, value, epoch in paper:
        printed = f"{100 * value:.2f} %" if share else f"{value:.4f}"
        hint = f"paper, epoch {epoch:g}: {name} {printed}"
        axes.parts.append(diamond(axes.px(x), axes.py(value), stroke, hint))


def curves(
    kind: str,
    seeds: Sequence[Sequence[Mapping[str, Any]]],
    chosen: Sequence[int | None] = (),
    paper: Mapping[str, Sequence[PaperPoint]] | None = None,
) -> str:
    """Training and validation curves of one run; "" if there is nothing to draw.

    Args:
        kind: "accuracy" (fractions) or "loss".
        seeds: of each seed the rows of its epochs, with "epoch", "train_<kind>" and "val_<kind>".
        chosen: the epoch chosen in each seed, marked on the validation curve.
        paper: "train" and "val" -> the paper's points.
    """
    paper = paper or {}
    lines = {
        part: [_points(rows, f"{part}_{kind}") for rows in seeds] for part, _name, _stroke in _PARTS
    }
    drawn = [p for part in lines.values() for points in part for p in points]
    if not drawn:
        return ""
    values = [p[1] for p in drawn] + [p[1] for marks in paper.values() for p in marks]
    epochs = [p[0] for p in drawn] + [p[0] for marks in paper.values() for p in marks]
    share = kind == "accuracy"
    y_ticks = round_ticks(min(values) if share else 0.0, max(values))
    if share:
        y_ticks = [t for t in y_ticks if t <= 1.0 + 1e-9]
    first, last = min(epochs), max(max(epochs), min(epochs) + 1)
    axes = Axes((first, last), (y_ticks[0], y_ticks[-1]), (58, 14, 366, 230))
    whole = [t for t in round_ticks(first, last, 8) if first <= t <= last and t == round(t)]
    y_format: Callable[[float], str] = percent_tick if share else (lambda v: f"{v:.3g}")
    axes.grid(whole, y_ticks, lambda v: f"{v:.0f}", y_format)
    axes.labels("epoch", kind)
    for part, name, stroke in _PARTS:
        _draw_part(axes, lines[part], stroke, name)
        if part == "val":
            _mark_chosen(axes, lines[part], chosen)
        _diamonds(axes, paper.get(part, ()), stroke, f"{name} {kind}", share)
    shown = {part for part, found in lines.items() if any(found) or paper.get(part)}
    marked = any(chosen) and any(lines["val"])
    height = _curve_key(axes, shown, len(seeds), marked, any(paper.values()))
    return document(axes.parts, _WIDTH, height, f"{kind.capitalize()} of each epoch")


def _points(rows: Sequence[Mapping[str, Any]], column: str) -> list[tuple[float, float]]:
    found = []
    for row in rows:
        epoch, value = number(row.get("epoch")), number(row.get(column))
        if epoch is not None and value is not None:
            found.append((epoch, value))
    return found


def _draw_part(
    axes: Axes, seeds: Sequence[Sequence[tuple[float, float]]], stroke: str, name: str
) -> None:
    """One seed as a line; several as thin lines with their mean on top."""
    several = len(seeds) > 1
    for i, points in enumerate(seeds):
        if points:
            faded = ' stroke-opacity=".45"' if several else ""
            hint = f"{name}, seed {i}" if several else name
            xs, ys = [p[0] for p in points], [p[1] for p in points]
            axes.curve(xs, ys, stroke, hint, faded, 1.2 if several else 2)
            if len(points) == 1:
                axes.dot(xs[0], ys[0], stroke, hint)
    if several:
        tables = [dict(points) for points in seeds if points]
        shared = sorted(set.intersection(*(set(t) for t in tables))) if tables else []
        means = [sum(t[x] for t in tables) / len(tables) for x in shared]
        axes.curve(shared, means, stroke, f"{name}, mean of {len(tables)} seeds", width=2.4)


def _mark_chosen(
    axes: Axes, seeds: Sequence[Sequence[tuple[float, float]]], chosen: Sequence[int | None]
) -> None:
    for points, epoch in zip(seeds, chosen, strict=False):
        value = dict(points).get(float(epoch)) if epoch is not None else None
        if epoch is not None and value is not None:
            axes.dot(epoch, value, _OURS, f"epoch {epoch} was chosen", 4.5)


def _curve_key(axes: Axes, shown: set[str], seeds: int, chosen: bool, paper: bool) -> float:
    """The key of the ``shown`` parts below the axes; returns the picture's height."""
    y, x = axes.bottom + 54, 58.0
    for _part, name, stroke in (p for p in _PARTS if p[0] in shown):
        axes.parts.append(rect(x, y - 6, 14, 4, stroke, extra=' rx="2"'))
        axes.parts.append(text(x + 19, y, name, "small"))
        x += 34 + _wide(name, 5.6)
    if seeds > 1:
        axes.parts.append(text(x, y, f"thin: each of {seeds}", "muted small"))
        x += 12 + _wide(f"thin: each of {seeds}", 5.6)
    if chosen:
        axes.parts.append(_disc(x + 5, y - 4, _OURS, radius=4.5))
        axes.parts.append(text(x + 15, y, "chosen", "small"))
        x += 62
    if paper:
        axes.parts.append(diamond(x + 6, y - 4, _PAPER))
        axes.parts.append(text(x + 17, y, "paper", "small"))
    return y + 10


def _disc(x: float, y: float, fill: str, hint: str = "", radius: float = 5, more: str = "") -> str:
    tip = f"<title>{escape(hint)}</title>" if hint else ""
    return (
        f'<circle cx="{num(x)}" cy="{num(y)}" r="{num(radius)}" fill="{fill}" '
        f'stroke="var(--surface)" stroke-width="1.2"{more}>{tip}</circle>'
    )


#: How the bars of a series look: fill and whether they are hollow.
_LOOKS = {
    "paper": ("var(--surface)", True),
    "ours": (_OURS, False),
    "ours, labels shuffled": ("var(--muted)", False),
}


def bars(
    rows: Sequence[tuple[str, Sequence[float | None]]],
    title: str,
    series: Sequence[str] = ("paper", "ours"),
    share: bool = True,
) -> str:
    """Of each row (name, one figure a series) a bar a series; None is "not run".

    Args:
        rows: names and figures, in order.
        title: read to the blind.
        series: keys of the looks: "paper" (hollow), "ours", "ours, labels shuffled".
        share: the figures are fractions, shown in percent; else plain numbers (a loss).
    """
    left = min(max((_wide(r[0]) for r in rows), default=60) + 18, 250)
    top, step = 26.0, 12.0 + 17 * len(series)
    known = [v for _, values in rows for v in values if v is not None]
    high = 1.0 if share else (max(known, default=1.0) or 1.0) * 1.05
    ticks = [t for t in round_ticks(0, high, 4) if t <= high + 1e-9]
    axes = Axes((0, high), (0, 1), (left, top, _WIDTH - left - 62, step * len(rows)))
    plain: Callable[[float], str] = percent_tick if share else (lambda v: f"{v:g}")
    axes.grid(ticks, (), plain)
    parts = axes.parts
    for i, (name, values) in enumerate(rows):
        y = top + step * i + 6
        parts.append(text(left - 8, top + step * (i + 0.5) + 4, _cut(name, left), "end"))
        for j, (kind, value) in enumerate(zip(series, values, strict=True)):
            parts += _bar(axes, y + 17 * j, name, kind, value, share)
    at = left
    for kind in series:
        fill, hollow = _LOOKS[kind]
        outline = ' stroke="var(--ink)" stroke-width="1.2"' if hollow else ""
        parts.append(rect(at, 7, 14, 8, fill, extra=f' rx="2"{outline}'))
        parts.append(text(at + 20, 15, kind, "small"))
        at += 34 + _wide(kind, 5.8)
    return document(parts, _WIDTH, axes.bottom + 24, title)


def _bar(
    axes: Axes, y: float, name: str, kind: str, value: float | None, share: bool
) -> tuple[str, ...]:
    fill, hollow = _LOOKS[kind]
    if value is None:
        words = "not in the paper" if hollow else NOT_RUN
        return (text(axes.left + 6, y + 11, words, "muted small"),)
    width = axes.px(value) - axes.left
    words = f"{100 * value:.2f} %" if share else f"{value:.3f}"
    outline = ' stroke="var(--ink)" stroke-width="1.2"' if hollow else ""
    bold = "small strong" if kind == "ours" else "small"
    return (
        rect(axes.left, y, width, 14, fill, f"{name}, {kind}: {words}", f' rx="3"{outline}'),
        text(axes.left + width + 6, y + 11, words, bold),
    )


def _cut(words: str, room: float) -> str:
    most = int((room - 10) / 6.6)
    return words if len(words) <= most else f"{words[: most - 1]}…"


def seed_dots(
    rows: Sequence[tuple[str, Sequence[tuple[str, float]], float | None]], what: str = "seed"
) -> str:
    """Of each row (name, (seed, accuracy) pairs, the paper's figure) a dot a seed and the mean.

    ``what``: what one dot is, "seed" or "fold".
    """
    values = [v for _, pairs, _ in rows for _, v in pairs]
    if not values:
        return ""
    values += [paper for *_, paper in rows if paper is not None]
    ticks = [t for t in round_ticks(min(values) - 0.004, max(values) + 0.004, 5) if t <= 1.0 + 1e-9]
    left = min(max(_wide(r[0]) for r in rows) + 18, 200)
    top, step = 30.0, 48.0
    axes = Axes((ticks[0], ticks[-1]), (0, 1), (left, top, _WIDTH - left - 24, step * len(rows)))
    fine = min((b - a for a, b in pairwise(ticks)), default=1) < 0.0099
    axes.grid(ticks, (), lambda v: f"{100 * v:.{1 if fine else 0}f} %")
    parts = axes.parts
    for i, (name, pairs, paper) in enumerate(rows):
        middle = top + step * (i + 0.5)
        parts.append(text(left - 8, middle + 4, _cut(name, left), "end"))
        if paper is not None:
            hint = f"{name}: paper {100 * paper:.2f} %"
            parts.append(diamond(axes.px(paper), middle, _PAPER, hint))
        mean = sum(v for _, v in pairs) / len(pairs) if pairs else None
        if mean is not None and len(pairs) > 1:
            x = axes.px(mean)
            parts.append(line(x, middle - 15, x, middle + 15, _OURS, ' stroke-width="2.5"'))
            parts.append(text(x, middle - 18, f"{100 * mean:.2f}", "mid small strong"))
        for seed, value in pairs:
            hint = f"{name}, {what} {seed}: {100 * value:.2f} %"
            faded = ' fill-opacity=".8"'
            parts.append(_disc(axes.px(value), middle, _OURS, hint, 5, faded))
    parts += [_disc(left + 5, 11, _OURS), text(left + 15, 15, f"one {what}", "small")]
    parts += [rect(left + 74, 4, 2.5, 14, _OURS), text(left + 83, 15, "mean", "small")]
    parts += [diamond(left + 130, 11, _PAPER), text(left + 141, 15, "paper", "small")]
    return document(parts, _WIDTH, axes.bottom + 24, f"Accuracy of every {what}")


def class_distribution(counts: Mapping[str, Mapping[str, int]], classes: Sequence[str]) -> str:
    """Images of each class, the splits one after the other in lighter shades of its colour."""
    totals = {c: sum(int(by.get(c, 0)) for by in counts.values()) for c in classes}
    everything = sum(totals.values()) or 1
    left, top, step = 84.0, 30.0, 30.0
    high = max([*totals.values(), 1])
    axes = Axes((0, high), (0, 1), (left, top, _WIDTH - left - 104, step * len(classes)))
    axes.grid([t for t in round_ticks(0, high, 4) if t <= high], (), lambda v: f"{v:,.0f}")
    parts = axes.parts
    shades = [1.0 - 0.68 * i / max(len(counts) - 1, 1) for i in range(len(counts))]
    at = left
    for shade, split in zip(shades, counts, strict=True):
        parts.append(
            rect(at, 7, 14, 8, "var(--muted)", extra=f' rx="2" fill-opacity="{shade:.2f}"')
        )
        parts.append(text(at + 19, 15, split, "small"))
        at += 34 + _wide(split, 5.8)
    for i, name in enumerate(classes):
        y, x = top + step * i, left
        parts.append(text(left - 8, y + step / 2 + 4, name, "end"))
        for shade, (split, by_class) in zip(shades, counts.items(), strict=True):
            n = int(by_class.get(name, 0))
            width = axes.px(n) - left
            extra = f' fill-opacity="{shade:.2f}"'
            fill, hint = class_colour(name), f"{name}, {split}: {n:,}"
            parts.append(rect(x, y + 5, width, step - 10, fill, hint, extra))
            x += width
        words = f"{totals[name]:,} · {100 * totals[name] / everything:.1f} %"
        parts.append(text(x + 6, y + step / 2 + 4, words, "small"))
    return document(parts, _WIDTH, axes.bottom + 24, "Images of each class")


def probability_bars(probabilities: Mapping[str, float]) -> str:
    """The probability of each class for one face, most probable first."""
    rows = sorted(probabilities.items(), key=lambda pair: -pair[1])
    left, top, step = 84.0, 8.0, 24.0
    axes = Axes((0, 1), (0, 1), (left, top, _WIDTH - left - 64, step * len(rows)))
    axes.grid((0.0, 0.25, 0.5, 0.75, 1.0), ())
    for i, (name, value) in enumerate(rows):
        y, width = top + step * i, axes.px(value) - left
        axes.parts.append(text(left - 8, y + 16, name, "end"))
        axes.parts.append(rect(left, y + 4, width, step - 8, class_colour(name), name, ' rx="3"'))
        words = f"{100 * value:.1f} %"
        axes.parts.append(text(left + width + 6, y + 16, words, "small" + " strong" * (not i)))
    return document(axes.parts, _WIDTH, axes.bottom + 22, "Probability of each class")


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    title: str,
) -> str:
    """Fractions as shades, darker for higher; a cell without a figure is empty and says so."""
    known = [v for row in values for v in row if v is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    left = min(max((_wide(r, 6.0) for r in rows), default=60) + 12, 215)
    longest = max((_wide(part, 5.4) for c in columns for part in c.split("\n")), default=30)
    cell = max((_WIDTH - left) / max(len(columns), 1), longest + 4, 40.0)
    top, height = 36.0, 30.0
    width = left + cell * len(columns)
    parts = []
    for j, name in enumerate(columns):
        for k, part in enumerate(name.split("\n")):
            parts.append(text(left + (j + 0.5) * cell, 13 + 13 * k, part, "mid small muted"))
    for i, name in enumerate(rows):
        y = top + height * i
        parts.append(text(left - 8, y + height / 2 + 4, name, "end small"))
        for j, column in enumerate(columns):
            x, value = left + j * cell, values[i][j]
            where = f"{name}, {column.replace(chr(10), ' ')}"
            box = (x + 1, y + 1, cell - 2, height - 2)
            hint = f"{where}: {NOT_RUN if value is None else f'{100 * value:.2f} %'}"
            parts.append(rect(*box, "var(--grid)", hint, ' rx="4"'))
            if value is None:
                parts.append(text(x + cell / 2, y + height / 2 + 4, "·", "mid muted"))
                continue
            shade = 0.15 + 0.85 * ((value - low) / (high - low) if high > low else 1.0)
            parts.append(rect(*box, _OURS, hint, f' rx="4" fill-opacity="{shade:.3f}"'))
            on = ' style="fill:var(--surface)"' if shade > 0.55 else ""
            words = f"{100 * value:.1f}"
            parts.append(text(x + cell / 2, y + height / 2 + 4, words, "mid small strong", on))
    return document(parts, max(width, _WIDTH), top + height * len(rows) + 4, title)
