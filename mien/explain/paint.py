"""Explanations as images: the face, the maps over it with a scale, and the answers as bars."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.draw import color_of
from mien.emotions import Label
from mien.explain.mean import MeanMaps
from mien.explain.photo import Explanation
from mien.text import drawable

Image = NDArray[np.uint8]
Bgr = tuple[int, int, int]

_SIDE, _GAP, _HEAD, _FOOT = 220, 16, 34, 46
_BARS, _MOST_BARS = 250, 8
_PAPER: Bgr = (252, 250, 250)
_INK: Bgr = (40, 32, 30)
_MUTED: Bgr = (120, 112, 108)
_FOR = np.array((20, 90, 235), np.float32)  # Orange: this part speaks for the class.
_AGAINST = np.array((215, 110, 20), np.float32)  # Blue: against it.
_SUPER = 3  # Text is drawn so many times larger and averaged down.
_FONT = cv2.FONT_HERSHEY_DUPLEX

#: An occlusion that changes a probability by less than this is not drawn in full colour.
_FLOOR = 0.05


def is_pale(found: Explanation) -> bool:
    """Whether an occlusion map stays pale: the patch hid too little to change an answer by 0.05."""
    return found.method == "occlusion" and _largest(found.maps.values()) <= _FLOOR


def text(
    sheet: Image,
    words: str,
    x: float,
    y: float,
    cap: float = 9.5,
    ink: Bgr = _INK,
    end: bool = False,
) -> None:
    """Write ``words`` on their baseline from (x, y), or where they ``end`` up to it."""
    words = drawable(words)
    scale, thick = cap * _SUPER / 22, max(1, round(cap * _SUPER * 0.075))
    (width, height), below = cv2.getTextSize(words, _FONT, scale, thick)
    w, h = -(-width // _SUPER) + 2, -(-(height + below) // _SUPER) + 4
    ink_mask = np.zeros((h * _SUPER, w * _SUPER), np.uint8)
    base = height + _SUPER * 2
    cv2.putText(ink_mask, words, (_SUPER, base), _FONT, scale, 255, thick, cv2.LINE_AA)
    alpha = cv2.resize(ink_mask, (w, h), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    left = max(0, round(x) - (w if end else 0))
    top = max(0, round(y) - base // _SUPER)
    part = sheet[top : top + h, left : left + w]
    alpha = alpha[: part.shape[0], : part.shape[1], None]
    mixed = part * (1 - alpha) + np.array(ink, np.float32) * alpha
    part[:] = np.rint(mixed).astype(np.uint8)


def overlay(face: NDArray[np.uint8], values: NDArray[np.float32], most: float, side: int) -> Image:
    """A map over its face: orange where positive, blue where negative.

    Args:
        face: uint8 (S, S), grey.
        values: float32 (S, S).
        most: the value of the strongest colour.
        side: of the result in pixels.

    Returns:
        uint8 (side, side, 3), BGR.
    """
    size = (side, side)
    grey = cv2.resize(face, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    grey = 128 + (grey - 128) * 0.75
    strength = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR) / max(most, 1e-9)
    return _tint(grey[:, :, None], strength)


def _scale(sheet: Image, x: int, y: int, width: int, most: float, method: str) -> None:
    """The colours from one end to the other over mid grey, with what the ends mean."""
    low = -1.0 if method == "occlusion" else 0.0
    ramp = np.linspace(low, 1, width, dtype=np.float32)[None]
    sheet[y : y + 9, x : x + width] = _tint(170, ramp)
    y += 26
    if method == "occlusion":  # A positive map is a loss: covering that part lowers it.
        text(sheet, f"+{most:.2f}", x, y, 7.5, _MUTED)
        text(sheet, "p when covered", x + width / 2 - 46, y, 7.5, _MUTED)
        text(sheet, f"-{most:.2f}", x + width, y, 7.5, _MUTED, end=True)
    else:
        text(sheet, "0", x, y, 7.5, _MUTED)
        text(sheet, f"{most:.2f} of the logit", x + width, y, 7.5, _MUTED, end=True)


def _largest(maps: Iterable[NDArray[np.float32]]) -> float:
    return max((float(np.abs(m).max()) for m in maps), default=0.0)


def _most(maps: Iterable[NDArray[np.float32]], method: str) -> float:
    """The value of full colour: the largest of the maps, and not so small as to paint noise."""
    return max(_largest(maps), _FLOOR) if method == "occlusion" else _largest(maps) or 1.0


def _tint(grey: Any, strength: Any) -> Image:
    """``grey`` (H, W, 1) under the colours of ``strength`` (H, W), -1..1."""
    alpha = np.clip(np.abs(strength), 0, 1)[:, :, None] * np.float32(0.82)
    ink = np.where(strength[:, :, None] > 0, _FOR, _AGAINST)
    return np.asarray(np.clip(np.rint(grey * (1 - alpha) + ink * alpha), 0, 255), np.uint8)


def _bars(sheet: Image, probabilities: Mapping[Label, float], x: int, y: int) -> None:
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])[:_MOST_BARS]
    for i, (emotion, value) in enumerate(ranked):
        base = y + 20 + 30 * i
        text(sheet, drawable(emotion, 11), x, base)
        left, right = x + 84, x + _BARS - 50
        cv2.rectangle(sheet, (left, base - 9), (right, base), (232, 228, 226), -1)
        end = left + round((right - left) * min(1.0, max(0.0, value)))
        cv2.rectangle(sheet, (left, base - 9), (max(left + 1, end), base), color_of(emotion), -1)
        text(sheet, f"{100 * value:.0f} %", x + _BARS, base, end=True)


def _cut(image: Image, explanation: Explanation) -> Image:
    """The face in the image's own colours, the square that the network saw."""
    box, turn = explanation.box, math.radians(explanation.turn)
    sides = np.maximum(1.0, (box.width, box.height))
    matrix = np.zeros((2, 3))
    matrix[:, :2] = [math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]
    matrix[:, :2] *= _SIDE / sides[:, None]
    matrix[:, 2] = _SIDE / 2 - matrix[:, :2] @ box.center
    # The square alone, however it is turned: warpAffine takes no side above 32,767.
    reach = 0.75 * sides + 2
    corner = np.maximum(0, np.array(box.center) - reach).astype(int)
    right, bottom = (np.array(box.center) + reach).astype(int)
    image = image[corner[1] : bottom, corner[0] : right]
    matrix[:, 2] += matrix[:, :2] @ corner
    if sides.max() > 2 * _SIDE:  # averaged first: warpAffine itself skips pixels
        fx, fy = np.minimum(1, 2 * _SIDE / sides)
        image = np.asarray(cv2.resize(image, None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA))
        matrix[:, :2] /= fx, fy
    warped = cv2.warpAffine(
        image, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.uint8)


def paint(image: Image, explanations: Sequence[Explanation]) -> Image:
    """One row per face: the face, a map for each explained class, all answers as bars.

    Args:
        image: uint8 (H, W, 3), BGR, the image that was explained.
        explanations: at least one.

    Returns:
        uint8 (H', W', 3), BGR.
    """
    columns = 1 + max(len(e.maps) for e in explanations)
    row = _HEAD + _SIDE + _FOOT
    width = _GAP + columns * (_SIDE + _GAP) + _BARS + _GAP
    sheet = np.full((len(explanations) * row + _GAP, width, 3), _PAPER, np.uint8)
    for i, explained in enumerate(explanations):
        top = i * row + _HEAD
        number = f"face {i + 1}" if len(explanations) > 1 else "face"
        text(sheet, number, _GAP, top - 10)
        sheet[top : top + _SIDE, _GAP : _GAP + _SIDE] = _cut(image, explained)
        most = _most(explained.maps.values(), explained.method)
        for j, (emotion, values) in enumerate(explained.maps.items(), start=1):
            left = _GAP + j * (_SIDE + _GAP)
            text(sheet, drawable(emotion, 18), left, top - 10)
            shown = f"{100 * explained.probabilities[emotion]:.0f} %"
            text(sheet, shown, left + _SIDE, top - 10, end=True)
            sheet[top : top + _SIDE, left : left + _SIDE] = overlay(
                explained.crop, values, most, _SIDE
            )
            _scale(sheet, left, top + _SIDE + 8, _SIDE, most, explained.method)
        _bars(sheet, explained.probabilities, _GAP + columns * (_SIDE + _GAP), top)
    return sheet


def paint_mean(found: MeanMaps) -> Image:
    """The mean map of each class over the mean of all faces, four a row, one scale for all.

    Returns:
        uint8 (H, W, 3), BGR.
    """
    shown: list[tuple[Label, Any]] = list(found.maps.items())
    columns = min(4, max(1, len(shown)))
    rows = -(-len(shown) // columns)
    height = rows * (_SIDE + _HEAD + 8) + _FOOT
    sheet = np.full((height, _GAP + columns * (_SIDE + _GAP), 3), _PAPER, np.uint8)
    most = _most(found.maps.values(), "occlusion")
    for i, (emotion, values) in enumerate(shown):
        left = _GAP + (i % columns) * (_SIDE + _GAP)
        top = (i // columns) * (_SIDE + _HEAD + 8) + _HEAD
        text(sheet, emotion.value, left, top - 10)
        text(sheet, f"{found.counts[emotion]} faces", left + _SIDE, top - 10, 8, _MUTED, end=True)
        sheet[top : top + _SIDE, left : left + _SIDE] = overlay(found.face, values, most, _SIDE)
    wide = min(columns, 2) * (_SIDE + _GAP) - _GAP
    _scale(sheet, _GAP, height - _FOOT + 8, wide, most, "occlusion")
    return sheet
