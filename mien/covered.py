"""Whether something hides mouth, eyes or half of a face: a small network on grey values and detail.

``benchmarks/covered.py`` trains it and writes its weights.
"""

from __future__ import annotations

import io
from functools import cache
from importlib import resources
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ModelError

_SIDE = 48


def features(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 (688,): 16 × 16 grey values; of 12 × 12 cells the spread and the two slopes."""
    if len(crop) != _SIDE:
        crop = np.asarray(cv2.resize(crop, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    middle, deviation = cv2.meanStdDev(crop)
    x = (crop - np.float32(middle[0, 0])) * np.float32(1 / (deviation[0, 0] + 4))
    across = np.abs(np.diff(x, axis=1, append=x[:, -1:]))
    down = np.abs(np.diff(x, axis=0, append=x[-1:]))
    mean, squares, across, down = (_cells(v, 12) for v in (x, x * x, across, down))
    spread = np.sqrt(np.maximum(squares - mean * mean, 0))
    return np.concatenate([v.ravel() for v in (_cells(x, 16), spread, across, down)])


def _cells(values: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """The means of n × n cells."""
    return np.asarray(cv2.resize(values, (n, n), interpolation=cv2.INTER_AREA), np.float32)


@cache
def _weights() -> dict[str, NDArray[Any]]:
    try:
        data = (resources.files("mien") / "assets" / "covered.npz").read_bytes()
    except FileNotFoundError:
        raise ModelError("mien's covered.npz is missing; install mien again.") from None
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name].astype(np.float32) for name in file.files}


def covered(crop: NDArray[np.uint8]) -> float:
    """The log-odds that something covers the face.

    Args:
        crop: uint8 (S, S), the face as the network sees it.
    """
    w = _weights()
    hidden = np.maximum(features(crop) @ w["into"] + w["bias"], 0)
    return float(hidden @ w["out"] + w["last"])
