"""Malformed requests by hypothesis, after the OpenAPI description: used by benchmarks/serve.py."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cv2
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

#: Fewer than the server's streams, so that a WebSocket is never refused for want of room.
THREADS = 6

#: Seconds after which a server that says nothing is taken to wait for the rest.
PATIENCE = 1.0

_TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
_LINE = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60
)
_OTHERS = ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "FOO"]
_METHODS = st.sampled_from(["POST"] * 12 + _OTHERS)
_KINDS = [
    "image/jpeg",
    "image/png",
    "application/octet-stream",
    "application/json",
    "text/plain",
    "multipart/form-data",
    "multipart/form-data; boundary=b",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=b; charset=utf-99",
    'multipart/form-data; boundary="b',
    "image/jpeg; x=\xff",
    "",
]


def _images() -> list[bytes]:
    """A small image in every format that mien reads, to be damaged."""
    image = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    suffixes = [".jpg", ".png", ".webp", ".bmp", ".tiff", ".ppm"]
    gif = b"GIF89a\x08\x00\x08\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x08\x00"
    gif += b"\x08\x00\x00\x02\x07\x84\x8f\xa9\xcb\xed\x0f\x63\x2b\x00;"
    return [*(cv2.imencode(s, image)[1].tobytes() for s in suffixes), gif]


@st.composite
def _damaged(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """One of ``whole``, with bytes changed, cut off or put in."""
    data = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(0, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.integers(0, 3)):
            case 0:
                data[at] = draw(st.integers(0, 255))
            case 1:
                del data[at:]
            case 2:
                data[at:at] = draw(st.binary(max_size=16))
            case 3:
                data[at : at + 4] = b"\xff\xff\xff\xff"
    return bytes(data)


@st.composite
def _multipart(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """Parts with odd dispositions around damaged images, cut off anywhere."""
    out = b""
    for _ in range(draw(st.integers(0, 20))):
        head = draw(
            st.sampled_from(
                [
                    'Content-Disposition: form-data; name="images"; filename="a.jpg"',
                    'Content-Disposition: form-data; name="images"',
                    "Content-Disposition: form-data; filename=a",
                    'Content-Disposition: form-data; name="i"; filename="../../etc/passwd"',
                    "content-disposition: form-data; name*=utf-8''%ff; filename*=utf-8''%00",
                    "X: y",
                    "",
                ]
            )
            | _LINE
        )
        body = draw(_damaged(whole) | st.binary(max_size=40))
        out += b"--b\r\n" + head.encode("latin-1") + b"\r\n\r\n" + body + b"\r\n"
    out += b"--b--\r\n"
    return out[: draw(st.integers(0, len(out)) | st.just(len(out)))]


@st.composite
def _request(draw: st.DrawFn, paths: list[str], whole: list[bytes]) -> bytes:
    """A request after the description, wrong in some way."""
    odd = _TOKEN.map(lambda t: f"/v1/{t}") | _LINE.map(_quote)
    path = draw(_mostly(st.sampled_from(["/v1/predict"] * len(paths) + paths), odd))
    query = draw(
        st.sampled_from(["", "faces=true", "faces=x", "min_confidence=0.5", "min_confidence=nan"])
        | st.tuples(_TOKEN, _LINE).map(lambda p: f"{p[0]}={_quote(p[1])}")
        | st.tuples(st.just("min_confidence"), st.floats()).map(lambda p: f"{p[0]}={p[1]}")
    )
    kind = draw(_mostly(st.sampled_from(_KINDS), _LINE))
    body = draw(_multipart(whole) | _damaged(whole) | st.binary(max_size=64))
    length = draw(st.sampled_from([str(len(body))] * 20 + ["", "-1", "x", "9" * 20, "5"]))
    lines = [f"{draw(_METHODS)} {path}{'?' + query if query else ''} HTTP/1.1"]
    lines += [draw(st.sampled_from(["Host: localhost"] * 30 + ["Host: evil", "Host: [", ""]))]
    lines += [f"Content-Type: {kind}", f"Content-Length: {length}" if length else "X-None: 1"]
    for name, value in draw(st.lists(st.tuples(_TOKEN, _LINE), max_size=3)):
        lines.append(f"{name}: {value}")
    lines += draw(
        st.sampled_from(
            [
                *[[]] * 12,
                ["Origin: null"],
                ["Transfer-Encoding: chunked"],
                ["Expect: 100-continue"],
                ["Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Version: 13"],
                ["Authorization: Bearer \xff"],
            ]
        )
    )
    return "\r\n".join(line for line in lines if line).encode("latin-1") + b"\r\n\r\n" + body


@st.composite
def _websocket(draw: st.DrawFn) -> bytes:
    """A good handshake and then frames that are none."""
    lines = ["GET /v1/stream HTTP/1.1", "Host: localhost", "Upgrade: websocket"]
    lines += ["Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    frames = draw(
        st.binary(max_size=60)
        | st.binary(max_size=40).map(lambda b: b"\x82" + bytes([128 | len(b)]) + bytes(4) + b)
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + frames


def _mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Four times of five the one, else the other."""
    return st.integers(0, 4).flatmap(lambda n: usual if n else odd)


def _quote(text: str) -> str:
    return "/" + "".join(c if c.isalnum() and c.isascii() else f"%{ord(c):02x}" for c in text)


def _status(port: int, data: bytes) -> str:
    """Send and read one answer; its status. "none": the server waits for the rest, or closed."""
    out, length = b"", None
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        try:
            connection.sendall(data)
            while length is None or len(out) < length:
                chunk = connection.recv(65536)
                if not chunk:
                    break
                out += chunk
                head, end, _ = out.partition(b"\r\n\r\n")
                if end:
                    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                    length = len(head) + 4 + (int(found[1]) if found else 0)
        except (TimeoutError, ConnectionResetError, BrokenPipeError):
            pass
    if b"Traceback" in out or b"site-packages" in out:
        return "traceback"
    line = out.split(b"\r\n", 1)[0].split()
    return line[1].decode("latin-1") if len(line) > 1 else "none"


def generate(count: int, paths: list[str], first: int) -> list[bytes]:
    """``count`` different requests by hypothesis; the same for the same seed ``first``."""
    whole = _images()
    good = _request(paths, whole)
    noise = _websocket() | st.binary(min_size=1, max_size=200) | _noise(good)
    anything = _mostly(good, noise)
    out: dict[bytes, None] = {}

    # Generation alone: there is nothing to shrink.
    @settings(
        max_examples=min(count, 1000),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(anything)
    def keep(data: bytes) -> None:
        out[data] = None

    while len(out) < count:
        first += 1
        seed(first)(keep)()
    return list(out)[:count]


def send_malformed(
    port: int, count: int, resident_mib: Callable[[], float], first: int = 0
) -> dict[str, Any]:
    """Send ``count`` requests; what was answered, and the server's memory along the way.

    Returns:
        "requests", "statuses", "server_errors" (answers from 500 on, busy ones too, and
        tracebacks), "resident_mib" (before, at each tenth, after) and "growth_mib": the last less
        the one after three tenths, when every path has been taken.
    """
    url = f"http://127.0.0.1:{port}/openapi.json"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    paths = [*json.load(opener.open(url))["paths"], "/", "/static/app.js", "/v1/stream"]
    requests = generate(count, paths, first)
    statuses: Counter[str] = Counter()
    memory = [resident_mib()]
    step = max(1, count // 10)
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, count, step):
            statuses.update(pool.map(partial(_status, port), requests[start : start + step]))
            memory.append(resident_mib())
    return {
        "requests": count,
        "statuses": dict(sorted(statuses.items())),
        "server_errors": sum(n for s, n in statuses.items() if s >= "5" and s != "none"),
        "resident_mib": memory,
        "growth_mib": round(memory[-1] - memory[min(3, len(memory) - 1)], 1),
    }


def _noise(requests: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """A request with one byte changed or its end cut off."""

    @st.composite
    def change(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(requests))
        at = draw(st.integers(0, len(data) - 1))
        if draw(st.booleans()):
            data[at] = draw(st.integers(0, 255))
        else:
            del data[at + 1 :]
        return bytes(data)

    return change()
