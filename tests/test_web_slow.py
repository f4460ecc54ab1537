"""Clients that do not read what they asked for: they lose their place, and the log stays quiet."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra [web] is not installed")

from helpers_web import Running, eventually, serving, serving_app

from mien.web import server as web_server
from mien.web.guard import Guard
from mien.web.metrics import Metrics
from mien.web.settings import Limits, Settings

GET = b"GET /static/%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"


@pytest.fixture(autouse=True)
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "LINGER_SECONDS", 0.2)


@pytest.fixture
def held() -> Iterator[Callable[[Running, bytes], None]]:
    """Opens a connection that sends and never reads."""
    with ExitStack() as stack:

        def hold(running: Running, data: bytes) -> None:
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(("127.0.0.1", running.port))
            client.sendall(data)

        yield hold


def answered(running: Running, seconds: float = 10) -> bool:
    """Whether the server takes a new connection within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", running.port), timeout=2) as client,
        ):
            client.sendall(GET % (b"small", b"Connection: close\r\n"))
            if client.recv(60).startswith(b"HTTP/1.1 200"):
                return True
        time.sleep(0.1)
    return False


async def sizes(scope: Any, receive: Any, send: Any) -> None:
    """Answers with as many bytes as the path says; in halves where it says so."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    size = {"large": 400_000, "medium": 40_000, "half": 100}.get(scope["path"][8:], 10)
    head = [(b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    if scope["path"].endswith("half"):
        await send({"type": "http.response.body", "body": bytes(50), "more_body": True})
        await asyncio.sleep(60)
    await send({"type": "http.response.body", "body": bytes(size)})


def door(limits: Limits, metrics: Metrics) -> tuple[Guard, Settings]:
    settings = Settings(port=0, limits=limits)
    return Guard(sizes, settings, metrics), settings


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(GET % (b"large", b"") * 20, id="answers pile up"),
        pytest.param(GET % (b"medium", b""), id="no request follows"),
        pytest.param(GET % (b"medium", b"Connection: close\r\n"), id="the last answer"),
        pytest.param(GET % (b"large", b"") + b"nonsense\r\n\r\n", id="nonsense behind one"),
        pytest.param(GET % (b"medium", b"") + GET[:10], id="half a request behind one"),
    ],
)
def test_who_does_not_read_loses_the_place(
    data: bytes,
    held: Callable[[Running, bytes], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = Limits(connections=2, answer_seconds=0.5, body_seconds=0.5, header_seconds=0.5)
    metrics = Metrics("0", "m")
    app, settings = door(limits, metrics)
    with serving_app(app, settings, keep_alive=0.3, small_buffer=True) as running:
        assert answered(running)
        for _ in range(2):
            held(running, data)
        time.sleep(0.2)
        assert answered(running)
        assert eventually(lambda: metrics.active == 0, 5)
    assert caplog.text == ""


def test_half_an_answer_is_broken_off_without_a_trace_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, settings = door(Limits(answer_seconds=0.3, body_seconds=0.3), Metrics("0", "m"))
    with (
        serving_app(app, settings) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=10) as client,
    ):
        client.sendall(GET % (b"half", b""))
        got = b""
        with suppress(ConnectionResetError):
            while chunk := client.recv(65536):
                got += chunk
        assert got.endswith(bytes(50))
        assert answered(running)
    assert caplog.text == ""


def test_a_stop_in_the_middle_of_an_answer_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    app, settings = door(Limits(drain_seconds=1), Metrics("0", "m"))
    with (
        socket.socket() as client,
        serving_app(app, settings) as running,
    ):
        client.connect(("127.0.0.1", running.port))
        client.sendall(GET % (b"half", b""))
        assert client.recv(100)
    assert "Traceback" not in caplog.text


def test_a_page_file_asked_for_again_and_again_blocks_nobody(
    model: Path, held: Callable[[Running, bytes], None]
) -> None:
    """With the real application: no answer is large, but many fill any buffer."""
    limits = Limits(connections=2, answer_seconds=0.5, header_seconds=0.5)
    with serving(model, limits=limits) as running:
        for _ in range(2):
            held(running, GET % (b"app.js", b"") * 400)
        time.sleep(0.2)
        with running.client() as client:
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline:
                with suppress(Exception):
                    if client.get("/healthz").status_code == 200:
                        return
                time.sleep(0.2)
    pytest.fail("the server never took another connection")


def test_a_stream_whose_answers_are_not_taken_ends(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(streams=1, send_seconds=0.5)
    head = (
        b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with serving(model, limits=limits) as running, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", running.port))
        client.settimeout(5)
        client.sendall(head)
        assert client.recv(100).startswith(b"HTTP/1.1 101 ")
        streams = running.app.state.metrics
        assert streams.streams == 1
        ping = b"\x89\xfd\x00\x00\x00\x00" + bytes(125)
        with suppress(OSError):  # each is answered at once, and nobody reads the answers
            for _ in range(60):
                client.sendall(ping * 1000)
        assert eventually(lambda: streams.streams == 0)
    assert caplog.text == ""
