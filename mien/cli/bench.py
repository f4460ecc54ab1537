"""``mien bench``: speed, memory and size of this installation beside the project's targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mien.cli._options import Json, Model, OutJson, option


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
    import json

    from mien import zoo
    from mien.bench import run_bench

    result = run_bench(
        model or zoo.DEFAULT, photo, repeats=repeats, threads=tuple(threads or (1, 2))
    )
    text = json.dumps(result, indent=2)
    if out is not None:
        from mien import atomic

        atomic.write_text(out, text + "\n")
    if as_json:
        typer.echo(text)
    else:
        _print_tables(result)


def _print_tables(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    system = result["system"]
    console.print(
        f"mien {system['mien']}, {system['processor']}, {system['cores']} cores, "
        f"Python {system['python']}, onnxruntime {system['onnxruntime']}, "
        f"load before {system['load_before']}"
    )
    speeds = Table(title="Classifier, faces/s by batch")
    speeds.add_column("threads")
    batches = list(next(iter(result["classifier"].values())))
    for batch in batches:
        speeds.add_column(batch, justify="right")
    for threads, row in result["classifier"].items():
        speeds.add_row(threads, *(f"{row[batch]:,.0f}" for batch in batches))
    console.print(speeds)
    photos = Table(title="Photo 1024×1024, array in, result out (ms)")
    for column in ("threads", "1 face", "4 faces"):
        photos.add_column(column, justify="right")
    for threads, row in result["photo"].items():
        photos.add_row(threads, f"{row['1']:.1f}", f"{row['4']:.1f}")
    console.print(photos)
    summary = Table(title="Targets")
    for column in ("figure", "value", "target", ""):
        summary.add_column(column)
    for row in result["summary"]:
        sign = "≥" if row["better"] == "higher" else "≤"
        summary.add_row(
            row["name"],
            f"{row['value']:,} {row['unit']}",
            f"{sign} {row['target']:,}",
            "[green]met[/]" if row["met"] else "[red]missed[/]",
        )
    console.print(summary)
