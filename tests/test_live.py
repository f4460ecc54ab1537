"""``mien live``: the newest image of a camera, and what is said when it is missing or lost."""

from __future__ import annotations

import base64
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from helpers_onnx import make_onnx
from numpy.typing import NDArray

from mien.cli import main
from mien.results import Result
from mien.video.camera import CameraError, camera_frames, missing, open_capture


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture
def video(tmp_path: Path, portrait: NDArray[np.uint8]) -> Path:
    """Thirty frames of the portrait: OpenCV reads it as it reads a camera, until it ends."""
    path = tmp_path / "film.mjpeg"
    data = cv2.imencode(".jpg", portrait)[1].tobytes()
    path.write_bytes(data * 30)
    return path


class FakeCapture:
    """A camera that gives numbered images, one every ``pause`` seconds, and then nothing."""

    def __init__(self, count: int, pause: float = 0.0, opened: bool = True) -> None:
        self.count, self.pause, self.opened = count, pause, opened
        self.given = 0
        self.released = threading.Event()

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.opened

    def read(self) -> tuple[bool, Any]:
        time.sleep(self.pause)
        if self.given == self.count:
            return False, None
        self.given += 1
        return True, np.full((8, 8, 3), self.given, np.uint8)

    def release(self) -> None:
        self.released.set()


def numbers(frames: Iterator[tuple[float, NDArray[np.uint8]]]) -> list[int]:
    return [int(image[0, 0, 0]) for _, image in frames]


def test_a_video_in_the_place_of_a_camera_is_a_camera_that_goes(
    video: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["live", "--jsonl", "--camera", str(video), "--model", model]) == 1
    captured = capsys.readouterr()
    records = [json.loads(line) for line in captured.out.splitlines()]
    assert records
    assert [r["frame"] for r in records] == list(range(len(records)))
    times = [r["time"] for r in records]
    assert times == sorted(times)
    assert times[0] == 0
    for record in records:
        (face,) = Result.from_dict(record).faces
        assert face.track == 1
        assert face.smoothed is not None
    assert captured.err.count("\n") == 1
    assert f"Camera {video} gives no more images: it was unplugged or taken." in captured.err


def test_frames_stops_after_so_many(
    video: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["live", "--jsonl", "--camera", str(video), "--model", model, "--frames", "1"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert captured.err == ""


def test_a_missing_camera_is_one_sentence(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["live", "--jsonl", "--camera", "97", "--model", model]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: Camera 97 is not there: plug it in or choose another")
    assert captured.err.count("\n") == 1


def test_a_busy_camera_and_one_not_permitted_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "device"
    device.write_bytes(b"")
    assert "is busy or gives no image" in missing(str(device))
    monkeypatch.setattr("os.access", lambda *_: False)  # root may read anything
    assert "permission denied" in missing(str(device))
    with pytest.raises(CameraError, match="is not there"):
        next(camera_frames("9", opener=lambda _: FakeCapture(0, opened=False)))
    with pytest.raises(CameraError, match="is not there"):  # opens, but gives nothing
        next(camera_frames("9", opener=lambda _: FakeCapture(0)))


def test_a_lost_camera_is_waited_for_when_asked() -> None:
    captures = [
        FakeCapture(0, opened=False),
        FakeCapture(3, pause=0.02),
        FakeCapture(0, opened=False),
        FakeCapture(0, opened=False),
        FakeCapture(2, pause=0.02),
    ]
    waiting = iter(captures)
    said: list[str] = []
    frames = camera_frames(
        "0", wait=True, on_message=said.append, opener=lambda _: next(waiting), retry=0.01
    )
    got = [int(next(frames)[1][0, 0, 0]) for _ in range(5)]
    assert got == [1, 2, 3, 1, 2]
    frames.close()  # type: ignore[attr-defined]
    assert [line.split(":")[0].split(".")[0] for line in said] == [
        "Camera 0 is not there",
        "Camera 0 is there",
        "Camera 0 gives no more images",
        "Camera 0 is there",
    ]
    assert all(capture.released.wait(2) for capture in captures)


def test_without_being_asked_it_ends_with_one_sentence() -> None:
    capture = FakeCapture(2, pause=0.02)
    frames = camera_frames("0", opener=lambda _: capture)
    next(frames)
    next(frames)
    with pytest.raises(CameraError, match="unplugged or taken") as lost:
        next(frames)
    assert lost.value.exit_code == 1
    assert capture.released.wait(2)


def test_the_newest_image_wins() -> None:
    capture = FakeCapture(200, pause=0.005)
    frames = camera_frames("0", opener=lambda _: capture)
    next(frames)
    time.sleep(0.3)  # long work on the first
    seconds, image = next(frames)
    assert int(image[0, 0, 0]) > 5
    assert time.monotonic() - seconds < 0.2
    frames.close()  # type: ignore[attr-defined]
    assert capture.released.wait(2)
    assert capture.given < 200


def test_a_camera_that_hangs_counts_as_lost() -> None:
    frames = camera_frames("0", opener=lambda _: FakeCapture(9, pause=2.0), silence=0.1)
    start = time.monotonic()
    with pytest.raises(CameraError):
        next(frames)
    assert time.monotonic() - start < 2


class NetworkCamera(http.server.ThreadingHTTPServer):
    """Motion JPEG behind a password; hangs up after ``length`` images."""

    daemon_threads = True

    def __init__(self, image: bytes, length: int) -> None:
        self.image, self.length, self.calls = image, length, 0
        super().__init__(("127.0.0.1", 0), NetworkCameraCall)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def address(self, password: str) -> str:
        return f"http://user:{password}@127.0.0.1:{self.server_port}/v.mjpg?key=1"


class NetworkCameraCall(http.server.BaseHTTPRequestHandler):
    server: NetworkCamera

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(b"user:sesame").decode()
        if self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.server.calls += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=b")
        self.end_headers()
        size = len(self.server.image)
        head = f"--b\r\nContent-Type: image/jpeg\r\nContent-Length: {size}\r\n\r\n".encode()
        with suppress(OSError):  # the client may have enough
            for _ in range(self.server.length):
                self.wfile.write(head + self.server.image + b"\r\n")
                time.sleep(0.05)

    def log_message(self, *_: object) -> None:
        pass


def test_a_network_camera_is_called_again_and_its_password_shown_nowhere(
    jpeg: bytes, model: str
) -> None:
    camera = NetworkCamera(jpeg, 12)
    command = [sys.executable, "-m", "mien", "live", "--jsonl", "--model", model, "--camera"]

    def watch(password: str, *more: str) -> subprocess.CompletedProcess[str]:
        words = [*command, camera.address(password), *more]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    told = watch("sesame", "--frames", "20")
    assert told.returncode == 0, told.stderr
    records = [json.loads(line) for line in told.stdout.splitlines()]
    assert [r["frame"] for r in records] == list(range(20))
    place = f"http://***@127.0.0.1:{camera.server_port}/v.mjpg?key=1"
    assert {r["source"] for r in records} == {f"camera {place}"}
    assert camera.calls >= 2
    assert told.stderr.splitlines() == [
        f"Camera {place} gives no more images: the connection was lost. "
        "Waiting for it to come back.",
        f"Camera {place} is there.",
    ] * (camera.calls - 1)
    assert "sesame" not in told.stdout + told.stderr
    told = watch("guessed")
    assert told.returncode == 2
    assert told.stderr.startswith(f"error: Camera {place} does not answer, or refuses")
    assert "guessed" not in told.stdout + told.stderr
    camera.shutdown()
    camera.server_close()


def test_a_network_camera_that_stays_away_is_given_up(jpeg: bytes) -> None:
    camera = NetworkCamera(jpeg, 3)
    address = camera.address("sesame")
    frames = camera_frames(address, opener=open_capture, retry=0.01, silence=1.0)
    next(frames)
    camera.shutdown()
    camera.server_close()
    with pytest.raises(CameraError, match="does not answer") as lost:
        list(frames)
    assert lost.value.exit_code == 1
    assert "sesame" not in str(lost.value)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--camera", "/dev/video0"], "a path needs --jsonl"),
        (["--frames", "3"], "--frames goes with --jsonl"),
        (["--jsonl", "--frames", "0"], "Invalid value"),
        (["--jsonl", "--detector", "yunett"], "Unknown detector"),
    ],
)
def test_mistakes(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["live", *arguments]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert error.count("\n") == 1


def test_the_page_is_served_with_the_camera_asked_for(model: str) -> None:
    pytest.importorskip("fastapi", reason="the extra [web] is not installed")
    command = [sys.executable, "-m", "mien", "live", "--no-browser", "--wait"]
    process = subprocess.Popen(
        [*command, "--camera", "1", "--model", model], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split("mien is at ")[1].split()[0]
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith("/?camera=1&wait")
        answer = httpx.get(url, trust_env=False)
        assert answer.status_code == 200
        assert "<title>mien</title>" in answer.text
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0
