"""Bah & Xue 2022: a network with three residual blocks, the same without, FERGIT and CK+.

Its own sections count what the paper's random splits let through: frames of one sequence in CK+,
duplicates in FERGIT.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceDataset, Splits, make_splits
from mien.data.duplicates import exact_groups, near_pairs
from mien.errors import DataError
from mien.report.document import NOT_RUN, Section, Table, Text, count
from mien.reproduce.run import from_json
from mien.reproduce.spec import Extra, load

if TYPE_CHECKING:
    from mien.reproduce.assemble import Assembly

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


@dataclass(frozen=True)
class Leakage:
    """What the random splits of CK+ let through."""

    state: str = NOT_RUN
    each: tuple[Drawn, ...] = ()
    sequences: int = 0
    subjects: int = 0


def _leakage(assembly: Assembly) -> Leakage:
    dataset = assembly.dataset("ckplus")
    if dataset is None:
        return Leakage()
    seeds = [t.job.seed for t in assembly.plan.of("bah_ckplus")] or [0]
    drawn = [make_splits(dataset, "ckplus-random", seed=seed) for seed in seeds]
    each = tuple(ckplus_leakage(dataset, splits) for splits in drawn)
    names, people = np.unique(sequences(dataset)), np.unique(dataset.groups)
    return Leakage("done", each, len(names), len(people))


def _leakage_section(value: Leakage) -> Section:
    title = "CK+: how many test frames have a neighbour in training"
    if not value.each:
        return Section("extra-ckplus-leakage", title, [Text(f"This count was {NOT_RUN}.")])
    header = ["split", "test frames", "same sequence in training", "… or validation"]
    header += ["same person in training", "… or validation"]
    rows = []
    for row in value.each:
        seed, test, *neighbours = dataclasses.astuple(row)
        rows.append([f"seed {seed}", count(test), *(_of(n, test) for n in neighbours)])
    said = (
        f"CK+ has {count(value.sequences)} sequences of {count(value.subjects)} people, three "
        "frames each. Drawn at random, the frames of one sequence fall on both sides."
    )
    return Section("extra-ckplus-leakage", title, [Text(said), Table(header, rows)])


def _of(part: int, whole: int) -> str:
    """ "97 (98.0 %)"."""
    return f"{count(part)} ({100 * part / whole:.1f} %)"


@dataclass(frozen=True)
class Fergit(Duplicates):
    """What the random split of FERGIT lets through."""

    state: str = NOT_RUN
    images: int = 0
    paper_images: int = 49_300


def _fergit_duplicates(assembly: Assembly) -> Fergit:
    dataset = assembly.dataset("fergit")
    if dataset is None:
        return Fergit(0, 0, 0)
    splits = make_splits(dataset, "fergit-90-5-5", seed=0)
    key = f"twins-{dataset.sha256[:16]}-{len(dataset)}"
    found = assembly.kept(key, lambda: duplicates(dataset, splits))
    made: Fergit = from_json(Fergit, {**found, "state": "done", "images": len(dataset)})
    return made


def _fergit_section(value: Fergit) -> Section:
    title = "FERGIT: test images with a duplicate in training"
    if value.state == NOT_RUN:
        return Section("extra-fergit-twins", title, [Text(f"This count was {NOT_RUN}.")])
    rows = []
    for name, part in {"all": value, **value.by_source}.items():
        found = (part.exact_twin_in_training, part.near_twin_in_training)
        rows.append([name, count(part.test), *(_of(n, part.test) for n in found)])
    said = (
        f"Our FERGIT has {count(value.images)} images, the paper's {count(value.paper_images)}. A "
        "near duplicate is the same image in another encoding or brightness; an exact one is one "
        "too."
    )
    header = ["source", "test images", "exact duplicate in training", "near duplicate in training"]
    return Section("extra-fergit-twins", title, [Text(said), Table(header, rows)])


SYSTEM = dataclasses.replace(
    load("bah2022"),
    extras=(
        Extra("ckplus_leakage", Leakage, _leakage, _leakage_section),
        Extra("fergit_twins", Fergit, _fergit_duplicates, _fergit_section),
    ),
)
