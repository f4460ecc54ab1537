"""The few SVG parts that the plots are made of: axes, lines, bars, text. Strings only.

Colours are CSS variables (see :mod:`mien.report.style`), so that one picture serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from mien.emotions import Emotion, parse_emotion
from mien.errors import DataError
from mien.report.style import STYLE

#: Pixels in which a page shows a plot.
SHOWN = 580.0


def colour(emotion: Emotion) -> str:
    """The CSS colour of a class."""
    return f"var(--c-{emotion.value})"


def class_colour(name: str) -> str:
    """The colour of a class; grey for a name that is no expression."""
    try:
        return colour(parse_emotion(name))
    except DataError:
        return colour(Emotion.NEUTRAL)


def num(value: float) -> str:
    """A coordinate: at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text(x: float, y: float, content: str, cls: str = "", extra: str = "") -> str:
    """Text at its baseline."""
    kind = f' class="{cls}"' if cls else ""
    return f'<text x="{num(x)}" y="{num(y)}"{kind}{extra}>{escape(content)}</text>'


def rect(
    x: float, y: float, width: float, height: float, fill: str, hint: str = "", extra: str = ""
) -> str:
    """A filled rectangle; ``hint`` is shown when the pointer rests on it."""
    tip = f"<title>{escape(hint)}</title>" if hint else ""
    return (
        f'<rect x="{num(x)}" y="{num(y)}" width="{num(max(width, 0))}" '
        f'height="{num(max(height, 0))}" fill="{fill}"{extra}>{tip}</rect>'
    )


def line(x1: float, y1: float, x2: float, y2: float, stroke: str, extra: str = "") -> str:
    """A straight line."""
    return (
        f'<line x1="{num(x1)}" y1="{num(y1)}" x2="{num(x2)}" y2="{num(y2)}" '
        f'stroke="{stroke}"{extra}/>'
    )


def diamond(x: float, y: float, stroke: str = "var(--ink)", hint: str = "") -> str:
    """A hollow diamond around (x, y)."""
    corners = ((x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y))
    points = " ".join(f"{num(a)},{num(b)}" for a, b in corners)
    tip = f"<title>{escape(hint)}</title>" if hint else ""
    return (
        f'<polygon points="{points}" fill="var(--surface)" stroke="{stroke}" '
        f'stroke-width="1.5">{tip}</polygon>'
    )


def document(parts: Sequence[str], width: float, height: float, label: str) -> str:
    """A complete ``<svg>`` that scales to its container; ``label`` is read to the blind."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" role="img" '
        f'viewBox="0 0 {num(width)} {num(height)}" aria-label="{escape(label, quote=True)}">'
        + "".join(parts)
        + "</svg>"
    )


def standalone(svg: str) -> str:
    """``svg`` with its style inside and a background, for a file of its own."""
    head, rest = svg.split(">", 1)
    paper = '<rect width="100%" height="100%" fill="var(--surface)"/>'
    return f"{head}><style>{STYLE}</style>{paper}{rest}\n"


def sized(svg: str) -> str:
    """``svg`` with a size of its own, so that a page shows it no wider than it reads well."""
    box = svg.split('viewBox="0 0 ', 1)[1].split('"', 1)[0].split()
    width, height = float(box[0]), float(box[1])
    size = f'width="{SHOWN:.0f}" height="{SHOWN * height / width:.0f}" viewBox='
    return svg.replace("viewBox=", size, 1)


def percent_tick(value: float) -> str:
    """.25 -> "25 %"."""
    return f"{100 * value:.0f} %"


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round steps from at most ``low`` to at least ``high``."""
    span = max(high - low, 1e-6)
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * i for i in range(first, max(last, first + 1) + 1)]


class Axes:
    """A plot area with grid and ticks that maps data to pixels.

    Args:
        x, y: limits of the data.
        x_ticks, y_ticks: where to draw the grid.
        box: left, top, width and height of the plot area in pixels.
    """

    def __init__(
        self,
        x: tuple[float, float] = (0.0, 1.0),
        y: tuple[float, float] = (0.0, 1.0),
        box: tuple[float, float, float, float] = (58, 14, 360, 270),
    ) -> None:
        self.x_limits, self.y_limits = x, y
        self.left, self.top, self.width, self.height = box
        self.parts: list[str] = []

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def px(self, x: float) -> float:
        low, high = self.x_limits
        return self.left + (x - low) / ((high - low) or 1) * self.width

    def py(self, y: float) -> float:
        low, high = self.y_limits
        return self.bottom - (y - low) / ((high - low) or 1) * self.height

    def grid(
        self,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        x_format: Callable[[float], str] = percent_tick,
        y_format: Callable[[float], str] = percent_tick,
    ) -> None:
        """Draw the grid with its tick labels."""
        right = self.left + self.width
        for tick in y_ticks:
            y = self.py(tick)
            self.parts.append(line(self.left, y, right, y, "var(--grid)"))
            self.parts.append(text(self.left - 6, y + 4, y_format(tick), "muted end small"))
        for tick in x_ticks:
            x = self.px(tick)
            self.parts.append(line(x, self.top, x, self.bottom, "var(--grid)"))
            self.parts.append(text(x, self.bottom + 15, x_format(tick), "muted mid small"))

    def labels(self, x_label: str, y_label: str) -> None:
        """Name the axes: below, and upright at the left edge."""
        middle = self.left + self.width / 2
        self.parts.append(text(middle, self.bottom + 33, x_label, "muted mid"))
        height = self.top + self.height / 2
        turned = f' transform="rotate(-90 10 {num(height)})"'
        self.parts.append(text(10, height, y_label, "muted mid", turned))

    def curve(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        stroke: str,
        hint: str = "",
        extra: str = "",
        width: float = 2,
    ) -> None:
        """A line through the points."""
        points = " ".join(
            f"{num(self.px(x))},{num(self.py(y))}" for x, y in zip(xs, ys, strict=True)
        )
        tip = f"<title>{escape(hint)}</title>" if hint else ""
        self.parts.append(
            f'<polyline points="{points}" fill="none" stroke="{stroke}" stroke-width="{width}" '
            f'stroke-linejoin="round" stroke-linecap="round"{extra}>{tip}</polyline>'
        )

    def dot(self, x: float, y: float, fill: str, hint: str = "", radius: float = 4) -> None:
        tip = f"<title>{escape(hint)}</title>" if hint else ""
        self.parts.append(
            f'<circle cx="{num(self.px(x))}" cy="{num(self.py(y))}" r="{radius}" fill="{fill}" '
            f'stroke="var(--surface)" stroke-width="1.5">{tip}</circle>'
        )

    def key(self, rows: Sequence[tuple[str, str, str]], columns: int = 4) -> float:
        """Rows of (colour, name, figure) below the axes; returns the picture's height."""
        top, step = self.bottom + 52, 430 / columns
        for i, (stroke, name, value) in enumerate(rows):
            x, y = 8 + step * (i % columns), top + 18 * (i // columns)
            self.parts.append(rect(x, y - 7, 12, 5, stroke, extra=' rx="2"'))
            self.parts.append(text(x + 16, y, name, "small"))
            self.parts.append(text(x + step - 8, y, value, "small end strong"))
        return top + 18 * ((len(rows) - 1) // columns) + 8
