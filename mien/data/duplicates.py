"""Exact and near duplicates among face crops, and what they do to a test split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import FaceDataset
from mien.errors import DataError

#: Two images are the same up to lossy compression when no pixel differs by more than this.
COMPRESSION_LEVELS = 8
#: An image is constant when its values span at most this many levels (JPEG noise included).
CONSTANT_LEVELS = 3

HASH_BITS = 63
BANDS = 7
#: Bits in which the hashes of near duplicates may differ. Seven bands of nine bits: two hashes at
#: most six bits apart agree wholly in at least one band, so no pair within reach is missed.
HASH_DISTANCE = 6
#: Pixel correlation from which two images with like hashes are near duplicates.
NEAR_CORRELATION = 0.95

_BYTE_BITS = np.array([bin(i).count("1") for i in range(256)], dtype=np.uint8)


def exact_groups(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Group number (N,) of every image: byte-identical images share the number of the first.

    Args:
        images: uint8 (N, H, W).
    """
    first: dict[bytes, int] = {}
    groups = [first.setdefault(image.tobytes(), i) for i, image in enumerate(images)]
    return np.array(groups, dtype=np.int64)


def constant_images(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mask (N,) of the images that show nothing: all values within CONSTANT_LEVELS."""
    flat = images.reshape(len(images), -1)
    return np.asarray(flat.max(1).astype(int) - flat.min(1) <= CONSTANT_LEVELS, np.bool_)


def perceptual_hash(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """63-bit DCT hash (N,): signs of the 8×8 lowest frequencies against their median, no DC."""
    hashes = np.zeros(len(images), dtype=np.uint64)
    weights = (np.uint64(1) << np.arange(HASH_BITS, dtype=np.uint64)).astype(np.uint64)
    for i, image in enumerate(images):
        small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
        low = cv2.dct(small)[:8, :8].ravel()[1:]
        hashes[i] = weights[low > np.median(low)].sum(dtype=np.uint64)
    return hashes


def _hamming(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.int64]:
    differing = (a ^ b).view(np.uint8).reshape(len(a), 8)
    return np.asarray(_BYTE_BITS[differing].sum(1), np.int64)


def _band_pairs(hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Pairs (M, 2) of positions whose hashes agree in some band and lie within HASH_DISTANCE."""
    bits = HASH_BITS // BANDS
    for band in range(BANDS):
        keys = (hashes >> np.uint64(band * bits)) & np.uint64(2**bits - 1)
        order = np.argsort(keys, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            # One row of the triangle at a time would be slow, the whole of it large: blocks.
            for start in range(0, len(bucket) - 1, 512):
                left = bucket[start : start + 512]
                i, j = np.meshgrid(np.arange(len(left)), np.arange(len(bucket)), indexing="ij")
                later = j > i + start
                a, b = left[i[later]], bucket[j[later]]
                close = _hamming(hashes[a], hashes[b]) <= HASH_DISTANCE
                if close.any():
                    yield np.stack([a[close], b[close]], axis=1)


def near_pairs(images: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of different images that show the same image: re-encoded, brighter, cleaned.

    A 63-bit perceptual hash proposes (at most HASH_DISTANCE bits apart), the correlation of the
    pixels decides (NEAR_CORRELATION). Byte-identical copies count as one image, constant images
    are left out.

    Returns:
        pairs int64 (M, 2), i < j, first copies only; their correlation float64 (M,).
    """
    groups = exact_groups(images)
    rows = np.flatnonzero((groups == np.arange(len(images))) & ~constant_images(images))
    found = list(_band_pairs(perceptual_hash(images[rows])))
    if not found:
        return np.zeros((0, 2), dtype=np.int64), np.zeros(0)
    pairs = np.unique(np.sort(rows[np.concatenate(found)], axis=1), axis=0)
    correlation = np.empty(len(pairs))
    for start in range(0, len(pairs), 4096):
        part = pairs[start : start + 4096]
        a, b = (images[part[:, k]].reshape(len(part), -1).astype(np.float64) for k in (0, 1))
        a -= a.mean(1, keepdims=True)
        b -= b.mean(1, keepdims=True)
        scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
        correlation[start : start + 4096] = (a * b).sum(1) / scale
    keep = correlation >= NEAR_CORRELATION
    return pairs[keep], correlation[keep]


def merge_lossy_copies(
    images: NDArray[np.uint8],
    groups: NDArray[np.int64],
    lossless: NDArray[np.bool_] | None,
    pairs: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Exact groups (N,), with copies joined that only JPEG tells apart.

    A near pair of which one image is known to be a JPEG's pixels counts as the same image
    when no pixel differs by more than COMPRESSION_LEVELS. Without ``lossless`` nothing changes.
    """
    merged = groups.copy()
    if lossless is None:
        return merged
    for i, j in pairs:
        if lossless[i] and lossless[j]:
            continue
        if np.abs(images[i].astype(np.int16) - images[j]).max() <= COMPRESSION_LEVELS:
            a, b = sorted((merged[i], merged[j]))
            merged[merged == b] = a
    return merged


def members_by_group(groups: NDArray[np.int64]) -> dict[int, list[int]]:
    """Group number -> rows, for the groups with at least two."""
    members: dict[int, list[int]] = defaultdict(list)
    for i, g in enumerate(groups.tolist()):
        members[g].append(i)
    return {g: rows for g, rows in members.items() if len(rows) > 1}


def twin_free_ids(
    dataset: FaceDataset,
    test_split: str = "PrivateTest",
    against_splits: tuple[str, ...] = ("Training", "PublicTest"),
) -> NDArray[np.str_]:
    """Ids of the test images that have no exact duplicate in the splits trained or chosen on.

    Args:
        dataset: the whole dataset, every split in it.
        test_split: the publisher's name of the split under test.
        against_splits: the publisher's names of the splits that must not hold a duplicate.

    Returns:
        str (M,), in the dataset's order; 3,275 of 3,589 for FER2013's PrivateTest.

    Raises:
        DataError: the dataset has no such split.
    """
    for split in (test_split, *against_splits):
        if not (dataset.splits == split).any():
            raise DataError(f"{dataset.where} has no split {split!r}.")
    return without_twins(
        dataset.take(np.flatnonzero(dataset.splits == test_split)),
        dataset.take(np.flatnonzero(np.isin(dataset.splits, against_splits))),
    )


def without_twins(samples: FaceDataset, *others: FaceDataset) -> NDArray[np.str_]:
    """Ids of ``samples`` that have no byte-identical image in ``others``, in their order."""
    seen = {image.tobytes() for other in others for image in other.images}
    keep = [image.tobytes() not in seen for image in samples.images]
    return samples.ids[np.array(keep, dtype=np.bool_)]
