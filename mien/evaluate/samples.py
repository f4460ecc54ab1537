"""The samples that a model is scored on: a split of a dataset, which it has not learned from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import PROTOCOLS_OF_OWN, FaceDataset, Splits, fingerprint
from mien.data.duplicates import without_twins
from mien.data.own import list_photos
from mien.data.own_faces import read_own
from mien.data.readers import default_data_path, read_for_protocol
from mien.data.splits import make_splits, refuse_trained_on
from mien.errors import DataError
from mien.pipeline import Analyzer

#: What was trained or chosen on before a role is scored.
_BEFORE = {"train": (), "val": ("train",), "test": ("train", "val")}


@dataclass(frozen=True)
class Samples:
    """A split to score on.

    Attributes:
        dataset: the whole dataset.
        splits: of its protocol, which also gave the labels.
        role: "train", "val" or "test".
    """

    dataset: FaceDataset
    splits: Splits
    role: str

    @cached_property
    def chosen(self) -> FaceDataset:
        """The samples of the split."""
        return self.splits.select(self.dataset, self.role)

    @property
    def split(self) -> str:
        """The publisher's name of the split."""
        return self.splits.published_name(self.role)

    @cached_property
    def twin_free(self) -> NDArray[np.str_] | None:
        """The ids without an exact duplicate in what was trained or chosen on; None for "train"."""
        before = _BEFORE[self.role]
        if not before:
            return None
        return without_twins(self.chosen, *(self.splits.select(self.dataset, r) for r in before))


def unseen(classifier: Any, dataset: FaceDataset) -> FaceDataset:
    """The faces that a model of own classes neither learned from nor was chosen on.

    Raises:
        DataError: it has seen all of them.
    """
    learned = frozenset(classifier.info.learned)
    new = np.array([fingerprint(face) not in learned for face in dataset.images], np.bool_)
    if not new.any():
        raise DataError(
            f"{dataset.where}: {classifier.info.name} learned from all of its {len(dataset):,} "
            "faces; give photos that it has not seen."
        )
    return dataset.take(np.flatnonzero(new))


def _own_samples(classifier: Any, data: Path | None, split: str) -> Samples:
    """Photos for a model of own classes: what it has not seen, or for "train" what it has."""
    source, protocol = data or default_data_path(), classifier.info.protocol
    analyzer = Analyzer(classifier.path, turns=False)
    listing = list_photos(source)
    faces = protocol == PROTOCOLS_OF_OWN[1]
    dataset = read_own(listing, Path(source), analyzer, faces=faces).dataset
    test = unseen(classifier, dataset).ids
    ids = {"train": np.setdiff1d(dataset.ids, test), "val": test[:0], "test": test}
    splits = Splits(protocol, classifier.info.seed or 0, ids)
    return Samples(dataset, splits, "train" if split == "train" else "test")


def samples_of(
    classifier: Any,
    data: Path | None,
    name: str | None,
    split: str,
    *,
    protocol: str | None = None,
    seed: int = 0,
    fold: int | None = None,
) -> Samples:
    """The split to score ``classifier`` on.

    Args:
        classifier: a loaded model.
        data, name: the dataset, see :func:`mien.data.read_for_protocol`.
        split: "PublicTest", "test", …; the training split may be asked for by name.
        protocol, seed, fold: see :func:`mien.data.make_splits`. None is FER2013's own, or for a
            model of FER+'s majority labels theirs.

    Raises:
        DataError: the data cannot be read, or the model may have been trained on the split.
    """
    if classifier.info.protocol in PROTOCOLS_OF_OWN:
        return _own_samples(classifier, data, split)
    if protocol is None:
        own = classifier.info.protocol
        protocol = own if own == "ferplus-majority" else "fer2013"
    dataset = read_for_protocol(data, protocol, name)
    splits = make_splits(dataset, protocol, seed=seed, fold=fold)
    samples = Samples(dataset, splits, splits.role(split))
    if samples.role != "train":
        refuse_trained_on(classifier, samples.chosen, splits)
    return samples
