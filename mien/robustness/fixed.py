"""Resampling and blurring in whole numbers: the same bytes on every machine and in every version.

Coordinates are rounded to 1/64 pixel and weights to 1/1024, and the rest is integer arithmetic, so
that neither vector units nor the order of a sum can change a pixel. Beyond the edge the last pixels
are repeated, as :func:`mien.preprocess.crop_face` does.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Ints = NDArray[np.int32]

_SUB = 64  # Steps of a pixel in a coordinate.
_UNIT = 1024  # Sum of a blur's weights.


def rounded(values: Ints, divisor: int) -> Images:
    """``values / divisor`` rounded half up and clipped to uint8."""
    return np.clip((values + divisor // 2) // divisor, 0, 255).astype(np.uint8)


def affine(
    images: Images, xx: float, xy: float, yx: float, yy: float, dx: float, dy: float
) -> Ints:
    """Sample ``images`` bilinearly; source = centre + matrix · (pixel − centre) + shift.

    Args:
        images: uint8 (N, H, W).
        xx, xy, yx, yy: the matrix from the output's pixels to the source's.
        dx, dy: shift of the source point in pixels, rightwards and downwards.

    Returns:
        int32 (N, H, W), the values times 64².
    """
    height, width = images.shape[1:]
    x = np.arange(width) - (width - 1) / 2
    y = (np.arange(height) - (height - 1) / 2)[:, None]
    sx = _fixed(xx * x + xy * y + dx + (width - 1) / 2, width)
    sy = _fixed(yx * x + yy * y + dy + (height - 1) / 2, height)
    x0, y0 = sx // _SUB, sy // _SUB
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = sx % _SUB, sy % _SUB
    source = images.astype(np.int32)
    top = source[:, y0, x0] * (_SUB - fx) + source[:, y0, x1] * fx
    bottom = source[:, y1, x0] * (_SUB - fx) + source[:, y1, x1] * fx
    return np.asarray(top * (_SUB - fy) + bottom * fy, np.int32)


def _fixed(coordinate: NDArray[np.float64], size: int) -> Ints:
    inside = np.clip(coordinate, 0, size - 1)
    return np.rint(inside * _SUB).astype(np.int32)


def warp(
    images: Images, xx: float, xy: float, yx: float, yy: float, dx: float, dy: float
) -> Images:
    """:func:`affine`, as uint8."""
    return rounded(affine(images, xx, xy, yx, yy, dx, dy), _SUB * _SUB)


def line_blur(images: Images, length: float, degrees: float) -> Images:
    """The mean along a line of ``length`` pixels, two samples a pixel, turned by ``degrees``."""
    taps = 2 * round(length) + 1
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    total = np.zeros(images.shape, np.int32)
    for offset in np.linspace(-length / 2, length / 2, taps).tolist():
        total += affine(images, 1, 0, 0, 1, offset * c, offset * s)
    return rounded(total, taps * _SUB * _SUB)


def gaussian_blur(images: Images, sigma: float) -> Images:
    """Convolve with a Gaussian of ``sigma`` pixels, cut off at 3 sigma."""
    radius = math.ceil(3 * sigma)
    bell = [math.exp(-(i * i) / (2 * sigma * sigma)) for i in range(-radius, radius + 1)]
    # The rounding's remainder goes to the centre, so that a flat image stays as it is.
    weights = [round(_UNIT * b / sum(bell)) for b in bell]
    weights[radius] += _UNIT - sum(weights)
    height, width = images.shape[1:]
    pad = ((0, 0), (radius, radius), (radius, radius))
    padded = np.pad(images.astype(np.int32), pad, mode="edge")
    rows = sum(w * padded[:, i : i + height] for i, w in enumerate(weights))
    both = sum(w * np.asarray(rows)[:, :, i : i + width] for i, w in enumerate(weights))
    return rounded(np.asarray(both), _UNIT * _UNIT)


def low_resolution(images: Images, side: int) -> Images:
    """Average over areas down to ``side`` × ``side`` and interpolate linearly back."""
    size = images.shape[1]
    weights = _areas(size, side)
    small = np.einsum("ai,nij,bj->nab", weights, images.astype(np.int32), weights, optimize=True)
    small = rounded(small, size * size)
    return _enlarged(small, size)


def _areas(size: int, side: int) -> Ints:
    """int32 (side, size): the part of each source pixel in an output pixel; rows sum to size."""
    edge_in, edge_out = np.arange(size + 1) * side, np.arange(side + 1) * size
    low = np.maximum(edge_in[None, :-1], edge_out[:-1, None])
    high = np.minimum(edge_in[None, 1:], edge_out[1:, None])
    return np.asarray(np.maximum(high - low, 0), np.int32)


def _enlarged(small: Images, size: int) -> Images:
    """uint8 (N, s, s) -> (N, size, size), linearly, pixel centres aligned."""
    side = small.shape[1]
    at = _fixed((np.arange(size) + 0.5) * side / size - 0.5, side)
    low, part = at // _SUB, at % _SUB
    high = np.minimum(low + 1, side - 1)
    source = small.astype(np.int32)
    rows = source[:, low] * (_SUB - part)[:, None] + source[:, high] * part[:, None]
    both = rows[:, :, low] * (_SUB - part) + rows[:, :, high] * part
    return rounded(np.asarray(both, np.int32), _SUB * _SUB)


def scaled(images: Images, factor: float) -> Images:
    """Pixel values times ``factor``, clipped."""
    return rounded(images.astype(np.int32) * round(factor * _UNIT), _UNIT)


def around_mean(images: Images, factor: float) -> Images:
    """Each image's distances from its own mean, times ``factor``."""
    count = images.shape[1] * images.shape[2]
    source = images.astype(np.int32)
    total = source.sum(axis=(1, 2), keepdims=True, dtype=np.int32)  # the mean times ``count``
    part = round(factor * _UNIT)
    return rounded(total * (_UNIT - part) + source * (count * part), count * _UNIT)


def ellipse(size: int, cx: float, cy: float, rx: float, ry: float, power: int = 2) -> Ints:
    """How much of each pixel a (super-)ellipse covers, int32 (size, size) in sixteenths."""
    steps = (np.arange(size * 4) + 0.5) / 4 - 0.5
    x, y = np.abs(steps - cx) / rx, np.abs(steps - cy)[:, None] / ry
    inside = x**power + y**power <= 1
    return np.asarray(inside.reshape(size, 4, size, 4).sum(axis=(1, 3)), np.int32)


def covered(images: Images, mask: Ints, value: int) -> Images:
    """Paint grey ``value`` where ``mask`` (sixteenths) says."""
    return rounded(images.astype(np.int32) * (16 - mask) + value * mask, 16)
