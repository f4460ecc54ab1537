"""From raw columns to a checked :class:`FaceDataset`: the one door of every reader."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import FaceDataset
from mien.emotions import ALL, CKPLUS, FER2013, Label
from mien.errors import DataError, ImageError
from mien.images import MAX_PIXELS
from mien.images.codecs import declared_size

#: Largest side of a face in a dataset, in pixels.
MAX_SIDE = 1024


class BadRows:
    """Collects what is wrong with single rows or files; one error at the end names the first.

    Args:
        source: the file or folder that is read, for the message.
        skip: leave bad rows out (they are kept as notes) instead of failing.
    """

    def __init__(self, source: Path | str, *, skip: bool = False) -> None:
        self.source = source
        self.skip = skip
        self.problems: list[str] = []

    def add(self, where: str, what: str) -> None:
        """Note that ``where`` ("row 17") has the problem ``what`` ("the label is missing")."""
        self.problems.append(f"{where}: {what}")

    def check(self) -> tuple[str, ...]:
        """Raise DataError for the first problem unless bad rows are skipped; return all of them."""
        if self.problems and not self.skip:
            more = len(self.problems) - 1
            others = f" (and {more:,} more bad {'row' if more == 1 else 'rows'})" if more else ""
            raise DataError(
                f"{self.source}, {self.problems[0]}{others}; "
                "repair the data, or leave bad rows out with: mien data convert … --skip-bad."
            )
        return tuple(self.problems)


def decode_face(data: bytes | None) -> NDArray[np.uint8]:
    """Decode the PNG, JPEG or WebP bytes of a face already cut out: uint8 (H, W), 0..255.

    Raises:
        ValueError: empty, damaged, or more than :data:`MAX_SIDE` a side; the message is for a
            BadRows note.
    """
    if not data:
        raise ValueError("the image is empty")
    try:  # OpenCV allocates, and fills, whatever a header declares
        width, height = declared_size(data, "the image", MAX_PIXELS)
    except ImageError:
        raise ValueError("the image cannot be decoded") from None
    if max(height, width) > MAX_SIDE:
        raise ValueError(
            f"the image has {width}×{height} pixels, and faces already cut out have at most "
            f"{MAX_SIDE} a side (mien data crop IN OUT cuts faces out of photos)"
        )
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:
        image = None
    if image is None or image.size == 0:
        raise ValueError("the image cannot be decoded")
    return np.asarray(image, dtype=np.uint8)


def class_vocabulary(present: set[Label]) -> tuple[Label, ...]:
    """The smallest of FER2013's, CK+'s and the full vocabulary that holds every label present."""
    for classes in (FER2013, CKPLUS):
        if present <= set(classes):
            return classes
    return ALL


def content_sha256(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    ids: NDArray[np.str_],
    classes: tuple[Label, ...],
) -> str:
    """SHA-256 over shape, then id, label name and pixels of every sample in the order of the ids.

    The same data gives the same value whatever the form and the order in which it was read.
    """
    digest = hashlib.sha256(repr(images.shape).encode())
    for i in np.argsort(ids, kind="stable"):
        digest.update(f"\n{ids[i]} {classes[labels[i]].value}\n".encode())
        digest.update(images[i].tobytes())
    return digest.hexdigest()


#: A face that joins others: its id, group, label and uint8 (H, W) image.
Row = tuple[str, str, Label, NDArray[np.uint8]]


def extended(
    fer2013: FaceDataset,
    rows: Sequence[Row],
    *,
    name: str,
    source: str,
    split: str = "",
    votes: NDArray[np.float32] | None = None,
    lossless: NDArray[np.bool_] | None = None,
) -> FaceDataset:
    """FER2013 with more faces behind its own: a set called ``name``, its classes FER2013's.

    Args:
        split: of the new faces.
        votes, lossless: of the whole set.
    """
    ids, groups, emotions, images = zip(*rows, strict=True)
    return assemble(
        images=np.concatenate([fer2013.images, np.stack(images)]),
        emotions=[*(fer2013.classes[k] for k in fer2013.labels.tolist()), *emotions],
        ids=[*fer2013.ids.tolist(), *ids],
        name=name,
        source=source,
        splits=[*fer2013.splits.tolist(), *[split] * len(rows)],
        groups=[*fer2013.groups.tolist(), *groups],
        votes=votes,
        classes=FER2013,
        lossless=lossless,
    )


def assemble(
    *,
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    emotions: Sequence[Label],
    ids: Sequence[str],
    name: str,
    source: Path | str,
    splits: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    votes: NDArray[np.float32] | None = None,
    classes: tuple[Label, ...] | None = None,
    notes: tuple[str, ...] = (),
    lossless: NDArray[np.bool_] | None = None,
) -> FaceDataset:
    """Check sizes, labels and ids and build the dataset with its SHA-256.

    Args:
        images: uint8 (H, W) each, all of one size.
        classes: label vocabulary; chosen by what is present when None.

    Raises:
        DataError: no samples, several image sizes, or an id that appears twice.
    """
    n = len(ids)
    if n == 0:
        raise DataError(f"{source} holds no usable samples; check that it is the right file.")
    sizes = {np.shape(image) for image in images}
    if len(sizes) > 1:
        listed = ", ".join(f"{s[1]}×{s[0]}" for s in sorted(sizes)[:3])
        raise DataError(
            f"{source} holds images of {len(sizes)} sizes ({listed}, …), expected one; make crops "
            f"of one size with: mien data crop {source} OUT"
        )
    id_array = np.array(ids, dtype=np.str_)
    unique, counts = np.unique(id_array, return_counts=True)
    if len(unique) < n:
        twice = str(unique[counts > 1][0])
        raise DataError(f"{source}: the sample id {twice!r} appears twice; ids must be unique.")
    classes = classes or class_vocabulary(set(emotions))
    index = {emotion: i for i, emotion in enumerate(classes)}
    unknown = set(emotions) - set(classes)
    if unknown:
        raise DataError(f"{source}: label {min(unknown)} is outside the classes of {name}.")
    labels = np.array([index[e] for e in emotions], dtype=np.int64)
    stack = np.stack(images) if not isinstance(images, np.ndarray) else images
    return FaceDataset(
        images=stack,
        labels=labels,
        ids=id_array,
        classes=classes,
        name=name,
        splits=np.array(splits if splits is not None else [""] * n, dtype=np.str_),
        groups=np.array(groups if groups is not None else [""] * n, dtype=np.str_),
        votes=votes,
        source=str(source),
        sha256=content_sha256(stack, labels, id_array, classes),
        notes=notes,
        lossless=lossless,
    )
