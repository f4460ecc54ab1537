"""Whether something hides mouth, eyes or half of a face: a small network of its own on the crop.

``benchmarks/covered.py`` trains it on faces under drawn covers and writes it.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien._fork import native
from mien.errors import ModelError
from mien.onnxfile import runtime

#: The network's input, pixels wide.
SIDE = 48


def standardised(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The network's input: float32 (N, 1, S, S) of crops (N, S, S), each of mean 0 and spread 1."""
    x = crops.astype(np.float32)
    middle, spread = x.mean(axis=(1, 2), keepdims=True), x.std(axis=(1, 2), keepdims=True)
    return np.asarray((x - middle) / (spread + 4), np.float32)[:, None]


@cache
def _network() -> Any:
    ort, options = runtime.onnxruntime(), runtime.session_options()
    try:
        data = (resources.files("mien") / "assets" / "covered.onnx").read_bytes()
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's exceptions share no public base class
        lost = "mien's covered.onnx is damaged or missing; install mien again."
        raise ModelError(lost) from None


def load() -> None:
    """Load the network. Raises ModelError where the installation lacks it."""
    with native:
        _network()


def covered(crop: NDArray[np.uint8]) -> float:
    """The log-odds that something covers the face.

    Args:
        crop: uint8 (S, S), the face as the network sees it.
    """
    if len(crop) != SIDE:
        crop = np.asarray(cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    with native:
        (out,) = _network().run(None, {"images": standardised(crop[None])})
    return float(out[0, 0])
