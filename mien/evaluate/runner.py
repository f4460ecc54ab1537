"""Evaluate any predict callable over a split."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, TypedDict, Unpack, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mien import _system
from mien.data.dataset import FaceDataset, Splits
from mien.data.splits import refuse_trained_on
from mien.emotions import Label
from mien.errors import DataError, ModelError
from mien.evaluate.metrics import suspicions
from mien.evaluate.predictions import Joined, Predictions
from mien.evaluate.report import Mistake, Report
from mien.evaluate.scores import Scores, score
from mien.modelinfo import ModelInfo
from mien.preprocess import whole_face

#: The kinds of test-time augmentation: the face alone; with its mirror image; both, at five places.
TTA = ("none", "flip", "ten")

#: Shift of the four outer places of "ten", in pixels of a 48 px face (4 %).
SHIFT = 2


def check_tta(tta: str) -> str:
    """``tta`` itself. Raises DataError for a name that is not in ``TTA``."""
    if tta not in TTA:
        raise DataError(f"Test-time augmentation must be one of {', '.join(TTA)}, not {tta!r}.")
    return tta


def shifted(faces: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Faces moved by whole pixels, their edges repeated; uint8 (N, H, W)."""
    rows = np.clip(np.arange(faces.shape[1]) - down, 0, faces.shape[1] - 1)
    columns = np.clip(np.arange(faces.shape[2]) - right, 0, faces.shape[2] - 1)
    return faces[:, rows[:, None], columns[None, :]]


def augmented(faces: NDArray[np.uint8], tta: str) -> Iterator[NDArray[np.uint8]]:
    """Each augmented copy of a batch in turn: 1, 2 or 10 arrays uint8 (N, H, W).

    "ten" is the classic ten-crop (Krizhevsky et al. 2012) for a net that takes the whole face: the
    face and four copies moved diagonally by ``SHIFT`` of 48 pixels, each with its mirror image.
    """
    check_tta(tta)
    places = [(0, 0)]
    if tta == "ten":
        step = max(1, round(SHIFT * faces.shape[1] / 48))
        places += [(step, step), (step, -step), (-step, step), (-step, -step)]
    for down, right in places:
        moved = shifted(faces, down, right) if (down, right) != (0, 0) else faces
        yield np.ascontiguousarray(moved)
        if tta != "none":
            yield np.ascontiguousarray(moved[:, :, ::-1])


#: uint8 (N, H, W) grey faces -> float (N, K) probabilities, row i for face i.
PredictProba = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]


@runtime_checkable
class Classifier(Protocol):
    """A loaded model: :class:`mien.classify.Classifier` or a checkpoint."""

    info: ModelInfo

    def predict_proba(self, faces: NDArray[np.uint8]) -> NDArray[np.floating[Any]]: ...


#: Packages whose versions a report names, where they are installed.
_PACKAGES = ("mien", "numpy", "onnxruntime", "torch")


class About(TypedDict, total=False):
    """What a report says beside its figures, and how these are made; see :func:`report_on`."""

    twin_free_ids: NDArray[np.str_] | None
    bootstrap: int
    seed: int
    exclude_unknown: bool
    mistakes: int
    model: Mapping[str, Any] | None
    protocol: str
    split: str
    command: str
    notes: tuple[str, ...]


def evaluate(
    predict_proba: PredictProba | Classifier,
    dataset: FaceDataset,
    *,
    classes: Sequence[Label] | None = None,
    batch_size: int = 256,
    flip: bool = False,
    tta: str = "",
    progress: bool = False,
    splits: Splits | None = None,
    allow_trained: bool = False,
    **about: Unpack[About],
) -> Report:
    """Score ``predict_proba`` on ``dataset``, which is already the split to score.

    Args:
        predict_proba: uint8 (N, H, W) -> (N, K) probabilities; or a loaded classifier.
        dataset: the split; its order does not matter.
        classes: the K classes of ``predict_proba``, in output order; matched to the dataset's by
            name. A loaded classifier knows its own.
        batch_size: faces per call.
        flip: average the probabilities of each face and its mirror image.
        tta: the test-time augmentation instead: "none", "flip" or "ten" (flip × five places; see
            :func:`mien.evaluate.runner.augmented`); "" follows ``flip``.
        progress: a bar on stderr, if that is a terminal.
        splits: where ``dataset`` is from; a model of a protocol that draws its split is refused
            without it, see :func:`mien.data.splits.refuse_trained_on`.
        allow_trained: score images that the model learned from, for a training accuracy.
        about: see :func:`report_on`.

    Raises:
        DataError: empty split, classes that do not fit, ids that do not match, or a model that was
            or may have been trained on these images.
        ModelError: ``predict_proba`` gives another shape than (N, K).
    """
    if len(dataset) == 0:
        split = about.get("split", "")
        raise DataError(f"{dataset.where}: the split {split!r} has no samples.")
    if batch_size < 1:
        raise DataError(f"The batch size is {batch_size}; it must be at least 1.")
    if not allow_trained:
        refuse_trained_on(predict_proba, dataset, splits)
    tta = check_tta(tta or ("flip" if flip else "none"))
    predictions, seconds = predict(
        predict_proba, dataset, classes, batch_size=batch_size, tta=tta, progress=progress
    )
    return report_on(predictions, dataset, tta=tta, seconds=seconds, **about)


def report_on(
    predictions: Predictions,
    dataset: FaceDataset,
    *,
    twin_free_ids: NDArray[np.str_] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    tta: str = "none",
    exclude_unknown: bool = False,
    mistakes: int = 24,
    model: Mapping[str, Any] | None = None,
    protocol: str = "",
    split: str = "",
    command: str = "",
    notes: tuple[str, ...] = (),
    seconds: float = 0.0,
) -> Report:
    """The report of probabilities that were computed before.

    Args:
        predictions, dataset: joined by id.
        twin_free_ids: samples of the split without an exact duplicate elsewhere, for a second set
            of figures (see :func:`mien.data.twin_free_ids`); others than the split's are refused.
        bootstrap, seed: resamples and seed of the 95 % intervals.
        exclude_unknown: leave out, and count, samples of a class the model has not (CK+ contempt
            for a FER2013 model) instead of refusing.
        mistakes: how many of the most confident mistakes the report keeps.
        tta, model, protocol, split, command, notes, seconds: said in the report.

    Raises:
        DataError: classes that do not fit, or ids that do not match.
    """
    joined = predictions.join(dataset, exclude_unknown=exclude_unknown)

    def scored(rows: Any) -> Scores:
        labels, probabilities = joined.labels[rows], joined.probabilities[rows]
        return score(labels, probabilities, joined.classes, bootstrap=bootstrap, seed=seed)

    scores, twin_free = scored(slice(None)), None
    if twin_free_ids is not None:
        dataset.indices_of(np.asarray(twin_free_ids, dtype=np.str_))
        keep = np.isin(joined.ids, twin_free_ids)
        twin_free = scored(keep) if keep.any() else None
    return Report(
        scores=scores,
        twin_free=twin_free,
        model=dict(model or {}),
        data=_about(dataset, joined),
        protocol=protocol,
        split=split,
        tta=tta,
        bootstrap=bootstrap,
        seed=seed,
        seconds=seconds,
        mistakes=_worst(joined, dataset, mistakes),
        notes=(*notes, *suspicions(scores.confusion, scores.classes)),
        versions=versions(),
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _about(dataset: FaceDataset, joined: Joined) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "source": dataset.source,
        "sha256": dataset.sha256,
        "n": len(dataset),
        "classes": [c.value for c in dataset.classes],
        "excluded": {c.value: n for c, n in joined.excluded.items()},
    }


def predict(
    predict_proba: PredictProba | Classifier,
    dataset: FaceDataset,
    classes: Sequence[Label] | None = None,
    *,
    batch_size: int = 256,
    tta: str = "none",
    progress: bool = False,
) -> tuple[Predictions, float]:
    """Run the model over ``dataset`` in the order of the ids, so that batches never depend on it.

    Nothing is refused here; ask :func:`mien.data.splits.refuse_trained_on` before. Arguments as
    in :func:`evaluate`.

    Returns:
        the predictions by sample id, and the seconds spent in ``predict_proba``.
    """
    from rich.console import Console
    from rich.progress import Progress

    check_tta(tta)
    call, classes = resolved(predict_proba, classes)
    order = np.argsort(dataset.ids, kind="stable")
    parts = []
    seconds = 0.0
    hidden = not (progress and sys.stderr.isatty())
    with Progress(console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task("Scoring", total=len(dataset))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            faces = np.ascontiguousarray(dataset.images[rows])
            began = time.perf_counter()
            seen = [_call(call, v, len(classes)) for v in augmented(faces, tta)]
            parts.append(sum(seen[1:], seen[0]) / len(seen))
            seconds += time.perf_counter() - began
            bar.advance(task, len(rows))
    return Predictions(dataset.ids[order], np.concatenate(parts), tuple(classes)), seconds


def resolved(
    model: PredictProba | Classifier, classes: Sequence[Label] | None = None
) -> tuple[PredictProba, Sequence[Label]]:
    """The callable and its classes; a classifier enlarges faces where it takes another size."""
    if not isinstance(model, Classifier):
        if classes is None:
            raise DataError("Say the classes of predict_proba, in the order of its columns.")
        return model, classes
    info, own = model.info, model.predict_proba

    def call(faces: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        if faces.shape[1:] == (info.input_size, info.input_size):
            return own(faces)
        return own(np.stack([whole_face(face, info) for face in faces]))

    return call, info.labels if classes is None else classes


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
