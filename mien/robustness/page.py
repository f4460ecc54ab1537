"""The robustness report as one page and its curves as SVG: no script, no picture of anybody."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any

from mien.report.document import figure as number
from mien.report.document import percent
from mien.report.html import html_table
from mien.report.style import STYLE, page_style
from mien.report.svg import Axes, document, percent_tick, rect, text
from mien.robustness.corruptions import CORRUPTIONS
from mien.robustness.report import RobustnessReport, points, provenance, title

_LINES = ("var(--accent)", "var(--second)", "var(--c-surprise)")
_PANEL = (330.0, 190.0)


def curves(report: RobustnessReport) -> str:
    """Accuracy against severity, a panel a group of corruptions, three panels a row."""
    groups: dict[str, list[str]] = {}
    for name in report.corruptions:
        groups.setdefault(CORRUPTIONS[name].group, []).append(name)
    levels = (0, *report.severities)
    highest = max([report.clean.accuracy, *(c.accuracy for c in report.cells)])
    top = min(1.0, math.ceil(10 * highest + 0.2) / 10)
    ticks = [t / 5 for t in range(6) if t / 5 <= top + 1e-9]
    wide, high = _PANEL
    parts: list[str] = []
    columns = min(3, max(1, len(groups)))
    for i, (group, names) in enumerate(groups.items()):
        left, up = (i % columns) * wide, (i // columns) * (high + 76)
        axes = Axes((0, max(levels)), (0, top), (left + 46, up + 30, wide - 62, high - 20))
        axes.grid(levels, ticks, lambda v: f"{v:.0f}", percent_tick)
        axes.parts.append(text(left + 46, up + 18, group, "strong"))
        at = left + 46
        for name, stroke in zip(names, _LINES, strict=False):
            ys = [report.clean.accuracy, *(report.cell(name, s).accuracy for s in levels[1:])]
            axes.curve(levels, ys, stroke, CORRUPTIONS[name].title)
            for level, y in zip(levels, ys, strict=True):
                axes.dot(level, y, stroke, f"{CORRUPTIONS[name].title} {level}: {y:.1%}", 3)
            axes.parts.append(rect(at, axes.bottom + 26, 14, 4, stroke, extra=' rx="2"'))
            axes.parts.append(text(at + 19, axes.bottom + 32, CORRUPTIONS[name].title, "small"))
            at += 34 + 6.2 * len(CORRUPTIONS[name].title)
        parts += axes.parts
    rows = -(-len(groups) // columns)
    return document(parts, columns * wide, rows * (high + 76), "Accuracy against severity")


def _hero(report: RobustnessReport, against: Mapping[str, Any] | None) -> str:
    big = (
        '<div class="big"><p class="name">mean accuracy when spoiled</p>'
        f'<p class="value">{percent(report.mean.accuracy, 1)}</p>'
        f'<p class="under">{len(report.corruptions)} corruptions, '
        f"{len(report.severities)} severities</p></div>"
    )
    worst = min(report.corruptions, key=lambda n: report.corruption(n).accuracy)
    cards = [
        ("clean", percent(report.clean.accuracy, 1), f"{report.n:,} faces"),
        ("of it left", percent(report.retained, 0), "mean of the corruptions"),
        ("worst", percent(report.corruption(worst).accuracy, 1), CORRUPTIONS[worst].title),
    ]
    for name, figure in list(report.framing.items())[:3]:
        under = f"± {200 * figure.error:.1f} points"
        cards.append((f"crop {name.split(',')[0]}", points(figure).split(" ")[0], under))
    if against is not None:
        cards.append(("mean corruption error", number(against["mce"], 2), str(against["baseline"])))
    shown = "".join(
        f'<div class="card"><p class="name">{escape(name)}</p><p class="value">{escape(value)}</p>'
        f'<p class="under">{escape(below)}</p></div>'
        for name, value, below in cards
    )
    return f'{big}<div class="cards">{shown}</div>'


def _heat(value: float, clean: float) -> str:
    share = min(1.0, value / clean) if clean else 0.0
    lost = round(100 * (1 - share))
    return (
        f'<span style="background:color-mix(in srgb,var(--gap) {lost}%,transparent)">'
        f"{100 * value:.1f}</span>"
    )


def _grid(report: RobustnessReport) -> str:
    rows = []
    for name in report.corruptions:
        c = CORRUPTIONS[name]
        about = f"{c.strengths[0]:g} … {c.strengths[-1]:g} {c.unit}"
        cells = [
            _heat(report.cell(name, s).accuracy, report.clean.accuracy) for s in report.severities
        ]
        mean = _heat(report.corruption(name).accuracy, report.clean.accuracy)
        rows.append([f'{c.title}<div class="under">{escape(about)}</div>', *cells, mean])
    header = ["corruption", *(str(s) for s in report.severities), "mean"]
    return html_table(header, rows, ["", *["heat"] * (len(report.severities) + 1)])


def _framing(report: RobustnessReport) -> str:
    if not report.framing:
        return ""
    rows = [["as published", percent(report.clean.accuracy, 1), ""]]
    rows += [[n, percent(f.accuracy, 1), points(f)] for n, f in report.framing.items()]
    return (
        '<section class="panel block"><h2>When the crop misses</h2>'
        f"{html_table(['crop', 'accuracy', 'points'], rows)}"
        "<p>± is twice the paired standard error. FER2013 has nothing outside its frame: the edge "
        "is repeated.</p></section>"
    )


def to_html(report: RobustnessReport, against: Mapping[str, Any] | None = None) -> str:
    """The whole page; ``against`` is the answer of ``corruption_error``, if any."""
    template = resources.files("mien.robustness").joinpath("page.html").read_text(encoding="utf-8")
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in provenance(report)
    )
    return Template(template).substitute(
        title=escape(title(report)),
        style=f"{STYLE}\n{page_style()}",
        subtitle=escape(f"{report.run['version']} · {report.n:,} faces · {report.created[:10]}"),
        notes="".join(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        hero=_hero(report, against),
        curves=curves(report),
        grid=_grid(report),
        framing=_framing(report),
        provenance=f"<dl>{facts}</dl>",
    )
