"""What a run is trained on: the split less its doubtful images, and extra ones for the teachers.

Everything that must fit together, recipe, data, teachers and extra images, is checked here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mien.data.dataset import FaceDataset, Splits
from mien.data.duplicates import constant_images, exact_groups, without_twins
from mien.emotions import FERPLUS_COLUMNS, FERPLUS_EMOTIONS
from mien.errors import DataError, RecipeError
from mien.models.registry import get_spec
from mien.train.batches import EpochBatches
from mien.train.distill import Teachers
from mien.train.learner import Learner, seed_torch
from mien.train.recipe import Recipe, WeightConfig

#: Rules that read the FER+ votes.
VOTED = ("not_a_face", "unsupported")


@dataclass(frozen=True)
class Material:
    """What a run is trained and judged on.

    Attributes:
        train, val: the splits.
        chosen: what batches are drawn from.
        weights: float32, what each label of ``chosen`` counts for; None: all alike.
        draws: how often an epoch shows each image of ``chosen`` (``recipe.draws``); None: once.
        prior: log share of each class among the images of its source, float32 (N, K), or None.
        mean, std: of the training split's pixels, on the 0..1 scale.
    """

    train: FaceDataset
    val: FaceDataset
    chosen: FaceDataset
    weights: NDArray[np.float32] | None
    mean: float
    std: float
    draws: NDArray[np.float64] | None = None
    prior: NDArray[np.float32] | None = None

    @property
    def used(self) -> dict[str, int] | None:
        """For the run's record: how many images are drawn from; None: just the split."""
        if self.chosen is self.train:
            return None
        return {"split": len(self.train), "used": len(self.chosen)}

    def learner(
        self, recipe: Recipe, seed: int, device: str, teachers: Teachers | None = None
    ) -> Learner:
        """A fresh learner, whose weights follow from the seed; on the CPU."""
        seed_torch(seed)
        untaught = None
        if sources := recipe.distill.sources.split():
            untaught = torch.from_numpy(~np.isin(self.chosen.sources, sources))
        return Learner(
            recipe,
            self.train.classes,
            self.mean,
            self.std,
            class_weights(recipe, self.train),
            seed=seed,
            rows=len(self.chosen),
            teacher=None if teachers is None else teachers.to(device),
            teacher_prior=None if teachers is None else teachers.log_prior,
            untaught=untaught,
        )

    def first(self) -> torch.Tensor:
        """Training images that a fresh network may look at: uint8 (N, 1, H, W), 4,096 at most."""
        return torch.from_numpy(self.train.images[:4096]).unsqueeze(1)

    def batches(self, recipe: Recipe, seed: int, device: str) -> EpochBatches:
        """The training batches, shuffled anew in every epoch."""
        return EpochBatches(
            self.chosen,
            recipe.batch_size,
            seed=seed,
            shuffle=True,
            device=device,
            weights=self.weights,
            draws=self.draws,
            prior=self.prior,
        )


def select(
    recipe: Recipe,
    dataset: FaceDataset,
    splits: Splits,
    teachers: Teachers | None = None,
    unlabelled: FaceDataset | None = None,
    *,
    few: bool = False,
) -> Material:
    """What ``recipe`` trains on; ``few``: 64 images of each split, for a dry run.

    Raises:
        RecipeError: the recipe does not fit the data or its teachers, or an extra image is one of
            the validation or test split.
    """
    train, val = splits.select(dataset, "train"), splits.select(dataset, "val")
    _check_draws(recipe, train)
    if few:
        train, val = _first(train, 64), _first(val, 64)
        unlabelled = None if unlabelled is None else _first(unlabelled, 32)
    _check_images(recipe, dataset, splits, train)
    if not len(val) and recipe.schedule.name == "plateau":
        raise RecipeError(
            f"The plateau schedule of recipe {recipe.name!r} watches the validation split, and "
            f"protocol {splits.protocol} has none: train with --set schedule.name=constant."
        )
    _check_votes(recipe, train)
    _check_teaching(recipe, dataset, teachers, unlabelled)
    if unlabelled is not None:
        _refuse_held_out(unlabelled, dataset, splits)
    chosen, weights = training_set(recipe, train, unlabelled)
    mean, std = 0.0, 1.0
    if recipe.pixels == "standardise":
        pixels = train.images.astype(np.float64) / 255
        mean, std = round(float(pixels.mean()), 6), round(float(pixels.std()), 6)
    draws = draws_of(recipe, chosen)
    prior = log_prior(chosen, draws) if recipe.loss.logit_adjustment else None
    return Material(train, val, chosen, weights, mean, std, draws, prior)


def draws_of(recipe: Recipe, chosen: FaceDataset) -> NDArray[np.float64] | None:
    """How often an epoch shows each image, float64 (N,); None where ``recipe.draws`` is empty."""
    if not recipe.draws:
        return None
    draws = np.ones(len(chosen))
    for key, times in sorted(recipe.draws.items()):  # "fer2013:" comes before "fer2013:disgust"
        draws[_named(chosen, key)] = times
    if not draws.any():
        raise RecipeError("draws leaves no image to train on; give some a number above 0.")
    return draws


def _named(dataset: FaceDataset, key: str) -> NDArray[np.bool_]:
    """The rows that a key of ``recipe.draws`` means, bool (N,)."""
    source, _, label = key.partition(":")
    rows: NDArray[np.bool_] = dataset.sources == source
    if label:
        rows &= np.array([c.value for c in dataset.classes])[dataset.labels] == label
    return rows


def log_prior(chosen: FaceDataset, draws: NDArray[np.float64] | None) -> NDArray[np.float32]:
    """For each image the log share of every class among the images drawn of its source.

    Returns:
        float32 (N, K). A class without images gets the share of one in a hundred.
    """
    found = np.zeros((len(chosen), len(chosen.classes)), np.float32)
    sources = chosen.sources
    for source in np.unique(sources):
        rows = sources == source
        each = None if draws is None else draws[rows]
        counts = np.bincount(chosen.labels[rows], each, minlength=len(chosen.classes))
        shares = np.maximum(counts / counts.sum(), 0.01)
        found[rows] = np.log(shares / shares.sum())
    return found


def class_weights(recipe: Recipe, train: FaceDataset) -> torch.Tensor | None:
    """n / (classes × n_class), as scikit-learn's "balanced"; None where the recipe has none."""
    if recipe.loss.class_weights == "none":
        return None
    counts = np.bincount(train.labels, minlength=len(train.classes))
    weights = len(train) / (len(train.classes) * np.maximum(counts, 1))
    return torch.tensor(weights, dtype=torch.float32)


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


def rule_masks(dataset: FaceDataset, rules: tuple[str, ...]) -> dict[str, NDArray[np.bool_]]:
    """Which images each rule of :class:`WeightConfig` concerns: bool (N,) by rule.

    Raises:
        DataError: a rule reads FER+ votes and the dataset has none.
    """
    masks = {rule: _voted(dataset, rule) for rule in rules if rule in VOTED}
    if "constant" in rules:
        masks["constant"] = constant_images(dataset.images)
    if {"conflicting", "copies"} & set(rules):
        # The row of each image's first copy, so that labels[groups] is that one's label.
        groups = exact_groups(dataset.images)
        differs = dataset.labels != dataset.labels[groups]
        both = {
            "conflicting": np.isin(groups, groups[differs]),
            "copies": (groups != np.arange(len(groups))) & ~differs,
        }
        masks |= {rule: mask for rule, mask in both.items() if rule in rules}
    return masks


def _voted(dataset: FaceDataset, rule: str) -> NDArray[np.bool_]:
    if dataset.votes is None:
        raise DataError(
            f"weights.{rule} reads FER+ votes, and {dataset.where} has none: add "
            f"fer2013new.csv beside the CSV, or train with --set weights.{rule}=1."
        )
    votes = dataset.votes
    if rule == "not_a_face":
        no_face: NDArray[np.bool_] = votes.argmax(axis=1) == FERPLUS_COLUMNS.index("NF")
        no_face &= votes.sum(axis=1) > 0
        return no_face
    known = [FERPLUS_EMOTIONS.index(c) if c in FERPLUS_EMOTIONS else -1 for c in dataset.classes]
    column = np.array(known)[dataset.labels]
    unseen: NDArray[np.bool_] = votes[np.arange(len(votes)), column] == 0
    unseen &= (column >= 0) & (votes.sum(axis=1) > 0)
    return unseen


def sample_weights(dataset: FaceDataset, config: WeightConfig) -> NDArray[np.float32] | None:
    """The weight of every image, float32 (N,), or None where ``config`` changes nothing.

    Raises:
        DataError: as :func:`rule_masks`.
    """
    active = config.active
    if not active:
        return None
    weights = np.ones(len(dataset), dtype=np.float32)
    for rule, mask in rule_masks(dataset, tuple(active)).items():
        weights[mask] = np.minimum(weights[mask], np.float32(active[rule]))
    return weights


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


def _first(dataset: FaceDataset, n: int) -> FaceDataset:
    return dataset.take(np.arange(min(n, len(dataset))))


def _check_images(recipe: Recipe, dataset: FaceDataset, splits: Splits, train: FaceDataset) -> None:
    """Raise RecipeError where there are none, or of another size than the network takes."""
    _, *wanted = get_spec(recipe.model).input
    if list(train.images.shape[1:]) != wanted:
        sides = "×".join(map(str, train.images.shape[1:]))
        raise RecipeError(
            f"The images of {dataset.source or dataset.name} are {sides}, and {recipe.model} "
            f"takes {wanted[0]}×{wanted[1]}; make such crops with: mien data crop IN OUT --size "
            f"{wanted[0]}"
        )
    if not len(train):
        raise RecipeError(f"Protocol {splits.protocol!r} leaves no training images.")


def _check_draws(recipe: Recipe, train: FaceDataset) -> None:
    """Raise RecipeError where a key names no image, or a number is none."""
    for key, times in recipe.draws.items():
        if isinstance(times, bool) or not isinstance(times, (int, float)) or not 0 <= times <= 100:
            raise RecipeError(f"draws.{key} must be a number from 0 to 100, not {times!r}.")
        if not _named(train, key).any():
            hint = ""
            if recipe.name.startswith("mien_photo"):
                hint = "; make the recipe's data with: mien data build-photo --out photo.parquet"
            raise RecipeError(f"draws.{key}: {train.where} has no such training images{hint}.")


def _check_votes(recipe: Recipe, train: FaceDataset) -> None:
    """Raise RecipeError where a recipe uses FER+ votes that the data has not."""
    keys = [k for k in ("ferplus_auxiliary", "ferplus_blend") if getattr(recipe.loss, k)]
    if keys and train.votes is None:
        settings = " ".join(f"--set loss.{key}=0" for key in keys)
        raise RecipeError(
            f"Recipe {recipe.name!r} uses FER+ votes, and the data has none: add fer2013new.csv "
            f"beside the CSV, or train with {settings}."
        )


def _check_teaching(
    recipe: Recipe,
    dataset: FaceDataset,
    teachers: Teachers | None,
    unlabelled: FaceDataset | None,
) -> None:
    """Raise RecipeError where recipe, teachers and extra images do not belong together."""
    name, distill = f"Recipe {recipe.name!r}", recipe.distill
    if distill.weight and teachers is None:
        raise RecipeError(f"{name} learns from teachers: name them with mien distill TEACHER…")
    if teachers is not None and not distill.weight:
        raise RecipeError(
            f"{name} has distill.weight 0 and would ignore its teachers; set it above 0."
        )
    if teachers is not None:
        teachers.check(dataset.classes)
        _check_sources(recipe, dataset, unlabelled)
        if distill.variants and not distill.clean and any(n > 1 for n in recipe.draws.values()):
            raise RecipeError(
                f"{name} shows images more than once an epoch (draws), and distill.variants keeps "
                "one answer an image and epoch; set distill.variants to 0, or distill.clean."
            )
    if distill.unlabelled and unlabelled is None:
        raise RecipeError(
            f"{name} needs the extra images of {distill.unlabelled}: pass --unlabelled."
        )
    if unlabelled is None:
        return
    if not distill.unlabelled:
        raise RecipeError(
            f"{name} uses no extra images; leave --unlabelled out, or set distill.unlabelled and "
            "give the recipe a name of its own."
        )
    if not distill.weight:
        raise RecipeError("distill.unlabelled needs teachers: set distill.weight above 0.")
    if unlabelled.images.shape[1:] != dataset.images.shape[1:]:
        raise RecipeError(
            f"The images of {unlabelled.source or unlabelled.name} are "
            f"{unlabelled.images.shape[1:]}, and the dataset's {dataset.images.shape[1:]}."
        )


def _check_sources(recipe: Recipe, dataset: FaceDataset, unlabelled: FaceDataset | None) -> None:
    """Raise RecipeError where ``distill.sources`` names one that no image has."""
    sets = (dataset,) if unlabelled is None else (dataset, unlabelled)
    known = {source for images in sets for source in images.sources.tolist()}
    for source in recipe.distill.sources.split():
        if source not in known:
            listed = " ".join(sorted(known))
            raise RecipeError(f"distill.sources: no image is of {source!r}; known: {listed}.")


def _refuse_held_out(unlabelled: FaceDataset, dataset: FaceDataset, splits: Splits) -> None:
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
