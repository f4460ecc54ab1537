"""Predictions that carry their sample ids, and their join with labels: by id, never by position.

There is deliberately no function that takes bare labels beside bare predictions: a published report
on FER2013 has accuracy .18 because the two were in different orders. Classes are matched the same
way, by their name and never by their index.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mien.atomic import atomic_path, make_folder
from mien.data.dataset import FaceDataset
from mien.emotions import Label, to_label
from mien.errors import DataError


@dataclass(frozen=True)
class Joined:
    """Labels and probabilities of the same samples, in the order of their ids.

    Attributes:
        ids: str (N,), sorted.
        rows: int64 (N,), each sample's row in the dataset that was joined.
        labels: int64 (N,), indices into ``classes``.
        probabilities: float64 (N, K).
        classes: the model's classes.
        excluded: samples left out because the model has no such class, by class.
    """

    ids: NDArray[np.str_]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    classes: tuple[Label, ...]
    excluded: dict[Label, int]

    @property
    def accuracy(self) -> float:
        """Share of the samples whose most probable class is their label."""
        return float((self.probabilities.argmax(axis=1) == self.labels).mean())


@dataclass(frozen=True)
class Predictions:
    """Class probabilities by sample id.

    Attributes:
        ids: str (N,), unique, in any order.
        probabilities: float (N, K), row i belongs to ``ids[i]``; rows sum to 1.
        classes: the K classes in column order.

    Raises:
        DataError: wrong shapes, an id twice, a class twice, or rows that are not probabilities.
    """

    ids: NDArray[np.str_]
    probabilities: NDArray[np.floating[Any]]
    classes: tuple[Label, ...]

    def __post_init__(self) -> None:
        ids = np.asarray(self.ids, dtype=np.str_)
        probabilities = np.asarray(self.probabilities, dtype=np.float64)
        classes = tuple(to_label(c) for c in self.classes)
        if len(set(classes)) != len(classes):
            raise DataError(f"The predictions name a class twice: {_names(classes)}.")
        if probabilities.shape != (len(ids), len(classes)):
            raise DataError(
                f"The predictions have shape {probabilities.shape}; {len(ids)} sample ids and "
                f"{len(classes)} classes ({_names(classes)}) need ({len(ids)}, {len(classes)})."
            )
        twice = [key for key, times in Counter(ids.tolist()).items() if times > 1]
        if twice:
            raise DataError(f"{len(twice)} sample ids are predicted twice, e.g. {twice[0]!r}.")
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "probabilities", _normalised(probabilities, ids))

    def __len__(self) -> int:
        return len(self.ids)

    def save(self, path: Path, seconds: float = 0.0) -> None:
        """Write them as .npz, whole or not at all, with the folder. Raises OutputError."""
        make_folder(path.parent)
        with atomic_path(path) as partial:
            np.savez_compressed(
                partial,
                ids=self.ids,
                probabilities=self.probabilities,
                classes=np.array([c.value for c in self.classes]),
                seconds=seconds,
            )

    @classmethod
    def load(cls, path: Path) -> Predictions | None:
        """What :meth:`save` wrote; None where there is no file. Raises DataError: damaged."""
        return _read(path)[0] if path.exists() else None

    def reorder(self, classes: tuple[Label, ...]) -> Predictions:
        """The same predictions with columns in the order of ``classes``, matched by name."""
        if set(classes) != set(self.classes) or len(classes) != len(self.classes):
            raise DataError(
                f"The predictions are over {_names(self.classes)}, not {_names(classes)}."
            )
        columns = [self.classes.index(c) for c in classes]
        return Predictions(self.ids, self.probabilities[:, columns], classes)

    def join(self, dataset: FaceDataset, *, exclude_unknown: bool = False) -> Joined:
        """Give every sample of ``dataset`` its prediction, by id.

        The result is in the order of the ids, so neither the order of the predictions nor that of
        the dataset can change anything computed from it.

        Args:
            dataset: the split; its classes may be ordered otherwise, and may be fewer.
            exclude_unknown: leave out samples of a class that the model has not, and count them,
                instead of refusing.

        Raises:
            DataError: an id is missing on either side or twice in the dataset; the dataset has
                samples of a class the model has not; nothing is left.
        """
        row_of = {key: i for i, key in enumerate(dataset.ids.tolist())}
        if len(row_of) != len(dataset):
            raise DataError(f"{dataset.where}: a sample id occurs twice.")
        extra = [key for key in self.ids.tolist() if key not in row_of]
        if extra:
            raise DataError(
                f"{len(extra)} predictions are for samples that {dataset.where} has not, "
                f"e.g. {extra[0]!r}."
            )
        missing = set(row_of).difference(self.ids.tolist())
        if missing:
            raise DataError(
                f"{len(missing)} samples of {dataset.where} have no prediction, "
                f"e.g. {min(missing)!r}."
            )
        order = np.argsort(self.ids, kind="stable")
        ids = self.ids[order]
        rows = np.array([row_of[key] for key in ids.tolist()], dtype=np.int64)
        column = [self.classes.index(c) if c in self.classes else -1 for c in dataset.classes]
        labels = np.array(column, dtype=np.int64)[dataset.labels[rows]]
        known = labels >= 0
        left_out = Counter(dataset.labels[rows[~known]].tolist())
        excluded = {c: left_out[k] for k, c in enumerate(dataset.classes) if left_out[k]}
        if excluded and not exclude_unknown:
            counted = " and ".join(f"{n} of {c.value!r}" for c, n in excluded.items())
            raise DataError(
                f"{dataset.where} has {counted}, a class the model has not "
                f"({_names(self.classes)}); leave these samples out with --exclude-unknown."
            )
        if not known.any():
            raise DataError(f"{dataset.where} has no sample of a class that the model has.")
        return Joined(
            ids=ids[known],
            rows=rows[known],
            labels=labels[known],
            probabilities=self.probabilities[order][known].astype(np.float64),
            classes=self.classes,
            excluded=excluded,
        )


class PredictionCache:
    """Predictions kept as files in a folder, each named by everything that decides it.

    Whoever scores the same model on the same images again reads them instead: a report is drawn
    anew without the model, and a killed run goes on where it stopped::

        cache = PredictionCache(folder / "predictions")
        sha = file_sha256(checkpoint)
        found, seconds = cache.get(sha, split, lambda: predict(load_checkpoint(checkpoint), split))

    Args:
        folder: where; made when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self,
        model: str,
        dataset: FaceDataset,
        compute: Callable[[], tuple[Predictions, float]],
        tta: str = "none",
    ) -> tuple[Predictions, float]:
        """The predictions kept for this model on these images, else those computed now, and kept.

        A changed model, image or id is another file, so nothing out of date is ever read.

        Args:
            model: SHA-256 of the model's file, or whatever else identifies it.
            dataset: the images, in any order.
            compute: called only where nothing is kept: the predictions of exactly these images and
                the seconds in the model, as :func:`mien.evaluate.runner.predict` returns them.
            tta: the test-time augmentation, a name in :data:`mien.evaluate.runner.TTA`.

        Returns:
            the predictions and the seconds that the model took for them, then or now.

        Raises:
            DataError: the kept file is damaged.
            OutputError: a new one cannot be written.
        """
        path = self.path(model, dataset, tta)
        if not path.exists():
            found, seconds = compute()
            found.save(path, seconds)
        # Through the file, so that the first report and every later one agree to the last digit.
        return _read(path)

    def path(self, model: str, dataset: FaceDataset, tta: str = "none") -> Path:
        """The file that holds, or would hold, these predictions."""
        order = np.argsort(dataset.ids, kind="stable")
        images = hashlib.sha256("\n".join(dataset.ids[order].tolist()).encode())
        for row in order:
            images.update(dataset.images[row].tobytes())
        who = hashlib.sha256(f"{model}|{tta}".encode()).hexdigest()
        return self.folder / f"{who[:16]}-{images.hexdigest()[:16]}.npz"


def _read(path: Path) -> tuple[Predictions, float]:
    try:
        with np.load(path) as kept:
            classes = tuple(to_label(str(c)) for c in kept["classes"])
            seconds = float(kept["seconds"]) if "seconds" in kept else 0.0
            return Predictions(kept["ids"], kept["probabilities"], classes), seconds
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        raise DataError(f"{path} is damaged; remove it, and it is computed once more.") from None


def _normalised(probabilities: NDArray[np.float64], ids: NDArray[np.str_]) -> NDArray[np.float64]:
    """Rows summing to exactly 1; DataError where they are no probabilities at all."""
    sums = probabilities.sum(axis=1)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(probabilities).all(axis=1) & (probabilities.min(axis=1, initial=0) >= 0)
        good &= np.abs(sums - 1) < 1e-2
    if not good.all():
        raise DataError(
            f"{int((~good).sum())} predictions are not probabilities that sum to 1, e.g. that of "
            f"{str(ids[np.argmin(good)])!r}; the model must end in a softmax."
        )
    return np.asarray(probabilities / sums[:, None], np.float64)


def _names(classes: Iterable[Label]) -> str:
    return ", ".join(c.value for c in classes)
