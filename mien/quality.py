"""How far to trust a face: what its photo gives, and whether its answer should be used.

Each part of :class:`mien.results.Quality` is 1 where it costs nothing and falls to 0. An answer is
*unsure* where its confidence, less what the worst part takes away, is too small: the two numbers
of :data:`RULE` were fitted by ``benchmarks/trust.py`` on FER2013's PublicTest and on corrupted
Training faces (docs/photos.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.covered import covered
from mien.preprocess import face_square
from mien.results import Quality
from mien.results.pose import pose_of

if TYPE_CHECKING:
    from mien.detect.base import Detection

#: Where each part is 0 and where it is 1.
SIZE = (10.0, 30.0)  # side of the face's square in pixels; by its logarithm
SHARPNESS = (0.15, 0.35)  # deviation of the crop's Laplacian over that of its grey values
RANGE = (4.0, 16.0)  # grey values between the 2nd and 98th percentile
YAW = (80.0, 35.0)  # degrees to either side
PITCH = (70.0, 35.0)
INSIDE = (0.4, 0.85)  # share of the square inside the image
MOUTH = (0.04, 0.09)  # from the mouth's middle to the image's nearest edge, in sides of the square
EVEN = (0.35, 0.12)  # share of half a face that is one even grey: a mask, a hand, a bar
COVERED = (2.0, 0.6)  # log-odds of a cover; 1 and 2 % of PublicTest's right answers are above
DETECTION = (0.5, 0.85)


@dataclass(frozen=True, slots=True)
class Rule:
    """Trust is the log-odds of the confidence less ``penalty`` times the worst fault.

    A fault is 1 less one of :data:`FAULTS`. An answer of less trust than ``least`` is unsure.
    """

    penalty: float
    least: float

    def trust(self, confidence: float, quality: Quality) -> float:
        worst = 1 - min(getattr(quality, part) for part in FAULTS)
        return log_odds(confidence) - self.penalty * float(worst)


#: The parts that count; a turned head and a doubtful detection told nothing more of the answer.
FAULTS = ("size", "sharpness", "exposure", "whole")

#: Written by benchmarks/trust.py --write.
RULE = Rule(penalty=4, least=-0.76)

#: Grey values that are looked at for the exposure: about so many by so many of the square.
SAMPLES = 32

#: What blue, green and red are of grey.
_GREY = np.array((0.114, 0.587, 0.299), np.float32)


def _between(value: float, ends: tuple[float, float]) -> float:
    zero, one = ends
    return min(1.0, max(0.0, (value - zero) / (one - zero)))


def log_odds(p: float) -> float:
    """Of a probability, kept away from 0 and 1."""
    p = min(1 - 1e-6, max(1e-6, p))
    return math.log(p / (1 - p))


def is_unsure(
    probabilities: Mapping[Any, float], quality: Quality, below: float | None = None
) -> bool:
    """Whether an answer should not be used.

    Args:
        below: confidence from which on an answer on a flawless face is used; None is the rule's.
    """
    least = RULE.least if below is None else log_odds(below)
    return RULE.trust(max(probabilities.values()), quality) < least


def measure(
    image: NDArray[np.uint8], face: Detection, crop: NDArray[np.uint8], declared: bool = False
) -> Quality:
    """The quality of a face that was found in an image.

    Args:
        image: uint8 (H, W, 3) BGR or (H, W) grey.
        face: where it is; without landmarks its pose counts as straight.
        crop: uint8 (S, S), the face as the network sees it.
        declared: the image was said to be one face: nothing of it lies outside, and only even
            covers are looked for.
    """
    square = face_square(face)
    height, width = image.shape[:2]
    left, top = max(0.0, square.x), max(0.0, square.y)
    right, bottom = min(width, square.x + square.width), min(height, square.y + square.width)
    inside = max(0.0, right - left) * max(0.0, bottom - top) / max(square.area, 1e-6)
    # Of a face that is declared the framing is unknown, and covers are known in our own alone.
    whole = 1.0 if declared else _between(inside, INSIDE) * _between(covered(crop), COVERED)
    step = max(1, int(square.width / SAMPLES))
    patch = image[int(top) : max(int(bottom), int(top) + 1) : step, int(left) : int(right) : step]
    pose = 1.0
    if face.landmarks:
        (x1, y1), (x2, y2) = face.landmarks[3:]
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        if not declared:  # without the mouth nothing else of the face says much
            whole *= _between(min(x, y, width - x, height - y) / square.width, MOUTH)
        held = pose_of(face.landmarks)
        pose = min(_between(abs(held.yaw), YAW), _between(abs(held.pitch), PITCH))
    size = math.log(max(square.width, 1.0))
    return Quality(
        size=_between(size, (math.log(SIZE[0]), math.log(SIZE[1]))),
        sharpness=_between(sharpness(crop), SHARPNESS),
        exposure=_between(_grey_range(patch), RANGE),
        pose=pose,
        whole=whole * _between(_even_share(crop), EVEN),
        detection=1.0 if face.score is None else _between(face.score, DETECTION),
    )


def sharpness(crop: NDArray[np.uint8]) -> float:
    """Fine detail of a crop over its contrast: about 0.2 where it is blurred, 1 where it is not."""
    edges = cv2.Laplacian(crop, cv2.CV_32F)
    return float(cv2.meanStdDev(edges)[1][0, 0] / max(1.0, cv2.meanStdDev(crop)[1][0, 0]))


def _even_share(crop: NDArray[np.uint8]) -> float:
    """Of the upper, lower, left or right half of the face's middle the share without detail.

    It is judged by cells of an eighth of the crop, from the brows down: a hat hides no expression.
    The worst half counts.
    """
    n = len(crop) // 8
    cells = crop[: 8 * n, : 8 * n].reshape(8, n, 8, n).astype(np.float32)
    even = cells.std(axis=(1, 3))[2:7, 1:7] < 2
    return float(max(half.mean() for half in (even[:2], even[2:], even[:, :3], even[:, 3:])))


def _grey_range(patch: NDArray[Any]) -> float:
    if not patch.size:
        return 0.0
    grey = (patch @ _GREY).astype(np.uint8) if patch.ndim == 3 else patch
    below = np.bincount(grey.ravel(), minlength=256).cumsum()
    low, high = np.searchsorted(below, (0.02 * grey.size, 0.98 * grey.size))
    return float(high - low)
