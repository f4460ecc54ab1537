"""Named protocols: which samples train, choose and test. Seeded, and saved by sample id."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._system import file_stamp
from mien.data.dataset import (
    FER2013_ROLES,
    PROTOCOLS_OF_OWN,
    ROLE_OF,
    FaceDataset,
    Splits,
    fingerprint,
    sha256_of_ids,
)
from mien.errors import DataError, RecipeError, nearest

FOLDS = 10
CKPLUS_TEST = 99  # Bah & Xue 2022, section 3


def in_split(dataset: FaceDataset, split: str) -> NDArray[np.bool_]:
    """Mask of the rows in FER2013's ``split``, by its own name or a hub's."""
    names = [name for name, role in ROLE_OF.items() if role == FER2013_ROLES[split]]
    return np.isin(np.char.lower(dataset.splits), names)


def _need(dataset: FaceDataset, protocol: str, split: str, mask: NDArray[np.bool_]) -> None:
    if not mask.any():
        present = sorted(set(dataset.splits.tolist()) - {""})
        use = "a dataset with official splits, or --split all to score it whole"
        if not present or (split == "PublicTest" and in_split(dataset, "Training").any()):
            use = "'val-from-train', which takes a tenth of it out of the training images"
            use += "" if present else ", or --split all to score it whole"
        raise DataError(
            f"Protocol {protocol!r} needs the publisher's split {split!r}, and "
            f"{dataset.where} has {', '.join(present) or 'none'}; use {use}."
        )


#: Role -> its rows, as numbers or as a mask.
_Roles = dict[str, NDArray[np.int64] | NDArray[np.bool_]]


def _fer2013(dataset: FaceDataset, seed: int, fold: int | None) -> _Roles:
    """FER2013's official splits: Training / PublicTest / PrivateTest; own data may lack a test."""
    masks = {split: in_split(dataset, split) for split in FER2013_ROLES}
    for split in ("Training", "PublicTest"):
        _need(dataset, "fer2013", split, masks[split])
    return {role: masks[split] for split, role in FER2013_ROLES.items()}


def _fer2013_folder(dataset: FaceDataset, seed: int, fold: int | None) -> _Roles:
    """The Kaggle folder release: Training / PublicTest and PrivateTest together; no val."""
    train = in_split(dataset, "Training")
    test = in_split(dataset, "PublicTest") | in_split(dataset, "PrivateTest")
    _need(dataset, "fer2013-folder", "Training", train)
    _need(dataset, "fer2013-folder", "PublicTest", test)
    return {"train": train, "val": np.zeros_like(train), "test": test}


def _drawn(
    dataset: FaceDataset, protocol: str, seed: int, rows: NDArray[np.int64], test: int, val: int
) -> _Roles:
    """Shuffle ``rows``; the first ``test`` are the test set, the next ``val`` the validation."""
    if len(rows) <= test + val or test == 0:
        raise DataError(
            f"Protocol {protocol!r} leaves a split empty with the {len(rows):,} samples of "
            f"{dataset.where}; use a larger dataset."
        )
    order = np.random.default_rng(seed).permutation(rows)
    parts = {"train": order[test + val :], "val": order[test : test + val], "test": order[:test]}
    return {role: np.sort(part) for role, part in parts.items()}


def _random_80_20(dataset: FaceDataset, seed: int, fold: int | None) -> _Roles:
    """80 % train, 20 % test, drawn at random; no val."""
    rows = np.arange(len(dataset))
    # Rounded up as scikit-learn does: 7,178 of FER2013's 35,887, the size of the paper's test set.
    return _drawn(dataset, "random-80-20", seed, rows, test=-(-len(rows) // 5), val=0)


def _balanced(dataset: FaceDataset, seed: int, fold: int | None) -> _Roles:
    """Every class under-sampled to the smallest, then 80/20 (Ahmed & Murshid 2024)."""
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    if counts.min() == 0:
        missing = dataset.classes[int(counts.argmin())]
        raise DataError(
            f"Protocol 'balanced' needs samples of every class, and {dataset.where} has none of "
            f"{missing}; use 'random-80-20'."
        )
    rng = np.random.default_rng([seed, 1])
    chosen = [
        rng.choice(np.flatnonzero(dataset.labels == k), size=counts.min(), replace=False)
        for k in range(len(counts))
    ]
    rows = np.sort(np.concatenate(chosen))
    return _drawn(dataset, "balanced", seed, rows, test=-(-len(rows) // 5), val=0)


def _val_from_train(dataset: FaceDataset, seed: int, fold: int | None) -> _Roles:
    """Own data without a val split: a tenth of every class of train, drawn by the seed, chooses.

    Data without any splits are all training images.
    """
    training = in_split(dataset, "Training") | bool((dataset.splits == "").all())
    _need(dataset, "val-from-train", "Training", training)
    train = np.flatnonzero(training)
    rng = np.random.default_rng([seed, 2])
    chosen = []
    for k in range(len(dataset.classes)):
        rows = train[dataset.labels[train] == k]
        # A class of one image stays in training.
        chosen.append(rng.permutation(rows)[: max(len(rows) // 10, int(len(rows) > 1))])
    val = np.sort(np.concatenate(chosen))
    test = in_split(dataset, "PrivateTest")
    return {"train": np.setdiff1d(train, val), "val": val, "test": test}


def _ferplus(dataset: FaceDataset, seed: int, fold: int | None) -> _Roles:
    """FER+ majority labels, 8 classes, in FER2013's official splits; the rest is dropped."""
    if dataset.name != "ferplus-majority":
        raise DataError(
            f"Protocol 'ferplus-majority' divides the majority view, and {dataset.where} is "
            f"{dataset.name}; read it with read_for_protocol or pass it through "
            "mien.data.ferplus.majority_view."
        )
    return _fer2013(dataset, seed, fold)


def _fergit(dataset: FaceDataset, seed: int, fold: int | None) -> _Roles:
    """90 % train, 5 % val, 5 % test, drawn at random (Bah & Xue 2022, section 2.3)."""
    if dataset.name != "fergit":
        raise DataError(
            f"Protocol 'fergit-90-5-5' is for FERGIT, and {dataset.where} is {dataset.name}; build "
            "FERGIT with: mien data build-fergit."
        )
    rows = np.arange(len(dataset))
    part = len(rows) // 20
    return _drawn(dataset, "fergit-90-5-5", seed, rows, test=part, val=part)


def _ckplus_random(dataset: FaceDataset, seed: int, fold: int | None) -> _Roles:
    """99 test images drawn at random (Bah & Xue 2022): frames of a sequence fall in both sides."""
    _need_subjects(dataset, "ckplus-random")
    rows = np.arange(len(dataset))
    return _drawn(dataset, "ckplus-random", seed, rows, test=CKPLUS_TEST, val=CKPLUS_TEST)


def _ckplus_subjects(dataset: FaceDataset, seed: int, fold: int | None) -> _Roles:
    """10 folds, no subject in two of them; ``fold`` is tested, the next one validates."""
    _need_subjects(dataset, "ckplus-subjects")
    if fold is None or not 0 <= fold < FOLDS:
        given = "none was given" if fold is None else f"{fold} was given"
        raise DataError(
            f"Protocol 'ckplus-subjects' needs a fold from 0 to {FOLDS - 1}, and {given}; "
            "pass --fold."
        )
    subjects = np.unique(dataset.groups)
    if len(subjects) < FOLDS:
        raise DataError(
            f"Protocol 'ckplus-subjects' needs at least {FOLDS} subjects, and {dataset.where} has "
            f"{len(subjects)}."
        )
    order = np.random.default_rng(seed).permutation(subjects)
    fold_of = {str(subject): i % FOLDS for i, subject in enumerate(order)}
    folds = np.array([fold_of[g] for g in dataset.groups.tolist()])
    test, val = folds == fold, folds == (fold + 1) % FOLDS
    return {"train": ~(test | val), "val": val, "test": test}


def _need_subjects(dataset: FaceDataset, protocol: str) -> None:
    if dataset.name != "ckplus":
        raise DataError(
            f"Protocol {protocol!r} is for CK+, and {dataset.where} is {dataset.name}; pass a "
            "CK+48 folder or parquet."
        )
    if (dataset.groups == "").any():
        raise DataError(
            f"Protocol {protocol!r} needs every sample's subject, and {dataset.where} lacks some."
        )


#: Every named protocol; the maker's docstring says what it is.
PROTOCOLS: dict[str, Callable[[FaceDataset, int, int | None], _Roles]] = {
    "fer2013": _fer2013,
    "fer2013-folder": _fer2013_folder,
    "val-from-train": _val_from_train,
    "ferplus-majority": _ferplus,
    "random-80-20": _random_80_20,
    "balanced": _balanced,
    "fergit-90-5-5": _fergit,
    "ckplus-random": _ckplus_random,
    "ckplus-subjects": _ckplus_subjects,
}

#: The datasets whose splits the protocols' publisher named; one's own have train, val and test.
PUBLISHED = ("fer2013", "photo", "ferplus-majority")

#: The protocols that draw nothing: they train on FER2013's Training and on nothing else. With the
#: publisher's names of their splits.
OFFICIAL = {
    "fer2013": FER2013_ROLES,
    "fer2013-folder": {"Training": "train"},
    "ferplus-majority": FER2013_ROLES,
}


def describe_protocol(name: str) -> str:
    """One line on what a protocol is."""
    return (PROTOCOLS[name].__doc__ or "").strip().splitlines()[0]


def make_splits(
    dataset: FaceDataset, protocol: str, seed: int = 0, fold: int | None = None
) -> Splits:
    """Divide ``dataset`` under a named protocol; the same seed gives the same split.

    Args:
        protocol: a key of :data:`PROTOCOLS`.
        seed: of the shuffle, for protocols that draw; 0 or more.
        fold: number of the test fold, for cross-validation protocols only.

    Raises:
        DataError: unknown protocol, or one that does not fit the dataset; it says why.
    """
    if protocol not in PROTOCOLS:
        hint = nearest(protocol, PROTOCOLS, "")
        raise DataError(f"Unknown protocol {protocol!r}{hint} Known: {', '.join(PROTOCOLS)}.")
    if seed < 0:
        raise DataError(f"The seed is {seed}; expected 0 or more.")
    if fold is not None and protocol != "ckplus-subjects":
        raise DataError(f"Protocol {protocol!r} has no folds; leave --fold out.")
    roles = PROTOCOLS[protocol](dataset, seed, fold)
    return Splits(
        protocol=protocol,
        seed=0 if protocol in OFFICIAL else seed,
        ids={role: dataset.ids[rows] for role, rows in roles.items()},
        fold=fold,
        aliases=OFFICIAL.get(protocol, {}) if dataset.name in PUBLISHED else {},
    )


#: In a run folder, beside the checkpoint: the split that the run trained by.
_SPLITS = "splits.json"


def refuse_seen(checkpoint: Path, splits: Splits, roles: tuple[str, ...]) -> None:
    """Raise RecipeError where a run trained on images that it would be scored or chosen on here.

    Protocols that draw by seed, and folds, give every run a split of its own. Known is what lies
    beside the checkpoint: the run folder's ``splits.json``; without it nothing is refused.

    Raises:
        RecipeError: the run trained on images of ``roles``.
        DataError: its ``splits.json`` is damaged.
    """
    asked = np.concatenate([splits.ids[role] for role in roles])
    beside = splits_beside(checkpoint)
    seen = _seen(beside, asked)
    if beside is None or not seen:
        return
    names = " and ".join(splits.published_name(role) for role in roles)
    raise RecipeError(
        f"{checkpoint} was trained on {seen:,} of the images that are {names} by {_by(splits)}; "
        f"its own split is {_by(beside)} ({checkpoint.parent / _SPLITS})."
    )


def _by(splits: Splits) -> str:
    fold = "" if splits.fold is None else f", fold {splits.fold}"
    return f"protocol {splits.protocol}, seed {splits.seed}{fold}"


def splits_beside(model: Path | None) -> Splits | None:
    """The split that a checkpoint's run trained by; None where it is not known.

    Raises:
        DataError: the ``splits.json`` beside it is damaged.
    """
    if model is None or model.suffix != ".ckpt":
        return None
    path = model.parent / _SPLITS
    return _loaded(path, stamp) if (stamp := file_stamp(path)) else None


@lru_cache(maxsize=8)
def _loaded(path: Path, stamp: tuple[int, int]) -> Splits:
    """A saved split, which one command asks for several times, read once."""
    return Splits.load(path)


def _seen(beside: Splits | None, ids: NDArray[np.str_]) -> int | None:
    """How many of ``ids`` the run of a checkpoint trained on; None where that is not known: no
    ``splits.json`` lies beside it, or it has other names for all images."""
    roles = beside.ids if beside else {}
    if not any(np.isin(ids, known).any() for known in roles.values()):
        return None
    return int(np.isin(ids, roles.get("train", ids[:0])).sum())


#: What the sets that are put together hold.
_PARTS = {
    "fergit": {"fer2013", "muxspace"},
    "photo": {"fer2013", "ckplus", "muxspace"},
    "ferplus-majority": {"fer2013"},
}


def _parts(name: str) -> set[str]:
    return _PARTS.get(name, {name})


def refuse_trained_on(model: Any, dataset: FaceDataset, splits: Splits | None = None) -> None:
    """Raise DataError where ``model`` was, or may have been, trained on images of ``dataset``.

    A checkpoint is held to the ids beside it. Of a file without them the record is asked: the
    official protocols train on what the publisher calls Training, and any other draws its own
    split, so that ``splits`` must be the same draw.

    Args:
        model: a loaded classifier, or its ``predict_proba``. Of a callable without a record
            nothing is known, and nothing is refused.
        dataset: the samples that it is to be scored on.
        splits: the split that they were selected by, if any.
    """
    owner = model if hasattr(model, "info") else getattr(model, "__self__", None)
    info = getattr(owner, "info", None)
    if info is None or not len(dataset):
        return
    path = Path(getattr(owner, "path", None) or info.name)
    if info.protocol in PROTOCOLS_OF_OWN:
        learned_from = frozenset(info.learned)
        count = sum(fingerprint(face) in learned_from for face in dataset.images)
        if count:
            raise DataError(f"{path} learned from {count:,} of these {len(dataset):,} faces.")
        return
    beside = splits_beside(path)
    seen = _seen(beside, dataset.ids)
    if beside and seen:
        raise DataError(
            f"{path} was trained on {seen:,} of these {len(dataset):,} images; its own split is "
            f"{_by(beside)} ({path.parent / _SPLITS})."
        )
    same = bool(info.data_sha256) and info.data_sha256 == dataset.sha256
    alike = info.training_data.split(" + ")[0] == dataset.name
    shared = _parts(info.training_data) & _parts(dataset.name)
    if seen is not None or not info.protocol or not (shared or alike or same):
        return
    if info.protocol in OFFICIAL:
        learned = bool(in_split(dataset, "Training").any())
        if info.training_data == "photo" and dataset.name == "ckplus":
            from mien.data.photo_set import held_out_subject

            learned = not all(map(held_out_subject, dataset.groups.tolist()))
    elif splits is None or not _drawn_alike(info, beside, splits):
        learned = True
    else:
        learned = bool(np.isin(dataset.ids, splits.ids["train"]).any())
    if learned:
        raise DataError(
            f"{path} was trained by protocol {info.protocol}, seed {info.seed}: some of these "
            "images may be among those it learned from. Score it on its own split, of data in "
            "the form of the training, or its checkpoint beside the splits.json of its run."
        )


def _drawn_alike(info: Any, beside: Splits | None, splits: Splits) -> bool:
    """Whether a model, whose protocol draws, was trained on what is train in ``splits``.

    Recorded ids say so alone: the draw follows the order of the rows, which forms of a dataset
    differ in, and an ensemble's members share one draw whatever their seeds. Where none were
    recorded, a split ``beside`` that has other names for all images leaves it unknown.
    """
    if info.train_ids_sha256:
        return bool(info.train_ids_sha256 == sha256_of_ids(splits.ids["train"]))
    if splits.fold is not None or beside is not None:
        return False
    return (info.protocol, info.seed or 0) == (splits.protocol, splits.seed)
