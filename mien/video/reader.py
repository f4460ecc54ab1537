"""A video file, read frame by frame with the container's own time stamps."""

from __future__ import annotations

import math
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien._system import mode_of, new_memory_is
from mien.errors import VideoError
from mien.images.pixels import check_size
from mien.text import is_text
from mien.video.animation import Animation, is_animation
from mien.video.encode import ffmpeg_path, video_start
from mien.video.interlaced import Deinterlaced, needed_ffmpeg

#: Frames a second where the container does not say.
USUAL_FPS = 25.0
#: Where the container says more than this, so many frames are measured: for a browser's recording,
#: which does not say, FFmpeg takes the 1,000 steps of its clock.
LIKELY_FPS, MEASURED = 120, 64
#: After a frame that cannot be read so many more are tried: as many as the container still
#: promises, but not fewer and not more than these.
LEAST_TRIES, MOST_TRIES = 25, 10_000
#: The rate of a cover, which FFmpeg shows as a video of one frame, as long as the sound.
COVER_FPS = 90_000
#: A video that is black for so many frames is taken for an interlaced one where its memory tells
#: nothing (not glibc): without ffmpeg, which would then be missing, and with it, which reads black
#: rightly too.
BLACK, BLACK_FOR_FFMPEG = 1500, 50

#: What frames are read with.
_Capture = cv2.VideoCapture | Animation | Deinterlaced


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a video: uint8 (H, W, 3) BGR, upright.

    ``number`` is its place, from 0, skipped frames counted; ``time`` is in seconds on the
    container's clock; ``skipped`` damaged frames were lost just before it.
    """

    number: int
    time: float
    image: NDArray[np.uint8]
    skipped: int = 0


class Video:
    """A video that OpenCV can read. Nothing of it is kept in memory.

    Attributes:
        path: the file.
        width, height: size of the upright image in pixels, which are square: frames of an
            anamorphic video (DVD, DV) are stretched.
        fps: mean frames a second as the container says, or ``USUAL_FPS``; where that is more than
            ``LIKELY_FPS`` and twice what is measured at the beginning, that.
        frames_expected: how many frames the container promises; None if it does not say. Right for
            most files, but only an estimate: good for a progress bar.
        offset: seconds at which the video begins on the container's clock, which its sound shares.
        first: number of its first readable frame.
        skipped_last: damaged frames that no frame told of, once the video was read to its end: its
            last ones, and what the decoder passed over where the times leap.

    Args:
        path: a file. Addresses are not fetched.

    Raises:
        VideoError: missing, not a file, no video that OpenCV's decoders know, without a frame that
            can be decoded, too small, or interlaced where OpenCV cannot convert that and ffmpeg is
            missing. Reading it may raise the same, where it changed since.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._interlaced = False
        capture = self._open()
        try:
            self.width = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
            self.height = round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
            self._shape = _pixel_shape(capture)
            self.width = round(self.width * max(1.0, self._shape))
            self.height = round(self.height / min(1.0, self._shape))
            check_size((self.width, self.height), str(self.path), VideoError)
            fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
            self.fps = fps if math.isfinite(fps) and 0.01 <= fps <= 1000 else USUAL_FPS
            self._said_fps = self.fps
            count *= self.fps / fps if fps > 0 else 1.0  # raw DV counts the 60,000 steps of a clock
            known = math.isfinite(count) and 0 < count < 1e9
            self.frames_expected = round(count) if known else None
            shown = sum(seconds for seconds, begin in _edits(self.path) if begin >= 0) * self.fps
            if self.frames_expected is not None and shown > 0:
                self.frames_expected = max(1, min(self.frames_expected, round(shown)))
            self.first, *_ = next(self._stamps(capture), (-1,))
            if self.first < 0:
                raise VideoError(
                    f"{self.path} has no readable frame: it opens as a video, but all of its "
                    "images are damaged or cut off."
                )
            self.offset = self._offset(capture)
            self.skipped_last = 0
            if fps == COVER_FPS and count > 1 and not capture.grab():
                raise VideoError(f"{self.path} holds no images but a cover.")
            if isinstance(capture, cv2.VideoCapture):
                self._interlaced = self._is_unconverted(capture)
                if self.fps > LIKELY_FPS:
                    self._measure(capture)
        finally:
            capture.release()
        if self._interlaced:
            needed_ffmpeg(self.path)

    def _is_unconverted(self, capture: cv2.VideoCapture) -> bool:
        """Whether the images are nothing but what lay in memory before: from 4.13 on OpenCV cannot
        convert interlaced frames, and does not say so (its issue 25997).

        Its buffer then stays as it is from frame to frame, and that of a second capture is another.
        ``capture`` has its first readable frame.
        """
        first = capture.retrieve()[1]
        if first is None or (capture.grab() and not np.array_equal(first, capture.retrieve()[1])):
            return False
        with ExitStack() as stack:
            byte = 64 if first.flat[0] >= 128 else 192
            stack.enter_context(new_memory_is(byte))
            filled = np.empty(1 << 16, np.uint8)[-1] == byte
            other = _capture(self.path)
            stack.callback(other.release)
            next(self._stamps(other), None)
            if not np.array_equal(first, other.retrieve()[1]):
                return True
        if filled or first.any():
            return False
        wait = BLACK if ffmpeg_path() is None else BLACK_FOR_FFMPEG  # new memory may be zero
        return not any(np.any(capture.retrieve()[1]) for _ in range(wait) if capture.grab())

    def _measure(self, capture: cv2.VideoCapture) -> None:
        """Take the frames' own rate if it is another; ``capture`` has its first frame."""
        times = [time for _, time, _ in islice(self._stamps(capture), MEASURED)]
        rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else math.inf
        if rate < self._said_fps / 2:
            self.fps = rate
            if self.frames_expected is not None:
                self.frames_expected = round(self.frames_expected * rate / self._said_fps)

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
        """Read the video from its beginning.

        The file is never sought in: what lies before ``start`` or ``after`` is decoded and passed
        over. OpenCV's seeking goes by the mean frame rate, lands elsewhere where the rate varies,
        and shows damaged images after it; decoding alone is many times as fast as analysis.

        Args:
            every: take every N-th frame, counted from the first at or after ``start``.
            start, end: seconds; frames with ``start <= time < end`` are taken.
            after: leave out the frames up to this number, and choose the rest as if they had
                been taken: for going on with a stopped run.

        The caller has checked these values (:class:`mien.video.options.Options`).
        """
        capture = self._open()
        first: int | None = None
        with ExitStack() as stack:
            stack.callback(capture.release)
            number, lost, leaps, due, begin = -1, 0, 0, 0.0, 0.0
            for number, time, damaged in self._stamps(capture):
                begin = begin if number > damaged else capture.get(cv2.CAP_PROP_PTS)
                leaps += max(0, round((time - due) * self.fps) - damaged)
                due = time + 1 / self.fps
                time, lost = time + self.offset, lost + damaged
                if end is not None and time >= end:
                    return
                if time < start:
                    lost = 0
                    continue
                first = number if first is None else first
                if (number - first) % every:
                    continue
                if after is not None and number <= after:
                    lost = 0
                    continue
                good, image = capture.retrieve()
                if good and image is not None:
                    yield Frame(number, time, self._square(image), lost)
                    lost = 0
                else:
                    lost += 1
            if number + 1 < (self.frames_expected or math.inf):
                lost += self._lost_unseen(capture, begin, number + 1, leaps)
            self.skipped_last = lost

    def frames_near(self, seconds: float) -> Iterator[Frame]:
        """Every frame from about ``seconds`` after the first one on, found by seeking.

        The numbers are those of a video whose rate does not vary. It may begin later, and with
        damaged images: the caller has to compare (see :meth:`frames`).
        """
        capture = self._open()
        with ExitStack() as stack:
            stack.callback(capture.release)
            if not isinstance(capture, cv2.VideoCapture):
                return
            if not capture.set(cv2.CAP_PROP_POS_MSEC, 1000 * seconds):
                return
            number, shift = -1, None
            for number, time, lost in self._stamps(capture):
                shift = round(time * self.fps) - number if shift is None else shift
                good, image = capture.retrieve()
                if good and image is not None:
                    yield Frame(number + shift, time + self.offset, self._square(image), lost)
            if shift is not None and number + shift + 1 < (self.frames_expected or math.inf):
                self.skipped_last = self._lost_unseen(capture, -math.inf, 0, 0)

    def _square(self, image: Any) -> NDArray[np.uint8]:
        """The image with square pixels."""
        if self._shape != 1:
            height, width = image.shape[:2]
            width = round(width * max(1.0, self._shape))
            image = cv2.resize(image, (width, round(height / min(1.0, self._shape))))
        return np.asarray(image, np.uint8)

    def _stamps(self, capture: _Capture) -> Iterator[tuple[int, float, int]]:
        """Number and seconds from the first of each frame, which waits to be retrieved, and how
        many damaged ones came before it.

        Raw streams without time stamps, and stamps that do not rise, are filled in at the mean
        rate. A damaged frame and the end of the file look the same: only a frame after it tells.
        """
        number, last, due, failures = 0, -1.0, 0.0, 0
        repeats = _repeats(capture)
        while True:
            missing = (self.frames_expected or 0) - number
            if not capture.grab():
                failures += 1
                if failures > min(max(missing, LEAST_TRIES), MOST_TRIES):
                    return
                continue
            time, damaged = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, failures * (not repeats)
            if not math.isfinite(time) or time <= last:
                time = due + damaged / self.fps
            elif damaged:  # some decoders lose all up to the next key frame
                damaged = max(damaged, min(missing - 1, round((time - due) * self.fps)))
            number += damaged
            yield number, time, damaged
            number, last, due, failures = number + 1, time, time + 1 / self.fps, 0

    def _lost_unseen(self, capture: _Capture, begin: float, seen: int, leaps: int) -> int:
        """How many frames more lie in the file than the ``seen``, from the stamp ``begin`` on:
        after the last one, and where the times leap by ``leaps`` frames, at which the decoder
        passed over damage (HEVC)."""
        if isinstance(capture, Animation) or _repeats(capture):
            return 0
        last = capture.get(cv2.CAP_PROP_PTS)
        trimmed = any(begin > 0 for _, begin in _edits(self.path))
        packets = _capture(self.path, cv2.CAP_PROP_FORMAT, -1)
        end, failures, count = last, 0, 0
        while failures <= LEAST_TRIES:
            if packets.grab():
                stamp, failures = packets.get(cv2.CAP_PROP_PTS), 0
                end, count = max(end, stamp), count + (begin <= stamp <= last)
            else:
                failures += 1
        packets.release()
        after = (end - last) * self.fps / self._said_fps  # in steps of the container's rate
        return (0 if trimmed else round(after)) + min(max(0, count - seen), leaps)

    def _offset(self, capture: _Capture) -> float:
        """See the attribute; ``capture`` has its first readable frame."""
        step = 1 / self._said_fps
        stamp = capture.get(getattr(cv2, "CAP_PROP_PTS", -1)) * step  # rounded to frames
        offset = stamp - max(0.0, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        if not (stamp > 0 and offset > 0):  # NaN neither
            return 0.0
        exact = video_start(self.path)
        if exact is not None and abs(exact - offset) <= step:
            return max(0.0, exact)
        return offset if offset > 0.5 * step else 0.0

    def _open(self) -> _Capture:
        mode = mode_of(self.path, VideoError)
        if stat.S_ISDIR(mode):
            raise VideoError(f"{self.path} is a folder; name a video in it.")
        if not mode:
            raise VideoError(f"{self.path} does not exist.")
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):  # opening it would wait for a writer
            raise VideoError(f"{self.path} is a pipe; save the video to a file first.")
        if is_animation(self.path):
            return Animation(self.path)
        if self._interlaced:
            return Deinterlaced(self.path)
        capture = _capture(self.path)
        if not capture.isOpened():
            capture.release()
            size = self.path.stat().st_size if self.path.is_file() else None
            why = "it is empty" if size == 0 else "it holds no images, or is damaged or cut short"
            raise VideoError(f"{self.path} cannot be read as a video: {why}.")
        return capture


def _capture(path: Path, *settings: int) -> cv2.VideoCapture:
    """OpenCV's reader of a file, open or not; ``settings`` are properties and their values."""
    # An absolute path, so that no name is taken for an address or a protocol.
    name = str(path.absolute())
    if is_text(name):
        return cv2.VideoCapture(name, cv2.CAP_FFMPEG, settings)
    with path.open("rb") as file:
        return cv2.VideoCapture(f"/dev/fd/{file.fileno()}", cv2.CAP_FFMPEG, settings)


def _pixel_shape(capture: _Capture) -> float:
    """Width of a pixel over its height, 1 where that is not known."""
    wide, high = (capture.get(p) for p in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN))
    turned = capture.get(cv2.CAP_PROP_ORIENTATION_META) % 180 == 90
    shape = wide / high if wide > 0 and high > 0 else 1.0  # NaN neither
    shape = 1 / shape if turned else shape
    return shape if 0.2 < shape < 5 and abs(shape - 1) > 0.01 else 1.0


def _repeats(capture: _Capture) -> bool:
    """Whether it is Theora: "as before" is an empty packet there, which looks like damage."""
    return capture.get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter.fourcc(*"theo")


def _edits(path: Path) -> list[tuple[float, int]]:
    """The edit list (ISO 14496-12, 8.6.6) of an MP4's or MOV's images: how many seconds are shown,
    and from where among the frames (-1: nothing is shown). What was cut off is still there."""
    data = _movie_box(path)
    track = next((t for t in data.split(b"trak")[1:] if re.search(b"(?s)hdlr.{8}vide", t)), b"")
    head, (_, _, edits) = data.partition(b"mvhd")[2], track.partition(b"elst")
    if len(head) < 24 or len(edits) < 8:
        return []
    scale = struct.unpack_from(">I", head, 20 if head[0] == 1 else 12)[0]
    form = ">Qqi" if edits[0] == 1 else ">Iii"
    size, count = struct.calcsize(form), struct.unpack_from(">I", edits, 4)[0]
    whole = edits[8 : 8 + size * min(count, (len(edits) - 8) // size)]
    return [(time / max(1, scale), begin) for time, begin, _ in struct.iter_unpack(form, whole)]


def _movie_box(path: Path) -> bytes:
    """What an MP4 or MOV says of its tracks; empty for another file."""
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            size = struct.unpack(">Q", file.read(8).ljust(8))[0] - 8 if size == 1 else size
            if not kind.isalnum() or size < 8:
                return b""
            if kind == b"moov":
                return file.read(min(size, 1 << 26))
            file.seek(size - 8, os.SEEK_CUR)
    return b""
