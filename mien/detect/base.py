"""What every face detector takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mien.results import Box, Point


@dataclass(frozen=True, slots=True)
class Detection:
    """One face found in a picture, in pixels of that picture.

    Attributes:
        box: the detector's own box; it may reach over the picture's edge.
        score: confidence, 0..1; None where the detector gives none (Haar).
        landmarks: right eye, left eye, nose tip, right and left mouth corner (the person's own
            right and left); empty where the detector gives none.
    """

    box: Box
    score: float | None = None
    landmarks: tuple[Point, ...] = ()


class Detector(Protocol):
    """Finds faces. Instances may be shared between threads."""

    @property
    def name(self) -> str:
        """The name under which :func:`mien.detect.load_detector` knows it."""
        ...

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """Find the faces of ``image``, uint8 (H, W, 3) in BGR order, largest first."""
        ...


def fit_long_side(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Size (height, width) of a picture scaled down so that its long side is at most ``long_side``.

    A smaller picture keeps its size: enlarging adds no detail that a detector could use.
    """
    scale = min(1.0, long_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
