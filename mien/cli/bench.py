"""``mien bench``: speed, memory and size of this installation beside the project's targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mien import zoo
from mien.atomic import write_text
from mien.cli._console import print_table
from mien.cli._options import Json, Model, OutJson, option
from mien.report.document import Table


def bench(
    model: Model = None,
    photo: Annotated[
        Path | None, option("A photo with one clear face (default: a bundled one).")
    ] = None,
    repeats: Annotated[int, option("Timed runs; their median counts.", min=1)] = 20,
    threads: Annotated[
        list[int] | None, option("Classifier threads; may be repeated.", min=1)
    ] = None,
    as_json: Json = False,
    out: OutJson = None,
) -> None:
    """Measure faces/s, milliseconds per photo, cold start, memory and size on disk."""
    from mien.bench import run_bench

    result = run_bench(
        model or zoo.DEFAULT, photo, repeats=repeats, threads=tuple(threads or (1, 2))
    )
    text = json.dumps(result, indent=2)
    if out is not None:
        write_text(out, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        _print_tables(result)


def _print_tables(result: dict[str, Any]) -> None:
    system, speeds = result["system"], result["classifier"]
    typer.echo(
        f"mien {system['mien']}, {system['processor']}, {system['cores']} cores, "
        f"Python {system['python']}, onnxruntime {system['onnxruntime']}, "
        f"load before {system['load_before']}"
    )
    header = ["threads", *next(iter(speeds.values()))]
    rows = [[threads, *(f"{v:,.0f}" for v in row.values())] for threads, row in speeds.items()]
    print_table(Table(header, rows), "Classifier, faces/s by batch")
    rows = [[t, f"{row['1']:.1f}", f"{row['4']:.1f}"] for t, row in result["photo"].items()]
    title = "Photo 1024×1024, array in, result out (ms)"
    print_table(Table(["threads", "1 face", "4 faces"], rows), title)
    rows = [
        [
            row["name"],
            f"{row['value']:,} {row['unit']}",
            f"{'≥' if row['better'] == 'higher' else '≤'} {row['target']:,}",
            "met" if row["met"] else "missed",
        ]
        for row in result["summary"]
    ]
    print_table(Table(["figure", "value", "target", ""], rows, left=4), "Targets")
