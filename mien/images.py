"""Decoding pictures: any published form in, upright BGR uint8 out, one clear sentence when not.

The header is read before anything is decoded, so a file that declares 50,000 × 50,000 pixels costs
nothing. Truncated files are refused before decoding: libjpeg may fill what is missing with grey.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from mien._headers import FORMATS, Header, read_header
from mien.errors import ImageError

#: Largest picture to decode, in pixels (300 MB as BGR).
MAX_PIXELS = 100_000_000

#: A picture with a side shorter than this holds no recognisable face.
MIN_SIDE = 8

#: Largest file to read, in bytes.
MAX_BYTES = 1 << 30

COLORS = ("bgr", "rgb")

#: Pixels blended at a time: of a whole picture, 16-bit copies would take 24 bytes a pixel.
STRIPE_PIXELS = 1 << 18


def read_image(
    source: str | Path | bytes | BinaryIO, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode one picture.

    JPEG (also CMYK), PNG, WebP, GIF (first frame), BMP, TIFF (first page) and PGM/PPM. EXIF
    orientation is applied, 16 bits become 8, transparency is laid on white, grey becomes BGR.

    Args:
        source: a path, the encoded bytes, or a binary file object.
        name: what to call the picture in error messages; the path by default.
        max_pixels: refuse pictures that declare more.

    Returns:
        uint8 (H, W, 3), BGR, C-contiguous.

    Raises:
        ImageError: missing, unreadable, empty, not a picture, truncated, too small or too large.
    """
    data, shown = _read_bytes(source, name)
    if not data:
        raise ImageError(f"{shown} is empty: it holds no picture.")
    header = read_header(data)
    if header is None:
        raise ImageError(f"{shown} is not a picture that mien reads ({', '.join(FORMATS)}).")
    if not header.truncated or min(header.width, header.height) > 0:
        _check_size(header, shown, max_pixels)
    if header.truncated:
        raise ImageError(f"{shown} is a truncated or damaged {header.format} file; copy it again.")
    if header.bits > 16:
        raise ImageError(f"{shown} holds {header.bits}-bit pixels; mien reads 8 and 16 bits.")
    image = _decode(data, header, shown)
    return np.ascontiguousarray(_upright(image, header.orientation))


def as_bgr(
    array: NDArray[np.uint8], color: str | None, name: str = "the array"
) -> NDArray[np.uint8]:
    """Check an array picture and bring it to BGR.

    Args:
        array: uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4: alpha is laid on white), 0..255.
        color: "bgr" (OpenCV) or "rgb" (Pillow, scikit-image, matplotlib). Must be given for
            colour; grey needs none.

    Returns:
        uint8 (H, W, 3), BGR.

    Raises:
        ImageError: another shape or dtype, an empty array, or ``color`` missing or unknown.
    """
    if array.dtype != np.uint8:
        raise ImageError(f"{name} has dtype {array.dtype}; expected uint8 with values 0 to 255.")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"{name} has shape {array.shape}; expected (H, W), (H, W, 3) or (H, W, 4)."
        )
    if min(array.shape[:2]) < MIN_SIDE:
        raise ImageError(_too_small(name, array.shape[1], array.shape[0]))
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
        array = _on_white(array)
    if color == "rgb":
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2BGR), dtype=np.uint8)
    return np.ascontiguousarray(array)


def _read_bytes(source: str | Path | bytes | BinaryIO, name: str | None) -> tuple[bytes, str]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), name or "the picture"
    if isinstance(source, (str, Path)):
        shown = name or str(source)
        try:
            path = Path(source)
            if path.is_dir():
                raise ImageError(f"{shown} is a folder, not a picture.")
            if path.stat().st_size > MAX_BYTES:
                raise ImageError(f"{shown} is larger than 1 GiB: no picture that mien reads.")
            return path.read_bytes(), shown
        except FileNotFoundError:
            raise ImageError(f"{shown} does not exist.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ImageError(f"{shown} cannot be read: {reason}.") from None
    if hasattr(source, "read"):
        shown = name or str(getattr(source, "name", "the stream"))
        data = source.read(MAX_BYTES + 1)
        if not isinstance(data, bytes):
            raise ImageError(f"{shown} is a text file object; open it in binary mode ('rb').")
        if len(data) > MAX_BYTES:
            raise ImageError(f"{shown} is larger than 1 GiB: no picture that mien reads.")
        return data, shown
    raise ImageError(
        f"Cannot read a picture from {type(source).__name__}; "
        "give a path, bytes, a binary file or a numpy array."
    )


def _too_small(shown: str, width: int, height: int) -> str:
    return (
        f"{shown} is {width}×{height} pixels: too small to hold a face "
        f"(at least {MIN_SIDE}×{MIN_SIDE})."
    )


def _check_size(header: Header, shown: str, max_pixels: int) -> None:
    width, height = header.width, header.height
    if min(width, height) < MIN_SIDE:
        raise ImageError(_too_small(shown, width, height))
    width, height = max(width, header.tile[0]), max(height, header.tile[1])
    if width * height > max_pixels:
        raise ImageError(
            f"{shown} declares {width:,}×{height:,} pixels; "
            f"mien decodes at most {max_pixels / 1e6:g} million. Scale it down."
        )


def _decode(data: bytes, header: Header, shown: str) -> NDArray[np.uint8]:
    """BGR as stored, orientation not yet applied."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    buffer = np.frombuffer(data, np.uint8)
    image = None
    try:
        if header.alpha:
            image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            if image is not None and (image.ndim != 3 or image.shape[2] != 4):
                image = None
        if image is None:
            image = cv2.imdecode(buffer, flags)
    except cv2.error:
        image = None
    if image is None:
        raise ImageError(f"{shown} is a damaged {header.format} file: it cannot be decoded.")
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=255 / 65535)
    if image.dtype != np.uint8:
        raise ImageError(f"{shown} holds {image.dtype} pixels; mien reads 8 and 16 bits.")
    pixels = image.astype(np.uint8, copy=False)
    return _on_white(pixels) if pixels.shape[2] == 4 else pixels


def _on_white(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay (H, W, 4) with alpha last on white; alpha 255 leaves a pixel exactly as it is."""
    height, width = image.shape[:2]
    out = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIPE_PIXELS // width)
    for top in range(0, height, rows):
        stripe = image[top : top + rows]
        alpha = stripe[..., 3:].astype(np.uint16)
        mixed = stripe[..., :3] * alpha
        mixed += 255 * (255 - alpha) + 127
        mixed //= 255
        out[top : top + rows] = mixed
    return out


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply EXIF orientation 1..8 (CIPA DC-008, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image
