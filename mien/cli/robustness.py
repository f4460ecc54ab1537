"""``mien robustness MODEL``: how a classifier stands up to bad photos and crops that miss."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.errors import DataError

if TYPE_CHECKING:
    from mien.evaluate.samples import Samples
    from mien.robustness import RobustnessReport
    from mien.robustness.runner import OnCell

    #: --corruption, --severity, --limit and --flip.
    Grid = tuple[list[str] | None, list[int] | None, int | None, bool]

app = typer.Typer(add_completion=False)


@app.command()
def robustness(
    model: Annotated[
        str | None, typer.Argument(help="A .ckpt, an .onnx file or a shipped model's name.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="FER2013 in any published form.")] = None,
    name: Annotated[str | None, typer.Option(help="Which dataset of a folder of several.")] = None,
    split: Annotated[
        str, typer.Option(help="PublicTest, PrivateTest (once, at the end) or train.")
    ] = "PublicTest",
    corruption: Annotated[
        list[str] | None, typer.Option(help="Only this corruption; may be repeated.")
    ] = None,
    severity: Annotated[
        list[int] | None, typer.Option(min=1, max=5, help="Only this one; may be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many faces.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report and the cells; resumes there.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Another model's robustness.json to compare with.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirrored face.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Faces per call.")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object to stdout.")] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet of all corruptions of --photo.")
    ] = None,
    photo: Annotated[
        Path | None, typer.Option(help="Photo of a face for --sheet (else the bundled one).")
    ] = None,
) -> None:
    """Score a model on FER2013-C: 13 corruptions, 5 severities, made from your copy of FER2013."""
    if photo is not None and sheet is None:
        raise DataError("--photo is for the contact sheet; give --sheet FILE too.")
    if sheet is not None:
        _write_sheet(sheet, photo)
    if model is None:
        if sheet is None:
            raise DataError("Name a MODEL to score, or --sheet FILE to see the corruptions.")
        return
    from mien.cli._model import load_model
    from mien.evaluate.report import facts_of
    from mien.evaluate.samples import samples_of
    from mien.robustness import corruption_error, read_report, write_report
    from mien.robustness import robustness as score
    from mien.robustness.corruptions import SEVERITIES

    other = read_report(baseline) if baseline is not None else None
    classifier = load_model(model)
    samples = samples_of(classifier, data, name, split)
    facts = facts_of(classifier, model)
    if other is not None:
        _fits(other, samples, facts, classifier, (corruption, severity, limit, flip))
    with _progress(corruption, severity) as on_cell:
        report = score(
            classifier,
            samples.chosen,
            splits=samples.splits,
            allow_trained=samples.role == "train",
            corruptions=corruption,
            severities=severity or SEVERITIES,
            limit=limit,
            out=out,
            model=facts,
            twin_free_ids=samples.twin_free,
            flip=flip,
            batch_size=batch_size,
            split=samples.split,
            protocol=samples.splits.protocol,
            command=shlex.join(["mien", *sys.argv[1:]]),
            on_cell=on_cell,
        )
    against = None if other is None else corruption_error(report, other)
    if out is not None:
        for path in write_report(report, out, against).values():
            typer.echo(f"wrote {path}", err=True)
    if as_json:
        typer.echo(report.to_json())
    else:
        _print(report, against)


def _fits(
    baseline: dict[str, Any], samples: Samples, facts: dict[str, Any], classifier: Any, grid: Grid
) -> None:
    """Raise DataError where the baseline cannot be compared, before an hour of scoring."""
    from mien.robustness.baseline import check_baseline
    from mien.robustness.corruptions import CORRUPTIONS, SEVERITIES
    from mien.robustness.runner import identity, subset

    names, severities, limit, flip = grid
    run = identity(
        subset(samples.chosen, limit),
        facts,
        classifier.info.labels,
        split=samples.split,
        protocol=samples.splits.protocol,
        flip=flip,
    )
    check_baseline(run, dict.fromkeys(names or CORRUPTIONS, severities or SEVERITIES), baseline)


class _progress:  # noqa: N801 - used as a function
    """A bar on stderr if that is a terminal, else a line a corruption."""

    def __init__(self, corruptions: list[str] | None, severities: list[int] | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        from mien.robustness.corruptions import CORRUPTIONS, SEVERITIES

        self._console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
        hidden = not self._console.is_terminal
        self._bar = Progress(*columns, console=self._console, transient=True, disable=hidden)
        cells = len(set(corruptions or CORRUPTIONS)) * len(set(severities or SEVERITIES)) + 1
        self._task = self._bar.add_task("clean", total=cells)

    def __enter__(self) -> OnCell:
        self._bar.start()
        return self._advance

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _advance(self, name: str, severity: int, accuracy: float, again: bool) -> None:
        self._bar.update(self._task, advance=1, description=name)
        if not self._console.is_terminal:
            kept = " (kept from an earlier run)" if again else ""
            self._console.print(f"{name} {severity}: {100 * accuracy:.1f} %{kept}")


def _print(report: RobustnessReport, against: dict[str, Any] | None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mien.report.document import figure as number
    from mien.report.document import percent
    from mien.robustness.corruptions import CORRUPTIONS
    from mien.robustness.report import points, title

    console = Console()
    console.print(f"[bold]{escape(title(report))}[/bold], {report.run['version']}", highlight=False)
    table = Table(box=None, header_style="dim")
    for column in ("corruption", *map(str, report.severities), "mean", "of clean"):
        table.add_column(column, justify="left" if column == "corruption" else "right")
    table.add_row("clean", *[""] * len(report.severities), percent(report.clean.accuracy, 1), "")
    for name in report.corruptions:
        levels = (f"{100 * report.cell(name, s).accuracy:.1f}" for s in report.severities)
        mean = report.corruption(name).accuracy
        kept = percent(mean / report.clean.accuracy, 0) if report.clean.accuracy else "–"
        table.add_row(CORRUPTIONS[name].title, *levels, percent(mean, 1), kept)
    blank = [""] * len(report.severities)
    table.add_row(
        "[bold]all", *blank, percent(report.mean.accuracy, 1), percent(report.retained, 0)
    )
    console.print(table)
    if report.framing:
        rows = Table(box=None, header_style="dim")
        for column in ("crop", "accuracy", "points"):
            rows.add_column(column, justify="left" if column == "crop" else "right")
        for crop, figure in report.framing.items():
            rows.add_row(crop, percent(figure.accuracy, 1), points(figure))
        console.print(rows)
    if against is not None:
        console.print(
            f"corruption error relative to {against['baseline']}: mean {number(against['mce'])}, "
            f"relative {number(against['relative_mce'])}",
            highlight=False,
        )
    if report.generator.get("differs"):
        listed = ", ".join(report.generator["differs"])
        console.print(
            f"[yellow]note[/yellow] this machine makes other images than published: {listed}"
        )
    for note in report.notes:
        console.print(f"[yellow]note[/yellow] {note}", highlight=False)


def _write_sheet(path: Path, photo: Path | None) -> None:
    from importlib import resources

    from mien.cli._picture import check_name, write_picture
    from mien.detect import load_detector
    from mien.emotions import FER2013
    from mien.images import read_image
    from mien.modelinfo import ModelInfo
    from mien.preprocess import crop_face
    from mien.robustness.sheet import contact_sheet

    check_name(path)
    if photo is None:
        bundled = resources.files("mien").joinpath("assets/astronaut.jpg").read_bytes()
        image, said = read_image(bundled, name="the bundled photo"), "The bundled photo"
    else:
        image, said = read_image(photo), str(photo)
    found = load_detector("yunet").detect(image)
    if not found:
        raise DataError(f"{said} shows no face that YuNet finds; give another --photo.")
    face = crop_face(image, found[0], ModelInfo("sheet", FER2013))
    write_picture(path, contact_sheet(face))
    typer.echo(f"wrote {path}", err=True)
