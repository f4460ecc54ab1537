"""What is done to a panel's photo before it is looked at: turns, light, blur, size, covering."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

VERSION = "mien-panel/2"

Image = NDArray[np.uint8]
#: Centre and side of a face, in pixels.
Place = tuple[float, float, float]
#: (photo, where its face is, its id) -> the photo and where the face is now.
Change = Callable[[Image, Place, str], tuple[Image, Place]]


@dataclass(frozen=True)
class Condition:
    """One way in which a photo is worse than the original.

    Attributes:
        name: e.g. "turned 30°".
        group: "clean", "turned", "light", "blur", "size" or "covered".
        change: makes it.
        crops: whether it also makes sense of a face already cut out.
    """

    name: str
    group: str
    change: Change
    crops: bool = True


def _turned(degrees: float) -> Change:
    """Turned by ``degrees``, to the left or to the right by the id; nothing is cut off."""

    def change(image: Image, place: Place, key: str) -> tuple[Image, Place]:
        angle = degrees if hashlib.sha256(key.encode()).digest()[0] % 2 else -degrees
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
        cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
        new = round(width * cos + height * sin), round(width * sin + height * cos)
        matrix[:, 2] += (new[0] - width) / 2, (new[1] - height) / 2
        out = cv2.warpAffine(image, matrix, new, borderMode=cv2.BORDER_REPLICATE)
        x, y = matrix @ (place[0], place[1], 1)
        return np.asarray(out, np.uint8), (float(x), float(y), place[2])

    return change


def _pixels_only(change: Callable[[Image, Place, str], Any]) -> Change:
    """A change of the pixels alone: the face stays where it is."""
    return lambda image, place, key: (np.asarray(change(image, place, key), np.uint8), place)


def _levels(curve: Callable[[Any], Any]) -> Change:
    """Each value through ``curve``, 0..255 to 0..255."""
    table = np.rint(curve(np.arange(256))).astype(np.uint8)
    return _pixels_only(lambda image, place, key: cv2.LUT(image, table))


def _blurred(share: float) -> Change:
    """Gaussian, of a deviation of ``share`` of the face's width."""
    return _pixels_only(
        lambda image, place, key: cv2.GaussianBlur(image, (0, 0), max(share * place[2], 0.3))
    )


def _jpeg(quality: int) -> Change:
    def change(image: Image, place: Place, key: str) -> Any:
        _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return cv2.imdecode(code, cv2.IMREAD_COLOR)

    return _pixels_only(change)


def _noisy(deviation: float) -> Change:
    def change(image: Image, place: Place, key: str) -> Any:
        seed = np.frombuffer(hashlib.sha256(key.encode()).digest()[:16], "<u4")
        noise = np.random.RandomState(seed).standard_normal(image.shape)
        return np.clip(np.rint(image + deviation * noise), 0, 255)

    return _pixels_only(change)


def _sized(side: int) -> Change:
    """The whole photo scaled so that the face is ``side`` pixels wide."""

    def change(image: Image, place: Place, key: str) -> tuple[Image, Place]:
        factor = side / place[2]
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        out = cv2.resize(image, None, fx=factor, fy=factor, interpolation=how)
        return np.asarray(out, np.uint8), (place[0] * factor, place[1] * factor, float(side))

    return change


def _covered(top: float, bottom: float, left: float, right: float) -> Change:
    """A grey rectangle over a part of the face's square, in shares of its side."""

    def change(image: Image, place: Place, key: str) -> Any:
        x, y, side = place[0] - place[2] / 2, place[1] - place[2] / 2, place[2]
        corner = round(x + left * side), round(y + top * side)
        other = round(x + right * side), round(y + bottom * side)
        return cv2.rectangle(image.copy(), corner, other, (128, 128, 128), -1)

    return _pixels_only(change)


def _masked(image: Image, place: Place, key: str) -> Any:
    """A light mask from the bridge of the nose to under the chin."""
    x, y, side = place
    shape = [(-0.36, 0.02), (0, -0.06), (0.36, 0.02), (0.3, 0.38), (0, 0.56), (-0.3, 0.38)]
    points = np.array([[x + dx * side, y + dy * side] for dx, dy in shape])
    whole = np.rint(points).astype(np.int32)
    return cv2.fillPoly(image.copy(), [whole], (225, 215, 200), cv2.LINE_AA)


#: In the order of reports; "clean" is the photo as it is.
CONDITIONS: tuple[Condition, ...] = (
    Condition("clean", "clean", lambda image, place, key: (image, place)),
    *(
        Condition(f"turned {a}°", "turned", _turned(a), crops=a <= 30)
        for a in (15, 30, 60, 90, 180)
    ),
    Condition("gamma 2", "light", _levels(lambda v: 255 * (v / 255) ** 2)),
    Condition("gamma 4", "light", _levels(lambda v: 255 * (v / 255) ** 4)),
    Condition("brightness 12 %", "light", _levels(lambda v: v * 0.12)),
    Condition("brightness 6 %", "light", _levels(lambda v: v * 0.06)),
    Condition("blur 4 %", "blur", _blurred(0.04)),
    Condition("blur 8 %", "blur", _blurred(0.08)),
    Condition("noise 20", "blur", _noisy(20)),
    Condition("JPEG 20", "blur", _jpeg(20)),
    *(Condition(f"{s} pixels", "size", _sized(s)) for s in (16, 24, 32, 64)),
    Condition("128 pixels", "size", _sized(128), crops=False),
    Condition("lower half covered", "covered", _covered(0.5, 1.1, -0.1, 1.1)),
    Condition("left half covered", "covered", _covered(-0.1, 1.1, -0.1, 0.5)),
    Condition("masked", "covered", _pixels_only(_masked)),
)
