"""Scoring the checkpoints of a run, once.

The network sees a split once: its predictions are kept in the run folder, under the checkpoint's
SHA-256 and the split's ids, and every figure is computed from them. ``scores.json`` lists what was
scored and when.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._records import RESULT
from mien._system import file_sha256
from mien.atomic import write_text
from mien.data import FaceDataset, Splits
from mien.data.duplicates import without_twins
from mien.errors import DataError
from mien.evaluate.curves import read_curves
from mien.evaluate.metrics import suspicions
from mien.evaluate.predictions import Joined, Predictions
from mien.evaluate.runner import predict
from mien.evaluate.scores import Scores, score
from mien.reproduce.mislabelled import disagreement
from mien.reproduce.spec import ScoreSpec

LIST, FOLDER = "scores.json", "predictions"


def score_run(
    folder: Path,
    specs: Sequence[ScoreSpec],
    dataset: FaceDataset,
    splits: Splits,
    *,
    device: str = "cpu",
    with_roc: bool = True,
    dry: bool = False,
) -> list[dict[str, Any]]:
    """Every score of one finished run folder, as plain JSON records.

    Args:
        specs: what to score; a part without samples is left out.
        dataset: the whole dataset of the run.
        splits: the run's own division.
        device: "cpu" or "cuda".
        with_roc: keep the ROC curves.
        dry: the run is a dry one, which measured but a part of the validation split.

    Raises:
        DataError: the accuracy on the validation split is not the one measured in training, so
            predictions and labels do not belong together.
        ModelError: a checkpoint is missing or damaged.
    """
    entries: list[dict[str, Any]] = []
    curves = read_curves(folder / "curves.csv")
    for spec in specs:
        parts = [splits.select(dataset, role) for role in spec.roles]
        ids = np.concatenate([part.ids for part in parts])
        if not len(ids):
            continue
        samples = dataset.take(dataset.indices_of(ids))
        predictions = _predictions(folder, spec, samples, splits, device)
        joined = predictions.join(samples)
        epoch = _epoch(folder, spec.checkpoint, curves)
        if not dry:
            _check_against_training(folder, joined, splits, curves, epoch)
        about = {
            "checkpoint": spec.checkpoint,
            "epoch": epoch,
            "split": spec.split or " + ".join(splits.published_name(r) for r in spec.roles),
            "why": spec.why,
        }
        entries.append(_entry(spec.key, about, joined, with_roc))
        for name, chosen in _subsets(spec, samples, dataset, splits).items():
            part = _part(joined, chosen)
            if len(part.ids):
                own = {**about, "split": f"{about['split']}, {_SUBSET.get(name, name)}"}
                entries.append(_entry(f"{spec.key}_{name}", own, part, with_roc=False))
    return entries


_SUBSET = {
    "twin_free": "without twins",
    "fer2013": "its FER2013 part",
    "muxspace": "its muxspace part",
}


def _subsets(
    spec: ScoreSpec, samples: FaceDataset, dataset: FaceDataset, splits: Splits
) -> dict[str, NDArray[np.str_]]:
    found: dict[str, NDArray[np.str_]] = {}
    if spec.twin_free:
        seen = [r for r in ("train", "val") if r not in spec.roles and len(splits.ids[r])]
        found["twin_free"] = without_twins(samples, *(splits.select(dataset, r) for r in seen))
    for name, prefix in spec.subsets.items():
        found[name] = samples.ids[np.char.startswith(samples.ids, prefix)]
    return found


def _part(joined: Joined, ids: NDArray[np.str_]) -> Joined:
    keep = np.isin(joined.ids, ids)
    return Joined(
        ids=joined.ids[keep],
        rows=joined.rows[keep],
        labels=joined.labels[keep],
        probabilities=joined.probabilities[keep],
        classes=joined.classes,
        excluded=joined.excluded,
    )


def _entry(key: str, about: dict[str, Any], joined: Joined, with_roc: bool) -> dict[str, Any]:
    figures = score(joined.labels, joined.probabilities, joined.classes)
    record = figures.to_dict()
    del record["confusion_rates"]
    if with_roc:
        record["roc"] = _roc(figures)
    notes = suspicions(figures.confusion, figures.classes)
    return {"key": key, **about, "n": figures.n, "scores": record, "notes": notes}


def _roc(figures: Scores) -> dict[str, Any]:
    curves = figures.curves_to_dict()["roc"]
    return {
        name: None if curve is None else {k: curve[k] for k in ("fpr", "tpr", "area")}
        for name, curve in curves.items()
    }


def _epoch(folder: Path, checkpoint: str, curves: Sequence[dict[str, float]]) -> int | None:
    """The epoch of a checkpoint, from 1; None where the run does not say."""
    if checkpoint == "last":
        return int(curves[-1]["epoch"]) if curves else None
    try:
        return int(json.loads((folder / RESULT).read_text())["best_epoch"])
    except (OSError, ValueError, KeyError):
        return None


def _check_against_training(
    folder: Path,
    joined: Joined,
    splits: Splits,
    curves: Sequence[dict[str, float]],
    epoch: int | None,
) -> None:
    """The guard against Njoku's mistake: the training loop measured the same images itself."""
    val = splits.ids["val"]
    row = next((r for r in curves if r["epoch"] == epoch), {})
    if not len(val) or "val_accuracy" not in row or not np.isin(val, joined.ids).all():
        return
    accuracy = _part(joined, val).accuracy
    wrong = disagreement(accuracy, row["val_accuracy"], len(val))
    if wrong:
        raise DataError(f"{folder}: {wrong}")


def _predictions(
    folder: Path, spec: ScoreSpec, samples: FaceDataset, splits: Splits, device: str
) -> Predictions:
    """The kept predictions of the checkpoint on exactly these samples, else new ones, kept."""
    checkpoint = folder / f"{spec.checkpoint}.ckpt"
    mark = _sha256(checkpoint)
    key = f"{mark[:16]}-{samples.ids_sha256[:16]}"
    kept = folder / FOLDER / f"{key}.npz"
    found = Predictions.load(kept)
    if found is not None:
        return found
    from mien.train import load_checkpoint

    classifier = load_checkpoint(checkpoint, device)
    made, seconds = predict(
        classifier.predict_proba, samples, classifier.info.labels, progress=True
    )
    made.save(kept)
    _note(folder, key, spec, mark, len(samples), seconds)
    # Through the file, so that the first report and every later one agree to the last digit.
    return Predictions.load(kept) or made


def _note(folder: Path, key: str, spec: ScoreSpec, mark: str, n: int, seconds: float) -> None:
    """Add one line of what was scored, and when, to ``scores.json``."""
    path = folder / LIST
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        record = {}
    record[key] = {
        "checkpoint": f"{spec.checkpoint}.ckpt",
        "sha256": mark,
        "roles": list(spec.roles),
        "n": n,
        "seconds": round(seconds, 2),
        "scored": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_text(path, json.dumps(record, indent=2, sort_keys=True) + "\n")


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path} is missing; train the run again.")
    return file_sha256(path)
