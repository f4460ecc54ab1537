"""``mien summary``: the tables of an archive as statistics, a page, or spans beside the sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien._version import __version__
from mien.atomic import atomic_path, write_text
from mien.cli._console import wrote
from mien.cli._options import argument, option
from mien.errors import MienError
from mien.report.document import Chart, Charts, Document, Section, Table, Text, count, percent
from mien.sources import real_path
from mien.text import clock, csv_line, shown

if TYPE_CHECKING:
    from mien.summary import Summary

#: Rows of the page's table.
SHOWN = 500


def summary(
    data: Annotated[
        Path, argument("A folder of mien batch, or a Parquet file of mien video.", metavar="DIR")
    ],
    by: Annotated[
        str, option("source, folder and track (with its source); all for everything.")
    ] = "source,track",
    every: Annotated[
        str | None, option("Windows of so much time, e.g. 10s, 5m, 1:30.", metavar="TIME")
    ] = None,
    output: Annotated[
        Path | None, option("Write .csv, .parquet or .html by the ending.", "--output", "-o")
    ] = None,
    min_quality: Annotated[float, option("Faces below it are doubtful, 0 to 1.")] = 0.0,
    block: Annotated[float, option("Seconds of a bootstrap block.", min=0.01)] = 2.0,
    seed: Annotated[int, option("Seed of the bootstrap.")] = 0,
    spans: Annotated[
        str | None, option("Write eaf (ELAN), TextGrid (Praat) or vtt instead, one per video.")
    ] = None,
) -> None:
    """Shares, means and transitions by source, person and time, with 95 % intervals.

    Doubtful faces are left out and counted. Without --output the table is printed as CSV. With
    --spans, --output is a folder.
    """
    from mien.summary import face_files, summarize
    from mien.video.options import parse_time

    if spans is not None:
        from mien.summary.spans import FORMATS, export

        if output is None:
            raise typer.BadParameter("--spans needs --output FOLDER")
        known = {ending[1:].lower(): ending for ending in FORMATS}
        suffix = known.get(spans.lower().lstrip("."), spans)
        wrote(*export(data, output, suffix, min_quality))
        return
    inputs = {real_path(file) for file in face_files(data)}
    if output is not None and (
        real_path(output) in inputs or real_path(output).parent == real_path(data / "faces")
    ):
        raise MienError(f"{output} would replace the faces to be read; choose another name.")
    seconds = None if every is None else parse_time(every)
    keys = [] if by.strip() in ("", "all") else [key.strip() for key in by.split(",")]
    found = summarize(data, by=keys, every=seconds, min_quality=min_quality, block=block, seed=seed)
    _write(found, output, data)
    if output is not None:
        wrote(output)


def _write(found: Summary, output: Path | None, data: Path) -> None:
    table = [found.cells(row) for row in found.rows]
    suffix = ".csv" if output is None else output.suffix.lower()
    if suffix == ".csv":
        lines = "".join(csv_line(cells) for cells in (found.columns(), *table))
        print(lines, end="") if output is None else write_text(output, lines)
    elif suffix == ".parquet" and output is not None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = dict(zip(found.columns(), map(list, zip(*table, strict=True)), strict=True))
        with atomic_path(output) as path:
            pq.write_table(pa.table(columns), path)
    elif suffix in (".html", ".htm") and output is not None:
        from mien.report.html import to_html

        write_text(output, to_html(_page(found, data)))
    else:
        raise MienError(f"{output} ends in none of .csv, .parquet and .html.")


def _page(found: Summary, data: Path) -> Any:
    from mien.report.charts import MOST_CLASSES, heat_map

    def name(row: Any) -> list[str]:
        group = [
            shown(Path(str(v)).name) if key == "source" else "–" if v is None else shown(str(v))
            for key, v in zip(found.keys, row.group, strict=True)
        ]
        when = [] if row.start is None else [f"{clock(row.start)}–{clock(row.end)}"]
        return [*(group or ["all"]), *(when or ["–"])]

    def share(row: Any, place: int) -> str:
        text = percent(row.shares[place], 1)
        if row.share_intervals is None:
            return text
        low, high = (100 * row.share_intervals[:, place]).round(1)
        return f"{text} ({low:g}–{high:g})"

    header = [*(found.keys or ("group",)), "time", "faces", "doubtful", "changes", *found.labels]
    rows = [
        [*name(r), count(r.faces), count(r.doubtful), count(r.transitions)]
        + [share(r, place) for place in range(len(found.labels))]
        for r in found.rows[:SHOWN]
    ]
    note = [Text(f"The first {SHOWN} of {len(found.rows):,} rows.")] if found.rows[SHOWN:] else []
    table = Table(header, rows, left=len(header) - 3 - len(found.labels))
    why = (
        "Share of the faces with each name, in percent, with the 95 % interval of a block "
        "bootstrap. Unsure faces, and those of too little quality, are left out: doubtful."
    )
    sections = [Section("shares", "Shares", [Text(why), *note, table])]
    if total := sum(found.changes.values()):
        much = {a: sum(n for pair, n in found.changes.items() if a in pair) for a in found.labels}
        most = sorted(found.labels, key=lambda a: -much[a])[:MOST_CLASSES]
        kept = [label for label in found.labels if label in most]
        cells = [[found.changes[a, b] / total if a != b else None for b in kept] for a in kept]
        title = "Share of all transitions, from (row) to (column)"
        more = len(found.labels) - len(kept)
        said = f"The {MOST_CLASSES} that change most; {more} are left out." if more else ""
        chart = Chart("transitions", heat_map(kept, kept, cells, title), title, said)
        sections.append(Section("transitions", "Transitions", [Charts([chart])]))
    faces, doubtful = (sum(getattr(r, n) for r in found.rows) for n in ("faces", "doubtful"))
    cards = [("faces", count(faces), "counted"), ("doubtful", count(doubtful), "left out")]
    cards.append(("transitions", count(total), "of followed faces"))
    return Document("Expressions in an archive", f"{data}, mien {__version__}", sections, cards)
