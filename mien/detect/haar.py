"""Viola and Jones's cascade as OpenCV ships it: the detector that the papers used.

Kept for comparison: slower than YuNet, blind to turned faces, no landmarks and no score.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien._fork import native
from mien.detect.base import Detection, fit_long_side, resize
from mien.errors import ModelError
from mien.results import Box

CASCADE_FILE = "haarcascade_frontalface_default.xml"

#: The cascade's own window is 24 px: a smaller face cannot be found.
WINDOW_PIXELS = 24

#: Smaller images are enlarged to this.
LEAST_SIDE = 160


class Haar:
    """``cv2.CascadeClassifier`` with the frontal default cascade, behind a lock.

    Args:
        min_face: side of the smallest face to find, as a fraction of the image's long side.
            The image is scaled down to ``24 / min_face`` pixels (480 for 5 %).
        min_neighbors: how many raw hits make a face; more gives fewer false ones.
    """

    name = "haar"

    def __init__(self, min_face: float = 0.05, min_neighbors: int = 5) -> None:
        self.min_face = min_face
        self.min_neighbors = min_neighbors
        self.long_side = math.ceil(WINDOW_PIXELS / min_face)
        self._lock = threading.Lock()
        path = Path(cv2.__file__).parent / "data" / CASCADE_FILE
        # Version 5's contrib build still has the class, without the cascades.
        if not hasattr(cv2, "CascadeClassifier") or not (cv2.__version__ < "5" or path.exists()):
            raise ModelError(
                f"OpenCV {cv2.__version__} has no Haar cascades (version 5 dropped them); "
                "use yunet, or install one that has: pip install 'opencv-python-headless>=4.8,<5'."
            )
        with native:
            self._cascade = cv2.CascadeClassifier(str(path))
        if self._cascade.empty():
            raise ModelError(f"OpenCV's cascade {CASCADE_FILE} is missing; reinstall OpenCV.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.min_face, self.min_neighbors)

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """Find the faces of ``image``, uint8 (H, W, 3) in BGR order, largest first."""
        height, width = image.shape[:2]
        small_h, small_w = fit_long_side(height, width, self.long_side, LEAST_SIDE)
        least = max(WINDOW_PIXELS, int(self.min_face * max(small_h, small_w)))
        with native, self._lock:
            grey = cv2.cvtColor(resize(image, small_h, small_w), cv2.COLOR_BGR2GRAY)
            boxes = self._cascade.detectMultiScale(
                cv2.equalizeHist(grey), 1.1, self.min_neighbors, minSize=(least, least)
            )
        sx, sy = width / small_w, height / small_h
        found = [
            Detection(Box(float(x * sx), float(y * sy), float(w * sx), float(h * sy)))
            for x, y, w, h in boxes
        ]
        return tuple(sorted(found, key=lambda d: -d.box.area))
