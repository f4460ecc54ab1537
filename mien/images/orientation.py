"""Which way up an image is: by its EXIF or XMP tag, within bounds."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from mien.images.pixels import Pixels

_TAG = 0x0112
#: Types of that tag that have been seen: SHORT, which the standard asks for, and LONG.
_TYPES = {3: "H", 4: "I"}
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])["<]')


def upright(image: Pixels, orientation: int) -> Pixels:
    """Apply EXIF orientation 1..8 (CIPA DC-008, tag 0x0112); C-contiguous."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def orientation_of(image: Any) -> int:
    """Orientation 1..8 of a ``PIL.Image.Image``, as Pillow tells it; 1 when absent or damaged.

    Tags that the caller has read, and may have changed, are asked for it. Otherwise this tag alone
    is read from the file's: thousands of others may share their bytes.
    """
    found = 1
    if getattr(image, "_exif", None) is None:
        found = _stored(image.info) or 1
    else:
        with suppress(Exception):  # whatever Pillow makes of damage
            found = image.getexif().get(_TAG, 1)
    return found if found in range(1, 9) else 1


def _stored(info: Mapping[Any, Any]) -> int | None:
    """What the file says: its EXIF, ImageMagick's form of it in PNGs, its XMP."""
    block = info.get("exif")
    if block is None:
        lines = str(info.get("Raw profile type exif", "")).split("\n")
        with suppress(ValueError):
            block = bytes.fromhex("".join(lines[3:]))
    found = exif_tag(block or b"")
    if found is None:
        text = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
        match = _XMP.search(text.encode() if isinstance(text, str) else text)
        found = int(match[1]) if match else None
    return found


def exif_tag(block: bytes) -> int | None:
    """The orientation in an EXIF block, whatever its value; None when absent or damaged."""
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    with suppress(struct.error):
        if order is None:
            return None
        (at,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(order + "HHI", block, entry)
            if tag == _TAG:
                if kind not in _TYPES or values != 1:
                    return 1
                return int(struct.unpack_from(order + _TYPES[kind], block, entry + 8)[0])
    return None
