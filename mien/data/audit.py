"""What is in a dataset, and what is wrong with it: counts, duplicates, conflicts, FER+."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import ROLE_OF, FaceDataset
from mien.data.duplicates import (
    constant_images,
    exact_groups,
    members_by_group,
    merge_lossy_copies,
    near_pairs,
)
from mien.emotions import FERPLUS_COLUMNS, FERPLUS_EMOTIONS


@dataclass(frozen=True)
class Audit:
    """The findings. Every list of images holds sample ids; every count is of images.

    Attributes:
        counts: split -> class name -> images.
        byte_copies: redundant byte-identical images: N less the distinct ones.
        exact_copies: the same with copies that only JPEG tells apart, as the original's pixels
            would have it; equal to ``byte_copies`` where nothing is known to be lossy.
        exact_groups: groups of at least two copies, by id.
        exact_within: split -> redundant copies inside it.
        twins: later split -> earlier split -> its images that have a copy there; "any" counts
            those with a copy in any earlier split.
        twin_free: later split -> its images without a copy in any earlier split.
        conflicts: groups of copies with different labels, by id.
        near_pairs: pairs of different files that show the same image, by id, with the pixel
            correlation.
        near_within, near_across: how many of the pairs lie inside one split or across two.
        constant: images that show nothing.
        not_a_face: FER+ gives "NF" more votes than anything else; None without votes.
        ferplus_agreement: split -> {"n", "agree", "rate"}: images whose FER+ plurality (first
            column on a tie) is an emotion, and how many of them carry that label in FER2013.
    """

    name: str
    source: str
    sha256: str
    images: int
    size: tuple[int, int]
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    byte_copies: int
    exact_copies: int
    exact_groups: list[list[str]]
    exact_within: dict[str, int]
    twins: dict[str, dict[str, int]]
    twin_free: dict[str, int]
    conflicts: list[list[str]]
    near_pairs: list[tuple[str, str, float]]
    near_within: int
    near_across: int
    constant: list[str]
    not_a_face: list[str] | None
    ferplus_agreement: dict[str, dict[str, float]] | None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def audit(dataset: FaceDataset) -> Audit:
    """Examine ``dataset``. About six seconds for FER2013 on one core."""
    splits = split_order(dataset)
    pairs, correlation = near_pairs(dataset.images)
    by_bytes = exact_groups(dataset.images)
    groups = merge_lossy_copies(dataset.images, by_bytes, dataset.lossless, pairs)
    members = members_by_group(groups)
    different = groups[pairs[:, 0]] != groups[pairs[:, 1]]
    pairs, correlation = pairs[different], correlation[different]
    inside = dataset.splits[pairs[:, 0]] == dataset.splits[pairs[:, 1]]
    ids = dataset.ids
    conflicts = [rows for rows in members.values() if len(set(dataset.labels[rows].tolist())) > 1]
    twins, free = _twins(dataset, by_bytes, splits)
    own = {split: groups[dataset.splits == split] for split in splits}
    not_a_face, agreement = _ferplus(dataset, splits)
    return Audit(
        name=dataset.name,
        source=dataset.source,
        sha256=dataset.sha256,
        images=len(dataset),
        size=(dataset.images.shape[1], dataset.images.shape[2]),
        classes=tuple(e.value for e in dataset.classes),
        counts={s: dataset.take(np.flatnonzero(dataset.splits == s)).counts for s in splits},
        byte_copies=len(dataset) - len(np.unique(by_bytes)),
        exact_copies=len(dataset) - len(np.unique(groups)),
        exact_groups=[ids[rows].tolist() for rows in members.values()],
        exact_within={s: len(g) - len(np.unique(g)) for s, g in own.items()},
        twins=twins,
        twin_free=free,
        conflicts=[ids[rows].tolist() for rows in conflicts],
        near_pairs=[
            (str(ids[i]), str(ids[j]), round(float(c), 4))
            for (i, j), c in zip(pairs, correlation, strict=True)
        ],
        near_within=int(inside.sum()),
        near_across=int((~inside).sum()),
        constant=ids[constant_images(dataset.images)].tolist(),
        not_a_face=not_a_face,
        ferplus_agreement=agreement,
        notes=dataset.notes,
    )


def split_order(dataset: FaceDataset) -> list[str]:
    """The publisher's splits that are present: train first, test last, others between; a later one
    must not hold what an earlier one holds."""
    present = sorted(set(dataset.splits.tolist()))
    rank = {name: i for i, name in enumerate(ROLE_OF)}
    return sorted(present, key=lambda s: rank.get(s.lower(), 2))


def _twins(
    dataset: FaceDataset, groups: NDArray[np.int64], splits: list[str]
) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Images of each later split with an exact duplicate in the earlier ones."""
    twins: dict[str, dict[str, int]] = {}
    free: dict[str, int] = {}
    for k, later in enumerate(splits[1:], start=1):
        own = groups[dataset.splits == later]
        hits = {s: np.isin(own, groups[dataset.splits == s]) for s in splits[:k]}
        anywhere = np.logical_or.reduce(list(hits.values()))
        twins[later] = {s: int(mask.sum()) for s, mask in hits.items()}
        twins[later]["any"] = int(anywhere.sum())
        free[later] = int((~anywhere).sum())
    return twins, free


def _ferplus(
    dataset: FaceDataset, splits: list[str]
) -> tuple[list[str] | None, dict[str, dict[str, float]] | None]:
    """Which images are no face to FER+'s raters, and how often their plurality is the label."""
    if dataset.votes is None:
        return None, None
    winner = dataset.votes.argmax(axis=1)  # the first column on a tie
    voted = dataset.votes.sum(axis=1) > 0  # not the images without votes
    position = {e: i for i, e in enumerate(dataset.classes)}
    as_label = np.array([position.get(e, -1) for e in FERPLUS_EMOTIONS] + [-1, -1])
    agree = as_label[winner] == dataset.labels
    result = {}
    for split in splits:
        mask = (dataset.splits == split) & (winner < len(FERPLUS_EMOTIONS)) & voted
        n, same = int(mask.sum()), int((agree & mask).sum())
        result[split] = {"n": n, "agree": same, "rate": round(same / n, 4) if n else 0.0}
    return dataset.ids[winner == FERPLUS_COLUMNS.index("NF")].tolist(), result
