"""What each training image counts for: less, or nothing, where its label cannot be trusted.

Used on the training split alone; the splits that choose and test are never touched.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import FaceDataset
from mien.data.duplicates import constant_images, exact_groups
from mien.emotions import FERPLUS_COLUMNS, FERPLUS_EMOTIONS
from mien.errors import DataError

#: Rules that read the FER+ votes.
VOTED = ("not_a_face", "unsupported")


@dataclass(frozen=True)
class WeightConfig:
    """The weight of doubtful training images, 0..1; 1 changes nothing, 0 leaves them out.

    An image under several rules gets the smallest of their weights.

    Attributes:
        not_a_face: most FER+ raters said "no face" (150 of FER2013's Training images).
        constant: the image is one even grey.
        conflicting: a byte-identical image has another label.
        copies: a later byte-identical copy with the same label; the first one counts in full.
        unsupported: not one FER+ rater saw the expression of the label.
    """

    not_a_face: float = 1.0
    constant: float = 1.0
    conflicting: float = 1.0
    copies: float = 1.0
    unsupported: float = 1.0

    @property
    def active(self) -> dict[str, float]:
        """The rules that change something."""
        values = {f.name: float(getattr(self, f.name)) for f in fields(self)}
        return {name: value for name, value in values.items() if value != 1}


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
