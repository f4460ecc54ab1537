"""Turned and enlarged views of an image, and the way back from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.detect.base import resize
from mien.detect.network import Rows


@dataclass(frozen=True, slots=True)
class View:
    """Pixels shown to the network, uint8 (H, W, 3), and where they come from.

    Attributes:
        image: the pixels.
        matrix: float64 (2, 3), from the image's coordinates to the view's.
        angle: degrees by which what is clockwise in the image was turned back.
    """

    image: NDArray[np.uint8]
    matrix: NDArray[np.float64]
    angle: float = 0.0

    @property
    def scale(self) -> float:
        """The view's pixels per pixel of the image."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix[:, :2]))))

    @classmethod
    def whole(cls, image: NDArray[np.uint8], height: int, width: int) -> Self:
        """The whole image at another size."""
        sx, sy = width / image.shape[1], height / image.shape[0]
        return cls(resize(image, height, width), np.array([[sx, 0, 0], [0, sy, 0]]))

    def shrunk(self, height: int, width: int) -> View:
        scale = np.array([[width / self.image.shape[1]], [height / self.image.shape[0]]])
        return View(resize(self.image, height, width), self.matrix * scale, self.angle)

    def turned(self, angle: float, most: float = math.inf) -> View:
        """This view with faces that stand ``angle`` degrees clockwise upright; its sides grow.

        It is shrunk before where it would have more than ``most`` pixels: a strip fills a square
        when it is turned by 45 degrees.
        """
        if not angle:
            return self
        height, width = self.image.shape[:2]
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        wide, high = width * abs(c) + height * abs(s), width * abs(s) + height * abs(c)
        if (grown := (wide + 1) * (high + 1)) > most:
            shrink = math.sqrt(most / grown)
            smaller = self.shrunk(max(1, int(height * shrink)), max(1, int(width * shrink)))
            return smaller.turned(angle)
        out_w, out_h = round(wide), round(high)
        turn = np.array([[c, s, 0.0], [-s, c, 0.0]])
        turn[:, 2] = (out_w / 2, out_h / 2) - turn[:, :2] @ (width / 2, height / 2)
        image = _warp(self.image, turn, out_w, out_h)
        return View(image, _chain(self.matrix, turn), self.angle + angle)

    def back(self, rows: Rows) -> Rows:
        """Rows found in this view (N, 15), in the image's coordinates.

        A box keeps its centre and area; its sides change places by as much as it is turned.
        """
        if not len(rows):
            return rows
        inverse = cv2.invertAffineTransform(self.matrix)
        points = rows[:, 4:14].reshape(len(rows), 5, 2)
        centres = (rows[:, :2] + rows[:, 2:4] / 2)[:, None]
        moved = np.concatenate([points, centres], axis=1) @ inverse[:, :2].T + inverse[:, 2]
        scale = math.sqrt(abs(np.linalg.det(inverse[:, :2])))
        sine = math.sin(math.radians(self.angle)) ** 2
        size = scale * ((1 - sine) * rows[:, 2:4] + sine * rows[:, [3, 2]])
        out = rows.copy()
        out[:, :2] = moved[:, 5] - size / 2
        out[:, 2:4] = size
        out[:, 4:14] = moved[:, :5].reshape(len(rows), 10)
        return out


def close_up(
    image: NDArray[np.uint8], centre: tuple[float, float], side: float, angle: float, pixels: int
) -> View:
    """A square of ``side`` around ``centre`` at ``pixels`` by ``pixels``; turned as in ``turned``.

    Beyond the image's edge its last pixels are repeated.
    """
    height, width = image.shape[:2]
    reach = side if angle else side / 2  # a turned square reaches further
    x0, y0 = max(0, int(centre[0] - reach)), max(0, int(centre[1] - reach))
    x1, y1 = min(width, int(centre[0] + reach) + 2), min(height, int(centre[1] + reach) + 2)
    patch = image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    if not patch.size:
        patch, x0, y0 = image[-1:, -1:], width - 1, height - 1
    shrink = max(1, int(side / pixels / 1.5))
    if shrink > 1:  # averaged first, or warping would alias
        h, w = max(1, patch.shape[0] // shrink), max(1, patch.shape[1] // shrink)
        area = cv2.resize(patch, (w, h), interpolation=cv2.INTER_AREA)
        fx, fy, patch = w / patch.shape[1], h / patch.shape[0], np.asarray(area, np.uint8)
    else:
        fx = fy = 1.0
    scale = pixels / side
    c, s = scale * math.cos(math.radians(angle)), scale * math.sin(math.radians(angle))
    matrix = np.array([[c, s, 0.0], [-s, c, 0.0]])
    matrix[:, 2] = pixels / 2 - matrix[:, :2] @ centre
    from_patch = np.array([[1 / fx, 0.0, x0], [0.0, 1 / fy, y0]])
    view = _warp(patch, _chain(from_patch, matrix), pixels, pixels)
    return View(view, matrix, angle)


def _chain(first: NDArray[np.float64], then: NDArray[np.float64]) -> NDArray[np.float64]:
    out = then[:, :2] @ first
    out[:, 2] += then[:, 2]
    return np.asarray(out)


def _warp(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], width: int, height: int
) -> NDArray[np.uint8]:
    # Pixel centres lie at halves in the coordinates used here and at whole numbers in OpenCV's.
    shifted = matrix.copy()
    shifted[:, 2] += 0.5 * (matrix[:, 0] + matrix[:, 1]) - 0.5
    out = cv2.warpAffine(
        image, shifted, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(out, np.uint8)
