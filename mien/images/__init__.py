"""Anything a user holds -> upright BGR uint8, or one clear sentence why not."""

from __future__ import annotations

import base64
import errno
import os
import sys
import urllib.parse
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError, first_line
from mien.images.codecs import MAX_MEMORY, Frame, decode
from mien.images.orientation import orientation_of, upright
from mien.images.pixels import bgr_of, check_size, full_scale, highest, on_white, to_eight
from mien.sources import STDIN, UNREAD_SUFFIXES, is_data_url, open_stdin, refuse_address
from mien.text import brief

#: Largest image to decode, in pixels; its bytes are bounded too: ``codecs.MAX_MEMORY``.
MAX_PIXELS = 100_000_000

COLORS = ("bgr", "rgb")

#: Fractions reach no further, enlarged with a filter that overshoots either.
_OVERSHOOT = 1.5

#: What ``read_image`` takes.
Source = str | os.PathLike[str] | bytes | BinaryIO


def read_image(
    source: Source, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode one image: the first frame where a file has several.

    JPEG, PNG, WebP, GIF, BMP, TIFF, PGM/PPM, ICO, JPEG 2000, AVIF, and HEIC with mien[heic]. The
    orientation of EXIF or XMP is applied, transparency is laid on white, grey becomes BGR. More
    than 8 bits are scaled by what is in them: 12-bit data in 16 bits fills the range
    (``pixels.full_scale``).

    Args:
        source: a path, a data URL ("data:…;base64,…"), the encoded bytes, or a binary file object.
        name: what to call the image in error messages; the path by default.
        max_pixels: refuse images that declare more.

    Returns:
        uint8 (H, W, 3), BGR, C-contiguous.

    Raises:
        ImageError: missing, unreadable, empty, not an image, truncated, too small or too large.
    """
    return next(read_frames(source, name=name, max_pixels=max_pixels)).image


def read_frames(
    source: Source, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Generator[Frame]:
    """The frames of an animated GIF, WebP, PNG or AVIF, the pages of a TIFF; else one.

    Same arguments and errors as :func:`read_image`; one frame is held at a time.
    """
    data, shown = read_bytes(source, name)
    if not data:
        raise ImageError(f"{shown} is empty: it holds no image.")
    return decode(data, shown, max_pixels)


def as_bgr(
    array: Any,
    color: str | None,
    name: str = "the array",
    value_range: tuple[float, float] | None = None,
) -> NDArray[np.uint8]:
    """Check an array image and bring it to BGR.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4: alpha is laid on white, and 0
            everywhere counts as unset), or with the channels first. Anything that numpy can read:
            a torch or JAX tensor, a PIL image.
        color: "bgr" (OpenCV) or "rgb" (Pillow, scikit-image, matplotlib). Must be given for
            colour; grey and PIL images need none.
        name: what messages call it.
        value_range: (black, white) for anything but uint8, e.g. (0, 1), (0, 255) or (0, 4095).

    Returns:
        uint8 (H, W, 3), BGR.

    Raises:
        ImageError: another shape or dtype, an empty array, ``color`` or ``value_range`` missing or
            unknown.
    """
    if is_pil(array):
        return _from_pil(array, name)
    array = _numpy(array, name)
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        batch = " a batch is given image by image: list(batch)." if array.ndim == 4 else ""
        raise ImageError(
            f"{name} has shape {array.shape}; expected (H, W), (H, W, 3) or (H, W, 4)"
            f"{';' if batch else '.'}{batch}"
        )
    check_size((array.shape[1], array.shape[0]), name)
    array = _eight_bits(array, value_range, name)
    if color is not None and color not in COLORS:
        raise ImageError(f"Unknown color {color!r}; say color='bgr' or color='rgb'.")
    if array.ndim == 2 or array.shape[2] == 1:
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_GRAY2BGR), dtype=np.uint8)
    if color is None:
        raise ImageError(
            f"{name} is a colour array and its channel order cannot be seen; "
            "say color='bgr' (OpenCV) or color='rgb' (Pillow, scikit-image)."
        )
    if array.shape[2] == 4:
        array = on_white(array) if array[..., 3].any() else array[..., :3]
    if color == "rgb":
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2BGR), dtype=np.uint8)
    return np.ascontiguousarray(array)


def is_array(source: object) -> bool:
    """Whether ``source`` holds pixels: an array, a tensor or a PIL image. Imports none of them."""
    if isinstance(source, (str, bytes)):  # numpy's own, out of an array of paths
        return False
    ways = ("__array__", "__array_interface__", "__dlpack__")
    return is_pil(source) or any(hasattr(source, way) for way in ways)


def is_pil(source: object) -> bool:
    """Whether ``source`` is a ``PIL.Image.Image``."""
    module = sys.modules.get("PIL.Image")
    image = getattr(module, "Image", None)  # lacking while another thread imports Pillow
    return image is not None and isinstance(source, image)


def _from_pil(image: Any, name: str) -> NDArray[np.uint8]:
    check_size(image.size, name)
    try:
        image.load()
        pixels = bgr_of(image)
    except Exception as error:  # whatever a decoder makes of damage, or of a rare mode
        raise ImageError(f"{name} cannot be decoded: {first_line(error)}.") from None
    return upright(pixels, orientation_of(image))


def _numpy(source: Any, name: str) -> NDArray[Any]:
    try:
        if hasattr(source, "detach"):  # a torch tensor: with gradients, on a GPU, of half precision
            source = source.detach().cpu().resolve_neg()
            source = source.float() if str(source.dtype) == "torch.bfloat16" else source
        as_numpy = hasattr(source, "__array__") or hasattr(source, "__array_interface__")
        array = np.asarray(source if as_numpy else np.from_dlpack(source))
        return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    except Exception as error:
        raise ImageError(f"{name} cannot be read as an array: {first_line(error)}.") from None


def _eight_bits(
    array: NDArray[Any], value_range: tuple[float, float] | None, name: str
) -> NDArray[np.uint8]:
    if value_range is None:
        if array.dtype == np.uint8:
            return array
        if array.dtype == np.bool_:
            return array.astype(np.uint8) * 255
        top = highest(array) if array.dtype.kind in "iuf" else 1
        white = full_scale(top if top > _OVERSHOOT else 1)
        raise ImageError(
            f"{name} has dtype {array.dtype}; expected uint8 with values 0 to 255, or say what is "
            f"black and white: value_range=(0, {white:g})."
        )
    try:
        low, high = map(float, () if isinstance(value_range, str) else value_range)
    except (TypeError, ValueError):
        low = high = np.nan
    if array.dtype.kind not in "buif" or not (np.isfinite([low, high]).all() and low < high):
        raise ImageError(
            f"value_range={value_range} does not suit {name}, dtype {array.dtype}: expected "
            "numbers and (black, white)."
        )
    values = array.astype(np.float32) - low
    numbers = np.count_nonzero(~np.isnan(values))
    if not numbers:
        raise ImageError(f"{name} holds no numbers: every value is NaN.")
    where, most = "outside", (values < 0) | (values > high - low)
    if high - low > 200 and array.dtype.kind == "f" and highest(array) <= _OVERSHOOT:
        where = "outside or in a 200th of"
        most |= (array != 0) & (np.abs(array) < 1)  # none where all is black
    if np.count_nonzero(most) > numbers / 2:
        raise ImageError(
            f"Most values of {name} lie {where} value_range={value_range}: they go from "
            f"{np.nanmin(array):g} to {np.nanmax(array):g}."
        )
    return to_eight(values, high - low)


def frames_of(
    image: Any,
    color: str | None = None,
    name: str | None = None,
    value_range: tuple[float, float] | None = None,
) -> Iterator[Frame]:
    """The frames of whatever :meth:`mien.Analyzer.analyze` takes; arguments as there."""
    if is_array(image):
        return iter([Frame(None, 0.0, as_bgr(image, color, name or "the array", value_range))])
    stdin = isinstance(image, str) and image == STDIN
    return read_frames(open_stdin() if stdin else image, name=name)


def read_bytes(source: Source, name: str | None = None) -> tuple[bytes, str]:
    """The encoded bytes of ``source`` and what messages call it. Raises ImageError."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), name or "the data"
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if is_data_url(text):
            return _from_data_url(text, name or "the data URL")
        if isinstance(source, str):
            refuse_address(source)
        if not text:
            raise ImageError("An empty name names no image.")
        return _from_path(Path(os.fsdecode(text)), name or str(source))
    if hasattr(source, "read"):
        own = getattr(source, "name", None)  # a number, of a pipe or a temporary file
        shown = name or (own if isinstance(own, str) and own else "the stream")
        data = _bounded(source, shown)
        if not data and getattr(source, "seekable", bool)() and source.tell():
            raise ImageError(f"{shown} was read to its end; rewind it first: seek(0).")
        return data, shown
    raise ImageError(
        f"Cannot read an image from {type(source).__name__}; "
        "give a path, bytes, a binary file, a PIL image or an array."
    )


def _from_data_url(text: str, shown: str) -> tuple[bytes, str]:
    head, _, body = text.partition(",")
    try:
        if not head.lower().endswith(";base64"):
            raise ValueError
        body = "".join(urllib.parse.unquote(body).split())  # base64 is often broken into lines
        return base64.b64decode(body, validate=True), shown
    except ValueError:
        raise ImageError(f"{shown} is not valid; expected data:image/…;base64,…") from None


def _from_path(path: Path, shown: str) -> tuple[bytes, str]:
    try:
        if path.is_dir():
            raise ImageError(f"{shown} is a folder, not an image.")
        if path.suffix.lower() in UNREAD_SUFFIXES:  # of some TIFF's reader would find a thumbnail
            why = f"mien does not read {path.suffix[1:].upper()}; save it as JPEG, PNG or TIFF"
            raise ImageError(f"{shown}: {why}.")
        if path.stat().st_size > MAX_MEMORY:
            raise ImageError(_too_large(shown))
        if path.is_file():
            return path.read_bytes(), shown
        with path.open("rb") as file:  # a pipe, or a device without an end
            return _bounded(file, shown), shown
    except FileNotFoundError:
        raise ImageError(f"{shown} does not exist.") from None
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            raise ImageError(
                f"{brief(shown)}, of {len(shown):,} characters, is too long for a file's name; "
                "base64 is given as data:image/jpeg;base64,…"
            ) from None
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{shown} cannot be read: {reason}.") from None


def _bounded(file: BinaryIO, shown: str) -> bytes:
    """All of ``file``, if it is no larger than any image may be."""
    parts, left = [], MAX_MEMORY + 1
    try:
        while left > 0 and (part := file.read(left)):  # a pipe may give a part at a time
            parts.append(part)
            left -= len(part)
        data = b"".join(parts)
    except (TypeError, UnicodeDecodeError):
        text = f"{shown} is a text file object; open it in binary mode ('rb')."
        raise ImageError(text) from None
    except (OSError, ValueError) as error:  # a lost connection, a closed file
        raise ImageError(f"{shown} cannot be read: {first_line(error)}.") from None
    if len(data) > MAX_MEMORY:
        raise ImageError(_too_large(shown))
    return data


def _too_large(shown: str) -> str:
    return f"{shown} is larger than {MAX_MEMORY >> 20} MiB: no image that mien reads."
