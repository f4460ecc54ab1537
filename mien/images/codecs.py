"""From a file's bytes to pixels, with Pillow, within bounds; nothing of Pillow's is changed.

The first bytes choose the one plugin that reads the file, so nothing else is tried (no EPS, no
PDF). The plugin reads the header; what decoding would cost is checked before anything is decoded.
"""

from __future__ import annotations

import functools
import importlib
import io
import re
import struct
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError, first_line
from mien.images import jpeg, netpbm
from mien.images.orientation import orientation_of, upright
from mien.images.pixels import bgr_from, bgr_of, check_size, glance, highest
from mien.images.quiet import quiet

Pixels = NDArray[np.uint8]

#: Most memory that decoding may take, in bytes: the file, the decoder's buffers and the result.
MAX_MEMORY = 440 << 20

#: Most scans of a JPEG, and most scans times pixels: each scan is a pass over the image, however
#: few bytes it has. Cameras and editors write ten or so.
MAX_SCANS = 100
MAX_SCANNED = 1_000_000_000

#: Most strips or tiles of a TIFF: more than one for every row and channel of a large photo.
MAX_STRIPS = 1 << 16

_PNG_END = b"IEND\xaeB`\x82"
_BYTES = "RGBA"  # both bytes of grey and both of alpha, as four bands
_BITS, _STRIPS, _ORIENTATION = 258, 273, 274
_TILE_WIDTH, _TILE_HEIGHT, _TILES = 322, 323, 324

#: How Pillow says that a file is sound but of a kind that it does not know.
_UNKNOWN = re.compile("[Uu]nsupported|unknown (pixel|raw) mode|unrecognized image mode")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file: its first bytes, Pillow's plugin, and what a pixel takes, in bytes.

    ``cost`` counts the decoder's buffers, Pillow's own four bytes and the result's three.
    """

    name: str
    start: bytes
    plugin: str
    cost: int = 7


KINDS = (
    Kind("JPEG", rb"\xff\xd8\xff", "Jpeg.JpegImageFile"),
    Kind("PNG", rb"\x89PNG\r\n\x1a\n", "Png.PngImageFile"),
    Kind("WebP", rb"RIFF....WEBP", "WebP.WebPImageFile", 21),
    Kind("GIF", rb"GIF8[79]a", "Gif.GifImageFile", 11),
    Kind("BMP", rb"BM", "Bmp.BmpImageFile"),
    Kind("TIFF", rb"II[*+]\x00|MM\x00[*+]", "Tiff.TiffImageFile"),
    Kind("PGM/PPM", rb"P[1-6f]\s", "Ppm.PpmImageFile", 12),
    Kind("ICO", rb"\x00\x00\x01\x00", "Ico.IcoFile"),
    Kind("JPEG 2000", rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  ", "Jpeg2K.Jpeg2KImageFile", 23),
    Kind("AVIF", rb"....ftyp(?:....){0,16}?avi[fs]", "Avif.AvifImageFile", 15),
    Kind("HEIC", rb"....ftyp(?:....){0,16}?(?:hei[cxms]|hev[cxms])", "", 9),
)

FORMATS = tuple(kind.name for kind in KINDS)

#: First bytes of what is often handed over instead.
_OTHERS = (
    (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI |FLV\x01", "a video (mien video reads it)"),
    (rb"PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|Rar!|7z\xbc\xaf|.{257}ustar", "an archive (unpack it)"),
    (rb"%PDF", "a PDF"),
    (rb"8BPS", "a Photoshop document"),
    (rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml|<svg)", "an SVG or XML file"),
    (rb"\s*<(?:!doctype|html)", "a web page"),
    (rb"\xff\n|\0\0\0\x0cJXL ", "a JPEG XL file"),
    (rb"FUJIFILMCCD-RAW", "a camera's raw file"),
    (rb"version https://git-lfs", "a Git LFS pointer (git lfs pull fetches the file)"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a file: ``number`` from 0, None where the file holds no other; ``seconds`` that
    an animation shows it, 0 where it does not say; uint8 (H, W, 3) BGR, upright."""

    number: int | None
    seconds: float
    image: Pixels


class _TooCostlyError(Exception):
    """The file asks for more work than an image of its size can need."""


class _Watched(io.BytesIO):
    """The file as a plugin reads it. Its ``read`` raises _TooCostlyError when time is up, or when
    bytes are read again and again; ``short``: one was asked for behind the end."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.allow(len(data), 0)

    def allow(self, size: int, pixels: int) -> None:
        """From now on: half a second, and a second more for ten megapixels; twice that where other
        work holds the processor."""
        self.short, self._bytes = False, 4 * size + (1 << 20)
        self._reads, self._seconds = 0, 0.5 + pixels / 1e7
        self._until = time.perf_counter() + self._seconds
        self._until_cpu: float | None = None  # asking for it is dear

    def read(self, size: int | None = -1, /) -> bytes:
        out = super().read(size)
        self.short |= not out and size != 0
        self._bytes -= len(out)
        self._reads += 1
        if self._bytes < 0 or (not self._reads % 256 and self._late()):
            raise _TooCostlyError
        return out

    def _late(self) -> bool:
        if time.perf_counter() < self._until:
            return False
        if self._until_cpu is None:
            self._until_cpu = time.thread_time() + self._seconds
        return time.thread_time() > self._until_cpu


def kind_of(data: bytes) -> Kind | None:
    """What a file is by its first bytes; None for nothing that mien reads."""
    return next((kind for kind in KINDS if re.match(kind.start, data, re.DOTALL)), None)


def decode(data: bytes, shown: str, max_pixels: int) -> Generator[Frame]:
    """The frames of a file, which messages call ``shown``, lazily.

    Raises:
        ImageError: not an image, truncated, too small, too large or too costly.
    """
    kind = kind_of(data)
    if kind is None:
        other = (name for start, name in _OTHERS if re.match(start, data[:512], re.DOTALL | re.I))
        what = next((f"{name}, " for name in other), "")
        raise ImageError(f"{shown} is {what}not an image that mien reads ({', '.join(FORMATS)}).")
    file = _File(kind, data, shown, max_pixels)
    frames = file.heic() if kind.name == "HEIC" else file.frames()
    while True:
        with _told(kind, shown):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def declared_size(data: bytes, shown: str, max_pixels: int) -> tuple[int, int]:
    """Width and height of a file that another decoder shall read, which trusts what files declare.

    Raises:
        ImageError: not an image, a damaged header, a PNG cut off, too large or too costly.
    """
    kind = kind_of(data)
    if kind is None or kind.name == "HEIC":
        raise ImageError(f"{shown} is not an image that can be read here.")
    file = _File(kind, data, shown, max_pixels)
    with _told(kind, shown):
        if kind.name == "PNG":  # without Pillow: datasets hold tens of thousands
            (width, height), cost = _png_size(data), kind.cost
        else:
            image = file._open()
            (width, height), cost = image.size, file._cost(image)
        file._check(width, height, cost)
    return width, height


def _png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG whose chunks are all there: OpenCV allocates, and fills, whatever
    length one declares. Raises struct.error."""
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        at += 12 + length
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@contextmanager
def _told(kind: Kind, shown: str) -> Iterator[None]:
    """Quietly; and make of whatever the plugin raises in the block an ImageError."""
    try:
        with quiet():
            yield
    except ImageError:
        raise
    except _TooCostlyError:
        raise ImageError(
            f"{shown} asks for far more work than a {kind.name} image of its size needs: "
            "it is damaged, or made to hurt."
        ) from None
    except MemoryError:
        raise ImageError(f"{shown} takes more memory to decode than there is.") from None
    except Exception as error:  # whatever a decoder makes of damage
        if isinstance(error, (SyntaxError, OSError, ValueError)) and _UNKNOWN.search(str(error)):
            raise ImageError(
                f"{shown} is a {kind.name} file of a kind that mien does not read: "
                f"{first_line(error)}."
            ) from None
        damaged = f"{shown} is a truncated or damaged {kind.name} file; copy it again."
        raise ImageError(damaged) from None


@dataclass(frozen=True, slots=True)
class _File:
    """A file and what it may cost."""

    kind: Kind
    data: bytes
    shown: str
    max_pixels: int

    def frames(self) -> Iterator[Frame]:
        image = self._open()
        animated, number = bool(getattr(image, "is_animated", False)), 0
        while True:
            tags = getattr(image, "tag_v2", {})
            # A tile is held whole, however small the image is.
            width = max(image.width, tags.get(_TILE_WIDTH, 0))
            height = max(image.height, tags.get(_TILE_HEIGHT, 0))
            check_size(image.size, self.shown)
            self._check(width, height, self._cost(image))
            if isinstance(file := getattr(image, "fp", None), _Watched):
                file.allow(len(self.data), width * height)
            pixels = self._pixels(image)
            turn = 1 if tags else orientation_of(image)  # Pillow has turned a TIFF
            seconds = float(image.info.get("duration", 0)) / 1000
            yield Frame(number if animated else None, seconds, upright(pixels, turn))
            if not animated:
                return
            number += 1
            try:
                image.seek(number)
            except EOFError:
                return

    def heic(self) -> Iterator[Frame]:
        """The primary image, then the others; turned by the reader."""
        try:
            import pillow_heif
        except ImportError:
            raise ImageError(
                f"{self.shown} is a HEIC image; to read it: pip install 'mien[heic]'"
            ) from None
        images = pillow_heif.open_heif(self.data, convert_hdr_to_8bit=True)
        first = images.primary_index
        ordered = [images[first], *(image for n, image in enumerate(images) if n != first)]
        for number, image in enumerate(ordered):
            width, height = image.size
            check_size((width, height), self.shown)
            self._check(width, height, self.kind.cost)
            plain = image.mode in ("L", "RGB", "RGBA")
            bgr = bgr_from(np.asarray(image), image.mode) if plain else bgr_of(image.to_pillow())
            yield Frame(number if len(images) > 1 else None, 0.0, bgr)

    def _open(self, data: bytes | None = None) -> Any:
        """Its header read and nothing decoded: a ``PIL.ImageFile.ImageFile``."""
        image = _plugin(self.kind.plugin)(_Watched(self.data if data is None else data))
        return self._largest(image) if self.kind.name == "ICO" else image

    def _largest(self, icon: Any) -> Any:
        """The largest of an icon: a PNG as it is opened; a bitmap decoded, if it may be."""
        icon.buf.seek(icon.entry[0].offset)
        if icon.buf.read(2) != b"\x89P":
            icon.buf.seek(icon.entry[0].offset)
            width, height = _plugin("Bmp.DibImageFile")(icon.buf).size
            self._check(width, height // 2, 12)  # the other half is its mask
        return icon.frame(0)

    def _check(self, width: int, height: int, cost: int) -> None:
        if width * height > self.max_pixels:
            raise ImageError(
                f"{self.shown} declares {width:,}×{height:,} pixels; "
                f"mien decodes at most {self.max_pixels / 1e6:g} million. Scale it down."
            )
        need = len(self.data) + width * height * cost
        if need > MAX_MEMORY:
            raise ImageError(
                f"{self.shown} would take {need / 1e6:,.0f} MB to decode ({width:,}×{height:,} "
                f"pixels, {self.kind.name}); mien allows {MAX_MEMORY / 1e6:,.0f} MB. Scale it down."
            )

    def _cost(self, image: Any) -> int:
        """Bytes a pixel takes; refuses a JPEG with too many scans."""
        if self.kind.name == "TIFF":  # a strip may hold the whole, and Pillow turns a copy
            bits: tuple[int, ...] = image.tag_v2.get(_BITS, (1,))
            packed = sum(bits) // 8 if image.tile[0][0] == "libtiff" else 0
            turned = 4 if image.tag_v2.get(_ORIENTATION, 1) != 1 else 0
            return self.kind.cost + max(packed, 5 if _low_bytes(image) else 0) + turned
        if self.kind.name != "JPEG":
            return self.kind.cost + (5 if _low_bytes(image) else 0)
        at: int = image.fp.tell()  # behind the first scan's header
        cost, (end, sure) = self.kind.cost, jpeg.end_of(self.data, at)
        if not sure:  # two copies with an end are decoded
            cost += 1 + 3 * len(self.data) // (image.width * image.height)
        more = self.data.count(jpeg.SCAN, at, end)
        if not more:
            return cost
        if more > MAX_SCANS or more * image.width * image.height > MAX_SCANNED:
            raise _TooCostlyError
        # The coefficients of the whole image, two bytes each.
        sampled: list[int] = [across * down for _, across, down, _ in image.layer]
        return cost + 2 * -(-sum(sampled) // max(sampled))

    def _made_up(self, file: Any) -> bool:
        """Whether Pillow, told by the caller's switch, has made up pixels that ``file`` lacks."""
        from PIL import ImageFile

        if self.kind.name == "JPEG 2000":  # whose decoder always reads to the end
            return ImageFile.LOAD_TRUNCATED_IMAGES and jpeg.END not in self.data
        return ImageFile.LOAD_TRUNCATED_IMAGES and getattr(file, "short", False)

    def _pixels(self, image: Any) -> Pixels:
        """Decode; BGR as stored."""
        if self.kind.name == "PGM/PPM" and image.mode != "1" and image.tile[0][0].startswith("ppm"):
            values = netpbm.raster(image, self.data)
            return bgr_from(values, "L" if values.ndim == 2 else "RGB")
        if self.kind.name == "PNG" and _PNG_END not in self.data:  # Pillow does not ask for it
            raise EOFError
        if self.kind.name == "JPEG" and not jpeg.end_of(self.data, image.fp.tell())[1]:
            image = jpeg.ended(self.data, image, self._open)
        deep, file = _low_bytes(image), getattr(image, "fp", None)
        image.load()
        if self._made_up(file):
            raise EOFError
        check_size(image.size, self.shown)
        if deep and highest(glance(image)) < 64:
            low = self._open()
            low.tile = deep
            return bgr_of(image, low, grey=deep[0].args == _BYTES)
        return bgr_of(image)


@functools.cache
def _plugin(path: str) -> Any:
    """Pillow's class for one kind, without what opening costs that is not needed here."""
    module, _, name = path.partition(".")
    plugin = getattr(importlib.import_module(f"PIL.{module}ImagePlugin"), name)
    if name == "JpegImageFile":  # tags may share their bytes: megabytes for each of thousands
        return type(name, (plugin,), {"_read_dpi_from_exif": lambda self: None})
    if name == "TiffImageFile":

        def setup(self: Any) -> None:  # makes a tile for every strip
            if max(len(self.tag_v2.get(tag, ())) for tag in (_STRIPS, _TILES)) > MAX_STRIPS:
                raise _TooCostlyError
            plugin._setup(self)
            if 16 in self.tag_v2.get(_BITS, ()):  # which Pillow forgets of separate planes
                end = ";16L" if self.tag_v2.prefix == b"II" else ";16B"
                for n, tile in enumerate(self.tile):
                    if len(tile.args[0]) == 1:
                        self.tile[n] = tile._replace(args=(tile.args[0] + end, *tile.args[1:]))

        return type(name, (plugin,), {"_setup": setup})
    return plugin


def _low_bytes(image: Any) -> list[Any]:
    """Tiles that give the low bytes of a colour image of 16 bits, of which Pillow keeps the high
    ones; empty for any other. Data of 12 bits has most of itself there."""
    out = []
    for tile in getattr(image, "tile", ()):
        raw = tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0]
        if not (isinstance(raw, str) and raw[:-1].endswith(";16") and image.mode[:3] == "RGB"):
            return []
        native = "B" if sys.byteorder == "little" else "L"
        swapped = raw[:-1] + {"B": "L", "L": "B", "N": native}[raw[-1]]
        swapped = _BYTES if raw == "LA;16B" else swapped  # which Pillow knows in that order alone
        args = swapped if isinstance(tile.args, str) else (swapped, *tile.args[1:])
        out.append(tile._replace(args=args))
    return out
