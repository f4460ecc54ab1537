"""Clients that mean harm: heads that two servers read differently, bodies that never end, sockets
that are never read. Each honest client is answered meanwhile."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra [web] is not installed")

from helpers_web import Running, eventually, serving
from typer.testing import CliRunner

from mien.cli import main
from mien.web import server as web_server
from mien.web.guard import CUT_OFF, SECURITY_HEADERS, Guard
from mien.web.log import OncePerMinute
from mien.web.metrics import Metrics
from mien.web.settings import Limits, ServerError, Settings, read_token

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
)


def talk(port: int, data: bytes, seconds: float = 5.0) -> bytes:
    """Send raw bytes and read until the server closes."""
    out = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection,
        suppress(ConnectionResetError, BrokenPipeError),
    ):
        connection.sendall(data)
        while chunk := connection.recv(65536):
            out += chunk
    return out


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(
            POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            id="two lengths",
        ),
        pytest.param(b"GET /healthz HTTP/1.1\nHost: localhost\n\n", 400, id="bare line feeds"),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n", 400, id="one line feed"
        ),
        pytest.param(b"\n" + HEALTH + b"\r\n", 400, id="a line feed before"),
        pytest.param(HEALTH + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431, id="a long head at once"),
        pytest.param(
            HEALTH + b"".join(b"X-%d: a\r\n" % k for k in range(4000)) + b"\r\n",
            431,
            id="many fields",
        ),
    ],
)
def test_an_ambiguous_or_endless_head_is_refused_and_the_connection_closed(
    server: Running, data: bytes, status: int
) -> None:
    answer = talk(server.port, data + HEALTH + b"\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert int(answer.split()[1]) in (status, 400)
    for name, value in SECURITY_HEADERS:
        assert name + b": " + value in answer


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(UPGRADE + b"\r\n", id="no key"),
        pytest.param(UPGRADE + b"Sec-WebSocket-Key: short\r\n\r\n", id="a bad key"),
        pytest.param(
            UPGRADE.replace(b"localhost", b"example.org") + b"Sec-WebSocket-Key: "
            b"dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            id="another name",
        ),
    ],
)
def test_a_refused_websocket_carries_the_headers(server: Running, head: bytes) -> None:
    answer = talk(server.port, head)
    assert answer.split()[1] != b"101"
    for name, value in SECURITY_HEADERS:
        assert (name + b": " + value).lower() in answer.lower()


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def asked(
    app: Any, state: dict[str, Any] | None = None, settings: Settings | None = None, **scope: Any
) -> list[dict[str, Any]]:
    """What the guard answers to one request without a server."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": scope.get("first", "http.request"), "body": b"", "more_body": False}

    whole = {
        "type": "http",
        "method": "GET",
        "path": "/healthz",
        "headers": [(b"host", b"localhost")],
    }
    guard = Guard(app, settings or Settings(), Metrics("1", "m"))
    asyncio.run(guard({**whole, "state": state or {}, **scope}, receive, send))
    return sent


def test_half_an_answer_is_cut_off() -> None:
    """What failed after its beginning must not look whole; what was whole already is left alone."""
    start = {"type": "http.response.start", "status": 200, "headers": []}

    def fails(more: bool) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(dict(start))
            await send({"type": "http.response.body", "body": b"half", "more_body": more})
            raise OSError

        return app

    with pytest.raises(ConnectionAbortedError):
        asked(fails(True))
    cut: list[bool] = []
    assert asked(fails(True), {CUT_OFF: lambda: cut.append(True)})[-1]["more_body"]
    assert cut == [True]
    assert len(asked(fails(False), {CUT_OFF: lambda: cut.append(True)})) == 2
    assert cut == [True]


def test_only_options_with_its_header_is_a_preflight() -> None:
    """Anything else goes on to the application, and past the token."""
    reached: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["method"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    host, wants = (b"host", b"localhost"), (b"access-control-request-method", b"POST")
    for method, headers in (
        ("GET", [host, wants]),
        ("OPTIONS", [host]),
        ("OPTIONS", [host, wants]),
    ):
        asked(app, method=method, headers=headers)
    assert reached == ["GET", "OPTIONS"]
    token = Settings(token="x" * 32)
    for method, headers in (("GET", [host, wants]), ("OPTIONS", [host, wants])):
        answer = asked(app, settings=token, method=method, headers=headers, path="/v1/models")
        assert answer[0]["status"] == 401
    assert reached == ["GET", "OPTIONS"]


def test_a_websocket_is_checked_as_a_request_is() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    more = {"type": "websocket", "path": "/v1/stream", "first": "websocket.connect"}
    assert [m["type"] for m in asked(app, **more)] == ["websocket.accept"]
    elsewhere = [(b"host", b"localhost"), (b"origin", b"http://evil.example")]
    refused = asked(app, headers=elsewhere, **more)
    assert refused[0]["status"] == 403
    assert set(SECURITY_HEADERS) <= set(refused[0]["headers"])


def test_bodies_that_never_end_starve_nobody(model: Path, jpeg: bytes, crowd: ExitStack) -> None:
    limits = Limits(connections=40, requests=4)
    with serving(model, limits=limits) as running:
        for _ in range(60):
            with suppress(OSError):
                client = crowd.enter_context(socket.create_connection(("127.0.0.1", running.port)))
                client.sendall(POST + b"Content-Length: 900000\r\n\r\nabc")
        time.sleep(web_server.SPARED_SECONDS + 0.2)
        for _ in range(5):
            with running.client() as client:
                assert client.get("/healthz").status_code == 200
                head = {"content-type": "image/jpeg"}
                assert client.post("/v1/predict", content=jpeg, headers=head).status_code == 200


def test_what_others_hold_is_given_up_for_who_comes_on(model: Path, crowd: ExitStack) -> None:
    with serving(model, limits=Limits(buffered_bytes=200_000)) as running:
        held = [
            crowd.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=5))
            for _ in range(3)
        ]
        for client in held:
            client.sendall(POST + b"Content-Length: 900000\r\n\r\n" + bytes(60_000))
        time.sleep(0.3)
        head = {"content-type": "image/jpeg"}
        with running.client() as honest:
            answer = honest.post("/v1/predict", content=bytes(100_000), headers=head)
        assert answer.status_code == 422, answer.text  # read to its end: it is no image
        assert b" 408 " in b"".join(client.recv(300) for client in held[:1])


def test_a_body_must_keep_a_pace(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.web.body._GRACE_SECONDS", 0.5)
    with serving(model) as running:
        start = time.monotonic()
        with socket.create_connection(("127.0.0.1", running.port), timeout=5) as client:
            client.sendall(POST + b"Content-Length: 900000\r\n\r\n")
            with suppress(OSError):
                while time.monotonic() - start < 4:
                    client.sendall(b"x")
                    client.settimeout(0.1)
                    with suppress(TimeoutError):
                        if client.recv(100):
                            break
        assert 0.4 < time.monotonic() - start < 3


def test_a_socket_that_is_never_read_is_closed_soon(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server, "PING_SECONDS", 0.4)
    assert 2 * 5.0 + web_server.CLOSING_SECONDS <= 12  # the real value, twice, and the goodbye
    with serving(model) as running, socket.socket() as client:
        client.connect(("127.0.0.1", running.port))
        client.sendall(UPGRADE + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        metrics = running.app.state.metrics
        assert eventually(lambda: metrics.streams == 1)
        start = time.monotonic()
        assert eventually(lambda: metrics.streams == 0, 5)
        assert time.monotonic() - start < 2


def test_a_line_of_a_kind_is_logged_once_a_minute_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("mien.web.log.time.monotonic", lambda: now[0])
    logger = logging.getLogger("mien.web.some")
    caplog.handler.addFilter(once := OncePerMinute())
    try:
        for k in range(50):
            logger.warning("a client did %d", k)
        logger.warning("another kind")
        now[0] += 61
        logger.warning("a client did %d", 99)
    finally:
        caplog.handler.removeFilter(once)
    assert [record.getMessage() for record in caplog.records] == [
        "a client did 0",
        "another kind",
        "a client did 99 (and 49 more of this kind)",
    ]


# ---- the token --------------------------------------------------------------------------------


def test_a_token_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a-token-of-enough-letters\n")
    assert read_token(path) == "a-token-of-enough-letters"
    path.write_text("short")
    with pytest.raises(ServerError, match="16 to 256"):
        Settings(token=read_token(path))
    path.write_bytes(b"\xff\xfe" * 20)
    with pytest.raises(ServerError, match=r"token cannot be read|holds no token"):
        read_token(path)
    with pytest.raises(ServerError, match="cannot be read"):
        read_token(tmp_path / "none")


def test_an_empty_token_is_not_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A secret that was not mounted must not open the server."""
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for given in (["--token-file", str(empty)], ["--token", ""]):
        assert main(["serve", *given]) == 2
        assert "The token must have 16 to 256 characters" in capsys.readouterr().err


def test_a_token_on_the_command_line_is_warned_of_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.cli import app_of
    from mien.cli.serve import start_line

    app = app_of("serve")
    seen: list[Settings] = []
    monkeypatch.setattr("mien.cli.serve.start", lambda settings, **_: seen.append(settings))
    told = CliRunner().invoke(app, ["--token", "a-token-of-enough-letters"])
    assert told.exit_code == 0
    assert "every user of this machine" in told.stderr
    assert "a-token-of" not in told.stderr
    file = tmp_path / "token"
    file.write_text("another-token-of-letters")
    assert CliRunner().invoke(app, ["--token-file", str(file)]).stderr == ""
    monkeypatch.setenv("MIEN_TOKEN", "a-third-token-of-letters")
    assert CliRunner().invoke(app, []).stderr == ""
    tokens = ["a-token-of-enough-letters", "another-token-of-letters", "a-third-token-of-letters"]
    assert [s.token for s in seen] == tokens
    both = CliRunner().invoke(app, ["--token", "auto", "--token-file", str(file)])
    assert both.exit_code == 2
    # A generated token is shown, since nobody would know it; one that was given is not.
    url = "http://127.0.0.1:1/"
    assert start_line(url, Settings(token=tokens[0]), made=False) == url
    assert start_line(url, Settings(token=tokens[0]), made=True) == f"{url}#token={tokens[0]}"


# ---- bombs ------------------------------------------------------------------------------------


def progressive_bomb(scans: int) -> bytes:
    """A JPEG whose last scan comes again and again."""
    out = BytesIO()
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2000, 2000, 3)).astype(np.uint8)
    Image.fromarray(image).save(out, "JPEG", progressive=True, quality=10)
    data = out.getvalue()
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + b"\xff\xd9"


def test_a_bomb_is_refused_soon_and_others_are_answered_meanwhile(model: Path, jpeg: bytes) -> None:
    bomb, raw = progressive_bomb(40), {"content-type": "image/jpeg"}
    with serving(model, workers=2) as running:
        statuses: list[int] = []

        def throw() -> None:
            with running.client() as client:
                for _ in range(3):
                    answer = client.post("/v1/predict", content=bomb, headers=raw, timeout=60)
                    statuses.append(answer.status_code)

        threads = [threading.Thread(target=throw) for _ in range(2)]
        for thread in threads:
            thread.start()
        with running.client() as client:
            for _ in range(10):
                answer = client.post("/v1/predict", content=jpeg, headers=raw, timeout=60)
                assert answer.status_code == 200
        for thread in threads:
            thread.join(120)
        assert set(statuses) <= {200, 422}


def test_sigterm_ends_the_server_whatever_it_decodes(model: Path) -> None:
    """An image is being decoded: its worker is killed and the process leaves."""
    command = [sys.executable, "-m", "mien", "serve", "--port", "0", "--model", str(model)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        port = int(process.stderr.readline().split("127.0.0.1:")[1].split("/")[0])
        bomb = progressive_bomb(8)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(bomb) + bomb)
            time.sleep(0.1)
            start = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert time.monotonic() - start < 10  # 2 s on an idle machine: benchmarks/hostile.py
    finally:
        process.kill()
