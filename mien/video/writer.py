"""The annotated video: segments that survive a kill, joined at the end, with the video's sound.

A video that is being written cannot be read when its writer is killed. So it is written as short
segments, one from checkpoint to checkpoint; a stopped run loses only the segment it was in. With
ffmpeg they are joined without touching the images; without it they are decoded and encoded once
more.

Players want a constant rate, so the video has the mean rate of the original (divided by
``--every``): where the original's frames come slower an image is repeated, where they come faster
one is left out, and image and sound stay together.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.atomic import atomic_path, make_folder, output_error, remove, told_of, write_bytes
from mien.errors import OutputError, VideoError
from mien.sinks.grown import START_OVER
from mien.video import encode
from mien.video.tables import new_token, part_of

#: A gap in the time stamps is filled with repeated images, but not beyond so many seconds; the
#: rest is left out, and the images after it come earlier than their sound.
LONGEST_GAP = 600.0
#: The image before a checkpoint, beside the segments.
_LAST = "last.png"
#: A segment's name.
_SEGMENT = re.compile(r"[0-9]{5}-[0-9a-f]{8}\.[a-z0-9]+")


class VideoWriter:
    """Writes the annotated video.

    Args:
        target, fps: the video to make, whose ending chooses the container, and its rate.
        video, offset: the original, for its sound (None leaves the video silent), and the seconds
            of its first frame.
        state: what :meth:`checkpoint` gave, to go on with a stopped run.
        token: the run's; its own, if None.

    Raises:
        VideoError: unknown ending; a segment of the stopped run is gone, or of another encoder.
        OutputError: it cannot be written.
    """

    def __init__(
        self,
        target: Path,
        fps: float,
        video: Path | None = None,
        state: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        offset: float = 0.0,
    ) -> None:
        encode.check_suffix(target)
        self.target = target
        self._suffix = target.suffix.lower()
        self.fps, self._video, self._offset = fps, video, offset
        self._token = token or (new_token() if state is None else str(state["token"]))
        self._folder = part_of(target, self._token)
        self._ffmpeg = encode.ffmpeg_path()
        self._codec = encode.ffmpeg_codec(self._ffmpeg, self._suffix) if self._ffmpeg else None
        self._encoder: encode.Encoder | None = None
        self._last: NDArray[np.uint8] | None = None
        self._current: str | None = None
        self._segments: list[str] = []
        self._size: tuple[int, int] | None = None
        self._slot = 0
        self._begin: float | None = None
        self._left_out = 0.0  # seconds of gaps that were too long
        if self.target.is_dir():
            raise output_error(target, IsADirectoryError(21, "it is a folder"))
        make_folder(self._folder.parent)
        with told_of(target):
            if state is None:
                self._folder.mkdir()
            else:
                self._restore(state)
            for file in self._folder.iterdir():
                if file.name not in (*self._segments, _LAST):
                    file.unlink()

    @property
    def codec(self) -> str:
        """The encoder in use, for messages."""
        return f"ffmpeg, {self._codec[1]}" if self._codec else "OpenCV, without sound"

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._segments = [str(name) for name in state["segments"]]
        self._slot, self._begin = int(state["slot"]), state["begin"]
        self._left_out = float(state["left_out"])
        self._size = tuple(state["size"]) if state["size"] else None
        if self._folder.is_symlink() or not all(map(_SEGMENT.fullmatch, self._segments)):
            raise VideoError(f"{self._folder} is not as the stopped run left it; {START_OVER}")
        missing = [name for name in self._segments if not (self._folder / name).is_file()]
        if missing:
            raise VideoError(
                f"{self._folder / missing[0]} is missing, a part of the stopped run's video; "
                + START_OVER
            )
        if self._segments and state["codec"] != self.codec:  # they could not be joined
            raise VideoError(
                f"The stopped run's video in {self._folder} was written by {state['codec']}, but "
                f"now there is {self.codec}: restore that, or {START_OVER}"
            )
        last = self._folder / _LAST
        if last.is_file() and not last.is_symlink():
            data = np.frombuffer(last.read_bytes(), np.uint8)
            self._last = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)

    def write(self, image: NDArray[np.uint8], time: float) -> None:
        """Add an annotated frame, uint8 (H, W, 3) BGR, with its time stamp in seconds."""
        self._size = self._size or (image.shape[1], image.shape[0])
        self._begin = time if self._begin is None else self._begin
        if (image.shape[1], image.shape[0]) != self._size:  # a video may change its size
            image = np.asarray(cv2.resize(image, self._size), np.uint8)
        wanted = round((time - self._begin - self._left_out) * self.fps)
        gap = max(0, wanted - self._slot)
        if (beyond := gap - round(LONGEST_GAP * self.fps)) > 0:
            # For good: else the next frame would find the rest of the gap before it again.
            self._left_out += beyond / self.fps
            wanted, gap = wanted - beyond, gap - beyond
        for _ in range(gap):
            self._put(image if self._last is None else self._last)
        if wanted >= self._slot:
            self._put(image)
        self._last = image

    def _put(self, image: NDArray[np.uint8]) -> None:
        if self._encoder is None:
            self._encoder = self._open()
        self._encoder.write(image)
        self._slot += 1

    def _open(self) -> encode.Encoder:
        assert self._size is not None
        # A name of its own: an ffmpeg that outlived a killed run may still write its segment.
        self._current = f"{len(self._segments):05d}-{secrets.token_hex(4)}{self._suffix}"
        path = self._folder / self._current
        if self._ffmpeg and self._codec:
            return encode.FfmpegEncoder(self._ffmpeg, path, self._size, self.fps, self._codec)
        return encode.OpenCvEncoder(path, self._size, self.fps)

    def checkpoint(self) -> dict[str, Any]:
        """Finish the segment; the state to go on from, JSON-ready."""
        self._close_segment()
        if self._last is not None:  # a gap behind this place is filled with it
            write_bytes(self._folder / _LAST, cv2.imencode(".png", self._last)[1].tobytes())
        return {
            "token": self._token,
            "segments": list(self._segments),
            "slot": self._slot,
            "begin": self._begin,
            "left_out": self._left_out,
            "codec": self.codec,
            "size": self._size,
        }

    def _close_segment(self) -> None:
        if self._encoder is None or self._current is None:
            return
        encoder, self._encoder = self._encoder, None
        encoder.close()
        self._segments.append(self._current)

    def abandon(self) -> None:
        """Stop without making the video; the segments stay for a later run."""
        with contextlib.suppress(OutputError):  # an error is on its way already
            self._close_segment()

    def finish(self) -> bool:
        """Join the segments and add the sound. Returns whether a video was made (frames came)."""
        self._close_segment()
        if not self._segments:
            return False
        with atomic_path(self.target) as temporary:
            if self._ffmpeg and self._codec:
                self._join(self._ffmpeg, temporary)
            elif len(self._segments) == 1:
                shutil.copyfile(self._folder / self._segments[0], temporary)
            else:
                self._encode_again(temporary)
        return True

    def clean(self) -> None:
        """Remove the segments, once nothing refers to them."""
        remove(self._folder)

    def _join(self, ffmpeg: str, path: Path) -> None:
        listing = self._folder / "segments.txt"
        # Names only, without quotes or spaces; ffmpeg looks for them beside the list.
        lines = [f"file {name}\n" for name in self._segments]
        listing.write_text("ffconcat version 1.0\n" + "".join(lines), encoding="utf-8")
        # From within their folder: in its name ffmpeg would take "?" for a query.
        images = ["-f", "concat", "-safe", "0", "-i", listing.name]
        is_mp4 = self._suffix in (".mp4", ".m4v", ".mov")
        tail = ["-c:v", "copy", *(["-movflags", "+faststart"] if is_mp4 else []), str(path)]
        for sound in self._sounds(ffmpeg):
            problem = encode.run_ffmpeg(ffmpeg, [*images, *sound, *tail], self._folder)
            if problem is None:
                return
        raise OutputError(f"Cannot write {str(self.target)!r}: ffmpeg says: {problem}.")

    def _sounds(self, ffmpeg: str) -> list[list[str]]:
        """Options for the sound, the best first: as it is, encoded anew, none."""
        if self._video is None:
            return [[]]
        begin = (self._begin or 0.0) - self._offset + encode.start_offset(self._video)
        cut = ["-ss", f"{begin:.6f}"] if begin > 0 else []
        cut += ["-t", f"{self._slot / self.fps:.6f}", "-i", str(self._video.absolute())]
        cut += ["-map", "0:v:0", "-map", "1:a?"]
        anew = "libopus" if self._suffix == ".webm" else "aac"
        return [[*cut, "-c:a", "copy"], [*cut, "-c:a", anew, "-b:a", "160k"], []]

    def _encode_again(self, path: Path) -> None:
        assert self._size is not None
        out = encode.OpenCvEncoder(path, self._size, self.fps)
        for name in self._segments:
            capture = cv2.VideoCapture(str(self._folder / name), cv2.CAP_FFMPEG)
            while (image := capture.read())[0]:
                out.write(np.asarray(image[1], np.uint8))
            capture.release()
        out.close()
