"""Evaluate any predict callable over a split."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import _system
from mien.data.dataset import FaceDataset
from mien.emotions import Emotion
from mien.errors import DataError, ModelError
from mien.evaluate.metrics import suspicions
from mien.evaluate.predictions import Joined, Predictions
from mien.evaluate.report import Mistake, Report
from mien.evaluate.scores import Scores, score
from mien.evaluate.views import check_views, views_of

#: uint8 (N, H, W) grey faces -> float (N, K) probabilities, row i for face i.
PredictProba = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]

#: Packages whose versions a report names, where they are installed.
_PACKAGES = ("mien", "numpy", "onnxruntime", "torch")


def evaluate(
    predict_proba: PredictProba,
    dataset: FaceDataset,
    *,
    classes: Sequence[Emotion],
    twin_free_ids: NDArray[np.str_] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
    flip: bool = False,
    views: str = "",
    exclude_unknown: bool = False,
    progress: bool = False,
    mistakes: int = 24,
    model: Mapping[str, Any] | None = None,
    protocol: str = "",
    split: str = "",
    command: str = "",
) -> Report:
    """Score ``predict_proba`` on ``dataset``, which is already the split to score.

    Args:
        predict_proba: uint8 (N, H, W) -> (N, K) probabilities.
        dataset: the split; its order does not matter.
        classes: the K classes of ``predict_proba``, in output order; matched to the dataset's by
            name.
        twin_free_ids: samples of the split without a byte-identical twin elsewhere, for a second
            set of figures (see :func:`mien.data.twin_free_ids`); others than the split's are
            refused.
        bootstrap, seed: resamples and seed of the 95 % intervals.
        batch_size: faces per call.
        flip: average the probabilities of each face and its mirror image.
        views: what to average over instead: "none", "flip" or "ten" (flip × five places; see
            :func:`mien.evaluate.views.views_of`); "" follows ``flip``.
        exclude_unknown: leave out, and count, samples of a class the model has not (CK+ contempt
            for a FER2013 model) instead of refusing.
        progress: a bar on stderr, if that is a terminal.
        mistakes: how many of the most confident mistakes the report keeps.
        model, protocol, split, command: said in the report.

    Raises:
        DataError: empty split, classes that do not fit, ids that do not match.
        ModelError: ``predict_proba`` gives another shape than (N, K).
    """
    if len(dataset) == 0:
        raise DataError(f"{dataset.source or dataset.name}: the split {split!r} has no samples.")
    if batch_size < 1:
        raise DataError(f"The batch size is {batch_size}; it must be at least 1.")
    views = check_views(views or ("flip" if flip else "none"))
    predictions, seconds = predict(
        predict_proba, dataset, classes, batch_size=batch_size, views=views, progress=progress
    )
    return report_on(
        predictions,
        dataset,
        twin_free_ids=twin_free_ids,
        bootstrap=bootstrap,
        seed=seed,
        views=views,
        exclude_unknown=exclude_unknown,
        mistakes=mistakes,
        model=model,
        protocol=protocol,
        split=split,
        command=command,
        seconds=seconds,
    )


def report_on(
    predictions: Predictions,
    dataset: FaceDataset,
    *,
    twin_free_ids: NDArray[np.str_] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    views: str = "none",
    exclude_unknown: bool = False,
    mistakes: int = 24,
    model: Mapping[str, Any] | None = None,
    protocol: str = "",
    split: str = "",
    command: str = "",
    seconds: float = 0.0,
) -> Report:
    """The report of probabilities that were computed before; arguments as in :func:`evaluate`."""
    classes = predictions.classes
    joined = predictions.join(dataset, exclude_unknown=exclude_unknown)
    scores = score(joined.labels, joined.probabilities, classes, bootstrap=bootstrap, seed=seed)
    twin_free = None
    if twin_free_ids is not None:
        dataset.indices_of(np.asarray(twin_free_ids, dtype=np.str_))
        twin_free = _subset_scores(joined, twin_free_ids, bootstrap, seed)
    return Report(
        scores=scores,
        twin_free=twin_free,
        model=dict(model or {}),
        data={
            "name": dataset.name,
            "source": dataset.source,
            "sha256": dataset.sha256,
            "n": len(dataset),
            "classes": [c.value for c in dataset.classes],
            "excluded": {c.value: n for c, n in joined.excluded.items()},
        },
        protocol=protocol,
        split=split,
        tta=views,
        bootstrap=bootstrap,
        seed=seed,
        seconds=seconds,
        mistakes=_worst(joined, dataset, mistakes),
        notes=tuple(suspicions(scores.confusion, scores.classes)),
        versions=versions(),
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def predict(
    predict_proba: PredictProba,
    dataset: FaceDataset,
    classes: Sequence[Emotion],
    *,
    batch_size: int = 256,
    flip: bool = False,
    views: str = "",
    progress: bool = False,
) -> tuple[Predictions, float]:
    """Run the model over ``dataset`` in the order of the ids, so that batches never depend on it.

    Returns:
        the predictions by sample id, and the seconds spent in ``predict_proba``.
    """
    views = check_views(views or ("flip" if flip else "none"))
    order = np.argsort(dataset.ids, kind="stable")
    parts = []
    seconds = 0.0
    with _bar(len(dataset), progress) as advance:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            faces = np.ascontiguousarray(dataset.images[rows])
            began = time.perf_counter()
            seen = [_call(predict_proba, v, len(classes)) for v in views_of(faces, views)]
            probabilities = sum(seen[1:], seen[0]) / len(seen)
            seconds += time.perf_counter() - began
            parts.append(probabilities)
            advance(len(rows))
    return Predictions(dataset.ids[order], np.concatenate(parts), tuple(classes)), seconds


def _call(
    predict_proba: PredictProba, faces: NDArray[np.uint8], n_classes: int
) -> NDArray[np.float64]:
    probabilities = np.asarray(predict_proba(faces), dtype=np.float64)
    if probabilities.shape != (len(faces), n_classes):
        raise ModelError(
            f"The model gave an array of shape {probabilities.shape} for {len(faces)} faces and "
            f"{n_classes} classes; expected ({len(faces)}, {n_classes})."
        )
    return probabilities


@contextmanager
def _bar(total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, where wanted and stderr is a terminal; yields ``advance``."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("Scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("faces", total=total)
        yield lambda done: bar.advance(task, done)


def _subset_scores(
    joined: Joined, ids: NDArray[np.str_], bootstrap: int, seed: int
) -> Scores | None:
    """The figures of the samples in ``ids`` alone; None where none of them is left."""
    keep = np.isin(joined.ids, ids)
    if not keep.any():
        return None
    return score(
        joined.labels[keep],
        joined.probabilities[keep],
        joined.classes,
        bootstrap=bootstrap,
        seed=seed,
    )


def _worst(joined: Joined, dataset: FaceDataset, count: int) -> tuple[Mistake, ...]:
    """The ``count`` wrong predictions of highest confidence; ties in order of the ids."""
    predicted = joined.probabilities.argmax(axis=1)
    confidence = joined.probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != joined.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    return tuple(
        Mistake(
            id=str(joined.ids[i]),
            true=joined.classes[joined.labels[i]],
            predicted=joined.classes[predicted[i]],
            confidence=float(confidence[i]),
            probability_of_true=float(joined.probabilities[i, joined.labels[i]]),
            image=dataset.images[joined.rows[i]],
        )
        for i in worst
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter, without importing any."""
    return {"python": platform.python_version(), **_system.versions(_PACKAGES)}
