"""The samples that a model is scored on: a split of a dataset, which it has not learned from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import FaceDataset, Splits
from mien.data.duplicates import without_twins
from mien.data.readers import read_for_protocol
from mien.data.splits import make_splits, refuse_trained_on

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
    if protocol is None:
        own = classifier.info.protocol
        protocol = own if own == "ferplus-majority" else "fer2013"
    dataset = read_for_protocol(data, protocol, name)
    splits = make_splits(dataset, protocol, seed=seed, fold=fold)
    samples = Samples(dataset, splits, splits.role(split))
    if samples.role != "train":
        refuse_trained_on(classifier, samples.chosen, splits)
    return samples
