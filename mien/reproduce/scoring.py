"""Scoring the checkpoints of a run, once.

The network sees a split once: its predictions are kept in the run folder, and every figure is
computed from them. ``scores.json`` lists what was scored and when.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._system import file_sha256
from mien.atomic import write_text
from mien.data import FaceDataset, Splits
from mien.data.duplicates import without_twins
from mien.errors import DataError, RecipeError
from mien.evaluate.metrics import confusion_matrix, suspicions
from mien.evaluate.predictions import Joined, PredictionCache, Predictions
from mien.evaluate.runner import predict
from mien.evaluate.scores import score
from mien.reproduce.run import Epoch, Figures, Score, from_json
from mien.reproduce.spec import ScoreSpec
from mien.train.folder import CURVES, RESULT, read_curves, read_json

LIST, FOLDER = "scores.json", "predictions"

#: bfloat16 in training and float32 in scoring may differ by this much; another order by more.
TOLERANCE = 0.01

_SUBSET = {
    "twin_free": "without exact duplicates",
    "fer2013": "its FER2013 part",
    "muxspace": "its muxspace part",
}


def score_run(
    folder: Path,
    specs: Sequence[ScoreSpec],
    dataset: FaceDataset,
    splits: Splits,
    *,
    device: str = "cpu",
    with_roc: bool = True,
    dry: bool = False,
) -> tuple[Score, ...]:
    """Every score of one finished run folder.

    Args:
        specs: what to score; a part without samples is left out.
        dataset: the whole dataset of the run.
        splits: the run's own split of it.
        device: "cpu" or "cuda".
        with_roc: keep the ROC curves.
        dry: the run is a dry one, which measured but a part of the validation split.

    Raises:
        DataError: the accuracy on the validation split is not the one measured in training, so
            predictions and labels do not belong together; or a checkpoint is missing.
        ModelError: a checkpoint is damaged.
    """
    found: list[Score] = []
    curves = read_curves(folder / CURVES)
    last = int(curves[-1]["epoch"]) if curves else None
    best = read_json(folder / RESULT).get("best_epoch") if (folder / RESULT).exists() else None
    for spec in specs:
        ids = np.concatenate([splits.select(dataset, role).ids for role in spec.roles])
        if not len(ids):
            continue
        samples = dataset.take(dataset.indices_of(ids))
        joined = _predictions(folder, spec, samples, device).join(samples)
        epoch = last if spec.checkpoint == "last" else best
        if not dry:
            row = next((r for r in curves if r["epoch"] == epoch), {})
            _check_against_training(folder, joined, splits.ids["val"], row)
        split = spec.split or " + ".join(splits.published_name(r) for r in spec.roles)
        parts = {"": (joined, split, with_roc)}
        for name, chosen in _subsets(spec, samples, dataset, splits).items():
            if len((part := _part(joined, chosen)).ids):
                parts[f"_{name}"] = (part, f"{split}, {_SUBSET.get(name, name)}", False)
        found += [
            Score(
                f"{spec.key}{name}",
                spec.checkpoint,
                of,
                spec.why,
                len(part.ids),
                _figures(part, roc),
                epoch,
                _warnings(part),
            )
            for name, (part, of, roc) in parts.items()
        ]
    return tuple(found)


def disagreement(accuracy: float, measured: float, n: int) -> str:
    """One sentence if a report's accuracy is not the one that training measured; "" if it is.

    Both are of the same weights and the same ``n`` images; only rounding may lie between them.

    Args:
        accuracy: of the report, 0..1.
        measured: by the training loop, batch by batch, 0..1.
        n: images.
    """
    if abs(accuracy - measured) <= max(TOLERANCE, 2 / max(n, 1)):
        return ""
    return (
        f"the report's accuracy on the {n:,} validation images is {accuracy:.4f}, and training "
        f"measured {measured:.4f} with the same weights: predictions and labels are in different "
        "orders, or the checkpoint is not this run's."
    )


def _check_against_training(
    folder: Path, joined: Joined, val: NDArray[np.str_], row: Epoch
) -> None:
    """The guard against Njoku's mistake: the training loop measured the same images itself."""
    if not len(val) or "val_accuracy" not in row or not np.isin(val, joined.ids).all():
        return
    wrong = disagreement(_part(joined, val).accuracy, row["val_accuracy"], len(val))
    if wrong:
        raise DataError(f"{folder}: {wrong}")


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
    names = ("ids", "rows", "labels", "probabilities")
    return dataclasses.replace(joined, **{name: getattr(joined, name)[keep] for name in names})


def _figures(joined: Joined, with_roc: bool) -> Figures:
    scores = score(joined.labels, joined.probabilities, joined.classes)
    roc = scores.curves_to_dict()["roc"] if with_roc else None
    found: Figures = from_json(Figures, scores.to_dict() | {"roc": roc})
    return found


def _warnings(joined: Joined) -> tuple[str, ...]:
    predicted = joined.probabilities.argmax(axis=1)
    confusion = confusion_matrix(joined.labels, predicted, len(joined.classes))
    return tuple(suspicions(confusion, joined.classes))


def _predictions(folder: Path, spec: ScoreSpec, samples: FaceDataset, device: str) -> Predictions:
    """The kept predictions of the checkpoint on exactly these samples, else new ones, kept."""
    checkpoint = folder / f"{spec.checkpoint}.ckpt"
    if not checkpoint.is_file():
        raise DataError(f"{checkpoint} is missing; train the run again.")
    sha256 = file_sha256(checkpoint)
    cache = PredictionCache(folder / FOLDER)

    def compute() -> tuple[Predictions, float]:
        from mien.train import load_checkpoint

        classifier = load_checkpoint(checkpoint, device)
        made, seconds = predict(
            classifier.predict_proba, samples, classifier.info.labels, progress=True
        )
        about = {
            "checkpoint": checkpoint.name,
            "sha256": sha256,
            "roles": list(spec.roles),
            "n": len(samples),
            "seconds": round(seconds, 2),
            "scored": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        _note(folder / LIST, cache.path(sha256, samples).stem, about)
        return made, seconds

    return cache.get(sha256, samples, compute)[0]


def _note(path: Path, key: str, about: dict[str, Any]) -> None:
    """Add one line of what was scored, and when, to ``scores.json``."""
    record: dict[str, Any] = {}
    with suppress(RecipeError):
        record = read_json(path)
    record[key] = about
    write_text(path, json.dumps(record, indent=2, sort_keys=True) + "\n")
