"""Another face detector in front of mien's classifier: ``own_detector.py PHOTO``.

Any object with a ``name`` and a ``detect`` will do. This one wraps one of OpenCV's cascades;
put your own network's boxes in its place.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien import Analyzer, Box
from mien.detect import Detection

CASCADE = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"


class CascadeDetector:
    """Boxes of one of OpenCV's cascades; no landmarks, no score."""

    name = "alt2"

    def __init__(self) -> None:
        self._cascade = cv2.CascadeClassifier(str(CASCADE))

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """The faces of ``image``, uint8 (H, W, 3) in BGR order, largest first."""
        boxes = self._cascade.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        found = [Detection(Box(*map(float, box))) for box in boxes]
        return tuple(sorted(found, key=lambda detection: -detection.box.area))


def main(photo: str) -> None:
    """Print a line per face."""
    for face in Analyzer(detector=CascadeDetector()).analyze(photo).faces:
        print(f"{face.emotion} {face.confidence:.2f} {face.box}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
