"""What every face detector takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.results import Box
from mien.results.pose import Point


@dataclass(frozen=True, slots=True)
class Detection:
    """One face found in an image, in pixels of that image.

    Attributes:
        box: the detector's own box; it may reach over the image's edge.
        score: confidence, 0..1; None where the detector gives none (Haar).
        landmarks: right eye, left eye, nose tip, right and left mouth corner (the person's own
            right and left); empty where the detector gives none.
    """

    box: Box
    score: float | None = None
    landmarks: tuple[Point, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.landmarks, tuple):  # a detector of one's own may give an array
            points = tuple((float(x), float(y)) for x, y in self.landmarks)
            object.__setattr__(self, "landmarks", points)


@runtime_checkable
class Detector(Protocol):
    """Finds faces. Instances may be shared between threads."""

    @property
    def name(self) -> str:
        """The name under which :func:`mien.detect.load_detector` knows it."""
        ...

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """Find the faces of ``image``, uint8 (H, W, 3) in BGR order, largest first."""
        ...


def fit_long_side(height: int, width: int, long_side: int, least: int = 1) -> tuple[int, int]:
    """Size (height, width) at which to look at an image.

    Its long side is brought down to ``long_side`` or up to ``least``; between them it stays.
    """
    longest = max(height, width)
    scale = min(1.0, long_side / longest) if longest >= least else least / longest
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """``image`` at (height, width): averaged when it shrinks, interpolated linearly.

    Shrinking halves as often as it can and interpolates the rest: three times as fast as one
    ``INTER_AREA`` by a fractional factor, and as good for finding faces. Of an odd side the last
    row or column is left out, a shift of half a pixel of the image at most.
    """
    while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
        h, w = image.shape[0] // 2, image.shape[1] // 2
        half = cv2.resize(image[: 2 * h, : 2 * w], (w, h), interpolation=cv2.INTER_AREA)
        image = np.asarray(half, dtype=np.uint8)
    if image.shape[:2] == (height, width):
        return image
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)
