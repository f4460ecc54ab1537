"""FER2013's images under the majority of their FER+ raters: eight classes, fewer images.

The rule is that of the FER+ authors' released code in its "majority" mode (Barsoum et al. 2016,
"Training deep networks for facial expression recognition with crowd-sourced label distribution"):
an emotion with a single vote is an outlier and its vote is removed; the emotion with the most
votes is the label if it has more than half of the votes that are left; images without such a
majority, and those whose majority is "unknown" or "not a face", are dropped.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from mien.data.assemble import content_sha256
from mien.data.dataset import FaceDataset
from mien.emotions import ALL, FERPLUS_EMOTIONS
from mien.errors import DataError

#: The name of the view, and of the protocol that divides it.
NAME = "ferplus-majority"


def majority_labels(votes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index into ``ALL`` of the raters' majority, -1 where the rule drops the image.

    Args:
        votes: float32 (N, 10), FER+ votes in FERPLUS_COLUMNS order.

    Returns:
        int64 (N,).
    """
    kept = np.where(votes > 1, votes, 0)
    best = kept.argmax(axis=1)
    most = kept.max(axis=1)
    clear = (most > 0.5 * kept.sum(axis=1)) & (best < len(FERPLUS_EMOTIONS))
    canonical = np.array([ALL.index(e) for e in FERPLUS_EMOTIONS], dtype=np.int64)
    return np.where(clear, canonical[np.minimum(best, len(FERPLUS_EMOTIONS) - 1)], -1)


def majority_view(dataset: FaceDataset) -> FaceDataset:
    """``dataset`` with the raters' majority as label: 8 classes (``ALL``), the other images gone.

    The ids and the publisher's splits stay, so the official split holds. Of FER2013's 28,709 /
    3,589 / 3,589 images 25,060 / 3,199 / 3,153 remain.

    Raises:
        DataError: the dataset has no FER+ votes, or no image has a majority.
    """
    if dataset.votes is None:
        raise DataError(
            f"Protocol {NAME!r} reads FER+ votes, and {dataset.where} has none: "
            "add fer2013new.csv beside the CSV, or use a parquet file with the ferplus columns."
        )
    labels = majority_labels(dataset.votes)
    rows = np.flatnonzero(labels >= 0)
    if not len(rows):
        raise DataError(f"{dataset.where}: no image has a majority of votes.")
    kept = dataset.take(rows)
    return dataclasses.replace(
        kept,
        labels=labels[rows],
        classes=ALL,
        name=NAME,
        notes=dataset.notes,
        sha256=content_sha256(kept.images, labels[rows], kept.ids, ALL),
    )
