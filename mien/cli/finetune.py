"""``mien finetune PHOTOS --out mine.onnx``: classes of one's own."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien import zoo
from mien.cli._console import command_line, say, say_found, search_bar, wrote
from mien.cli._options import Faces, GroupBy, Json, argument, option

if TYPE_CHECKING:
    from mien.own import FinetuneResult


def finetune(
    photos: Annotated[
        Path,
        argument("Class folders of photos, or a CSV, Parquet or JSON lines of them."),
    ],
    out: Annotated[Path, option("The model file to write, .onnx.")],
    start: Annotated[
        str, option("Model to start from: shipped name or .onnx file.", "--from")
    ] = zoo.DEFAULT,
    faces: Faces = False,
    group_by: GroupBy = None,
    method: Annotated[
        str,
        option(
            "linear (seconds, no torch), network (needs the extra train), or auto: the "
            "network where it can be trained, there are 20 faces a class and it is better."
        ),
    ] = "auto",
    epochs: Annotated[int, option("Most epochs of the network.", min=1)] = 10,
    seed: Annotated[int, option("Seed of the split and the training.", min=0)] = 0,
    report: Annotated[
        Path | None, option("Folder for report.html, report.md and report.json.")
    ] = None,
    licence: Annotated[str, option("What the file says of its weights.")] = "",
    json: Json = False,
) -> None:
    """Teach a model your own classes from your own photos.

    PHOTOS holds a folder a class, or train/, val/ and test/ (any two) with class folders in them;
    or is a table with columns path and label, and where wanted group, split and box.
    """
    from mien.own import finetune as run

    with search_bar(hidden=json) as progress:
        result = run(
            photos,
            out=out,
            start=start,
            faces=faces,
            group_by=group_by,
            method=method,
            epochs=epochs,
            seed=seed,
            report=report,
            licence=licence,
            on_found=say_found,
            progress=progress,
            command=command_line(),
            quiet=json,
        )
    for warning in result.warnings:
        say(f"note: {warning}")
    wrote(result.path, *result.pages.values())
    typer.echo(dumps(result.to_dict(), ensure_ascii=False) if json else _summary(result))
    raise typer.Exit(1 if result.findings.unread else 0)


def _summary(result: FinetuneResult) -> str:
    from mien.own.page import would_help

    low, high = result.report.scores.intervals["accuracy"]
    return (
        f"{result.report.split}: {result.accuracy:.1%} of {result.report.n:,} faces "
        f"(95 % interval {100 * low:.1f}–{100 * high:.1f}); by chance "
        f"{1 / len(result.info.labels):.1%}; {result.method}, {result.seconds:.1f} s\n"
        f"{would_help(result.curve)}"
    )
