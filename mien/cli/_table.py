"""The terminal table of results: a bar for each face's most probable expressions."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mien.emotions import PALETTE
from mien.results import Face, Result
from mien.text import shown

_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(value: float, width: int, ascii_only: bool = False) -> str:
    """``value`` 0..1 as a bar of at most ``width`` characters, in steps of an eighth."""
    value = min(1.0, max(0.0, value))
    if ascii_only:
        return "#" * round(value * width)
    whole, rest = divmod(round(value * width * 8), 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _place(face: Face) -> str:
    box = face.box
    return f"{box.width:.0f}×{box.height:.0f} at {box.x:.0f},{box.y:.0f}"


def print_results(results: Iterable[Result], console: Console, top: int = 3) -> None:
    """Print one table: a picture's name once, and ``top`` rows a face, best first."""
    narrow = console.width < 72
    width = 12 if narrow else 24
    plain = console.options.ascii_only
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("picture", overflow="fold", max_width=max(14, console.width // 3))
    if not narrow:
        table.add_column("face", style="dim", no_wrap=True)
    table.add_column("expression", no_wrap=True)
    table.add_column("", width=width, no_wrap=True)
    table.add_column("%", justify="right", no_wrap=True)

    def add(name: str, place: str, *cells: Text | str) -> None:
        table.add_row(Text(name), *([] if narrow else [Text(place)]), *cells)

    for result in results:
        name = shown(result.source or "picture")
        if not result.faces:
            add(name, "", Text("no face found", style="dim"), "", "")
        for face in result.faces:
            place = _place(face).replace("×", "x") if plain else _place(face)
            for rank, (emotion, value) in enumerate(face.top(top)):
                style = PALETTE[emotion]
                add(
                    name,
                    place,
                    Text(emotion.value, style="bold" if rank == 0 else ""),
                    Text(bar(value, width, plain), style=style),
                    Text(f"{100 * value:.1f}", style="bold" if rank == 0 else "dim"),
                )
                name = place = ""
    console.print(table)
