"""Charts of results beside a paper's, as SVG strings, from plain series.

Filled marks are ours; hollow diamonds and hollow bars are the paper's. Built on the parts of
:mod:`mien.report.svg`, so that colours follow the page and every chart can be a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mien.report import svg
from mien.report.document import NOT_RUN, number
from mien.report.plots import Cell, cells

_OURS, _PAPER = "var(--accent)", "var(--ink)"
#: Colour of each curve by the end of its column's name.
_PARTS = (("train", "training", "var(--second)"), ("val", "validation", _OURS))

#: With more classes the charts that show each of them would be a blur.
MOST_CLASSES = 24
#: One mark of the paper: (epoch on our axis, value, the epoch the paper prints).
PaperPoint = tuple[float, float, float]
_Points = Sequence[tuple[float, float]]


def curves(
    kind: str,
    seeds: Sequence[Sequence[Mapping[str, Any]]],
    chosen: Sequence[int | None] = (),
    paper: Mapping[str, Sequence[PaperPoint]] | None = None,
) -> str:
    """Training and validation curves of one run; "" if there is nothing to draw.

    Args:
        kind: "accuracy" (fractions) or "loss".
        seeds: of each seed the rows of its epochs, with "epoch", "train_<kind>" and "val_<kind>"
            (see :func:`mien.train.folder.read_curves`).
        chosen: the epoch chosen in each seed, marked on the validation curve.
        paper: "train" and "val" -> the paper's points.
    """
    paper = paper or {}
    lines = {part: [_points(rows, f"{part}_{kind}") for rows in seeds] for part, *_ in _PARTS}
    drawn = [p for part in lines.values() for points in part for p in points]
    if not drawn:
        return ""
    everything = [*drawn, *((x, y) for marks in paper.values() for x, y, _ in marks)]
    share = kind == "accuracy"
    axes = _epoch_axes(everything, share)
    axes.labels("epoch", kind)
    for part, name, stroke in _PARTS:
        _draw_part(axes, lines[part], stroke, name)
        if part == "val":
            _mark_chosen(axes, lines[part], chosen)
        for x, value, epoch in paper.get(part, ()):
            printed = f"{100 * value:.2f} %" if share else f"{value:.4f}"
            hint = f"paper, epoch {epoch:g}: {name} {kind} {printed}"
            axes.add(svg.diamond(axes.px(x), axes.py(value), stroke, hint))
    entries: list[svg.Key] = [
        ("line", stroke, name)
        for part, name, stroke in _PARTS
        if any(lines[part]) or paper.get(part)
    ]
    if len(seeds) > 1:
        entries.append(("line", "var(--grid)", f"thin: each of {len(seeds)}"))
    if any(chosen) and any(lines["val"]):
        entries.append(("disc", _OURS, "chosen"))
    if any(paper.values()):
        entries.append(("diamond", _PAPER, "paper"))
    return axes.image(f"{kind.capitalize()} of each epoch", axes.key(entries))


def _epoch_axes(points: _Points, share: bool) -> svg.Axes:
    """Axes of epochs against fractions, or against a loss from 0."""
    ys, epochs = [y for _, y in points], [x for x, _ in points]
    y_ticks = svg.round_ticks(min(ys) if share else 0.0, max(ys))
    if share:
        y_ticks = [t for t in y_ticks if t <= 1.0 + 1e-9]
    first, last = min(epochs), max(max(epochs), min(epochs) + 1)
    axes = svg.Axes((first, last), (y_ticks[0], y_ticks[-1]), (58, 14, 366, 230))
    whole = [t for t in svg.round_ticks(first, last, 8) if first <= t <= last and t == round(t)]
    plain: Callable[[float], str] = svg.percent_tick if share else "{:.3g}".format
    axes.grid(whole, y_ticks, "{:.0f}".format, plain)
    return axes


def _points(rows: Sequence[Mapping[str, Any]], column: str) -> list[tuple[float, float]]:
    found = ((number(row.get("epoch")), number(row.get(column))) for row in rows)
    return [(epoch, value) for epoch, value in found if epoch is not None and value is not None]


def _draw_part(axes: svg.Axes, seeds: Sequence[_Points], stroke: str, name: str) -> None:
    """One seed as a line; several as thin lines with their mean on top."""
    tables = [dict(points) for points in seeds if points]
    several = len(seeds) > 1
    for i, points in enumerate(seeds):
        if points:
            hint = f"{name}, seed {i}" if several else name
            faded = ' stroke-opacity=".45"' if several else ""
            xs, ys = zip(*points, strict=True)
            axes.curve(xs, ys, stroke, hint, faded, 1.2 if several else 2)
    if several and tables:
        shared = sorted(set.intersection(*(set(t) for t in tables)))
        means = [sum(t[x] for t in tables) / len(tables) for x in shared]
        axes.curve(shared, means, stroke, f"{name}, mean of {len(tables)} seeds", width=2.4)


def _mark_chosen(axes: svg.Axes, seeds: Sequence[_Points], chosen: Sequence[int | None]) -> None:
    for points, epoch in zip(seeds, chosen, strict=False):
        value = dict(points).get(float(epoch)) if epoch is not None else None
        if epoch is not None and value is not None:
            axes.dot(epoch, value, _OURS, f"epoch {epoch} was chosen", 4.5)


#: How the bars of a series look: the shape in the key and its colour.
_LOOKS = {
    "paper": ("hollow", _PAPER),
    "ours": ("box", _OURS),
    "ours, labels shuffled": ("box", "var(--muted)"),
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
    known = [v for _, values in rows for v in values if v is not None]
    high = 1.0 if share else (max(known, default=1.0) or 1.0) * 1.05
    ticks = [t for t in svg.round_ticks(0, high, 4) if t <= high + 1e-9]
    step = 12.0 + 17 * len(series)
    plain: Callable[[float], str] = svg.percent_tick if share else "{:g}".format
    axes, middles = svg.row_axes([r[0] for r in rows], (0, high), ticks, plain, step=step, right=62)
    axes.head_key([(*_LOOKS[kind], kind) for kind in series])
    for (name, values), middle in zip(rows, middles, strict=True):
        y = middle - step / 2 + 6
        for kind, value in zip(series, values, strict=True):
            axes.parts += _bar(axes, y, name, kind, value, share)
            y += 17
    return axes.image(title)


def _bar(
    axes: svg.Axes, y: float, name: str, kind: str, value: float | None, share: bool
) -> tuple[str, ...]:
    if value is None:
        missing = "not in the paper" if kind == "paper" else NOT_RUN
        return (svg.text(axes.left + 6, y + 11, missing, "muted small"),)
    shape, colour = _LOOKS[kind]
    hollow = shape == "hollow"
    words = f"{100 * value:.2f} %" if share else f"{value:.4f}"
    end = axes.px(min(value, axes.x_limits[1]))
    extra = f' rx="3" stroke="{colour}" stroke-width="1.2"' if hollow else ' rx="3"'
    fill = "var(--surface)" if hollow else colour
    return (
        svg.rect(axes.left, y, end - axes.left, 14, fill, f"{name}, {kind}: {words}", extra),
        svg.text(end + 6, y + 11, words, "small strong" if kind == "ours" else "small"),
    )


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
    ticks = [
        t for t in svg.round_ticks(min(values) - 0.004, max(values) + 0.004, 5) if t <= 1.0 + 1e-9
    ]
    fine = min((b - a for a, b in pairwise(ticks)), default=1) < 0.0099
    axes, middles = svg.row_axes(
        [r[0] for r in rows],
        (ticks[0], ticks[-1]),
        ticks,
        lambda v: f"{100 * v:.{1 if fine else 0}f} %",
        step=48,
        top=30,
        right=24,
    )
    entries = [
        ("disc", _OURS, f"one {what}"),
        ("line", _OURS, "mean"),
        ("diamond", _PAPER, "paper"),
    ]
    axes.head_key(entries)
    for (name, pairs, paper), middle in zip(rows, middles, strict=True):
        if paper is not None:
            hint = f"{name}: paper {100 * paper:.2f} %"
            axes.add(svg.diamond(axes.px(paper), middle, _PAPER, hint))
        if len(pairs) > 1:
            mean = sum(v for _, v in pairs) / len(pairs)
            x = axes.px(mean)
            axes.add(svg.line(x, middle - 15, x, middle + 15, _OURS, ' stroke-width="2.5"'))
            axes.add(svg.text(x, middle - 18, f"{100 * mean:.2f}", "mid small strong"))
        for seed, value in pairs:
            hint = f"{name}, {what} {seed}: {100 * value:.2f} %"
            axes.add(svg.disc(axes.px(value), middle, _OURS, hint, 5, ' fill-opacity=".8"'))
    return axes.image(f"Accuracy of every {what}")


@dataclass(frozen=True)
class Difference:
    """A row of :func:`differences`, in points: each seed's, their mean, its 95 % interval."""

    name: str
    values: Sequence[float]
    mean: float
    low: float | None = None
    high: float | None = None
    hint: str = ""


def differences(rows: Sequence[Difference], title: str, words: str) -> str:
    """A dot a seed, the mean and its interval, sorted by the mean; ``words`` name the axis.

    A row whose interval leaves out zero is drawn in colour.
    """
    if not rows:
        nothing = [svg.text(8, 20, "No row can be compared yet.", "muted")]
        return svg.document(nothing, svg.WIDTH, 32, title)
    rows = sorted(rows, key=lambda row: -row.mean)
    drawn = [0.0, *(v for r in rows for v in (*r.values, r.mean, r.low, r.high) if v is not None)]
    ticks = svg.round_ticks(min(drawn), max(drawn))
    limits = (ticks[0], ticks[-1])
    names = [row.name for row in rows]
    axes, middles = svg.row_axes(names, limits, ticks, _signed, step=24, top=8, right=52)
    zero = axes.px(0)
    axes.add(svg.line(zero, axes.top, zero, axes.bottom, "var(--ink)"))
    for row, at in zip(rows, middles, strict=True):
        settled = row.low is not None and row.high is not None and row.low * row.high > 0
        stroke = "var(--muted)"
        if settled:
            stroke = _OURS if row.mean > 0 else "var(--second)"
        if row.low is not None and row.high is not None:
            ends = axes.px(row.low), axes.px(row.high)
            axes.add(svg.line(ends[0], at, ends[1], at, stroke, ' stroke-width="2"'))
        for value in row.values:
            hint = f"{row.name}: {value:+.2f}"
            axes.add(svg.disc(axes.px(value), at, "var(--muted)", hint, 2.5))
        axes.add(svg.disc(axes.px(row.mean), at, stroke, row.hint or row.name, 4.5))
        bold = "end strong" if settled else "end"
        axes.add(svg.text(svg.WIDTH - 6, at + 4, f"{row.mean:+.2f}", bold))
    axes.add(svg.text(axes.left + axes.width / 2, axes.bottom + 33, words, "muted mid"))
    return axes.image(title, axes.bottom + 42)


def _signed(value: float) -> str:
    return f"{value:+g}" if value else "0"


def class_distribution(counts: Mapping[str, Mapping[str, int]], classes: Sequence[str]) -> str:
    """Images of each class, the splits one after the other in lighter shades of its colour."""
    totals = {c: sum(int(by.get(c, 0)) for by in counts.values()) for c in classes}
    everything = sum(totals.values()) or 1
    high = max([*totals.values(), 1])
    ticks = [t for t in svg.round_ticks(0, high, 4) if t <= high]
    axes, middles = svg.row_axes(classes, (0, high), ticks, "{:,.0f}".format, top=30, right=104)
    shades = [1.0 - 0.68 * i / max(len(counts) - 1, 1) for i in range(len(counts))]
    grey = "color-mix(in srgb,var(--muted) {:.0f}%,var(--surface))"
    entries = [
        ("box", grey.format(100 * a), split) for a, split in zip(shades, counts, strict=True)
    ]
    axes.head_key(entries)
    for name, middle in zip(classes, middles, strict=True):
        x = axes.left
        for shade, (split, by_class) in zip(shades, counts.items(), strict=True):
            n = int(by_class.get(name, 0))
            width = axes.px(n) - axes.left
            extra = f' fill-opacity="{shade:.2f}"'
            hint = f"{name}, {split}: {n:,}"
            axes.add(svg.rect(x, middle - 10, width, 20, svg.class_colour(name), hint, extra))
            x += width
        words = f"{totals[name]:,} · {100 * totals[name] / everything:.1f} %"
        axes.add(svg.text(x + 6, middle + 4, words, "small"))
    return axes.image("Images of each class")


def probability_bars(probabilities: Mapping[str, float]) -> str:
    """The probability of each class for one face, most probable first."""
    rows = sorted(probabilities.items(), key=lambda pair: -pair[1])
    axes, middles = svg.row_axes(
        [name for name, _ in rows], (0, 1), svg.QUARTERS, step=24, top=8, right=64
    )
    for i, ((name, value), middle) in enumerate(zip(rows, middles, strict=True)):
        end, colour = axes.px(value), svg.class_colour(name)
        axes.add(svg.rect(axes.left, middle - 8, end - axes.left, 16, colour, name, ' rx="3"'))
        words = f"{100 * value:.1f} %"
        axes.add(svg.text(end + 6, middle + 4, words, "small" + " strong" * (not i)))
    return axes.image("Probability of each class", axes.bottom + 22)


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    title: str,
) -> str:
    """Fractions as shades, darker for higher; a cell without a figure is empty and says so."""
    known = [v for row in values for v in row if v is not None]
    low, span = min(known, default=0.0), (max(known, default=1.0) - min(known, default=0.0)) or 1.0

    def shown(row: str, column: str, value: float | None) -> Cell | None:
        if value is None:
            return None
        where = f"{row}, {column.replace(chr(10), ' ')}: {100 * value:.2f} %"
        return Cell(0.15 + 0.85 * (value - low) / span, f"{100 * value:.1f}", where)

    grid = [
        [shown(r, c, v) for c, v in zip(columns, found, strict=True)]
        for r, found in zip(rows, values, strict=True)
    ]
    return cells([(r, "") for r in rows], columns, grid, title)
