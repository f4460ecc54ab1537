"""``mien evaluate MODEL``: score a model on a split and write the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.atomic import make_folder
from mien.cli import _options as opt
from mien.cli._console import command_line, print_report, say, say_found, wrote
from mien.cli._options import load_model, option
from mien.errors import DataError, ModelError, require_extra
from mien.report.document import Table

if TYPE_CHECKING:
    from mien.evaluate import Report


FORMATS = ("table", "json", "markdown")


def evaluate(
    model: opt.ScoredModel,
    data: opt.Data = None,
    name: opt.Name = None,
    split: opt.Split = "val",
    protocol: Annotated[str | None, option("Named split (default: the model's own).")] = None,
    seed: Annotated[
        int | None, option("Of protocol and bootstrap (default: the model's, else 0).")
    ] = None,
    fold: opt.Fold = None,
    format_: Annotated[str, option("table, json or markdown.", "--format")] = "table",
    out: Annotated[
        Path | None, option("Folder for report.json, report.md and report.html.")
    ] = None,
    flip: opt.Flip = False,
    tta: opt.Tta = "",
    views: opt.Views = "",
    batch_size: opt.BatchSize = 256,
    bootstrap: Annotated[int, option("Resamples of the intervals.", min=1)] = 1000,
    exclude_unknown: Annotated[
        bool, option("Leave out images of classes the model lacks.", "--exclude-unknown")
    ] = False,
    record: Annotated[
        bool, option("Write the figures into the ONNX file's record.", "--record")
    ] = False,
) -> None:
    """Score a model on a split; choose on PublicTest (val), score PrivateTest (test) once.

    The report holds every figure twice: on all samples, and on those without an exact duplicate
    in the splits that were trained or chosen on.
    """
    if format_ not in FORMATS:
        raise DataError(f"--format must be one of {', '.join(FORMATS)}, not {format_!r}.")
    from mien.evaluate.runner import check_tta

    tta = tta or views
    if flip and tta not in ("", "flip"):
        raise DataError(f"--flip and --tta {tta} contradict each other; give one of them.")
    if tta:
        check_tta(tta)
    if record:
        if not model.endswith(".onnx"):
            raise ModelError(f"--record writes into an .onnx file, and {model} is none.")
        require_extra("train", ("onnx",), "--record")
    from mien.evaluate import describe_model, to_markdown, write_report
    from mien.evaluate import evaluate as score
    from mien.evaluate.samples import recorded_as, samples_of

    classifier = load_model(model)
    wanted = protocol or classifier.info.protocol or "fer2013"
    samples = samples_of(classifier, data, name, split, protocol=wanted, seed=seed, fold=fold)
    seed = samples.splits.seed if seed is None else seed
    protocol = samples.splits.protocol
    if out is not None:
        make_folder(out)  # not only when all is scored
    say_found(samples.findings)
    if samples.left_out:
        say(f"left out: {samples.left_out:,} faces that the model learned from")
    side, (height, width) = classifier.info.input_size, samples.chosen.images.shape[1:]
    if (height, width) != (side, side):
        say(f"faces of {width}×{height} pixels are brought to the model's {side}×{side}")
    report = score(
        classifier,
        samples.chosen,
        splits=samples.splits,
        allow_trained=samples.role == "train",
        twin_free_ids=samples.twin_free,
        bootstrap=bootstrap,
        seed=seed,
        batch_size=batch_size,
        flip=flip,
        tta=tta,
        exclude_unknown=exclude_unknown,
        progress=True,
        model=describe_model(classifier.info),
        protocol=protocol,
        split=samples.split,
        command=command_line(),
        notes=samples.notes,
    )
    if out is not None:
        wrote(*write_report(report, out).values())
    if record:
        other = "" if protocol in ("", classifier.info.protocol) else f"{protocol}/"
        _record(model, report, recorded_as(samples.dataset.name, other + samples.split))
    if format_ == "json":
        typer.echo(report.to_json())
    elif format_ == "markdown":
        typer.echo(to_markdown(report))
    else:
        _print(report)
    raise typer.Exit(1 if samples.findings is not None and samples.findings.unread else 0)


def _record(model: str, report: Report, name: str) -> None:
    """Write the figures into the file under the name of data and split."""
    from mien.export import record_scores

    split = name + ("" if report.tta == "none" else f" ({report.tta})")
    record_scores(model, split, report.figures())
    say(f"recorded {split} in {model}")


def _print(report: Report) -> None:
    """The terminal's view: the tables of the page, and where the figures are from."""
    from mien.evaluate.page import class_table, confusion_table, figures_table
    from mien.evaluate.report import provenance, title

    scores = report.scores
    made = Table(["", ""], provenance(report)[:4], left=2)
    tables = (made, figures_table(report), class_table(scores), confusion_table(scores))
    print_report(title(report), tables, report.notes)
