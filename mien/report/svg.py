"""The few SVG parts that the plots are made of: axes, lines, bars, text. Strings only.

Colours are CSS variables (see :mod:`mien.report.svg`), so that one file serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from importlib import resources

from mien.emotions import PALETTE, PALETTE_ON_LIGHT, colour_of, parse_emotion
from mien.errors import DataError

_LIGHT = {
    "surface": "#ffffff",
    "ink": "#1b1e24",
    "muted": "#5d6370",
    "grid": "#e3e6eb",
    "accent": "#3a52d6",
    "second": "#d9622b",
    "gap": "#d93d42",
}
_DARK = {
    "surface": "#191b20",
    "ink": "#eceef2",
    "muted": "#a0a6b3",
    "grid": "#2f333c",
    "accent": "#93a5ff",
    "second": "#ffa06e",
    "gap": "#ff7b7f",
}


def _variables(values: dict[str, str], dark: bool) -> str:
    palette = PALETTE if dark else PALETTE_ON_LIGHT
    classes = {f"c-{emotion.value}": colour for emotion, colour in palette.items()}
    return "".join(f"--{name}:{value};" for name, value in {**values, **classes}.items())


#: CSS of the colours and of the text in plots: once in a page, or inside a stand-alone SVG.
STYLE = (
    f":root{{color-scheme:light dark;{_variables(_LIGHT, False)}}}\n"
    f"@media (prefers-color-scheme:dark){{:root{{{_variables(_DARK, True)}}}}}\n"
    ".plot{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;font-size:12px;"
    "fill:var(--ink)}.plot .muted{fill:var(--muted)}.plot .small{font-size:10.5px}"
    ".plot .strong{font-weight:600}.plot .mid{text-anchor:middle}.plot .end{text-anchor:end}"
)


def page_style() -> str:
    """The CSS of panels, tables and text, light and dark; put :data:`STYLE` before it."""
    return resources.files("mien.report").joinpath("style.css").read_text(encoding="utf-8")


#: Pixels in which a page shows a plot, and units across one.
SHOWN, WIDTH = 580.0, 440.0
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


def class_colour(name: str) -> str:
    """The CSS colour of a class; a hue of its own for a name that is no expression."""
    try:
        return f"var(--c-{parse_emotion(name).value})"
    except DataError:
        return colour_of(name)


def wide(words: str, size: float = 5.8) -> float:
    """About the width of ``words`` in units, small text by default."""
    return size * len(words)


def _tip(hint: str) -> str:
    """What is shown when the pointer rests on a part."""
    return f"<title>{escape(hint)}</title>" if hint else ""


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
    return (
        f'<rect x="{num(x)}" y="{num(y)}" width="{num(max(width, 0))}" '
        f'height="{num(max(height, 0))}" fill="{fill}"{extra}>{_tip(hint)}</rect>'
    )


def line(x1: float, y1: float, x2: float, y2: float, stroke: str, extra: str = "") -> str:
    """A straight line."""
    return (
        f'<line x1="{num(x1)}" y1="{num(y1)}" x2="{num(x2)}" y2="{num(y2)}" '
        f'stroke="{stroke}"{extra}/>'
    )


def disc(x: float, y: float, fill: str, hint: str = "", radius: float = 5, extra: str = "") -> str:
    """A disc around (x, y)."""
    return (
        f'<circle cx="{num(x)}" cy="{num(y)}" r="{num(radius)}" fill="{fill}" '
        f'stroke="var(--surface)" stroke-width="1.5"{extra}>{_tip(hint)}</circle>'
    )


def diamond(x: float, y: float, stroke: str = "var(--ink)", hint: str = "") -> str:
    """A hollow diamond around (x, y)."""
    corners = ((x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y))
    points = " ".join(f"{num(a)},{num(b)}" for a, b in corners)
    return (
        f'<polygon points="{points}" fill="var(--surface)" stroke="{stroke}" '
        f'stroke-width="1.5">{_tip(hint)}</polygon>'
    )


#: One entry of a key: a shape ("line", "box", "hollow", "disc", "diamond"), its colour, the words.
Key = tuple[str, str, str]


def key(entries: Sequence[Key], left: float, y: float, right: float = WIDTH) -> tuple[str, float]:
    """The entries side by side from (left, y), on as many lines as they need between the edges.

    Returns:
        the SVG and the baseline of the last line.
    """
    parts, x = [], left
    for shape, colour, words in entries:
        if x > left and x + 20 + wide(words) > right:
            x, y = left, y + 17
        parts += [_mark(shape, colour, x, y), text(x + 19, y, words, "small")]
        x += 34 + wide(words)
    return "".join(parts), y


def _mark(shape: str, colour: str, x: float, y: float) -> str:
    if shape == "disc":
        return disc(x + 7, y - 4, colour)
    if shape == "diamond":
        return diamond(x + 7, y - 4, colour)
    if shape == "hollow":
        outline = f' rx="2" stroke="{colour}" stroke-width="1.2"'
        return rect(x, y - 8, 14, 8, "var(--surface)", extra=outline)
    high = 4 if shape == "line" else 8
    return rect(x, y - 4 - high / 2, 14, high, colour, extra=' rx="2"')


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

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """Points of the data as the attribute of a line or an area."""
        return " ".join(f"{num(self.px(x))},{num(self.py(y))}" for x, y in zip(xs, ys, strict=True))

    def add(self, *parts: str) -> None:
        self.parts += parts

    def grid(
        self,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        x_format: Callable[[float], str] = percent_tick,
        y_format: Callable[[float], str] = percent_tick,
    ) -> None:
        right = self.left + self.width
        for tick in y_ticks:
            y = self.py(tick)
            self.add(line(self.left, y, right, y, "var(--grid)"))
            self.add(text(self.left - 6, y + 4, y_format(tick), "muted end small"))
        for tick in x_ticks:
            x = self.px(tick)
            self.add(line(x, self.top, x, self.bottom, "var(--grid)"))
            self.add(text(x, self.bottom + 15, x_format(tick), "muted mid small"))

    def labels(self, x_label: str, y_label: str, below: float = 33) -> None:
        """Name the axes: ``below`` the plot, and upright at the left edge."""
        middle = self.left + self.width / 2
        self.add(text(middle, self.bottom + below, x_label, "muted mid"))
        height = self.top + self.height / 2
        turned = f' transform="rotate(-90 10 {num(height)})"'
        self.add(text(10, height, y_label, "muted mid", turned))

    def curve(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        stroke: str,
        hint: str = "",
        extra: str = "",
        width: float = 2,
    ) -> None:
        """A line through the points; a single one is a dot."""
        if len(xs) == 1:
            self.dot(xs[0], ys[0], stroke, hint)
        self.add(
            f'<polyline points="{self.points(xs, ys)}" fill="none" stroke="{stroke}" '
            f'stroke-width="{width}" stroke-linejoin="round" stroke-linecap="round"{extra}>'
            f"{_tip(hint)}</polyline>"
        )

    def dot(self, x: float, y: float, fill: str, hint: str = "", radius: float = 4) -> None:
        self.add(disc(self.px(x), self.py(y), fill, hint, radius))

    def key(self, entries: Sequence[Key], gap: float = 54) -> float:
        """The key, ``gap`` below the axes; returns where the chart may end."""
        drawn, y = key(entries, self.left, self.bottom + gap, self.left + self.width + 14)
        self.add(drawn)
        return y + 10

    def head_key(self, entries: Sequence[Key]) -> None:
        """The key above a chart of rows."""
        self.add(key(entries, self.left, 15)[0])

    def image(self, label: str, bottom: float | None = None) -> str:
        """The whole ``<svg>``; ``bottom`` is where it ends."""
        end = self.bottom + 24 if bottom is None else bottom
        return document(self.parts, WIDTH, end, label)


def row_axes(
    names: Sequence[str],
    limits: tuple[float, float],
    ticks: Sequence[float],
    tick: Callable[[float], str] = percent_tick,
    *,
    step: float = 30.0,
    top: float = 26.0,
    right: float = 60.0,
) -> tuple[Axes, list[float]]:
    """Axes of a chart with a row for each name, which stands at its left.

    Returns:
        the axes, and the middle of each row in units.
    """
    left = min(max((wide(n, 7.0) for n in names), default=60) + 18, 250)
    axes = Axes(limits, (0, 1), (left, top, WIDTH - left - right, step * len(names)))
    axes.grid(ticks, (), tick)
    middles = [top + step * (i + 0.5) for i in range(len(names))]
    most = int((left - 10) / 6.6)
    for name, y in zip(names, middles, strict=True):
        shown = name if len(name) <= most else f"{name[: most - 1]}…"
        axes.add(text(left - 8, y + 4, shown, "end"))
    return axes, middles
