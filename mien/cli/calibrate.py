"""``mien calibrate MODEL --data PHOTOS --out FILE``: confidences that fit one's own photos."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli._console import say, say_found, search_bar, wrote
from mien.cli._options import Faces, GroupBy, Json, argument, option

if TYPE_CHECKING:
    from mien.own import CalibrationResult


def calibrate(
    model: Annotated[str, argument("A shipped model's name or an .onnx file.")],
    data: Annotated[
        Path, option("Class folders of photos, or a CSV, Parquet or JSON lines of them.")
    ],
    out: Annotated[Path, option("The model file to write, .onnx.")],
    accuracy: Annotated[
        float | None,
        option(
            "Wanted of the answers that are not unsure, e.g. 0.95; default: lose at most 5 % "
            "of the right answers."
        ),
    ] = None,
    faces: Faces = False,
    group_by: GroupBy = None,
    seed: Annotated[int, option("Of the folds.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Refit a model's temperature and the threshold of "unsure" on your own labelled photos.

    The names that faces get stay the same; how sure they are, and when they are unsure, changes.
    """
    from mien.own import calibrate as run

    with search_bar(hidden=json) as progress:
        result = run(
            model,
            data,
            out=out,
            accuracy=accuracy,
            faces=faces,
            group_by=group_by,
            seed=seed,
            on_found=say_found,
            progress=progress,
        )
    for warning in result.warnings:
        say(f"note: {warning}")
    wrote(result.path)
    if json:
        typer.echo(dumps(result.to_dict(), ensure_ascii=False))
    else:
        for line in _lines(result):
            typer.echo(line)
    raise typer.Exit(1 if result.findings.unread else 0)


def _lines(result: CalibrationResult) -> list[str]:
    left = f" ({result.left_out:,} that it learned from left out)" if result.left_out else ""
    old, new = result.before, result.after
    return [
        f"{result.faces:,} faces{left}, {result.overall:.1%} right",
        f"temperature        {old.temperature:.3f} -> {new.temperature:.3f}",
        f"calibration error  {old.ece:.3f} -> {new.ece:.3f}",
        f"unsure below       {old.below:.1%} -> {new.below:.1%} confidence",
        f"answered           {old.coverage:.1%} -> {new.coverage:.1%} of the faces",
        f"right of those     {old.accuracy:.1%} -> {new.accuracy:.1%}",
        "after the arrow: each face by what the other folds gave",
    ]
