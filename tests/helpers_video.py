"""Videos drawn from the public-domain portrait, with a known face in every frame."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

Image = NDArray[np.uint8]

FPS = 25.0
SIZE = (320, 240)
#: The face's centre in the portrait, and the scale at which it is pasted.
FACE, SCALE = (224, 118), 0.7


def place(n: int) -> tuple[float, float]:
    """Where the face's centre is in frame ``n``: it walks to and fro, 0.7 pixels a frame."""
    return 160 + 50 * np.sin(n / 70), 105 + 12 * np.cos(n / 40)


def draw_frame(portrait: Image, n: int, size: tuple[int, int] = SIZE) -> Image:
    """Frame ``n`` of the video, uint8 (H, W, 3) BGR."""
    scale = SCALE * size[1] / SIZE[1]
    x, y = (v * size[1] / SIZE[1] for v in place(n))
    matrix = np.array([[scale, 0, x - scale * FACE[0]], [0, scale, y - scale * FACE[1]]])
    return np.asarray(cv2.warpAffine(portrait, matrix, size, borderValue=(90, 100, 110)), np.uint8)


def walking(portrait: Image, frames: int, hidden: Sequence[int] = ()) -> Iterator[Image]:
    """The video; in the ``hidden`` frames something stands before the face."""
    for n in range(frames):
        frame = draw_frame(portrait, n)
        if n in hidden:
            frame[:] = (60, 70, 80)
        yield frame


def write_video(path: Path, frames: Iterator[Image], fps: float = FPS) -> Path:
    """Write with OpenCV's own encoder: what every installation has."""
    writer: cv2.VideoWriter | None = None
    for frame in frames:
        if writer is None:
            size = (frame.shape[1], frame.shape[0])
            code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, fps, size)
            assert writer.isOpened()
        writer.write(frame)
    assert writer is not None
    writer.release()
    return path


def damage(path: Path, *numbers: int) -> Path:
    """Spoil frames of a Motion JPEG AVI, by their place: zeros where the image begins."""
    data = bytearray(path.read_bytes())
    at, places = data.index(b"movi"), []
    while (at := data.find(b"00dc", at + 4)) >= 0 and len(places) < 10_000:
        places.append(at)
    index = data.index(b"idx1")
    frames = [at for at in places if at < index]
    for number in numbers:
        begin = frames[number] + 8
        data[begin : begin + 400] = bytes(400)
    path.write_bytes(data)
    return path


def ffmpeg(*arguments: str) -> None:
    """Run the system's ffmpeg, the output last; the test is skipped where there is none.

    In one thread: libvpx's others wait by spinning, at 20 times the cost on a busy machine.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("this test makes its film with ffmpeg: apt-get install ffmpeg")
    *options, path = arguments
    command = [program, "-v", "error", "-nostdin", "-y", *options, "-threads", "1", path]
    subprocess.run(command, check=True)


def probe(path: Path, stream: str, entry: str) -> list[str]:
    """What ffprobe says of a stream's entry, one value a stream or frame."""
    program = shutil.which("ffprobe")
    if program is None:
        pytest.skip("this test needs ffprobe: apt-get install ffmpeg")
    command = [program, "-v", "error", "-select_streams", stream, "-show_entries", entry]
    command += ["-of", "default=nw=1:nk=1", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
