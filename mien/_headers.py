"""Size, transparency, orientation and completeness of a picture, from its bytes, undecoded.

Only what is needed to refuse a picture safely; decoding is OpenCV's. Each reader takes the whole
file and returns None when the header itself makes no sense; where it is cut off or contradicts
itself, struct.error, IndexError or ValueError. The files are anybody's: no reader takes more than
linear time or more memory than the file, and what two programs could read differently is refused,
so that the decoder cannot see another size than the one checked here.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "PGM/PPM")


@dataclass(frozen=True, slots=True)
class Header:
    """What a file declares.

    ``orientation`` is EXIF's 1..8; ``truncated`` means that bytes are missing, a checksum fails or
    the header contradicts itself. ``bits`` is 8 where the format has no more than 16 per sample.
    ``tile`` is the (width, height) of a tiled TIFF's tiles, which the decoder holds whole however
    small the picture is; (0, 0) without tiles.
    """

    format: str
    width: int
    height: int
    alpha: bool = False
    orientation: int = 1
    truncated: bool = False
    bits: int = 8
    tile: tuple[int, int] = (0, 0)


#: Markers before a JPEG's first scan: real files have tens, or hundreds with a large profile.
JPEG_SEGMENTS = 10_000

#: Chunks of a PNG or WebP file: a gigabyte in pieces of 10 kB.
CHUNKS = 100_000

#: Entries of a TIFF directory; libtiff refuses more.
TIFF_ENTRIES = 4096

#: A PNM header ends within so many bytes, comments included.
PNM_HEADER = 1 << 16

#: Fill bytes and markers without a length, up to the 0xFF before the next marker.
_FILL = re.compile(rb"(?:\xff++[\x01\xd0-\xd7])*+\xff++")

#: As OpenCV reads it: a number ends with white space, and a comment with either end of line. The
#: possessive quantifiers leave nothing to backtrack into.
_GAP = rb"\s(?:\s|#[^\r\n]*+[\r\n])*+"
_NUMBER = _GAP + rb"(\d{1,9})"
_PNM = re.compile(rb"P([2356])" + 3 * _NUMBER + rb"\s")

#: One entry of a TIFF directory, without its byte order.
_ENTRY = (("tag", "u2"), ("kind", "u2"), ("count", "u4"), ("value", "u4"))

#: Bytes of one value by its TIFF type; libtiff skips the types with 0.
_TIFF_SIZES = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8, 0], np.int64)

#: The types that TIFF 6.0 allows for the tags read here: SHORT and LONG.
_TIFF_INTEGERS = {3: "u2", 4: "u4"}


def read_header(data: bytes) -> Header | None:
    """The header of a picture in one of :data:`FORMATS`; None for anything else."""
    reader = _reader(data)
    if reader is None:
        return None
    name, read = reader
    try:
        return read(data)
    except (struct.error, IndexError, ValueError):  # the header is cut off or contradicts itself
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
    for _ in range(JPEG_SEGMENTS):
        fill = _FILL.match(data, at)
        if fill is None:
            if at >= len(data):
                raise IndexError("the file ends before its first scan")
            return None
        at = fill.end() - 1
        marker = data[at + 1]
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker == 0x00 or length < 2:  # libjpeg would look for markers inside the segment
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if size is not None:
                raise ValueError("two frame headers")
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
        elif marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = exif_orientation(data[at + 10 : at + 2 + length])
        elif marker == 0xDA:
            break
        at += 2 + length
        if at >= len(data) and size is not None:
            return Header("JPEG", *size, orientation=orientation, truncated=True)
    else:
        raise ValueError("no scan")
    if size is None:
        return None
    # Entropy-coded data escapes 0xFF, so FF D9 behind the scan header is an end of image.
    whole = data.rfind(b"\xff\xd9", at) >= 0
    return Header("JPEG", *size, orientation=orientation, truncated=not whole)


def _png(data: bytes) -> Header:
    """Walk the chunks, checking every checksum, to IEND."""
    if data[8:16] != b"\0\0\0\rIHDR":
        raise ValueError("the first chunk is not IHDR")
    width, height, _, color_type = struct.unpack_from(">IIBB", data, 16)
    alpha, exif, at, whole = color_type in (4, 6), b"", 8, False
    for _ in range(CHUNKS):
        if at + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        body = memoryview(data)[at + 4 : at + 8 + length]
        if at + 12 + length > len(data):
            break
        if zlib.crc32(body) != struct.unpack_from(">I", data, at + 8 + length)[0]:
            break
        if kind == b"tRNS":
            alpha = True
        elif kind == b"eXIf":
            exif = exif or bytes(body[4:])
        elif kind == b"IEND":
            whole = True
            break
        at += 12 + length
    return Header("PNG", width, height, alpha, exif_orientation(exif), not whole)


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
    exif, at = b"", 12
    for _ in range(CHUNKS):
        if at + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            exif = exif or data[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)
    else:
        truncated = True
    orientation = exif_orientation(exif.removeprefix(b"Exif\0\0"))
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
    order, entries = _directory(data)
    _check_directory(entries, len(data))

    def number(tag: int, default: int = 0) -> int:
        values = _tiff_values(data, order, entries, tag)
        if values is None:
            return default
        if len(values) != 1:
            raise ValueError(f"tag {tag} must have one value")
        return int(values[0])

    width, height = number(256), number(257)
    if not width or not height:
        return None
    offsets = _tiff_values(data, order, entries, 273, 324)
    counts = _tiff_values(data, order, entries, 279, 325)
    end = 0
    if offsets is not None and counts is not None:
        n = min(len(offsets), len(counts))
        end = int((offsets[:n] + counts[:n]).max(initial=0))
    bits = _tiff_values(data, order, entries, 258)
    # OpenCV applies TIFF's own orientation tag whatever the flags, so it is left at 1 here.
    return Header(
        "TIFF",
        width,
        height,
        alpha=number(277) == 4 and number(262) == 2,
        truncated=end > len(data),
        bits=1 if bits is None else int(bits.max()),
        tile=(number(322), number(323)),
    )


def _pnm(data: bytes) -> Header | None:
    match = _PNM.match(data, 0, PNM_HEADER)
    if match is None:
        return None
    kind, width, height, depth = (int(group) for group in match.groups())
    size = width * height * (3 if kind in (3, 6) else 1) * (2 if depth > 255 else 1)
    least = size if kind in (5, 6) else 0
    return Header("PGM/PPM", width, height, truncated=len(data) - match.end() < least)


def exif_orientation(tiff: bytes) -> int:
    """EXIF orientation 1..8 from a TIFF block; 1 when absent or damaged."""
    try:
        order, entries = _directory(tiff)
        values = _tiff_values(tiff, order, entries, 274)
    except (struct.error, ValueError):
        return 1
    if values is None or len(values) != 1 or not 1 <= values[0] <= 8:
        return 1
    return int(values[0])


def _directory(data: bytes) -> tuple[str, NDArray[np.void]]:
    """Byte order ("<" or ">") and first image file directory of a TIFF block.

    Returns the entries as a view, (N,) with the fields of ``_ENTRY``: their values are not read.

    Raises:
        struct.error, ValueError: no TIFF block, or its directory is cut off.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise ValueError("no byte order")
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    entry = np.dtype([(name, order + kind) for name, kind in _ENTRY])
    return order, np.frombuffer(data, entry, count, at + 2)


def _check_directory(entries: NDArray[np.void], file_bytes: int) -> None:
    """Refuse what makes libtiff see another picture, or hold more memory than the file has bytes.

    Raises:
        ValueError: too many entries, a tag twice (libtiff takes the first, other readers the
            last), or values that cannot all stand in the file: libtiff reads those of every tag,
            so a thousand tags that share one megabyte would take a gigabyte.
    """
    if len(entries) > TIFF_ENTRIES or len(np.unique(entries["tag"])) != len(entries):
        raise ValueError("too many tags, or one of them twice")
    size = _TIFF_SIZES[np.minimum(entries["kind"], len(_TIFF_SIZES) - 1)]
    if int((size * entries["count"].astype(np.int64)).sum()) > file_bytes:
        raise ValueError("the tags' values are larger than the file")


def _tiff_values(
    data: bytes, order: str, entries: NDArray[np.void], *tags: int
) -> NDArray[np.int64] | None:
    """Values of the one entry with one of ``tags``, int64 (N,); None without such an entry.

    Raises:
        struct.error, ValueError: several such entries, neither SHORT nor LONG, or outside the file.
    """
    found = entries[np.isin(entries["tag"], tags)]
    if not len(found):
        return None
    if len(found) > 1:
        raise ValueError(f"several of the tags {tags}")
    _, kind, count, where = found[0].tolist()
    letter = _TIFF_INTEGERS.get(kind)
    if letter is None or not 0 < count <= len(data):
        raise ValueError(f"tag {tags[0]} is neither SHORT nor LONG")
    kept = np.dtype(order + letter)
    if count * kept.itemsize > 4:  # the values stand elsewhere
        return np.frombuffer(data, kept, count, where).astype(np.int64)
    return np.frombuffer(found["value"].tobytes(), kept, count).astype(np.int64)
