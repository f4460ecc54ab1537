"""From an image to a face crop to the network's input: the same in validation and deployment."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien._fork import native
from mien.images.pixels import full_range
from mien.modelinfo import ModelInfo
from mien.results import Box
from mien.results.pose import LEVEL_FROM, roll_of

if TYPE_CHECKING:
    from mien.detect.base import Detection

# How FER2013 frames a face, measured on its Training images (docs/framing.md; made by
# benchmarks/framing.py). Sides are relative to sqrt(width * height) of the detector's box, shifts
# point downwards and are relative to the same length.
YUNET_SCALE = 1.11
YUNET_SHIFT_Y = -0.05
HAAR_SCALE = 1.046
HAAR_SHIFT_Y = 0.005


def face_square(face: Detection | Box) -> Box:
    """The square in which FER2013 would have shown a face.

    Args:
        face: a detection with landmarks (YuNet), one without (Haar), or a bare box, which is
            taken as it is and only made square around its centre.

    Returns:
        A square in pixels of the image; it may reach over the edge. A face that is turned
        beyond ``LEVEL_FROM`` degrees is levelled around its centre.
    """
    if isinstance(face, Box):
        (x, y), side = face.center, math.sqrt(face.area)
        return Box(x - side / 2, y - side / 2, side, side)
    (x, y), unit = face.box.center, math.sqrt(face.box.area)
    scale, shift = HAAR_SCALE, HAAR_SHIFT_Y
    if face.landmarks:
        # The mean of the box's centre and the landmarks' is nearer to FER2013's than either.
        n = len(face.landmarks)
        x = (x + sum(p[0] for p in face.landmarks) / n) / 2
        y = (y + sum(p[1] for p in face.landmarks) / n) / 2
        scale, shift = YUNET_SCALE, YUNET_SHIFT_Y
    side = unit * scale
    turn = math.radians(levelling(face))
    x -= unit * shift * math.sin(turn)
    y += unit * shift * math.cos(turn)
    return Box(x - side / 2, y - side / 2, side, side)


def levelling(face: Detection | Box) -> float:
    """Degrees by which a crop turns ``face`` back: its roll where that is beyond ``LEVEL_FROM``."""
    if isinstance(face, Box) or not face.landmarks:
        return 0.0
    roll = roll_of(face.landmarks)
    return roll if abs(roll) > LEVEL_FROM else 0.0


def crop_square(face: Detection | Box, info: ModelInfo) -> tuple[Box, float]:
    """The square that :func:`crop_face` cuts out, and the degrees by which it turns it back
    around its centre."""
    square, turn = face_square(face), levelling(face)
    side = max(1.0, square.width * info.crop_scale)
    x, y = square.center
    x -= square.width * info.crop_shift_y * math.sin(math.radians(turn))
    y += square.width * info.crop_shift_y * math.cos(math.radians(turn))
    return Box(x - side / 2, y - side / 2, side, side), turn


def crop_face(
    image: NDArray[np.uint8], face: Detection | Box, info: ModelInfo
) -> NDArray[np.uint8]:
    """Cut a face out as ``info``'s network expects it.

    Beyond the image's edge its last pixels are repeated. A face larger than the input is
    averaged over areas, a smaller one interpolated linearly. A face turned in the image's plane
    beyond ``LEVEL_FROM`` degrees is levelled; a little turned one is left so, as in FER2013. A
    dark or pale one is spread over the usual range of grey values.

    Args:
        image: uint8 (H, W) grey or (H, W, 3) BGR, 0..255.
        face: what to cut out; see :func:`face_square`.

    Returns:
        uint8 (input_size, input_size), grey.
    """
    with native:
        return full_range(_cut(image, face, info))


def _cut(image: NDArray[np.uint8], face: Detection | Box, info: ModelInfo) -> NDArray[np.uint8]:
    square, turn = crop_square(face, info)
    side, size = square.width, info.input_size
    if turn:
        return _levelled(image, square.center, side, turn, size)
    left, top = square.x, square.y
    if side < 2 * size:  # few pixels: place the square exactly
        matrix = np.array([[size / side, 0, 0], [0, size / side, 0]])
        matrix[:, 2] = (0.5 - left) * size / side - 0.5, (0.5 - top) * size / side - 0.5
        x0, y0, patch = _patch(image, left - 2, top - 2, side + 4)
        matrix[:, 2] += matrix[0, 0] * x0, matrix[1, 1] * y0
        out = cv2.warpAffine(
            patch, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    else:
        _, _, patch = _patch(image, left, top, side)
        out = cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(out, dtype=np.uint8)


def _levelled(
    image: NDArray[np.uint8], centre: tuple[float, float], side: float, turn: float, size: int
) -> NDArray[np.uint8]:
    """The square of ``side`` around ``centre``, turned by ``turn`` degrees, at ``size``; grey."""
    reach = 1.5 * side  # more than the diagonal of the square
    x0, y0, patch = _patch(image, centre[0] - reach / 2, centre[1] - reach / 2, reach)
    shrink = 1.0
    if side > 2 * size:  # averaged first, or turning would alias
        n = round(3 * size)
        shrink = n / len(patch)
        patch = np.asarray(cv2.resize(patch, (n, n), interpolation=cv2.INTER_AREA), np.uint8)
    middle = ((centre[0] - x0) * shrink - 0.5, (centre[1] - y0) * shrink - 0.5)
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, turn, size / side / shrink), np.float64)
    matrix[:, 2] += size / 2 - 0.5 - np.array(middle)
    out = cv2.warpAffine(
        patch, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(out, np.uint8)


def smoothed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``image``, uint8 (H, W, 3), with its dots averaged if they are black or white alone, as in
    an image of one bit; else itself."""
    if not np.isin(image[:8], (0, 255)).all() or not ((image == 0) | (image == 255)).all():
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1), np.uint8)


def whole_face(image: NDArray[np.uint8], info: ModelInfo) -> NDArray[np.uint8]:
    """An image that already is a face, brought to the network's input; the shape is stretched.

    A dark or pale one is spread over the usual range of grey values, as in :func:`crop_face`.

    Args:
        image: uint8 (H, W) grey or (H, W, 3) BGR, 0..255.

    Returns:
        uint8 (input_size, input_size), grey.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    size = info.input_size
    if grey.shape == (size, size):
        return full_range(np.ascontiguousarray(grey, dtype=np.uint8))
    how = cv2.INTER_AREA if min(grey.shape) >= size else cv2.INTER_LINEAR
    return full_range(np.asarray(cv2.resize(grey, (size, size), interpolation=how), np.uint8))


def _patch(
    image: NDArray[np.uint8], left: float, top: float, side: float
) -> tuple[int, int, NDArray[np.uint8]]:
    """Whole pixels around a square, grey, edges repeated: (x, y of its corner, patch)."""
    height, width = image.shape[:2]
    n = max(1, round(side))
    x0, y0 = round(left), round(top)
    x1, y1 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    x2, y2 = max(min(x0 + n, width), x1 + 1), max(min(y0 + n, height), y1 + 1)
    patch: Any = image[y1:y2, x1:x2]
    if patch.ndim == 3:
        patch = cv2.cvtColor(patch, cv2.COLOR_BGR2GRAY)
    pads = (max(0, y1 - y0), max(0, y0 + n - y2), max(0, x1 - x0), max(0, x0 + n - x2))
    if any(pads):
        patch = cv2.copyMakeBorder(patch, *pads, borderType=cv2.BORDER_REPLICATE)
    return x0, y0, patch


def normalize(faces: NDArray[np.uint8], info: ModelInfo) -> NDArray[np.float32]:
    """Standardise grey faces for ``info``'s network.

    Args:
        faces: uint8 (N, input_size, input_size), 0..255.

    Returns:
        float32 (N, channels, input_size, input_size): ``(p / 255 - mean) / std``.
    """
    scale = np.float32(1 / (255 * info.std))
    x = faces.astype(np.float32)[:, None]
    x *= scale
    x -= np.float32(info.mean / info.std)
    return np.repeat(x, 3, axis=1) if info.channels == 3 else x


def probabilities(
    logits: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    faces: NDArray[np.uint8],
    temperature: float,
    flip: bool,
) -> NDArray[np.float32]:
    """Softmax of ``logits(faces)``; with ``flip`` the mean with the mirrored faces'.

    Args:
        logits: uint8 (N, H, W) -> float32 (N, K).
        faces: uint8 (N, H, W), 0..255.
    """
    p = softmax(logits(faces), temperature)
    if flip:
        p += softmax(logits(np.ascontiguousarray(faces[:, :, ::-1])), temperature)
        p /= 2
    return p


def softmax(logits: NDArray[np.floating[Any]], temperature: float = 1.0) -> NDArray[np.float32]:
    """Softmax over the last axis at ``temperature``."""
    z = logits.astype(np.float32) / np.float32(temperature)
    z -= z.max(axis=-1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=-1, keepdims=True)
    return z
