"""Nothing is scored on images it was trained on: every function that scores a model asks here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mien.data.dataset import FaceDataset, Splits
from mien.data.splits import OFFICIAL, in_split
from mien.errors import DataError, RecipeError

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
    seen = seen_beside(checkpoint, asked)
    if not seen:
        return
    by = f"protocol {splits.protocol}, seed {splits.seed}"
    by += "" if splits.fold is None else f", fold {splits.fold}"
    names = " and ".join(splits.published_name(role) for role in roles)
    raise RecipeError(
        f"{checkpoint} was trained on {seen:,} of the images that are {names} by {by}; give the "
        f"protocol, seed and fold that it was trained by ({checkpoint.parent / 'run.json'})."
    )


def seen_beside(checkpoint: Path, ids: np.typing.NDArray[np.str_]) -> int | None:
    """How many of ``ids`` the run of a checkpoint trained on; None where that is not known.

    Raises:
        DataError: the ``splits.json`` beside it is damaged.
    """
    path = checkpoint.parent / _SPLITS
    if not path.is_file():
        return None
    trained = Splits.load(path).ids.get("train", np.array([], dtype=np.str_))
    return int(np.isin(ids, trained).sum())


def refuse_trained_on(model: Any, dataset: FaceDataset, splits: Splits | None = None) -> None:
    """Raise DataError where ``model`` was, or may have been, trained on images of ``dataset``.

    A checkpoint is held to the ids beside it. Of a file, whose training ids are not known, the
    record is asked: the official protocols train on what the publisher calls Training, and any
    other draws its own split, so that ``splits`` must be of the same protocol and seed.

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
    seen = seen_beside(path, dataset.ids) if path.suffix == ".ckpt" else None
    if seen:
        raise DataError(
            f"{path} was trained on {seen:,} of these {len(dataset):,} images; give the protocol, "
            f"seed and fold that it was trained by ({path.parent / 'run.json'})."
        )
    # FERGIT holds all of FER2013.
    fergit = info.training_data.startswith("fergit") and dataset.name == "fer2013"
    shares = info.training_data.startswith(dataset.name) or fergit
    if seen is not None or not info.protocol or not shares:
        return
    if info.protocol in OFFICIAL:
        learned = bool(in_split(dataset, "Training").any())
    elif splits is None or splits.fold is not None:
        learned = True
    else:
        same = (info.protocol, info.seed or 0) == (splits.protocol, splits.seed)
        learned = not same or bool(np.isin(dataset.ids, splits.ids["train"]).any())
    if learned:
        raise DataError(
            f"{path} was trained by protocol {info.protocol}, seed {info.seed}: some of these "
            "images may be among those it learned from. Give that protocol and seed, or score its "
            "checkpoint beside its splits.json."
        )
