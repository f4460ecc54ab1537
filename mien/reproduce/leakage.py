"""What a random split lets through: frames of one sequence in CK+, twins in FERGIT."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.data import FaceDataset, Splits, make_splits
from mien.data.duplicates import exact_groups, near_pairs
from mien.errors import DataError
from mien.reproduce.figures import mean, std

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


def ckplus_leakage(dataset: FaceDataset, splits: Splits) -> dict[str, Any]:
    """How many test frames have a frame of the same sequence, or subject, in training.

    ``in_training`` counts the train split alone; ``seen`` the validation split as well.
    """
    names = sequences(dataset)
    rows = {role: dataset.indices_of(ids) for role, ids in splits.ids.items()}
    test = rows["test"]
    seen = np.concatenate([rows["train"], rows["val"]])

    def count(values: NDArray[np.str_], others: NDArray[np.int64]) -> int:
        return int(np.isin(values[test], values[others]).sum())

    return {
        "test": len(test),
        "same_sequence_in_training": count(names, rows["train"]),
        "same_sequence_seen": count(names, seen),
        "same_subject_in_training": count(dataset.groups, rows["train"]),
        "same_subject_seen": count(dataset.groups, seen),
    }


def twins(dataset: FaceDataset, splits: Splits) -> dict[str, Any]:
    """How many test images have an exact, or a near, twin in training.

    Near: another encoding, brightness or cleaning of the same picture (see
    :func:`mien.data.duplicates.near_pairs`); an exact twin is also a near one. It takes a minute
    or two for FERGIT.
    """
    groups = exact_groups(dataset.images)
    role = np.full(len(dataset), "", dtype="<U5")
    for name, ids in splits.ids.items():
        role[dataset.indices_of(ids)] = name
    in_training = np.zeros(len(dataset), dtype=bool)  # by group: some copy is in training
    in_training[groups[role == "train"]] = True
    test = role == "test"
    exact = test & in_training[groups]
    pairs, _ = near_pairs(dataset.images)
    near_of = in_training.copy()
    for a, b in ((0, 1), (1, 0)):  # near_pairs names the first copy of each group
        near_of[pairs[in_training[pairs[:, b]], a]] = True
    near = test & near_of[groups]
    sources = np.array([key.partition(":")[0] for key in dataset.ids.tolist()])
    return {
        "test": int(test.sum()),
        "exact_twin_in_training": int(exact.sum()),
        "near_twin_in_training": int(near.sum()),
        "by_source": {
            str(source): {
                "test": int((test & (sources == source)).sum()),
                "exact_twin_in_training": int((exact & (sources == source)).sum()),
                "near_twin_in_training": int((near & (sources == source)).sum()),
            }
            for source in np.unique(sources)
        },
    }


def extra(assembly: Assembly) -> dict[str, Any]:
    """``extra`` of Bah & Xue: leakage in CK+, its folds, twins in FERGIT, what FERGIT is."""
    record: dict[str, Any] = {"ckplus_leakage": _leakage(assembly)}
    folds = assembly.accuracies("bah_ckplus_subjects", "test")
    record["ckplus_folds"] = {
        "state": "done" if len(folds) == 10 else "partial" if folds else "not run",
        "each": folds,
        "folds": [seed["fold"] for seed in assembly.done("bah_ckplus_subjects")],
        "mean": mean(folds),
        "std": std(folds),
    }
    record["fergit_twins"] = _fergit_twins(assembly)
    return record


def _leakage(assembly: Assembly) -> dict[str, Any]:
    dataset = assembly.dataset("ckplus")
    if dataset is None:
        return {"state": "not run", "each": []}
    seeds = [t.seed for t in assembly.plan.of("bah_ckplus")] or [0]
    each = [
        {"seed": seed, **ckplus_leakage(dataset, make_splits(dataset, "ckplus-random", seed=seed))}
        for seed in seeds
    ]
    return {
        "state": "done",
        "each": each,
        "sequences": len(np.unique(sequences(dataset))),
        "subjects": len(np.unique(dataset.groups)),
    }


def _fergit_twins(assembly: Assembly) -> dict[str, Any]:
    dataset = assembly.dataset("fergit")
    if dataset is None:
        return {"state": "not run"}
    splits = make_splits(dataset, "fergit-90-5-5", seed=0)
    key = f"twins-{dataset.sha256[:16]}-{len(dataset)}"
    return {
        "state": "done",
        "images": len(dataset),
        "paper_images": 49_300,
        **assembly.kept(key, lambda: twins(dataset, splits)),
    }
