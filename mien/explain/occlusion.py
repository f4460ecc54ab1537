"""Occlusion maps: cover a patch, see what the answer loses. Works with any predict callable.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2.
The model is a black box: no gradient, so an int8 ONNX file or another package's classifier will do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError, ModelError
from mien.evaluate.runner import PredictProba

#: Side of the patch and its step in pixels, for 48×48 faces: a patch hides a mouth or both brows.
PATCH, STRIDE = 15, 3


def occlusion_maps(
    predict_proba: PredictProba,
    faces: NDArray[np.uint8],
    *,
    patch: int = PATCH,
    stride: int = STRIDE,
    batch_size: int = 256,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What each class's probability loses where a face is covered.

    A square patch of the face's own mean grey is put on a grid of places that reaches over every
    edge. A pixel's value is the mean loss over the patches that cover it: positive where the class
    needs that part of the face, negative where that part speaks against it.

    Args:
        predict_proba: uint8 (N, H, W) -> (N, K) probabilities.
        faces: uint8 (N, H, W), grey, 0..255.
        patch, stride: side and step of the patch in pixels; ``stride`` at most ``patch``.
        batch_size: faces per call.

    Returns:
        the probabilities of the uncovered faces, float32 (N, K), and the maps, float32
        (N, K, H, W), each value -1..1.

    Raises:
        DataError: another shape or dtype, or a patch or stride out of range.
        ModelError: ``predict_proba`` gives no (N, K) array.
    """
    if faces.dtype != np.uint8 or faces.ndim != 3:
        raise DataError(f"Faces must be uint8 (N, H, W), not {faces.dtype} {faces.shape}.")
    height, width = faces.shape[1:]
    if not 1 <= patch <= min(height, width):
        raise DataError(f"The patch is {patch}; it must be 1 to {min(height, width)} pixels.")
    if not 1 <= stride <= patch:
        raise DataError(f"The stride is {stride}; it must be 1 to the patch's {patch} pixels.")
    windows = [
        (top, bottom, left, right)
        for top, bottom in _spans(height, patch, stride)
        for left, right in _spans(width, patch, stride)
    ]
    cover = np.zeros((height, width), np.float32)
    for top, bottom, left, right in windows:
        cover[top:bottom, left:right] += 1
    clean = _call(predict_proba, faces)
    maps = np.empty((*clean.shape, height, width), np.float32)
    for i, face in enumerate(faces):
        covered = _covered(face, windows)
        rows = [
            _call(predict_proba, covered[k : k + batch_size])
            for k in range(0, len(covered), batch_size)
        ]
        loss = clean[i] - np.concatenate(rows)
        total = np.zeros((clean.shape[1], height, width), np.float32)
        for (top, bottom, left, right), change in zip(windows, loss, strict=True):
            total[:, top:bottom, left:right] += change[:, None, None]
        maps[i] = total / cover
    return clean, maps


def _spans(size: int, patch: int, stride: int) -> list[tuple[int, int]]:
    """(start, stop) of patches along one side, cut at the edges; every pixel is in one."""
    count = -(-(size + patch - 1) // stride)
    if (size - patch - (count - 1) * stride) % 2 and stride % 2:
        count -= 1  # Now both ends are cut alike, and a mirrored face has the mirrored map.
    first = (size - patch - (count - 1) * stride) // 2
    starts = [first + k * stride for k in range(count)]
    spans = [(max(0, s), min(size, s + patch)) for s in starts]
    return [(a, b) for a, b in spans if b > a]


def _covered(face: NDArray[np.uint8], windows: list[tuple[int, int, int, int]]) -> Any:
    covered = np.repeat(face[None], len(windows), axis=0)
    grey = np.uint8(np.rint(face.mean()))
    for k, (top, bottom, left, right) in enumerate(windows):
        covered[k, top:bottom, left:right] = grey
    return covered


def _call(predict_proba: PredictProba, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows = np.asarray(predict_proba(faces), np.float32)
    if rows.ndim != 2 or len(rows) != len(faces):
        raise ModelError(f"The model gave {rows.shape} for {len(faces)} faces; expected (N, K).")
    return rows
