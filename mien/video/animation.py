"""Animated images and documents of several pages, read as OpenCV reads a video."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError, VideoError
from mien.images import read_frames
from mien.images.codecs import Frame, kind_of

#: What OpenCV does not read itself, or not every frame of it.
KINDS = frozenset({"WebP", "PNG", "TIFF", "AVIF"})


#: So many frames tell the mean rate.
LOOK = 64


def _sound(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Those before a damaged one."""
    with suppress(ImageError):
        yield from frames


class Animation:
    """What is used of ``cv2.VideoCapture``, for one file; see :func:`is_animation`.

    Raises:
        VideoError: its first frame is damaged. A later one is the last, and is not retrieved.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._frames = read_frames(path)
        self._ahead: Frame | None = None
        self._ahead = self._first = self._read()
        self._frame = self._first
        self._now = self._end = 0.0

    @cached_property
    def _seconds(self) -> float:
        """Of a frame, on average; it takes a pass of its own, only where it is asked for."""
        shown = [frame.seconds for frame in islice(_sound(read_frames(self._path)), LOOK)]
        return sum(shown) / max(1, len(shown))

    def _read(self) -> Frame:
        try:
            return next(self._frames)
        except ImageError as error:
            raise VideoError(str(error)) from None

    def grab(self) -> bool:
        self._damaged = False
        try:
            self._frame, self._ahead = self._ahead or self._read(), None
        except StopIteration:
            return False
        except VideoError:  # no decoder goes on behind it
            self._damaged = True
            return True
        self._now, self._end = self._end, self._end + self._frame.seconds
        return True

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """The frame; a page of another size than the first is none."""
        same = self._frame.image.shape == self._first.image.shape and not self._damaged
        return same, self._frame.image if same else None

    def get(self, prop: int) -> float:
        """Size, rate and time of the frame; NaN for all else, and for the time of a page."""
        height, width = self._first.image.shape[:2]
        if prop == cv2.CAP_PROP_FPS:
            return 1 / self._seconds if self._seconds else math.nan
        if prop == cv2.CAP_PROP_POS_MSEC:
            return 1000 * self._now if self._first.seconds or self._seconds else math.nan
        sides: dict[int, float] = {
            cv2.CAP_PROP_FRAME_WIDTH: width,
            cv2.CAP_PROP_FRAME_HEIGHT: height,
        }
        return sides.get(prop, math.nan)

    def release(self) -> None:
        self._frames.close()


def is_animation(path: Path) -> bool:
    """Whether ``path`` is for :class:`Animation`, by its first bytes."""
    with suppress(OSError), path.open("rb") as file:
        kind = kind_of(file.read(200))
        return kind is not None and kind.name in KINDS
    return False
