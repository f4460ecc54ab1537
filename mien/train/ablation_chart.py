"""An ablation as a picture: what every row's change did, seed by seed."""

from __future__ import annotations

from typing import Any

from mien.report.svg import Axes, document, line, round_ticks, sized, standalone, text

_LEFT, _STEP, _WIDTH = 150.0, 24.0, 440.0


def picture(record: dict[str, Any]) -> str:
    """:func:`differences` as a file of its own."""
    return standalone(sized(differences(record)))


def differences(record: dict[str, Any]) -> str:
    """Difference of every row to the base in points: a dot a seed, the mean and its 95 % interval.

    Rows are sorted by their mean; one whose interval leaves out zero is drawn in colour.

    Args:
        record: of :func:`mien.train.ablation.summarise`.

    Returns:
        a complete ``<svg>``, of a few words where no row has a difference yet.
    """
    rows = [row for row in record["rows"] if row["difference"]]
    label = f"Ablation {record['table']}: difference to the base in points of accuracy"
    if not rows:
        return document([text(8, 20, "No row can be compared yet.", "muted")], _WIDTH, 32, label)
    rows.sort(key=lambda row: -row["difference"]["mean"])
    base = record["rows"][0]["accuracies"]
    each = [
        [100 * (value - base[seed]) for seed, value in row["accuracies"].items() if seed in base]
        for row in rows
    ]
    ends = [
        100 * value
        for row in rows
        for value in (row["difference"]["low"], row["difference"]["high"])
        if value is not None
    ]
    drawn = [0.0, *ends, *(value for values in each for value in values)]
    ticks = round_ticks(min(drawn), max(drawn))
    box = (_LEFT, 8.0, _WIDTH - _LEFT - 52, _STEP * len(rows))
    axes = Axes((ticks[0], ticks[-1]), (0.0, float(len(rows))), box)
    axes.grid(ticks, (), lambda value: f"{value:+g}" if value else "0")
    zero = axes.px(0)
    axes.parts.append(line(zero, axes.top, zero, axes.bottom, "var(--ink)"))
    for i, (row, values) in enumerate(zip(rows, each, strict=True)):
        _draw(axes, row, values, len(rows) - i - 0.5)
    middle = axes.left + axes.width / 2
    words = "points of accuracy against the base"
    axes.parts.append(text(middle, axes.bottom + 33, words, "muted mid"))
    return document(axes.parts, _WIDTH, axes.bottom + 42, label)


def _draw(axes: Axes, row: dict[str, Any], values: list[float], y: float) -> None:
    found = row["difference"]
    mean = 100 * found["mean"]
    low, high = found["low"], found["high"]
    settled = low is not None and low * high > 0
    stroke = "var(--muted)"
    if settled:
        stroke = "var(--accent)" if mean > 0 else "var(--second)"
    at = axes.py(y)
    hint = f"{row['row']}: {', '.join(row['set'])}"
    if low is not None:
        left, right = axes.px(100 * low), axes.px(100 * high)
        axes.parts.append(line(left, at, right, at, stroke, ' stroke-width="2"'))
    for value in values:
        axes.dot(value, y, "var(--muted)", f"{row['row']}: {value:+.2f}", 2.5)
    axes.dot(mean, y, stroke, hint, 4.5)
    kind = "end strong" if settled else "end"
    axes.parts.append(text(_LEFT - 8, at + 4, row["row"], kind))
    axes.parts.append(text(_WIDTH - 6, at + 4, f"{mean:+.2f}", kind))
