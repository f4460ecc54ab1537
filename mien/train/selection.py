"""What a run is trained on: the split less its doubtful images, and extra ones for the teachers."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import FaceDataset, Splits
from mien.data.duplicates import without_twins
from mien.data.weighting import sample_weights
from mien.errors import RecipeError
from mien.train.distill import Teachers
from mien.train.recipe import Recipe


def check_teaching(
    recipe: Recipe,
    dataset: FaceDataset,
    teachers: Teachers | None,
    unlabelled: FaceDataset | None,
) -> None:
    """Raise RecipeError where recipe, teachers and extra images do not belong together."""
    if (teachers is None) == bool(recipe.distill.weight):
        raise RecipeError(
            f"Recipe {recipe.name!r} learns from teachers: name them with mien distill TEACHER…"
            if recipe.distill.weight
            else f"Recipe {recipe.name!r} has distill.weight 0 and would ignore its teachers; "
            "set it above 0."
        )
    if teachers is not None:
        teachers.check(dataset.classes)
    wanted = recipe.distill.unlabelled
    if bool(wanted) != (unlabelled is not None):
        raise RecipeError(
            f"Recipe {recipe.name!r} needs the extra images of {wanted}: pass --unlabelled."
            if wanted
            else f"Recipe {recipe.name!r} uses no extra images; leave --unlabelled out, or set "
            "distill.unlabelled and give the recipe a name of its own."
        )
    if unlabelled is None:
        return
    if not recipe.distill.weight:
        raise RecipeError("distill.unlabelled needs teachers: set distill.weight above 0.")
    if unlabelled.images.shape[1:] != dataset.images.shape[1:]:
        raise RecipeError(
            f"The images of {unlabelled.source or unlabelled.name} are "
            f"{unlabelled.images.shape[1:]}, and the dataset's {dataset.images.shape[1:]}."
        )


def extra_images(read: FaceDataset, name: str, dataset: FaceDataset) -> FaceDataset:
    """The images of ``read`` that ``dataset`` has not; of FERGIT those whose source is ``name``.

    Raises:
        RecipeError: there are none.
    """
    theirs = read.take(np.flatnonzero(~np.isin(read.ids, dataset.ids)))
    if name and read.name == "fergit":
        theirs = read.take(np.flatnonzero(np.char.startswith(read.ids, f"{name}:")))
    kept = without_twins(theirs, dataset)
    if not len(kept):
        raise RecipeError(
            f"{read.source or read.name} has no images of {name or 'its own'} to add."
        )
    return dataclasses.replace(theirs.take(theirs.indices_of(kept)), name=name or read.name)


def refuse_held_out(unlabelled: FaceDataset, dataset: FaceDataset, splits: Splits) -> None:
    """Raise RecipeError where an extra image is one that the run is chosen or tested on."""
    held = [splits.select(dataset, role) for role in ("val", "test") if role in splits.ids]
    clean = set(without_twins(unlabelled, *held).tolist())
    clean -= {id_ for split in held for id_ in split.ids.tolist()}
    leaked = [id_ for id_ in unlabelled.ids.tolist() if id_ not in clean]
    if leaked:
        raise RecipeError(
            f"{len(leaked):,} of the extra images of {unlabelled.source or unlabelled.name} are "
            f"validation or test images of {dataset.name}, e.g. {leaked[0]!r}; leave them out."
        )


def training_set(
    recipe: Recipe, train: FaceDataset, unlabelled: FaceDataset | None = None
) -> tuple[FaceDataset, NDArray[np.float32] | None]:
    """The images to draw batches from, and what each label counts for (None: all alike).

    Images of weight 0 are left out. Extra images come after the others with weight 0: they are
    drawn, but only the teachers' loss sees them.

    Raises:
        DataError: a weight reads FER+ votes and there are none.
        RecipeError: the weights leave nothing.
    """
    weights = sample_weights(train, recipe.weights)
    if weights is not None:
        kept = np.flatnonzero(weights > 0)
        if not len(kept):
            raise RecipeError("The recipe's weights leave no training images; raise one above 0.")
        train, weights = train.take(kept), weights[kept]
        if (weights == 1).all():
            weights = None
    if unlabelled is None:
        return train, weights
    n = len(unlabelled)
    votes = None
    if train.votes is not None:
        votes = np.concatenate([train.votes, np.zeros((n, train.votes.shape[1]), np.float32)])
    both = dataclasses.replace(
        train,
        images=np.concatenate([train.images, unlabelled.images]),
        labels=np.concatenate([train.labels, np.zeros(n, np.int64)]),
        ids=np.concatenate([train.ids, unlabelled.ids]),
        splits=np.concatenate([train.splits, np.full(n, "")]),
        groups=np.concatenate([train.groups, np.full(n, "")]),
        votes=votes,
        lossless=None,
    )
    ours = np.ones(len(train), np.float32) if weights is None else weights
    return both, np.concatenate([ours, np.zeros(n, np.float32)])
