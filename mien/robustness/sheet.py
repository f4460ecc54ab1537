"""A contact sheet of FER2013-C: one face, every corruption, every severity."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from mien.robustness.fixed import Images

_TILE, _GAP, _LABEL, _HEAD = 72, 4, 158, 26
_INK, _PAPER = 30, 250


def _text(sheet: Images, words: str, x: int, y: int, ink: int = _INK) -> None:
    cv2.putText(sheet, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, ink, 1, cv2.LINE_AA)


def contact_sheet(face: NDArray[np.uint8], key: str = "sheet") -> Images:
    """Every corruption of one face.

    Args:
        face: uint8 (48, 48), grey.
        key: the id that seeds the noise.

    Returns:
        uint8 (H, W), grey: one row per corruption and variant in two columns; clean, then severity
        1 to 5 with its strength.
    """
    rows = [(c, v) for c in CORRUPTIONS.values() for v in c.variants]
    half = -(-len(rows) // 2)
    step = _TILE + 14 + _GAP
    width = _LABEL + (len(SEVERITIES) + 1) * (_TILE + _GAP)
    sheet: Any = np.full((_HEAD + half * step, 2 * width + 24), _PAPER, np.uint8)
    for column in (0, 1):
        left = 10 + column * (width + 12)
        for i, title in enumerate(("clean", *map(str, SEVERITIES))):
            _text(sheet, title, left + _LABEL + i * (_TILE + _GAP) + 2, 17)
        for line, (c, variant) in enumerate(rows[column * half : (column + 1) * half]):
            top = _HEAD + line * step
            _text(sheet, c.title, left, top + 30)
            _text(sheet, variant, left, top + 48, 110)
            for severity in (0, *SEVERITIES):
                shown, x = face, left + _LABEL + severity * (_TILE + _GAP)
                if severity:
                    shown = corrupt(face[None], [key], c.name, severity, variant)[0]
                    _text(sheet, f"{c.strengths[severity - 1]:g}", x + 2, top + _TILE + 12, 110)
                big = cv2.resize(shown, (_TILE, _TILE), interpolation=cv2.INTER_NEAREST_EXACT)
                sheet[top : top + _TILE, x : x + _TILE] = big
    return np.asarray(sheet, np.uint8)
