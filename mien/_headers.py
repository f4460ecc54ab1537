"""Size, transparency, orientation and completeness of a picture, from its bytes, undecoded.

Only what is needed to refuse a picture safely; decoding is OpenCV's. Each reader takes the whole
file and returns None when the header itself makes no sense.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "PGM/PPM")


@dataclass(frozen=True, slots=True)
class Header:
    """What a file declares. ``orientation`` is EXIF's 1..8; ``truncated`` means bytes are missing
    or a checksum fails."""

    format: str
    width: int
    height: int
    alpha: bool = False
    orientation: int = 1
    truncated: bool = False


def read_header(data: bytes) -> Header | None:
    """The header of a picture in one of :data:`FORMATS`; None for anything else."""
    reader = _reader(data)
    if reader is None:
        return None
    name, read = reader
    try:
        return read(data)
    except (struct.error, IndexError):  # the header itself is cut off
        return Header(name, 0, 0, truncated=True)


def _reader(data: bytes) -> tuple[str, Callable[[bytes], Header | None]] | None:
    """The format by its first bytes."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG", _jpeg
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", _png
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP", _webp
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF", _gif
    if data[:2] == b"BM":
        return "BMP", _bmp
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF", _tiff
    if data[:2] in (b"P5", b"P6", b"P2", b"P3"):
        return "PGM/PPM", _pnm
    return None


def _gif(data: bytes) -> Header:
    """0x3B ends the stream; some writers pad with zeros behind it."""
    width, height = struct.unpack_from("<HH", data, 6)
    whole = data.rstrip(b"\0").endswith(b"\x3b")
    return Header("GIF", width, height, alpha=True, truncated=not whole)


def _jpeg(data: bytes) -> Header | None:
    """Walk the markers to the frame header and the first scan; the file must then hold an EOI."""
    at, orientation, size = 2, 1, None
    while True:
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # markers without a length
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
        elif marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = exif_orientation(data[at + 10 : at + 2 + length])
        elif marker == 0xDA:
            break
        at += 2 + length
        if at >= len(data) and size is not None:
            return Header("JPEG", *size, orientation=orientation, truncated=True)
    if size is None:
        return None
    # Entropy-coded data escapes 0xFF, so FF D9 behind the scan header is an end of image.
    whole = data.rfind(b"\xff\xd9", at) >= 0
    return Header("JPEG", *size, orientation=orientation, truncated=not whole)


def _png(data: bytes) -> Header:
    """Walk the chunks, checking every checksum, to IEND."""
    width, height, _, color_type = struct.unpack_from(">IIBB", data, 16)
    alpha, orientation, at, whole = color_type in (4, 6), 1, 8, False
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = memoryview(data)[at + 4 : at + 8 + length]
        if at + 12 + length > len(data):
            break
        if zlib.crc32(body) != struct.unpack_from(">I", data, at + 8 + length)[0]:
            break
        if kind == b"tRNS":
            alpha = True
        elif kind == b"eXIf":
            orientation = exif_orientation(bytes(body[4:]))
        elif kind == b"IEND":
            whole = True
            break
        at += 12 + length
    return Header("PNG", width, height, alpha, orientation, not whole)


def _webp(data: bytes) -> Header | None:
    """RIFF container: VP8 (lossy), VP8L (lossless) or VP8X (extended)."""
    (riff,) = struct.unpack_from("<I", data, 4)
    truncated = riff + 8 > len(data)
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WebP", width & 0x3FFF, height & 0x3FFF, truncated=truncated)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        return Header("WebP", width, height, bool(bits >> 28 & 1), truncated=truncated)
    if kind != b"VP8X":
        return None
    width = 1 + int.from_bytes(data[24:27], "little")
    height = 1 + int.from_bytes(data[27:30], "little")
    orientation, at = 1, 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            body = data[at + 8 : at + 8 + length]
            orientation = exif_orientation(body.removeprefix(b"Exif\0\0"))
        at += 8 + length + (length & 1)
    return Header("WebP", width, height, bool(data[20] & 0x10), orientation, truncated)


def _bmp(data: bytes) -> Header:
    (offset, head) = struct.unpack_from("<II", data, 10)
    if head == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packing = 0
    else:
        width, height, _, bits, packing = struct.unpack_from("<iiHHI", data, 18)
    need = offset + (abs(width) * bits + 31) // 32 * 4 * abs(height)
    return Header("BMP", abs(width), abs(height), truncated=packing == 0 and need > len(data))


def _tiff(data: bytes) -> Header | None:
    """First page; every strip or tile must lie within the file."""
    tags = _ifd(data)
    width, height = tags.get(256, (0,))[0], tags.get(257, (0,))[0]
    if not width or not height:
        return None
    offsets = tags.get(273) or tags.get(324) or ()
    counts = tags.get(279) or tags.get(325) or ()
    end = max((at + n for at, n in zip(offsets, counts, strict=False)), default=0)
    alpha = tags.get(277) == (4,) and tags.get(262) == (2,)
    # OpenCV applies TIFF's own orientation tag whatever the flags, so it is left at 1 here.
    return Header("TIFF", width, height, alpha, truncated=end > len(data))


def _pnm(data: bytes) -> Header | None:
    match = re.match(rb"P([2356])(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)\s+(\d+)\s", data)
    if match is None:
        return None
    kind, width, height, depth = (int(group) for group in match.groups())
    size = width * height * (3 if kind in (3, 6) else 1) * (2 if depth > 255 else 1)
    least = size if kind in (5, 6) else 0
    return Header("PGM/PPM", width, height, truncated=len(data) - match.end() < least)


def exif_orientation(tiff: bytes) -> int:
    """EXIF orientation 1..8 from a TIFF block; 1 when absent or damaged."""
    try:
        value = _ifd(tiff).get(274, (1,))[0]
    except (struct.error, IndexError):
        return 1
    return value if 1 <= value <= 8 else 1


def _ifd(data: bytes) -> dict[int, tuple[int, ...]]:
    """First image file directory of a TIFF block: tag -> its SHORT or LONG values."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return {}
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    tags: dict[int, tuple[int, ...]] = {}
    for i in range(count):
        entry = at + 2 + 12 * i
        tag, kind, number = struct.unpack_from(order + "HHI", data, entry)
        where = entry + 8
        letter = {3: "H", 4: "I"}.get(kind)
        if letter is None or not 0 < number <= len(data):
            continue
        if number * struct.calcsize("=" + letter) > 4:  # the values stand elsewhere
            (where,) = struct.unpack_from(order + "I", data, where)
        tags[tag] = struct.unpack_from(f"{order}{number}{letter}", data, where)
    return tags
