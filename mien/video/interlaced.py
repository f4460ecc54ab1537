"""Interlaced videos, which OpenCV from 4.13 on decodes and cannot convert: read through ffmpeg."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2

from mien.errors import VideoError
from mien.video.encode import ffmpeg_path


def needed_ffmpeg(path: Path) -> str:
    """The system's ffmpeg. Raises VideoError where there is none."""
    if (ffmpeg := ffmpeg_path()) is None:
        raise VideoError(
            f"{path} is interlaced, which OpenCV {cv2.__version__} cannot convert, or black "
            "throughout; install ffmpeg."
        )
    return ffmpeg


class Deinterlaced:
    """What is used of ``cv2.VideoCapture``, for one file; the images come from ffmpeg.

    Both fields of a frame make one image; frames that are not interlaced stay as they are.

    Raises:
        VideoError: ffmpeg is not installed, or cannot read the file either.
    """

    def __init__(self, path: Path) -> None:
        # NUT keeps time stamps, shape of pixels and colours as they are; -copyts the clock.
        command = [needed_ffmpeg(path), "-v", "quiet", "-nostdin", "-copyts"]
        command += ["-i", str(path.absolute())]
        command += ["-map", "0:v:0", "-vf", "bwdif=mode=send_frame:deint=interlaced"]
        command += ["-c:v", "rawvideo", "-pix_fmt", "bgr24", "-f", "nut", "pipe:1"]
        # A session of its own: Ctrl-C is ours to handle.
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            self._capture = cv2.VideoCapture(f"/dev/fd/{pipe.fileno()}", cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            self.release()
            raise VideoError(f"{path} is interlaced, and ffmpeg cannot read it.")
        self.grab, self.retrieve = self._capture.grab, self._capture.retrieve
        self.get = self._capture.get

    def release(self) -> None:
        self._capture.release()
        self._process.kill()
        self._process.wait()
