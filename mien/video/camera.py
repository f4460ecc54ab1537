"""A camera through OpenCV: its newest image, and one sentence when it is missing or lost.

A network camera is given by its address (RTSP, or HTTP with Motion JPEG); its user and password
are shown nowhere.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.errors import MienError
from mien.text import is_text, shown

Image = NDArray[np.uint8]

#: Seconds without an image after which a camera counts as lost.
SILENCE = 5.0

#: Seconds between attempts to open a camera that is waited for: they double, up to the second.
RETRY, LONGEST_RETRY = 1.0, 30.0
#: Attempts to open a network camera again that was lost and is not waited for.
ATTEMPTS = 6
#: Milliseconds after which a network camera does not answer.
TIMEOUT = 5000
#: Reads that may fail one after the other: a damaged image is not the end.
FAILURES = 10

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class CameraError(MienError):
    """A camera is missing, busy, not permitted or was lost."""


class Capture(Protocol):
    """What is used of ``cv2.VideoCapture``."""

    def isOpened(self) -> bool: ...  # noqa: N802 - OpenCV's name

    def read(self) -> tuple[bool, Any]: ...

    def release(self) -> None: ...


def open_capture(camera: str) -> Capture:
    """OpenCV's capture of a camera's number, path or address, asked for 640×480 and no queue."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg would print the address
    import cv2

    # OpenCV would print its own warnings beside our sentence.
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        if is_address(camera):
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
            return cv2.VideoCapture(camera, cv2.CAP_FFMPEG, [*limits, TIMEOUT])
        capture = cv2.VideoCapture(int(camera) if camera.isdecimal() else camera)
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, 640)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, 480)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    finally:
        cv2.utils.logging.setLogLevel(level)
    return capture


def camera_frames(
    camera: str = "0",
    *,
    wait: bool = False,
    on_message: Callable[[str], None] = lambda _: None,
    opener: Callable[[str], Capture] = open_capture,
    silence: float = SILENCE,
    retry: float = RETRY,
) -> Iterator[tuple[float, Image]]:
    """The camera's images as they come; while one is worked on, only the newest is kept.

    Args:
        camera: its number, from 0, the path of its device, or its address.
        wait: wait for a camera that is missing, busy or lost, instead of giving up. A network
            camera that was lost is called again in any case, ``ATTEMPTS`` times.
        on_message: told in one sentence when waiting begins and when it ends.
        opener: opens a capture.
        silence: seconds without an image after which the camera counts as lost.
        retry: seconds between attempts at first; they double, up to ``LONGEST_RETRY``.

    Yields:
        (seconds on the monotonic clock when the image came, uint8 (H, W, 3) BGR).

    Raises:
        CameraError: missing, busy, not permitted, or lost, and not to be waited for.
    """
    waiting, seen, tries = False, False, 0
    if not is_text(camera):
        raise CameraError(missing(camera))
    while True:
        capture = opener(camera)
        reader = _Reader(capture) if capture.isOpened() else None
        first = reader.newest(silence) if reader else None
        if reader is None or first is None:
            capture.release() if reader is None else reader.stop()
            problem = _error(missing(camera), seen)
            if not wait and not (seen and is_address(camera) and tries < ATTEMPTS):
                raise problem
            if not waiting:
                on_message(f"{problem} Waiting for it.")
            waiting = True
            time.sleep(min(retry * 2**tries, LONGEST_RETRY))
            tries = min(tries + 1, 30)
            continue
        if waiting:
            on_message(f"{name_of(camera)} is there.")
        waiting, tries = False, 0
        try:
            while first is not None:
                seen = True
                yield first
                first = reader.newest(silence)
        finally:
            reader.stop()
        lost = _error(_lost(camera), seen)
        if not wait and not is_address(camera):
            raise lost
        on_message(f"{lost} Waiting for it to come back.")
        waiting = True
        time.sleep(retry)


def _lost(camera: str) -> str:
    why = "the connection was lost" if is_address(camera) else "it was unplugged or taken"
    return f"{name_of(camera)} gives no more images: {why}."


def _error(sentence: str, seen: bool) -> CameraError:
    error = CameraError(sentence)
    error.exit_code = 1 if seen else 2  # 1: what came before was done
    return error


class _Reader:
    """Reads in a thread of its own, so that an image is never older than the camera's last."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._changed = threading.Condition()
        self._newest: tuple[float, Image] | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, name="mien-camera", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            failures = 0
            while not self._over and failures < FAILURES:
                good, image = self._capture.read()
                if not good or image is None:
                    failures += 1
                    continue
                failures = 0
                with self._changed:
                    self._newest = (time.monotonic(), image)
                    self._changed.notify()
        finally:
            with self._changed:
                self._over = True
                self._changed.notify()
            self._capture.release()

    def newest(self, timeout: float) -> tuple[float, Image] | None:
        """Wait for an image not given before; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._over, timeout)
            found, self._newest = self._newest, None
            return found

    def stop(self) -> None:
        """Let go of the camera. A driver that hangs is left to its thread."""
        self._over = True
        self._thread.join(timeout=1.0)


def name_of(camera: str) -> str:
    """The camera as messages and results call it."""
    return f"Camera {shown(camera)}"


def is_address(camera: str) -> bool:
    """Whether this is a network camera's address."""
    return _ADDRESS.match(camera) is not None


def missing(camera: str) -> str:
    """Why a camera cannot be opened, as far as the system tells, and what to do."""
    name = name_of(camera)
    if is_address(camera):
        return f"{name} does not answer, or refuses the user or password: check the address."
    path = Path(f"/dev/video{camera}" if camera.isdecimal() else camera)
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return f"{name} may not be used: permission denied for {path} (join the group 'video')."
    if path.exists():
        return f"{name} is busy or gives no image: close the program that uses it."
    known = sorted(p.name.removeprefix("video") for p in Path("/dev").glob("video[0-9]*"))
    others = f" (there are: {', '.join(known)})" if known else ""
    return f"{name} is not there: plug it in or choose another with --camera{others}."
