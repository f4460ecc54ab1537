"""The WebSocket: frames in, results out, the newest wins, and every limit."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra [web] is not installed")

from helpers_web import TOKEN, Running, eventually, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mien.pipeline import Analyzer
from mien.results import Result
from mien.web.settings import Limits
from mien.web.stream import _Rate


@pytest.fixture
def frame(jpeg: bytes) -> bytes:
    return jpeg


@contextmanager
def stream(running: Running, **options: Any) -> Iterator[ClientConnection]:
    """An open stream after its hello."""
    url = f"ws://127.0.0.1:{running.port}/v1/stream"
    with connect(url, proxy=None, close_timeout=2, **options) as socket:
        hello = json.loads(socket.recv(10))
        assert hello["type"] == "hello"
        yield socket


def ask(socket: ClientConnection, data: bytes) -> dict[str, Any]:
    socket.send(data)
    answer: dict[str, Any] = json.loads(socket.recv(20))
    return answer


def consume(socket: ClientConnection) -> None:
    while True:
        socket.recv(10)


def ended(socket: ClientConnection) -> tuple[int, str]:
    """Read until the server closes; its code and reason."""
    with pytest.raises(ConnectionClosed) as closed:
        consume(socket)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def test_a_frame_gives_the_same_faces_as_a_photo_and_keeps_their_numbers(
    server: Running, frame: bytes, model: Path
) -> None:
    wanted = Analyzer(model, threads=1).analyze(frame).to_dict()
    with stream(server, subprotocols=["mien.v1"]) as socket:
        assert socket.subprotocol == "mien.v1"
        for number in range(3):
            answer = ask(socket, frame)
            assert (answer["type"], answer["frame"], answer["dropped"]) == ("result", number, 0)
            assert 0 < answer["milliseconds"] < 20_000
            got = Result.from_dict(answer["result"])
            (face,) = answer["result"]["faces"]
            assert face.pop("track") == 1
            smoothed = face.pop("smoothed")
            assert sum(smoothed.values()) == pytest.approx(1, abs=1e-4)
            assert face.pop("steady") in (*smoothed, None)
            assert face == wanted["faces"][0]
            assert got.faces[0].track == 1
    with stream(server) as socket:  # another connection counts from 1 again
        assert ask(socket, frame)["result"]["faces"][0]["track"] == 1


def test_the_newest_frame_wins(model: Path, frame: bytes) -> None:
    with serving(model) as running, stream(running) as socket:
        workers = running.app.state.workers
        gate, entered, run = threading.Event(), threading.Event(), workers.run

        async def held(work: Any) -> Any:
            def wait(analyzer: Any) -> Any:
                entered.set()
                gate.wait(10)
                return work(analyzer)

            return await run(wait)

        workers.run = held
        socket.send(frame)
        assert entered.wait(10)
        for _ in range(20):  # while frame 0 is looked at
            socket.send(frame)
        metrics = running.app.state.metrics
        assert eventually(lambda: metrics.value("mien_frames_total", outcome="dropped") >= 19)
        gate.set()
        first, second = json.loads(socket.recv(20)), json.loads(socket.recv(20))
        assert first["frame"] == 0
        assert (second["frame"], second["dropped"]) == (20, 19)
        with pytest.raises(TimeoutError):  # and nothing was queued
            socket.recv(0.3)


def test_a_bad_frame_is_a_problem_and_the_stream_goes_on(server: Running, frame: bytes) -> None:
    png = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    with stream(server) as socket:
        for data, part in (
            (b"", "Frame 0 is not a JPEG"),
            (png, "Frame 1 is not a JPEG"),
            (frame[:2000], "Frame 2 is a truncated or damaged JPEG"),
        ):
            answer = ask(socket, data)
            assert (answer["type"], answer["status"]) == ("problem", 422)
            assert part in answer["detail"]
        assert ask(socket, frame)["frame"] == 3
        for _ in range(30):
            ask(socket, b"x")
        assert ended(socket) == (1008, "30 frames in a row could not be read")


def test_only_frames_of_a_size_and_number(model: Path, frame: bytes) -> None:
    limits = Limits(frame_bytes=200_000, frame_pixels=100_000, frame_rate=5, idle_seconds=0.5)
    with serving(model, limits=limits) as running:
        with stream(running) as socket:
            assert "at most 0.1 million" in ask(socket, frame)["detail"]  # 512×512
            socket.send("text")
            assert ended(socket)[0] == 1003
        with stream(running) as socket:
            socket.send(bytes(200_001))
            assert ended(socket)[0] == 1009
        with stream(running) as socket:
            for _ in range(12):
                socket.send(b"x")
            code, reason = ended(socket)
            assert code == 1008
            assert reason.startswith("more than 5 frames a second")
        with stream(running) as socket:
            start = time.monotonic()
            assert ended(socket)[0] == 1001
            assert time.monotonic() - start < 5


def test_the_rate_lets_a_burst_through_and_refills() -> None:
    rate = _Rate(10)
    assert [rate.take() for _ in range(22)].count(True) in (20, 21)
    time.sleep(0.35)
    assert rate.take()


def test_streams_are_counted(model: Path) -> None:
    with serving(model, limits=Limits(streams=2)) as running:
        with stream(running), stream(running):
            with pytest.raises(InvalidStatus) as refused, stream(running):
                pass
            assert refused.value.response.status_code == 503
            document = json.loads(refused.value.response.body or b"")
            assert "2 streams are open" in document["detail"]
        assert eventually(lambda: not running.app.state.metrics.streams, 5)
        with stream(running):
            pass


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"additional_headers": {"Authorization": "Bearer wrong"}}, 401),
        ({"subprotocols": ["mien.v1", "token.wrong"]}, 401),
        ({}, 401),
    ],
)
def test_the_door(model: Path, options: dict[str, Any], status: int) -> None:
    with (
        serving(model, token=TOKEN) as running,
        pytest.raises(InvalidStatus) as refused,
        stream(running, **options),
    ):
        pass
    assert refused.value.response.status_code == status
    assert refused.value.response.headers["content-type"] == "application/problem+json"


def test_a_token_opens_it_both_ways(model: Path, frame: bytes) -> None:
    with serving(model, token=TOKEN) as running:
        own = f"http://127.0.0.1:{running.port}"
        with stream(running, subprotocols=["mien.v1", f"token.{TOKEN}"], origin=own) as socket:
            assert socket.subprotocol == "mien.v1"  # the token is not sent back
            assert ask(socket, frame)["type"] == "result"
        with stream(running, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
            assert ask(socket, frame)["type"] == "result"


def test_a_stopping_server_says_goodbye(model: Path, frame: bytes) -> None:
    with ExitStack() as inner:
        with serving(model) as running:
            socket = inner.enter_context(stream(running))
            assert ask(socket, frame)["type"] == "result"
        assert ended(socket)[0] == 1012
