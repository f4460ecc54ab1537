"""Score any predict callable over the grid of FER2013-C, cell by cell; what was scored is kept."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import FaceDataset, Splits
from mien.data.splits import refuse_trained_on
from mien.emotions import Label, to_label
from mien.errors import DataError
from mien.evaluate.metrics import reliability
from mien.evaluate.predictions import Joined, PredictionCache, Predictions
from mien.evaluate.runner import Classifier, PredictProba, predict, resolved, versions
from mien.robustness.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    SIZE,
    VERSION,
    CellKey,
    corrupt,
    generator_record,
    known,
)
from mien.robustness.report import Cell, RobustnessReport

#: Called after every cell: its corruption, severity, mean accuracy, and whether it was read again.
OnCell = Callable[[str, int, float, bool], None]

_PRIVATE = (
    "Scored on PrivateTest: do that once, after every choice was made on PublicTest, and choose "
    "nothing by these figures."
)


def robustness(
    predict_proba: PredictProba | Classifier,
    dataset: FaceDataset,
    *,
    classes: Sequence[Label] | None = None,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    limit: int | None = None,
    out: str | Path | None = None,
    model: Mapping[str, Any] | None = None,
    twin_free_ids: NDArray[np.str_] | None = None,
    flip: bool = False,
    batch_size: int = 256,
    split: str = "",
    protocol: str = "",
    command: str = "",
    on_cell: OnCell | None = None,
    splits: Splits | None = None,
    allow_trained: bool = False,
) -> RobustnessReport:
    """Score ``predict_proba`` on ``dataset``, clean and corrupted in every way of FER2013-C.

    Args:
        predict_proba: uint8 (N, 48, 48) -> (N, K) probabilities; or a loaded classifier.
        dataset: the split to score, 48×48; its order does not matter.
        classes: the K classes of ``predict_proba``, in output order; matched by name.
            A loaded classifier knows its own.
        corruptions, severities: parts of the grid; all by default.
        limit: only so many samples, the same for everyone: those whose ids hash lowest.
        out: a folder that keeps the predictions; a run with the same one goes on where it stopped.
        model: what the model is: by it kept predictions are told from those of another one.
        twin_free_ids: samples without an exact duplicate elsewhere, for a second set of means.
        flip, batch_size: see :func:`mien.evaluate.evaluate`.
        split, protocol, command: said in the report; protocol is what gave the labels.
        on_cell: see :data:`OnCell`.
        splits, allow_trained: see :func:`mien.evaluate.evaluate`.

    Raises:
        DataError: empty split, images of another size, an unknown corruption or severity, a
            damaged file in ``out``, or a model that was or may have been trained on these images.
        ModelError: ``predict_proba`` gives another shape than (N, K).
    """
    grid = _grid(corruptions, severities)
    if not allow_trained:
        refuse_trained_on(predict_proba, dataset, splits)
    call, classes = resolved(predict_proba, classes)
    chosen = subset(dataset, limit)
    run = identity(chosen, model or {}, classes, split=split, protocol=protocol, flip=flip)

    def answers(images: FaceDataset) -> tuple[Predictions, float]:
        return predict(call, images, classes, batch_size=batch_size, tta=run["tta"])

    ask = _keeping(answers, out, run)
    scored: list[Cell] = []
    for name, severity in grid:
        cells, again = _scored(chosen, name, severity, ask)
        scored += cells
        if on_cell:
            on_cell(name, severity, float(np.mean([c.accuracy for c in cells])), again)
    alone = None if twin_free_ids is None else np.isin(np.sort(chosen.ids), twin_free_ids)
    return RobustnessReport(
        cells=tuple(scored),
        run=run,
        twin_free=alone,
        generator=generator_record(),
        notes=(_PRIVATE,) if split == "PrivateTest" else (),
        # OpenCV's JPEG codec is the one part that is not mien's arithmetic.
        versions={**versions(), "opencv": cv2.__version__},
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def subset(dataset: FaceDataset, limit: int | None) -> FaceDataset:
    """The ``limit`` samples whose ids hash lowest: a smaller limit's are among a larger one's.

    Raises:
        DataError: the dataset is empty, the limit is below 1, or the images are not 48×48.
    """
    if len(dataset) == 0:
        raise DataError(f"{dataset.where} has no samples to score.")
    if dataset.images.shape[1:] != (SIZE, SIZE):
        side = "×".join(map(str, dataset.images.shape[1:]))
        raise DataError(f"FER2013-C is made of 48×48 faces; those of {dataset.where} are {side}.")
    if limit is None:
        return dataset
    if limit < 1:
        raise DataError(f"The limit is {limit}; it must be at least 1.")
    keys = [hashlib.sha256(key.encode()).digest() for key in dataset.ids.tolist()]
    lowest = sorted(range(len(keys)), key=keys.__getitem__)[:limit]
    return dataset.take(np.array(sorted(lowest), dtype=np.int64))


def identity(
    dataset: FaceDataset,
    model: Mapping[str, Any],
    classes: Sequence[Label],
    *,
    split: str = "",
    protocol: str = "",
    flip: bool = False,
) -> dict[str, Any]:
    """What two runs must agree in to be compared: the report's ``run``.

    Args:
        dataset: the samples that are scored (:func:`subset` of a split).
    """
    return {
        "version": VERSION,
        "model": dict(model),
        "classes": [to_label(c).value for c in classes],
        "data": dataset.name,
        "data_sha256": dataset.sha256,
        "ids_sha256": dataset.ids_sha256,
        "split": split,
        "protocol": protocol,
        "n": len(dataset),
        "tta": "flip" if flip else "none",
    }


def _corrupted(dataset: FaceDataset, key: CellKey) -> FaceDataset:
    if not key.severity:
        return dataset
    ids = dataset.ids.tolist()
    images = np.empty_like(dataset.images)
    for k in range(0, len(ids), 512):  # bounds the memory of the integer arithmetic
        part = slice(k, k + 512)
        images[part] = corrupt(
            dataset.images[part], ids[part], key.corruption, key.severity, key.variant
        )
    return dataclasses.replace(dataset, images=images)


def _grid(corruptions: Sequence[str] | None, severities: Sequence[int]) -> list[tuple[str, int]]:
    """Clean, then every corruption at every severity. Raises DataError."""
    names = known(CORRUPTIONS if corruptions is None else dict.fromkeys(corruptions))
    levels = sorted(set(severities))
    if not names or not levels or not set(levels) <= set(SEVERITIES):
        raise DataError("Give at least one corruption and severities from 1 to 5.")
    return [("clean", 0), *((name, s) for name in names for s in levels)]


#: Images -> predictions, their seconds, and whether they had been kept.
_Ask = Callable[[FaceDataset], tuple[Predictions, float, bool]]


def _keeping(
    answers: Callable[[FaceDataset], tuple[Predictions, float]],
    out: str | Path | None,
    run: Mapping[str, Any],
) -> _Ask:
    """``answers``, kept in the folder ``out`` if there is one."""
    if out is None:
        return lambda images: (*answers(images), False)
    cache = PredictionCache(Path(out) / "predictions")
    who = json.dumps([run["model"], run["classes"]], sort_keys=True, default=str)

    def ask(images: FaceDataset) -> tuple[Predictions, float, bool]:
        again = cache.path(who, images, run["tta"]).exists()
        made = functools.partial(answers, images)
        return (*cache.get(who, images, made, run["tta"]), again)

    return ask


def _scored(dataset: FaceDataset, name: str, severity: int, ask: _Ask) -> tuple[list[Cell], bool]:
    """The cells of one corruption and severity, and whether all of them had been kept."""
    cells, kept = [], []
    for variant in CORRUPTIONS[name].variants if severity else ("",):
        key = CellKey(name, severity, variant)
        images = _corrupted(dataset, key)
        found, seconds, again = ask(images)
        cells.append(_cell(key, found.join(images), seconds))
        kept.append(again)
    return cells, all(kept)


def _cell(key: CellKey, joined: Joined, seconds: float) -> Cell:
    confidence = joined.probabilities.max(axis=1)
    correct = joined.probabilities.argmax(axis=1) == joined.labels
    ece = reliability(confidence, correct).ece
    return Cell(key, correct, float(confidence.mean()), ece, seconds)
