"""Arrays of pixels: any mode and depth to uint8 BGR, transparency on white."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError, MienError

Pixels = NDArray[np.uint8]

#: An image with a side shorter than this holds no recognisable face.
MIN_SIDE = 8

#: Pixels converted at a time: the copies of a whole image would take several times its bytes, and
#: fresh memory for them is dear.
STRIPE_PIXELS = 1 << 18

#: A face whose grey values span less than LEAST_RANGE, dark or pale, is spread over USUAL_RANGE:
#: the 1st and 99th percentiles are what FER2013's faces have at the median. Less than 1 % of its
#: PublicTest faces have so little, and gain by it (docs/photos.md).
LEAST_RANGE = 96
USUAL_RANGE = (20, 225)

#: The tag of a TIFF that says whether 0 is black (1) or white (0).
_PHOTOMETRIC = 262

#: Conversions to BGR from what Pillow calls the mode.
_TO_BGR = {"L": cv2.COLOR_GRAY2BGR, "RGB": cv2.COLOR_RGB2BGR, "LAB": cv2.COLOR_LAB2BGR}


def check_size(size: tuple[int, int], shown: str, error: type[MienError] = ImageError) -> None:
    """Raise ``error`` where ``size``, (width, height), is too small to hold a face."""
    if min(size) < MIN_SIDE:
        raise error(
            f"{shown} is {size[0]}×{size[1]} pixels: too small to hold a face "
            f"(at least {MIN_SIDE}×{MIN_SIDE})."
        )


def full_scale(highest: float) -> float:
    """The largest value that pixels can have, by the largest that they have.

    1 for fractions; else the full scale of 8, 10, 12, 14, 16 … bits, whichever is enough. Data of
    12 bits in a file of 16 so gets its contrast, and a dark image of 16 bits is lightened.
    """
    if highest <= 1:
        return 1.0
    bits = max(8, int(highest).bit_length())
    return float(2 ** (bits + bits % 2) - 1)


def highest(values: NDArray[Any]) -> float:
    """The largest value but for one in a thousand: a few hot pixels say nothing of the scale.

    Neither does white that was drawn on data of few bits, a caption or a frame.
    """
    flat = values.reshape(-1)
    sample = flat[:: max(1, flat.size >> 20)]
    if values.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0
    top = float(np.quantile(sample, 0.999, method="higher"))
    white = 255 if values.dtype == np.uint8 else 65_535
    rest = sample[sample < white] if top == white and values.dtype.kind != "f" else sample[:0]
    if 2 * rest.size > sample.size:
        below = float(np.quantile(rest, 0.999, method="higher"))
        return below if below < white / 8 else top
    return top


def scale_of(values: NDArray[Any]) -> float:
    """:func:`full_scale` by the :func:`highest` of ``values``; whole numbers are no fractions."""
    return full_scale(highest(values) if values.dtype.kind == "f" else max(2, highest(values)))


def glance(image: Any) -> NDArray[Any]:
    """About a million pixels of a ``PIL.Image.Image``, without alpha: always the same ones."""
    step = max(1, math.isqrt(image.width * image.height >> 20))
    few = image.resize((max(1, image.width // step), max(1, image.height // step)), 0)
    return np.asarray(few)[..., :3]


def to_eight(values: NDArray[Any], scale: float | None = None) -> Pixels:
    """``values`` from 0..scale to 0..255, uint8; without a scale, by :func:`scale_of`.

    What lies outside is cut; what is no number counts as 0.
    """
    if scale is None:
        scale = scale_of(values)
    if scale == 255 and values.dtype == np.uint8:
        return values
    table = None
    if values.dtype.kind == "u" and values.dtype.itemsize == 2 and values.size > 1 << 16:
        table = to_eight(np.arange(1 << 16, dtype=np.uint32), scale)
    out = np.empty(values.shape, np.uint8)
    step = max(1, STRIPE_PIXELS // max(1, values[:1].size))
    for top in range(0, len(values), step):
        part = values[top : top + step]
        if table is not None:
            out[top : top + step] = table[part]
            continue
        part = part.astype(np.float32)
        part *= 255 / scale
        np.nan_to_num(part, copy=False, nan=0, posinf=255, neginf=0)
        out[top : top + step] = np.clip(part, 0, 255, out=part) + 0.5
    return out


def full_range(image: Pixels) -> Pixels:
    """``image``, uint8 (H, W) or (H, W, 3), spread over ``USUAL_RANGE`` if it is dark or pale;
    else itself."""
    step = max(1, min(image.shape[:2]) // 64)  # a glance: videos call this for every frame
    seen = image[::step, ::step]
    below = np.bincount(seen.ravel(), minlength=256).cumsum()
    low, high = (int(v) for v in np.searchsorted(below, (0.01 * seen.size, 0.99 * seen.size)))
    if not 2 <= high - low < LEAST_RANGE:  # one even grey has nothing to spread
        return image
    gain = (USUAL_RANGE[1] - USUAL_RANGE[0]) / (high - low)
    table = np.clip((np.arange(256) - low) * gain + USUAL_RANGE[0], 0, 255).round()
    return np.asarray(cv2.LUT(image, table.astype(np.uint8)), np.uint8)


def bgr_of(image: Any, low: Any = None, grey: bool = False) -> Pixels:
    """The pixels of a ``PIL.Image.Image`` in any mode, (H, W, 3) BGR, as stored.

    Transparency is laid on white; alpha that is 0 everywhere counts as unset.

    ``low``: the same image with the low bytes of its 16 bits, ``image`` having the high ones; of
    ``grey`` with alpha it has the two bytes of each as bands.
    """
    image = image.convert("LA") if image.mode == "La" else image
    if image.mode == "F" or image.mode.startswith("I"):
        values = to_eight(np.asarray(image))
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
            np.invert(values, out=values)  # a TIFF's white is zero: Pillow turns 8 bits alone
        return bgr_from(values, "L")
    width, height = image.size
    if low is not None:
        bands = ([1, 1, 1, 3] if grey else [0, 1, 2, 3])[: len(image.getbands())]
        seen = glance(image) * np.uint16(256) + glance(low)[..., bands[:3]]
        table = to_eight(np.arange(1 << 16, dtype=np.uint32), scale_of(seen))
    out = np.empty((height, width, 3), np.uint8)
    if image.mode == "RGB" and low is None and not image.has_transparency_data:
        _pack(image, "BGR", out)
        return out
    unset = image.getbands()[-1] == "A" and image.getbbox() is None
    rows = max(1, STRIPE_PIXELS // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        part = image if rows >= height else image.crop(box)
        mode = "RGBA" if part.has_transparency_data else part.mode
        mode = mode if mode in ("RGBA", *_TO_BGR) else "RGB"
        pixels = np.asarray(part if part.mode == mode else part.convert(mode))
        if low is not None:
            deep = table[np.asarray(part) * np.uint16(256) + np.asarray(low.crop(box))[..., bands]]
            alpha = deep if part.mode == mode else pixels  # of one colour that is clear
            pixels = np.dstack([deep[..., :3], alpha[..., 3:]])
        pixels, mode = (pixels[..., :3], "RGB") if unset else (pixels, mode)
        bgr_from(pixels, mode, out[top : top + rows])
    return out


class _Bytes:
    """A file to write to that is an array: nothing is held twice."""

    def __init__(self, out: Pixels) -> None:
        self._rest = out.reshape(-1)

    def write(self, data: bytes) -> None:
        self._rest[: len(data)] = np.frombuffer(data, np.uint8)
        self._rest = self._rest[len(data) :]


def _pack(image: Any, order: str, out: Pixels) -> None:
    """The pixels of a ``PIL.Image.Image`` in ``order``, e.g. "BGR", into ``out``."""
    from PIL import ImageFile

    tile = ImageFile._Tile("raw", (0, 0, *image.size), 0, (order, 0, 1))
    ImageFile._save(image, _Bytes(out), [tile])  # type: ignore[arg-type]


def bgr_from(pixels: Pixels, mode: str, out: Pixels | None = None) -> Pixels:
    """``pixels`` of mode "L", "RGB", "RGBA" or "LAB", as (H, W, 3) BGR, into ``out`` if given."""
    if mode == "RGBA":
        pixels, mode = on_white(pixels), "RGB"
    if mode == "LAB":
        pixels = pixels ^ np.array([0, 128, 128], np.uint8)  # a and b come out signed
    return np.asarray(cv2.cvtColor(pixels, _TO_BGR[mode], dst=out), np.uint8)


def on_white(image: Pixels) -> Pixels:
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
