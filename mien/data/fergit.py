"""FERGIT: FER2013 plus the faces of muxspace's photos (Bah & Xue 2022, section 2.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.assemble import Row, extended
from mien.data.dataset import FaceDataset
from mien.data.photos import PhotoDataset
from mien.detect.base import Detector
from mien.emotions import FER2013, Emotion
from mien.errors import DataError, ImageError
from mien.results import Box

SIZE = 48
PAPER_TOTAL = 49_300  # Bah & Xue 2022, section 2.2

#: Why a photo was left out, in the order in which it is asked.
REASONS = ("unknown label", "contempt", "unreadable", "no face found")


@dataclass(frozen=True)
class BuildReport:
    """What became of the photos.

    Attributes:
        detector: the detector's name.
        fer2013: images taken over from FER2013.
        photos: photos looked at.
        kept: photos whose face was taken; ``several_faces`` of them showed more than one, of
            which the largest was.
        dropped: reason -> photos; every reason of REASONS is there.
        dropped_ids: reason -> their ids.
        total: images of the set; the paper's has 49,300.
        kept_by_class, total_by_class: class name -> images.
    """

    detector: str
    fer2013: int
    photos: int
    kept: int
    several_faces: int
    dropped: dict[str, int]
    dropped_ids: dict[str, list[str]]
    total: int
    paper_total: int
    kept_by_class: dict[str, int]
    total_by_class: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def crop_square(image: NDArray[np.uint8], box: Box, size: int = SIZE) -> NDArray[np.uint8]:
    """The square around ``box`` (side: its longer one), grey, uint8 (size, size).

    The paper says no more than that faces are detected. Beyond the edge of the photo its
    outermost pixels are repeated.

    Args:
        image: uint8 (H, W, 3), BGR.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    side = max(1, round(max(box.width, box.height)))
    x, y = round(box.center[0] - side / 2), round(box.center[1] - side / 2)
    height, width = grey.shape
    margin = max(0, -x, -y, x + side - width, y + side - height)
    padded = cv2.copyMakeBorder(grey, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    square = padded[y + margin : y + margin + side, x + margin : x + margin + side]
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size, size), interpolation=how), dtype=np.uint8)


def build_fergit(
    fer2013: FaceDataset,
    photos: PhotoDataset,
    detector: Detector,
    progress: Callable[[int], None] | None = None,
) -> tuple[FaceDataset, BuildReport]:
    """FER2013 and the largest face of every muxspace photo that has one of the seven labels.

    Args:
        fer2013: 48×48, its seven classes.
        progress: called with the number of photos done.

    Returns:
        The set (ids "fer2013:…" and "muxspace:…"; publisher's splits kept, "" for the photos) and
        the report.

    Raises:
        DataError: ``fer2013`` is another dataset, or no face was found at all.
    """
    if fer2013.name != "fer2013" or fer2013.images.shape[1:] != (SIZE, SIZE):
        raise DataError(f"{fer2013.where} is {fer2013.name}; FERGIT is built on FER2013.")
    dropped: dict[str, list[str]] = {reason: [] for reason in REASONS}
    rows: list[Row] = []
    several = 0
    for i in range(len(photos)):
        face = _face(photos, i, detector)
        if isinstance(face, str):
            dropped[face].append(photos.ids[i])
        else:
            rows.append((photos.ids[i], photos.users[i], *face[:2]))
            several += face[2] > 1
        if progress is not None:
            progress(i + 1)
    if not rows:
        raise DataError(f"{photos.source}: no photo has a face and one of the seven labels.")
    known, source = fer2013.lossless, f"{fer2013.source} + {photos.source}"
    if known is not None:
        known = np.concatenate([known, np.ones(len(rows), dtype=bool)])
    dataset = extended(fer2013, rows, name="fergit", source=source, lossless=known)
    kept = Counter(emotion for _, _, emotion, _ in rows)
    report = BuildReport(
        detector=detector.name,
        fer2013=len(fer2013),
        photos=len(photos),
        kept=len(rows),
        several_faces=several,
        dropped={reason: len(ids) for reason, ids in dropped.items()},
        dropped_ids=dropped,
        total=len(dataset),
        paper_total=PAPER_TOTAL,
        kept_by_class={e.value: kept[e] for e in FER2013},
        total_by_class=dataset.counts,
    )
    return dataset, report


def _face(
    photos: PhotoDataset, i: int, detector: Detector
) -> tuple[Emotion, NDArray[np.uint8], int] | str:
    """(label, crop, number of faces found), or the reason why there is none."""
    emotion = photos.emotion(i)
    if emotion is None:
        return "unknown label"
    if emotion is Emotion.CONTEMPT:
        return "contempt"
    try:
        image = photos.image(i)
    except ImageError:
        return "unreadable"
    found = detector.detect(image)
    if not found:
        return "no face found"
    return emotion, crop_square(image, max(found, key=lambda d: d.box.area).box), len(found)
