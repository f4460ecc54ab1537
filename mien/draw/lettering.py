"""Letters that OpenCV's stroke fonts lack, drawn by Pillow with a font of the system that has them.

Only text beyond ASCII comes here. Where no font has all of its letters, accents go and the rest
becomes "?" (:func:`mien.text.drawable`); ``MIEN_FONT`` names a font file to look into first.
"""

from __future__ import annotations

import functools
import os
import unicodedata
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

#: Fonts with many scripts, on Linux, macOS and Windows; Pillow looks where the system keeps them.
FONTS = (
    *("DejaVuSans-Bold.ttf", "DejaVuSans.ttf", "NotoSans-Bold.ttf", "NotoSans-Regular.ttf"),
    *("Arial Unicode.ttf", "segoeuib.ttf", "seguisym.ttf", "seguiemj.ttf", "tahomabd.ttf"),
    *("NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "wqy-microhei.ttc"),
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "msyhbd.ttc", "msyh.ttc", "malgunbd.ttf"),
    *("NotoSansArabic-Bold.ttf", "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf"),
    *("NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf", "NirmalaB.ttf"),
    *("NotoEmoji-Regular.ttf", "Symbola.ttf"),
)
_MEASURED = 100  # size at which fonts are compared
#: No character: every font shows its sign for what it has not.
_NONE = "\U0010ffff"


def _opened(name: str, size: float) -> FreeTypeFont | None:
    from PIL import ImageFont

    try:
        return ImageFont.truetype(name, size)
    except (OSError, ValueError):
        return None


@functools.lru_cache(maxsize=256)
def _font_for(text: str) -> str:
    """The first font that has every letter of ``text``; "" where none has."""
    from PIL import features

    letters = {c for c in text if not c.isspace() and unicodedata.category(c) not in ("Mn", "Cf")}
    ways = {unicodedata.bidirectional(c) for c in letters}
    if ways & {"R", "AL"} and not features.check("raqm"):  # it would stand the wrong way round
        return ""
    for name in (os.environ.get("MIEN_FONT", ""), *FONTS):
        font = _opened(name, _MEASURED) if name else None
        if font is not None:
            missing = bytes(font.getmask(_NONE))
            if all(bytes(font.getmask(c)) != missing for c in letters):
                return name
    return ""


@functools.lru_cache(maxsize=256)
def letters(text: str, cap: float) -> tuple[NDArray[np.uint8], int] | None:
    """How much of each pixel ``text`` covers, uint8 (H, W), and the row of its baseline.

    Args:
        cap: height of a capital letter in pixels.

    Returns:
        None for text in ASCII, and where no font has all of its letters.
    """
    name = "" if text.isascii() else _font_for(text)
    measured = _opened(name, _MEASURED) if name else None
    if measured is None:
        return None
    from PIL import Image, ImageDraw

    top, bottom = measured.getbbox("H", anchor="ls")[1::2]
    size = cap * _MEASURED / max(1.0, bottom - top)
    font = _opened(name, size)
    assert font is not None  # it was there a moment ago
    ascent, descent = font.getmetrics()
    canvas = Image.new("L", (max(1, round(font.getlength(text))), ascent + descent))
    ImageDraw.Draw(canvas).text((0, ascent), text, 255, font, anchor="ls")
    return np.asarray(canvas, np.uint8), ascent
