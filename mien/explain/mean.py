"""The mean occlusion map of each class over many faces: what a model looks at, no one shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import FaceDataset
from mien.emotions import Label
from mien.errors import DataError
from mien.evaluate.runner import PredictProba
from mien.explain.occlusion import PATCH, STRIDE, occlusion_maps

#: Fewer faces are not averaged: their mean could still be recognised.
MIN_FACES = 100


@dataclass(frozen=True)
class MeanMaps:
    """Mean occlusion maps of the correctly classified faces.

    Attributes:
        face: uint8 (H, W), the mean of all faces of the split, whatever their class.
        averaged: how many faces are in it.
        maps: class -> float32 (H, W), mean loss of the class's probability.
        counts: class -> faces behind its map; a class without a right answer has no map.
    """

    face: NDArray[np.uint8]
    averaged: int
    maps: dict[Label, NDArray[np.float32]]
    counts: dict[Label, int]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; maps with four decimals."""
        return {
            "averaged": self.averaged,
            "counts": {e.value: n for e, n in self.counts.items()},
            "maps": {e.value: np.round(m.astype(float), 4).tolist() for e, m in self.maps.items()},
        }


def mean_maps(
    predict_proba: PredictProba,
    dataset: FaceDataset,
    classes: Sequence[Label],
    *,
    per_class: int = 100,
    patch: int = PATCH,
    stride: int = STRIDE,
    seed: int = 0,
    on_class: Callable[[Label, int], None] | None = None,
) -> MeanMaps:
    """Average the occlusion maps of each class's correctly classified faces.

    Args:
        predict_proba, classes, patch, stride: see :func:`occlusion_maps`.
        dataset: the split; classes are matched by name.
        per_class: at most so many faces of each class, drawn with ``seed``.
        on_class: called with each class and its number of faces when it is done.

    Raises:
        DataError: fewer than 100 faces, or ``per_class`` below 1.
    """
    if len(dataset) < MIN_FACES:
        raise DataError(
            f"The split has {len(dataset)} faces; a mean map needs {MIN_FACES}, so that it shows "
            "no one."
        )
    if per_class < 1:
        raise DataError(f"per_class is {per_class}; it must be at least 1.")
    order = np.argsort(dataset.ids, kind="stable")
    rng = np.random.default_rng(seed)
    maps: dict[Label, NDArray[np.float32]] = {}
    counts: dict[Label, int] = {}
    for column, emotion in enumerate(classes):
        if emotion not in dataset.classes:
            continue
        rows = order[dataset.labels[order] == dataset.classes.index(emotion)]
        rows = rng.permutation(rows)
        total = np.zeros(dataset.images.shape[1:], np.float64)
        found = 0
        for row in rows.tolist():
            face = dataset.images[row : row + 1]
            if int(np.asarray(predict_proba(face))[0].argmax()) != column:
                continue
            total += occlusion_maps(predict_proba, face, patch=patch, stride=stride)[1][0, column]
            found += 1
            if found == per_class:
                break
        if found:
            maps[emotion] = (total / found).astype(np.float32)
        counts[emotion] = found
        if on_class:
            on_class(emotion, found)
    mean = np.rint(dataset.images.mean(axis=0)).astype(np.uint8)
    return MeanMaps(mean, len(dataset), maps, counts)
