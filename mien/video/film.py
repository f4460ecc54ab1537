"""A film file, read frame by frame with the container's own time stamps."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import VideoError

#: Frames a second where the container does not say.
USUAL_FPS = 25.0


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a film.

    Attributes:
        number: place in the film, from 0, skipped frames counted.
        time: seconds from the film's first frame.
        image: uint8 (H, W, 3), BGR, upright.
    """

    number: int
    time: float
    image: NDArray[np.uint8]


class Film:
    """A film that OpenCV can read. Nothing of it is kept in memory.

    Attributes:
        path: the file.
        width, height: size of the upright picture in pixels.
        fps: mean frames a second as the container says, or ``USUAL_FPS``.
        frames_expected: how many frames the container promises; None if it does not say. Right for
            most files, but only an estimate: good for a progress bar.

    Args:
        path: a file. Addresses are not fetched.

    Raises:
        VideoError: missing, not a file, or no film that OpenCV's decoders know.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise VideoError(f"{self.path} is a folder; name a film in it.")
        if not self.path.exists():
            raise VideoError(f"{self.path} does not exist.")
        capture = self._open()
        try:
            self.width = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
            self.height = round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
            fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        finally:
            capture.release()
        self.fps = fps if math.isfinite(fps) and 0.01 <= fps <= 1000 else USUAL_FPS
        self.frames_expected = round(count) if math.isfinite(count) and 0 < count < 1e9 else None

    @property
    def seconds_expected(self) -> float | None:
        """Length by the container's word; None if it does not say."""
        return None if self.frames_expected is None else self.frames_expected / self.fps

    def frames(
        self,
        *,
        every: int = 1,
        start: float = 0.0,
        end: float | None = None,
        after: int | None = None,
    ) -> Iterator[Frame]:
        """Read the film from its beginning.

        The file is never sought in: what lies before ``start`` or ``after`` is decoded and passed
        over. OpenCV's seeking goes by the mean frame rate, lands elsewhere where the rate varies,
        and shows damaged pictures after it; decoding alone is many times as fast as analysis.

        Args:
            every: take every N-th frame, counted from the first at or after ``start``.
            start, end: seconds; frames with ``start <= time < end`` are taken.
            after: leave out the frames up to this number, and choose the rest as if they had
                been taken: for going on with a stopped run.

        Raises:
            VideoError: ``every`` is below 1, or a time is negative or the wrong way round.
        """
        if every < 1:
            raise VideoError(f"every is {every}; expected 1 or more.")
        if not (math.isfinite(start) and start >= 0):
            raise VideoError(f"The start is {start} s; expected 0 or more.")
        if end is not None and not end > start:
            raise VideoError(f"The film would end at {end:g} s but begin at {start:g} s.")
        return self._frames(every, start, end, -1 if after is None else after)

    def _frames(self, every: int, start: float, end: float | None, after: int) -> Iterator[Frame]:
        capture = self._open()
        first: int | None = None
        with contextlib.closing(_Closing(capture)):
            for number, time in _stamps(capture, self.fps):
                if end is not None and time >= end:
                    return
                if time < start:
                    continue
                first = number if first is None else first
                if number <= after or (number - first) % every:
                    continue
                good, image = capture.retrieve()
                if good and image is not None:
                    yield Frame(number, time, np.asarray(image, np.uint8))

    def _open(self) -> cv2.VideoCapture:
        # An absolute path, so that no name is taken for an address or a protocol.
        name = str(self.path.absolute())
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
        if not capture.isOpened():
            capture.release()
            size = self.path.stat().st_size if self.path.is_file() else None
            why = "it is empty" if size == 0 else "it is no film, or damaged, or cut short"
            raise VideoError(f"{self.path} cannot be read as a film: {why}.")
        return capture


class _Closing:
    """Gives a capture the method that contextlib.closing calls."""

    def __init__(self, capture: Any) -> None:
        self.close = capture.release


def _stamps(capture: cv2.VideoCapture, fps: float) -> Iterator[tuple[int, float]]:
    """Number and time of each frame; the picture waits to be retrieved.

    Raw streams without time stamps, and stamps that do not rise, are filled in at the mean rate.
    """
    number, last = 0, -1.0
    while capture.grab():
        time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not math.isfinite(time) or time <= last:
            time = last + 1 / fps if number else 0.0
        yield number, time
        number, last = number + 1, time
