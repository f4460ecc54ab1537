"""The look of every page that mien writes: colours, light and dark, and the CSS."""

from __future__ import annotations

from importlib import resources

from mien.emotions import PALETTE, PALETTE_ON_LIGHT

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
