"""What a report is made of, once for HTML and Markdown: sections of text, tables and charts.

Whoever has something to report builds the sections; :mod:`mien.report.html` and
:mod:`mien.report.markdown` write them. All text is plain: the writers escape it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOT_RUN = "not run"
#: Cells that are a verdict, not a figure; the page gives them a colour.
VERDICTS = ("met", "missed", NOT_RUN, "partial", "done")


@dataclass(frozen=True)
class Text:
    """A paragraph, after a few words in bold; a ``note`` stands out."""

    text: str
    title: str = ""
    note: bool = False


@dataclass(frozen=True)
class Table:
    """Cells of plain text; the first ``left`` columns are names, the others figures.

    Attributes:
        wrap: the columns that hold sentences.
        chips: the first column names expressions, each shown with its colour.
        shades: of each row, of each column after the first ``left``: 0 (plain) to 1 (full colour).
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    wrap: Sequence[int] = ()
    chips: bool = False
    shades: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class Chart:
    """An SVG; ``name`` is its file without ``.svg``, "" for one that Markdown leaves out."""

    name: str
    svg: str
    title: str
    caption: str = ""


@dataclass(frozen=True)
class Charts:
    """Charts side by side where the page is wide enough."""

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Pairs:
    """Names and what they stand for."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Face:
    """One image of a dataset, uint8 (H, W): what it shows, in words, and the lines below it."""

    image: NDArray[np.uint8]
    label: str
    caption: str = ""


@dataclass(frozen=True)
class Gallery:
    """Named rows of faces; only the HTML page, which is not committed, shows them.

    ``flow``: rows without a name are boxes beside each other.
    """

    rows: Sequence[tuple[str, Sequence[Face]]]
    flow: bool = False


Block = Text | Table | Charts | Pairs | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it.

    Attributes:
        id: anchor, unique in the page; see :func:`slug`.
        title: of the heading.
        blocks: its content.
        children: sections one level deeper.
        folded: closed until the reader opens it.
        html_only: left out of Markdown.
    """

    id: str
    title: str
    blocks: Sequence[Block] = ()
    children: Sequence[Section] = field(default=())
    folded: bool = False
    html_only: bool = False


@dataclass(frozen=True)
class Document:
    """A whole report: title, the line below it, notes, cards of the main figures, sections.

    A card is a name, a value and the words below it.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    cards: Sequence[tuple[str, str, str]] = ()
    footer: str = ""
    notes: Sequence[str] = ()

    def charts(self) -> list[Chart]:
        """Every chart that has a name, in reading order."""

        def walk(section: Section) -> list[Chart]:
            own = [c for b in section.blocks if isinstance(b, Charts) for c in b.charts if c.name]
            return own + [c for child in section.children for c in walk(child)]

        return [chart for section in self.sections for chart in walk(section)]


def slug(text: str) -> str:
    """A name for an anchor or a file: "Four-layer ConvNet (fast)" -> "four-layer-convnet-fast"."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "part"


def number(value: Any) -> float | None:
    """``value`` as a finite float; None where it is missing or no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def points(value: Any) -> str:
    """A difference of fractions in points: -.0105 -> "−1.05", .0035 -> "+0.35"."""
    known = number(value)
    if known is None:
        return "–"
    shown = f"{abs(100 * known):.2f}"
    return shown if float(shown) == 0 else f"{'+' if known > 0 else '−'}{shown}"


def count(value: Any) -> str:
    """5160199 -> "5,160,199"; a missing figure is a dash."""
    known = number(value)
    return "–" if known is None else f"{known:,.0f}"


def millions(value: Any) -> str:
    """429000000 -> "429 M"; a missing figure is a dash."""
    known = number(value)
    return "–" if known is None else f"{known / 1e6:,.{0 if known >= 1e7 else 1}f} M"


def duration(seconds: Any) -> str:
    """61200 -> "17 h", 2640 -> "44 min", 95 -> "1 min 35 s", 7500 -> "2 h 05 min"."""
    known = number(seconds)
    if known is None:
        return "–"
    total = round(known)
    if total < 60:
        return f"{known:.1f} s" if known < 10 else f"{total} s"
    if total < 3600:
        minutes, rest = divmod(total, 60)
        return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(known / 60), 60)
    return f"{hours} h {minutes:02d} min" if minutes else f"{hours} h"


def shown(value: Any) -> str:
    """A recipe's value as text: True -> "yes", 0.0005 -> "0.0005", a list -> "1, 2"."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(v) for v in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items()) or "–"
    return str(value)


def percent(value: float | None, digits: int = 2) -> str:
    """0.7123 -> "71.23 %"; an undefined figure is a dash."""
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.{digits}f} %"


def figure(value: float | None, digits: int = 3) -> str:
    """0.7123 -> "0.712"; an undefined figure is a dash."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"
