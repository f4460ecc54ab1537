"""How a head is held, from five landmarks: roll well, yaw and pitch roughly.

The landmarks are those of :class:`mien.detect.Detection`. Yaw and pitch compare the nose's place
between eyes and mouth with a face of average proportions, so that a long nose reads as a bowed
head: docs/photos.md says how far they can be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]

#: The nose's reach before the eyes over the distance between them, and over the height from eyes
#: to mouth, of an average face; and where on that height it lies in a level head (the median of
#: FER2013's Training faces).
NOSE_OVER_EYES = 0.45
NOSE_OVER_HEIGHT = 0.41
NOSE_LEVEL = 0.55


#: A face turned by more degrees than this in the image's plane is levelled.
LEVEL_FROM = 20.0


@dataclass(frozen=True, slots=True)
class Pose:
    """Angles in degrees, -180..180.

    Attributes:
        roll: turn in the image's plane, clockwise as the viewer sees it.
        yaw: turn to the side; positive looks towards the viewer's right.
        pitch: positive looks down.
    """

    roll: float
    yaw: float
    pitch: float


def roll_of(landmarks: Sequence[Point]) -> float:
    """Degrees by which a face is turned in the image's plane, clockwise, -180..180.

    The line of the eyes, that of the mouth and the one between them count by their lengths, so
    that a profile, whose eyes lie together, has a roll too.
    """
    (rx, ry), (lx, ly), _, (mrx, mry), (mlx, mly) = landmarks
    across = (lx - rx + mlx - mrx, ly - ry + mly - mry)
    down = (mrx + mlx - rx - lx, mry + mly - ry - ly)
    return math.degrees(math.atan2(across[1] - down[0], across[0] + down[1]))


def pose_of(landmarks: Sequence[Point]) -> Pose:
    """Roll, yaw and pitch of a face with five landmarks."""
    roll = roll_of(landmarks)
    c, s = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    level = [(c * x + s * y, c * y - s * x) for x, y in landmarks]
    (rx, ry), (lx, ly), (nx, ny), (mrx, mry), (mlx, mly) = level
    eyes_x, eyes_y, mouth_y = (rx + lx) / 2, (ry + ly) / 2, (mry + mly) / 2
    mouth_x = (mrx + mlx) / 2
    height = max(mouth_y - eyes_y, 1e-6)
    along = (ny - eyes_y) / height
    axis_x = eyes_x + (mouth_x - eyes_x) * along
    wide = max(lx - rx, mlx - mrx, 1e-6)
    yaw = math.degrees(math.atan2(nx - axis_x, NOSE_OVER_EYES * wide))
    pitch = math.degrees(math.atan2(along - NOSE_LEVEL, NOSE_OVER_HEIGHT))
    return Pose(roll, yaw, pitch)
