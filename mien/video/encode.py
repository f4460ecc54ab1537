"""Encoders for the annotated video: ffmpeg where it is installed, else OpenCV's own."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import OutputError, VideoError
from mien.text import is_text

#: Endings of an annotated video.
SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")

#: H.264 quality (lower is better; 18 is hard to tell from the original) and speed.
CRF, PRESET = "20", "veryfast"


def ffmpeg_path() -> str | None:
    """The system's ffmpeg, or None."""
    return shutil.which("ffmpeg")


def _told(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; it repeats file names and tags, in whatever encoding they are."""
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, errors="replace", check=False
    )


@functools.lru_cache(maxsize=4)
def ffmpeg_codec(ffmpeg: str, suffix: str) -> tuple[str, ...] | None:
    """ffmpeg's options for a video of this ending; None if this ffmpeg has no fitting encoder."""
    listing = _told(ffmpeg, "-hide_banner", "-encoders").stdout
    known = {line.split()[1] for line in listing.splitlines() if len(line.split()) > 1}
    wanted: dict[str, tuple[str, ...]] = {
        "libx264": ("-preset", PRESET, "-crf", CRF),
        "libopenh264": ("-b:v", "4M"),
        "mpeg4": ("-q:v", "4"),
    }
    if suffix == ".avi":  # the container cannot reorder frames, as H.264 needs it to
        wanted = {"mpeg4": wanted["mpeg4"]}
    if suffix == ".webm":
        fast = ("-deadline", "realtime", "-cpu-used", "6")
        wanted = {
            "libvpx-vp9": (*fast, "-crf", "32", "-b:v", "0"),
            "libvpx": (*fast, "-crf", "12", "-b:v", "4M"),
        }
    for name, options in wanted.items():
        if name in known:
            return ("-c:v", name, *options, "-pix_fmt", "yuv420p")
    return None


class FfmpegEncoder:
    """Pipes images, uint8 (H, W, 3) BGR, into ffmpeg; the file is whole once it is closed.

    ``path``'s ending chooses the container; ``size`` is every image's width and height, of which
    an odd one grows by a pixel, as H.264 asks; ``codec`` is from :func:`ffmpeg_codec`.
    """

    def __init__(
        self, ffmpeg: str, path: Path, size: tuple[int, int], fps: float, codec: tuple[str, ...]
    ) -> None:
        self._path = path
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        rate = Fraction(fps).limit_denominator(1001)
        self._odd = (size[1] % 2, size[0] % 2)
        even = f"{size[0] + self._odd[1]}x{size[1] + self._odd[0]}"
        command = [ffmpeg, "-v", "error", "-nostdin", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p"]
        command += ["-s", even, "-r", str(rate), "-i", "pipe:0", *codec, str(path)]
        # A session of its own: Ctrl-C is ours to handle, and the segment shall be finished.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            start_new_session=True,
        )

    def write(self, image: NDArray[np.uint8]) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        if any(self._odd):
            bottom, right = self._odd
            border = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
            image = np.asarray(border, np.uint8)
        # Half the bytes through the pipe, and three times as fast as ffmpeg's own conversion.
        planes = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
        try:
            stdin.write(np.ascontiguousarray(planes).data)
        except OSError:
            self.close()
            raise OutputError(f"Cannot write {str(self._path)!r}: ffmpeg stopped.") from None

    def close(self) -> None:
        if self._log.closed:
            return
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError):  # ffmpeg may have gone first; its exit code says why
            stdin.close()
        code = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        self._log.close()
        if code:
            why = lines[-1] if lines else f"exit code {code}"
            raise OutputError(f"Cannot write {str(self._path)!r}: ffmpeg says: {why}.")


class OpenCvEncoder:
    """OpenCV's bundled encoders: no H.264 (they may not ship it), no sound.

    MPEG-4 part 2 in MP4, MOV and MKV, VP8 in WebM, Motion JPEG in AVI.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        names = {".webm": "VP80", ".avi": "MJPG"}
        code = names.get(path.suffix.lower(), "mp4v")
        self._path = path
        if not is_text(str(path)):
            why = "without ffmpeg a video's name must be UTF-8"
            raise OutputError(f"Cannot write {str(path)!r}: {why}.")
        self._writer = cv2.VideoWriter(
            str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), fps, size
        )
        if not self._writer.isOpened():
            raise OutputError(
                f"Cannot write {str(path)!r}: OpenCV cannot encode {code} at "
                f"{size[0]}×{size[1]}; install ffmpeg, or choose another ending."
            )

    def write(self, image: NDArray[np.uint8]) -> None:
        self._writer.write(image)

    def close(self) -> None:
        self._writer.release()
        if not self._path.is_file() or self._path.stat().st_size == 0:
            raise OutputError(f"Cannot write {str(self._path)!r}: OpenCV's encoder wrote nothing.")


#: What writes images of one size to a video of a constant rate.
Encoder = FfmpegEncoder | OpenCvEncoder


def run_ffmpeg(ffmpeg: str, arguments: list[str], folder: Path | None = None) -> str | None:
    """Run ffmpeg to its end, in ``folder``; None if it succeeded, else its last words."""
    done = _told(ffmpeg, "-v", "error", "-nostdin", "-y", *arguments, cwd=folder)
    lines = done.stderr.strip().splitlines() or ["no message"]
    return lines[-1] if done.returncode else None


def start_offset(video: Path) -> float:
    """Seconds by which the video's first image comes after the container's start; 0 if unknown.

    ffmpeg counts from the container's start; sound may begin before the image.
    """
    image, container = _starts(video)
    return 0.0 if image is None or container is None else max(0.0, image - container)


def video_start(video: Path) -> float | None:
    """Seconds of the first image on the container's clock, to its full precision; None without
    ffprobe."""
    return _starts(video)[0]


def _starts(video: Path) -> tuple[float | None, float | None]:
    """The first image's and the container's start in seconds; None where it is not known."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries"]
    command += ["stream=start_time:format=start_time", "-of", "json", str(video.absolute())]
    try:
        told = json.loads(_told(*command).stdout)
        return float(told["streams"][0]["start_time"]), float(told["format"]["start_time"])
    except (OSError, ValueError, LookupError, TypeError):
        return None, None


def check_suffix(path: Path) -> None:
    """Raises VideoError when no video can have this ending."""
    if path.suffix.lower() not in SUFFIXES:
        raise VideoError(f"{path} does not end like a video; use one of {', '.join(SUFFIXES)}.")
