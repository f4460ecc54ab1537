"""``mien robustness MODEL``: how a classifier stands up to bad photos and crops that miss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn

from mien.cli import _options as opt
from mien.cli._console import command_line, messages, print_report, progress, say_found, wrote
from mien.cli._image import check_name, write_image
from mien.cli._options import load_model, option
from mien.errors import DataError

if TYPE_CHECKING:
    from mien.evaluate.samples import Samples
    from mien.robustness import RobustnessReport
    from mien.robustness.runner import OnCell

    #: --corruption, --severity, --limit and --flip.
    Grid = tuple[list[str] | None, list[int] | None, int | None, bool]


def robustness(
    model: opt.ScoredModelOrNone = None,
    data: opt.Data = None,
    name: opt.Name = None,
    split: opt.Split = "val",
    corruption: Annotated[
        list[str] | None, option("Only this corruption; may be repeated.")
    ] = None,
    severity: Annotated[
        list[int] | None, option("Only this one; may be repeated.", min=1, max=5)
    ] = None,
    limit: Annotated[int | None, option("Only so many faces.", min=1)] = None,
    out: Annotated[
        Path | None, option("Folder for the report and the cells; resumes there.")
    ] = None,
    baseline: Annotated[
        Path | None, option("Another model's robustness.json to compare with.")
    ] = None,
    flip: opt.Flip = False,
    batch_size: opt.BatchSize = 256,
    as_json: opt.Json = False,
    sheet: Annotated[
        Path | None, option("Write a contact sheet of all corruptions of --photo.")
    ] = None,
    photo: Annotated[
        Path | None, option("Photo of a face for --sheet (else the bundled one).")
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
    from mien.evaluate.report import facts_of
    from mien.evaluate.samples import samples_of
    from mien.robustness import corruption_error, read_report, write_report
    from mien.robustness import robustness as score
    from mien.robustness.corruptions import SEVERITIES

    other = read_report(baseline) if baseline is not None else None
    classifier = load_model(model)
    samples = samples_of(classifier, data, name, split)
    say_found(samples.findings)
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
            command=command_line(),
            on_cell=on_cell,
        )
    against = None if other is None else corruption_error(report, other)
    if out is not None:
        wrote(*write_report(report, out, against).values())
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


@contextmanager
def _progress(corruptions: list[str] | None, severities: list[int] | None) -> Iterator[OnCell]:
    """A bar on stderr if that is a terminal, else a line a corruption."""
    from mien.robustness.corruptions import CORRUPTIONS, SEVERITIES

    console = messages()
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    cells = len(set(corruptions or CORRUPTIONS)) * len(set(severities or SEVERITIES)) + 1
    with progress(console, *columns) as bar:
        task = bar.add_task("clean", total=cells)

        def advance(name: str, severity: int, accuracy: float, again: bool) -> None:
            bar.update(task, advance=1, description=name)
            if not console.is_terminal:
                kept = " (kept from an earlier run)" if again else ""
                console.print(f"{name} {severity}: {100 * accuracy:.1f} %{kept}")

        yield advance


def _print(report: RobustnessReport, against: dict[str, Any] | None) -> None:
    from mien.report.document import figure, percent
    from mien.robustness.page import framing_table, grid_table
    from mien.robustness.report import title

    notes = [*report.notes]
    if differs := report.generator.get("differs"):
        notes.append(f"this machine makes other images than published: {', '.join(differs)}")
    tables = [grid_table(report), *([framing_table(report)] if report.framing else [])]
    clean = f"{report.run['version']}, clean {percent(report.clean.accuracy, 1)}"
    print_report(f"{title(report)}, {clean}", tables, notes)
    if against is not None:
        typer.echo(
            f"corruption error relative to {against['baseline']}: mean {figure(against['mce'])}, "
            f"relative {figure(against['relative_mce'])}"
        )


def _write_sheet(path: Path, photo: Path | None) -> None:
    from importlib import resources

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
    write_image(path, contact_sheet(face))
    wrote(path)
