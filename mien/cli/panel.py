"""``mien panel MODEL``: detector and classifier on photos, as they are and made worse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mien import zoo
from mien.atomic import make_folder
from mien.cli._console import say, wrote
from mien.cli._options import Json, argument, option
from mien.text import counted, printable

if TYPE_CHECKING:
    from mien.panel.sets import PanelSet


def panel(
    model: Annotated[str | None, argument("A shipped model's name or an .onnx file.")] = None,
    data: Annotated[
        Path | None,
        option("Folder with London, CK+48, muxspace and FER2013; default MIEN_DATA."),
    ] = None,
    photos: Annotated[
        list[Path] | None,
        option("Own photos in folders named by expression; may be repeated."),
    ] = None,
    half: Annotated[
        str, option("development (to choose on), test (once, at the end) or all.")
    ] = "development",
    condition: Annotated[list[str] | None, option("Only this condition; may be repeated.")] = None,
    limit: Annotated[int | None, option("Photos of each class and set at most.", min=1)] = None,
    out: Annotated[Path | None, option("Folder for the report.", "--out", "-o")] = None,
    as_json: Json = False,
) -> None:
    """Score a model on the photo panel: detection, accuracy, calibration, groups of people.

    Exit codes: 0 every photo was read, 1 some could not be, 2 none could, or an option is wrong.
    """
    from mien.data import default_data_path
    from mien.panel import ask_analyzer, document, load_sets, run_panel
    from mien.panel import write_panel as write
    from mien.pipeline import Analyzer
    from mien.report.markdown import to_markdown

    analyzer = Analyzer(model or zoo.DEFAULT)
    sets = _own_sets(photos or [])
    for own in sets:
        if own.left_out:
            say(f"{own.name}: {own.remark}")
    if data is not None or not sets:
        sets += load_sets(data or default_data_path())
    if out is not None:
        make_folder(out)  # not only when all is scored
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        report = run_panel(
            ask_analyzer(analyzer),
            sets,
            model=analyzer.info.name,
            half=half,
            limit=limit,
            conditions=condition,
            progress=lambda name, what: status.update(f"{name}: {what}"),
        )
    if report.unreadable:
        lost, first = counted(report.unreadable, "photo"), report.first_unreadable
        typer.echo(f"{lost} could not be read; the first is {first}.", err=True)
    if out is not None:
        wrote(*write(report, out).values())
    if as_json:
        typer.echo(json.dumps(report.to_dict(), ensure_ascii=False))
    elif out is None:
        typer.echo(to_markdown(document(report)))
    raise typer.Exit(1 if report.unreadable else 0)


def _own_sets(folders: list[Path]) -> list[PanelSet]:
    """A set of each folder; those of one name are called by their paths."""
    from mien.panel import read_class_folders

    sets = [read_class_folders(folder) for folder in folders]
    names = [panel_set.name for panel_set in sets]
    return [
        replace(one, name=printable(folder)) if names.count(one.name) > 1 else one
        for one, folder in zip(sets, folders, strict=True)
    ]
