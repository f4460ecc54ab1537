"""Messages to the user on standard error, safe to print whatever name they repeat."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.table
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from mien.report.document import Table
from mien.text import printable

if TYPE_CHECKING:
    from mien.data.own_faces import Findings


#: Without a terminal a line of progress is printed every so many seconds.
PLAIN_SECONDS = 30.0


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        safe = (printable(o) if isinstance(o, str) else o for o in objects)
        super().print(*safe, **options)


def messages() -> Console:
    """The console for messages: no markup, no highlighting, lines as long as they are."""
    return _Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def progress(console: Console, *columns: ProgressColumn, hidden: bool = False) -> Progress:
    """A bar on a terminal that is one line at any width: it loses columns, the first one last.

    Args:
        console: where; nothing is shown where it is no terminal.
        columns: the bar is put after the first.
        hidden: show nothing.
    """
    for number, column in enumerate(columns):
        column._table_column = Column(no_wrap=True, overflow="ellipsis")
        if not number:
            column._table_column.max_width = max(8, console.width // 3)
    bar = BarColumn(None if console.width < 80 else 40, table_column=Column(ratio=1))
    fitting = [*columns[:1], bar, *columns[1 : max(1, console.width // 20)]]
    return Progress(
        *fitting, console=console, transient=True, disable=hidden or not console.is_terminal
    )


def say_found(findings: Findings | None) -> None:
    """Say what was found in somebody's photos, a line each; nothing of a dataset of faces."""
    from mien.own.page import found_lines

    for line in found_lines(findings) if findings else ():
        say(line)


@contextmanager
def search_bar(*, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar while faces are looked for in photos; it takes (photos done, photos in all)."""
    columns = (TextColumn("looking for faces"), MofNCompleteColumn(), TimeRemainingColumn())
    with progress(messages(), *columns, hidden=hidden) as bar:
        task = bar.add_task("photos", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def say(message: str) -> None:
    """Print a message on standard error, without rich."""
    print(printable(message), file=sys.stderr)


def wrote(*paths: Path) -> None:
    """Say on standard error which files were written."""
    for path in paths:
        say(f"wrote {path}")


def without_copies(
    found: Iterable[str | Path], folder: str | Path | None, console: Console, quiet: bool = False
) -> list[str | Path]:
    """``found``, each once, without annotated copies of an earlier call in ``folder``.

    Raises MienError where there is nothing else.
    """
    from mien.errors import MienError
    from mien.sinks import is_copy
    from mien.sources import real_path

    every = list(dict.fromkeys(found))
    if folder is None:
        return every
    place = real_path(folder)
    kept = [s for s in every if not (is_copy(s) and place in real_path(s).parents)]
    if (made := len(every) - len(kept)) and not quiet:
        copies = "1 annotated copy" if made == 1 else f"{made:,} annotated copies"
        console.print(f"left out: {copies} of an earlier call in {folder}")
    if made and not kept:
        raise MienError(f"Nothing is left but annotated copies in {folder}; name others.")
    return kept


def command_line() -> str:
    """The command that runs, to be put into a report."""
    return shlex.join(["mien", *sys.argv[1:]])


def print_table(table: Table, title: str = "", console: Console | None = None) -> None:
    """Print a report's table without a frame: words in its first columns, then figures."""
    shown = rich.table.Table(box=None, header_style="dim", title=title or None)
    for number, name in enumerate(table.header):
        left = number < table.left or number in table.wrap
        shown.add_column(Text(name), justify="left" if left else "right")
    for row in table.rows:
        shown.add_row(*map(Text, row))
    (console or Console()).print(shown)


def print_report(title: str, tables: Iterable[Table], notes: Iterable[str] = ()) -> None:
    """Print a report for people: its title, tables and notes."""
    console = Console(highlight=False, markup=False)
    console.print(title, style="bold")
    for table in tables:
        console.print()
        print_table(table, console=console)
    for note in notes:
        console.print(f"note: {note}", style="yellow")
