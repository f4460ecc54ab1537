"""The report at the end of a run: the chosen epoch scored on the validation split, and curves."""

from __future__ import annotations

import json
from pathlib import Path

from mien.atomic import make_folder, write_text
from mien.data.dataset import FaceDataset, Splits
from mien.evaluate import describe_model, evaluate, to_markdown
from mien.evaluate.curves import read_curves
from mien.report.plots import training_curves
from mien.report.svg import standalone
from mien.train.checkpoint import load_checkpoint
from mien.train.fit import FitResult
from mien.train.folder import CURVES, RESULT


def write_run_report(result: FitResult, dataset: FaceDataset, splits: Splits) -> Path:
    """Write ``report/`` (JSON, Markdown), ``curves.svg`` and ``result.json`` into the run.

    The report is of the validation split, on which the epoch was chosen, and says so; ``mien
    evaluate`` draws the page of any split, and scores the test split, once. Without a validation
    split there is no report.
    """
    folder = result.folder
    write_text(folder / "curves.svg", standalone(training_curves(read_curves(folder / CURVES))))
    record = {
        "best_epoch": result.best_epoch,
        "val_accuracy": result.val_accuracy,
        "seconds": round(result.seconds, 1),
        "checkpoint": result.checkpoint.name,
    }
    val = splits.select(dataset, "val")
    if len(val):
        _write_report(result, val, splits)
    # Last: it says that everything else is there.
    write_text(folder / RESULT, json.dumps(record, indent=2) + "\n")
    return folder / "report" if len(val) else folder


def _write_report(result: FitResult, val: FaceDataset, splits: Splits) -> None:
    classifier = load_checkpoint(result.checkpoint)
    report = evaluate(
        classifier.predict_proba,
        val,
        classes=classifier.info.labels,
        model={**describe_model(classifier.info), "epoch": result.best_epoch},
        protocol=splits.protocol,
        split=f"{splits.published_name('val')} (the epoch was chosen on it)",
    )
    folder = make_folder(result.folder / "report")
    write_text(folder / "report.json", report.to_json() + "\n")
    write_text(folder / "report.md", to_markdown(report))
