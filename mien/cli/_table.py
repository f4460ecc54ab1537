"""The terminal table of results: a bar for each face's most probable expressions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mien.emotions import colour_of
from mien.results import Face, Result
from mien.text import brief, shown

#: Widths of the columns beside the name and the bar, with their gaps.
_PLACE, _EXPRESSION, _PERCENT = 24, 15, 7

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
    """Print one table: an image's name once, and ``top`` rows per face, best first.

    Names are folded over lines to fit a terminal of any width; in a file or pipe they stay whole.
    """
    results = list(results)
    names = [shown(result.source or "image") for result in results]
    room = console.width
    if not console.is_terminal:
        room = 78 + max((cell_len(name) for name in names), default=0)
        console = Console(file=console.file, width=room, highlight=False)
    plain = console.options.ascii_only
    place = room >= 72
    width = 24 if room >= 100 else 12 if room >= 50 else 0
    rest = _EXPRESSION + _PERCENT + (_PLACE if place else 0) + (width + 2 if width else 0)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("image", overflow="fold", max_width=max(6, room - rest - 2))
    if place:
        table.add_column("face", style="dim", no_wrap=True)
    table.add_column("expression", overflow="fold")
    if width:
        table.add_column("", width=width, no_wrap=True)
    table.add_column("%", justify="right", no_wrap=True)
    for name, result in zip(names, results, strict=True):
        for cells in _rows(name, result, top, width, plain):
            kept = [
                cell for cell, there in zip(cells, (1, place, 1, width, 1), strict=True) if there
            ]
            table.add_row(*kept)
    console.print(table)


def _rows(name: str, result: Result, top: int, width: int, plain: bool) -> Iterator[list[Text]]:
    """The table's rows for one image: name, place, expression, bar, per cent."""
    if not result.faces:
        yield [Text(name), Text(), Text("no face found", style="dim"), Text(), Text()]
    for face in result.faces:
        place = _place(face).replace("×", "x") if plain else _place(face)
        for rank, (emotion, value) in enumerate(face.top(top)):
            doubt = "?" if face.unsure and rank == 0 else ""
            yield [
                Text(name),
                Text(place),
                Text(f"{brief(emotion)}{doubt}", style="bold" if rank == 0 and not doubt else ""),
                Text(bar(value, width, plain), style=colour_of(emotion)),
                Text(f"{100 * value:.1f}", style="bold" if rank == 0 else "dim"),
            ]
            name = place = ""
