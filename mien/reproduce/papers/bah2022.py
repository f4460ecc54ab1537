"""Bah & Xue 2022: a network with three residual blocks, the same without, FERGIT and CK+."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mien.data import make_splits
from mien.report.document import NOT_RUN, Section, Table, Text, count
from mien.reproduce.codec import from_json
from mien.reproduce.leakage import Drawn, Duplicates, ckplus_leakage, duplicates, sequences
from mien.reproduce.spec import Extra, load

if TYPE_CHECKING:
    from mien.reproduce.assemble import Assembly


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
    rows = [
        [
            f"seed {row.seed}",
            count(row.test),
            *(
                _of(n, row.test)
                for n in (
                    row.same_sequence_in_training,
                    row.same_sequence_seen,
                    row.same_subject_in_training,
                    row.same_subject_seen,
                )
            ),
        ]
        for row in value.each
    ]
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
    rows = [
        [
            name,
            count(part.test),
            _of(part.exact_twin_in_training, part.test),
            _of(part.near_twin_in_training, part.test),
        ]
        for name, part in {"all": value, **value.by_source}.items()
    ]
    said = (
        f"Our FERGIT has {count(value.images)} images, the paper's {count(value.paper_images)}. A "
        "near duplicate is the same image in another encoding or brightness; an exact one is one "
        "too."
    )
    header = ["source", "test images", "exact duplicate in training", "near duplicate in training"]
    return Section("extra-fergit-twins", title, [Text(said), Table(header, rows)])


SYSTEM = load(
    "bah2022",
    extras=(
        Extra("ckplus_leakage", Leakage, _leakage, _leakage_section),
        Extra("fergit_twins", Fergit, _fergit_duplicates, _fergit_section),
    ),
)
