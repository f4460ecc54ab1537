"""What a random split lets through: frames of one sequence in CK+, duplicates in FERGIT."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceDataset, Splits
from mien.data.duplicates import exact_groups, near_pairs
from mien.errors import DataError

_SEQUENCE = re.compile(r"(S\d+_\d+)_\d+$")


def sequences(dataset: FaceDataset) -> NDArray[np.str_]:
    """The CK+ sequence of every sample, str (N,), from its id ("ckplus:S010_004_00000017").

    Raises:
        DataError: an id is none of CK+'s.
    """
    found = []
    for key in dataset.ids.tolist():
        match = _SEQUENCE.search(key)
        if match is None:
            raise DataError(f"{key!r} names no CK+ sequence; expected S010_004_00000017.")
        found.append(match[1])
    return np.array(found, dtype=np.str_)


@dataclass(frozen=True)
class Drawn:
    """How many test frames of one random split have a neighbour in training; ``seen`` counts the
    validation split as well."""

    seed: int
    test: int
    same_sequence_in_training: int
    same_sequence_seen: int
    same_subject_in_training: int
    same_subject_seen: int


def ckplus_leakage(dataset: FaceDataset, splits: Splits) -> Drawn:
    """How many test frames have a frame of the same sequence, or subject, in training."""
    names = sequences(dataset)
    rows = {role: dataset.indices_of(ids) for role, ids in splits.ids.items()}
    test, training = rows["test"], rows["train"]
    seen = np.concatenate([training, rows["val"]])

    def count(values: NDArray[np.str_], others: NDArray[np.int64]) -> int:
        return int(np.isin(values[test], values[others]).sum())

    return Drawn(
        splits.seed,
        len(test),
        count(names, training),
        count(names, seen),
        count(dataset.groups, training),
        count(dataset.groups, seen),
    )


@dataclass(frozen=True)
class Part:
    """How many test images have an exact, or a near, duplicate in training."""

    test: int
    exact_twin_in_training: int
    near_twin_in_training: int


@dataclass(frozen=True)
class Duplicates(Part):
    """The same of a whole test split, and of its parts by the source of the image."""

    by_source: dict[str, Part] = field(default_factory=dict)


def duplicates(dataset: FaceDataset, splits: Splits) -> Duplicates:
    """How many test images have an exact, or a near, duplicate in training.

    Near: another encoding, brightness or cleaning of the same image (see
    :func:`mien.data.duplicates.near_pairs`); an exact one is also a near one. It takes a minute or
    two for FERGIT.
    """
    groups = exact_groups(dataset.images)
    role = np.full(len(dataset), "", dtype="<U5")
    for name, ids in splits.ids.items():
        role[dataset.indices_of(ids)] = name
    in_training = np.zeros(len(dataset), dtype=bool)  # by group: some copy is in training
    in_training[groups[role == "train"]] = True
    near = in_training.copy()
    pairs, _ = near_pairs(dataset.images)
    for a, b in ((0, 1), (1, 0)):  # near_pairs names the first copy of each group
        near[pairs[in_training[pairs[:, b]], a]] = True
    test = role == "test"
    sources = np.array([key.partition(":")[0] for key in dataset.ids.tolist()])

    def part(mask: NDArray[np.bool_]) -> tuple[int, int, int]:
        of = groups[test & mask]
        return len(of), int(in_training[of].sum()), int(near[of].sum())

    each = {str(source): Part(*part(sources == source)) for source in np.unique(sources)}
    return Duplicates(*part(np.ones(len(dataset), dtype=bool)), each)
