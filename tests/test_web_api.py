"""The REST side over real sockets: answers, limits, who may call, and the stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("fastapi", reason="the extra [web] is not installed")

from helpers_onnx import make_onnx
from helpers_web import TOKEN, Running, eventually, serving

from mien import zoo
from mien._system import file_sha256
from mien.cli import main
from mien.emotions import FER2013
from mien.modelinfo import ModelInfo
from mien.pipeline import Analyzer
from mien.results import Result
from mien.sinks import columns
from mien.web import schemas
from mien.web.server import listen
from mien.web.settings import Limits, ServerError, Settings, parse_origins


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """With Nagle's algorithm on, a client alone waited 40 ms for every answer."""

    async def accepted() -> int:
        held: list[asyncio.StreamWriter] = []
        came = asyncio.Event()

        async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held.append(writer)
            came.set()

        listener = listen(Settings(port=0))
        port = listener.getsockname()[1]
        async with await asyncio.start_server(take, sock=listener):
            _, client = await asyncio.open_connection("127.0.0.1", port)
            await came.wait()
            peer: socket.socket = held[0].get_extra_info("socket")
            flag = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            held[0].close()
            client.close()
        return flag

    assert asyncio.run(accepted()) != 0


def problem(response: httpx.Response, status: int) -> str:
    """The sentence of a problem document that is all that it should be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document["title"]
    assert "Traceback" not in response.text
    assert "site-packages" not in response.text
    return str(document["detail"])


# ---- answers ----------------------------------------------------------------------------------


def test_one_image_gives_the_same_result_as_everywhere(
    client: httpx.Client, jpeg: bytes, model: Path
) -> None:
    answer = client.post("/v1/predict", content=jpeg, headers={"content-type": "image/jpeg"})
    assert answer.status_code == 200
    got = Result.from_dict(answer.json()["results"][0])
    wanted = Analyzer(model, threads=1).analyze(jpeg)
    assert got.to_dict() == wanted.to_dict()
    assert len(got.faces) == 1
    assert answer.json()["errors"] == []


def test_many_images_keep_their_order_and_a_bad_one_its_place(
    client: httpx.Client, jpeg: bytes, portrait: NDArray[np.uint8]
) -> None:
    empty = cv2.imencode(".png", portrait[300:])[1].tobytes()
    files = [
        ("images", ("a/b/one.jpg", jpeg)),
        ("images", ("notes.txt", b"no picture")),
        ("other", ("C:\\two\u202e.png", empty)),
    ]
    answer = client.post("/v1/predict", files=files)
    assert answer.status_code == 200
    one, none, two = answer.json()["results"]
    assert (one["source"], len(one["faces"])) == ("one.jpg", 1)
    assert none is None
    assert (two["source"], two["faces"]) == ("two.png", [])
    (error,) = answer.json()["errors"]
    assert (error["index"], error["source"]) == (1, "notes.txt")
    assert error["detail"].startswith("notes.txt is not an image")
    schemas.PredictSchema.model_validate(answer.json())


def test_options(client: httpx.Client, jpeg: bytes) -> None:
    headers = {"content-type": "application/octet-stream"}
    whole = client.post("/v1/predict?faces=true", content=jpeg, headers=headers).json()
    assert whole["results"][0]["detector"] == "none"
    assert whole["results"][0]["faces"][0]["box"] == {"x": 0, "y": 0, "width": 512, "height": 512}
    sure = client.post("/v1/predict?min_confidence=1", content=jpeg, headers=headers).json()
    assert sure["results"][0]["faces"] == []
    for query, part in (
        ("min_confidence=2", "'min_confidence'"),
        ("min_confidence=nan", "'min_confidence'"),
        ("faces=maybe", "'faces'"),
        ("face=true", "Unknown option 'face'; known: faces, min_confidence."),
    ):
        answer = client.post(f"/v1/predict?{query}", content=jpeg, headers=headers)
        assert part in problem(answer, 422)


@pytest.mark.parametrize(
    ("content", "headers", "status", "part"),
    [
        (b"", {"content-type": "image/jpeg"}, 422, "no image"),
        (b"hello", {"content-type": "image/jpeg"}, 422, "The upload is not an image"),
        (b"{}", {"content-type": "application/json"}, 415, "no path, no URL and no JSON"),
        (b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 415, "multipart/form-data"),
        (b"x", {"content-type": "multipart/form-data"}, 400, "damaged"),
        (b"x", {"content-type": "multipart/form-data; boundary=b"}, 400, "damaged"),
        (b"--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}, 422, "no image"),
        (
            b'--b\r\ncontent-disposition: form-data; name="a"; filename="a"\r\n\r\nx\r\n--b--\r\n',
            {"content-type": "multipart/form-data; boundary=b; charset=undefined"},
            400,
            "damaged",
        ),
        (
            b'--b\r\ncontent-disposition: form-data; name="image"\r\n\r\n/etc/passwd\r\n--b--\r\n',
            {"content-type": "multipart/form-data; boundary=b"},
            422,
            "attach images as files",
        ),
    ],
)
def test_bad_bodies(
    client: httpx.Client, content: bytes, headers: dict[str, str], status: int, part: str
) -> None:
    assert part in problem(client.post("/v1/predict", content=content, headers=headers), status)


def test_all_bad_is_a_problem_that_lists_each(client: httpx.Client) -> None:
    files = [("images", ("a.jpg", b"a")), ("images", ("b.jpg", b"b"))]
    answer = client.post("/v1/predict", files=files)
    assert problem(answer, 422).endswith("(and 1 more)")
    assert [e["source"] for e in answer.json()["errors"]] == ["a.jpg", "b.jpg"]


def test_unknown_addresses_and_methods(client: httpx.Client) -> None:
    assert "/openapi.json" in problem(client.get("/v1/nothing"), 404)
    assert "/openapi.json" in problem(client.get("/static/../app.py"), 404)
    problem(client.get("/static/%2e%2e%2fapp.py"), 404)
    answer = client.get("/v1/predict")
    problem(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_what_can_be_read_has_a_head(client: httpx.Client) -> None:
    for address in ("/", "/healthz", "/metrics", "/v1/models", "/openapi.json"):
        answer, whole = client.head(address), client.get(address)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"] == whole.headers["content-type"]
        assert int(answer.headers["content-length"]) > 0
    problem(client.delete("/healthz"), 405)
    methods = [way for ways in client.get("/openapi.json").json()["paths"].values() for way in ways]
    assert sorted(methods) == ["get", "get", "get", "post"]


def test_models_health_and_metrics(client: httpx.Client, jpeg: bytes) -> None:
    models = schemas.ModelsSchema.model_validate(client.get("/v1/models").json())
    assert [m.name for m in models.models if m.loaded] == ["tiny"]
    assert "mien_distilled" in [m.name for m in models.models]
    schemas.HealthSchema.model_validate(client.get("/healthz").json())
    client.post("/v1/predict", content=jpeg, headers={"content-type": "image/jpeg"})
    predicted = 'mien_requests_total{method="POST",route="/v1/predict",status="200"}'
    assert eventually(lambda: predicted in client.get("/metrics").text)
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values[predicted]) >= 1
    assert float(values["mien_faces_total"]) >= 1
    assert float(values["process_resident_memory_bytes"]) > 1e7
    count = float(values["mien_analysis_seconds_count"])
    assert float(values['mien_analysis_seconds_bucket{le="+Inf"}']) == count >= 1
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(families) == len(set(families))


def test_an_own_model_with_a_shipped_name_is_not_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ModelInfo(zoo.DEFAULT, FER2013, 48, channels=1, mean=0.5, std=0.25)
    own = make_onnx(tmp_path / "own.onnx", metadata=record.to_metadata())
    with serving(own) as running, running.client() as client:
        # Asking reads no file: what is not there any more is not missed.
        monkeypatch.setattr(zoo, "model_path", lambda name: pytest.fail("read again"))
        own_sha256 = file_sha256(own)
        own.unlink()
        models = schemas.ModelsSchema.model_validate(client.get("/v1/models").json()).models
    first, *others = models
    shipped = next(m for m in others if m.name == zoo.DEFAULT)
    assert (first.name, first.loaded, first.sha256) == (zoo.DEFAULT, True, own_sha256)
    assert first.description == ""
    entry = zoo.MODELS[zoo.DEFAULT]
    assert (shipped.name, shipped.loaded, shipped.sha256) == (zoo.DEFAULT, False, entry.sha256)
    assert shipped.description == entry.description


def test_openapi_describes_what_there_is(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {"/v1/predict", "/v1/models", "/healthz", "/metrics"}
    post = document["paths"]["/v1/predict"]["post"]
    assert {"multipart/form-data", "image/jpeg"} <= set(post["requestBody"]["content"])
    example = post["responses"]["200"]["content"]["application/json"]["example"]
    schemas.PredictSchema.model_validate(example)
    Result.from_dict(example["results"][0])
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"]


# ---- the page's files -------------------------------------------------------------------------


def test_the_page_asks_nobody_else(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    files = ["/"] + [f"/static/{n}" for n in ("app.js", "style.css", "icon.svg", "facts.js")]
    for name in files:
        answer = client.get(name)
        assert answer.status_code == 200, name
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, name
        assert "innerHTML" not in text, name
        again = client.get(name, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    facts = client.get("/static/facts.js").text
    assert json.dumps(columns()) in facts
    assert json.dumps(columns(video=True)) in facts


def test_every_answer_carries_the_policy(client: httpx.Client) -> None:
    for answer in (
        client.get("/"),
        client.get("/nothing"),
        client.post("/v1/predict", json={}),
        client.get("/", headers={"host": "evil.example"}),
    ):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers


# ---- who may call -----------------------------------------------------------------------------


def test_foreign_names_and_origins_are_refused(client: httpx.Client, server: Running) -> None:
    assert "localhost" in problem(client.get("/", headers={"host": "evil.example"}), 421)
    problem(client.get("/healthz", headers={"host": "127.0.0.1.evil.example"}), 421)
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{server.port + 1}", "x"):
        problem(client.post("/v1/predict", content=b"", headers={"origin": origin}), 403)
    own = {"origin": server.url.rstrip("/")}
    assert client.get("/v1/models", headers=own).status_code == 200


def test_a_chosen_origin_may_call(model: Path) -> None:
    with (
        serving(model, origins=("https://Friend.example:443/",)) as running,
        running.client() as client,
    ):
        friend = {"origin": "https://friend.example"}
        answer = client.get("/v1/models", headers=friend)
        assert answer.headers["access-control-allow-origin"] == "https://friend.example"
        assert answer.headers["vary"] == "Origin"
        asked = {**friend, "access-control-request-method": "POST"}
        preflight = client.options("/v1/predict", headers=asked)
        assert preflight.status_code == 204
        assert "authorization" in preflight.headers["access-control-allow-headers"]
        other = {"origin": "https://evil.example"}
        answer = client.get("/v1/models", headers=other)
        problem(answer, 403)
        assert "access-control-allow-origin" not in answer.headers


def test_a_token_is_wanted_where_there_is_one(model: Path, jpeg: bytes) -> None:
    with serving(model, token=TOKEN) as running, running.client() as client:
        for path in ("/v1/models", "/metrics"):
            answer = client.get(path)
            problem(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        for wrong in ("Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \xff"):
            headers = {"authorization": wrong.encode("latin-1")}
            problem(client.get("/v1/models", headers=headers), 401)
        right = {"authorization": f"Bearer {TOKEN}", "content-type": "image/jpeg"}
        assert client.post("/v1/predict", content=jpeg, headers=right).status_code == 200
        for path in ("/", "/static/app.js", "/healthz", "/openapi.json"):
            assert client.get(path).status_code == 200
        document = client.get("/openapi.json").json()
        assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
        assert document["paths"]["/v1/predict"]["post"]["security"] == [{"token": []}]
        assert "security" not in document["paths"]["/healthz"]["get"]


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"host": "0.0.0.0"}, "can be reached from other machines: give a token"),
        ({"host": "::"}, "--token"),
        ({"host": "my-machine"}, "--token"),
        ({"host": "192.168.0.7"}, "--token"),
        ({"host": "0.0.0.0", "token": "short"}, "16 to 256 characters"),
        ({"token": "with spaces in the middle"}, "16 to 256 characters"),
        ({"port": 70000}, "0 to 65535"),
        ({"workers": 0}, "1 or more"),
        ({"origins": ("example.org",)}, "is not an origin"),
        ({"origins": ("https://example.org/page",)}, "is not an origin"),
        ({"origins": ("https://[::1",)}, "is not an origin"),
    ],
)
def test_settings_that_are_refused(values: dict[str, Any], part: str) -> None:
    with pytest.raises(ServerError, match=part.split("(")[0]) as caught:
        Settings(**values)
    assert str(caught.value).count("\n") == 0


def test_addresses_of_this_machine_need_no_token() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "[::1]", "127.8.9.1"):
        assert Settings(host=host).hosts
    assert Settings(host="0.0.0.0", token=TOKEN).hosts is None
    assert parse_origins(["HTTP://[::1]:80"]) == ["http://[::1]"]
    with pytest.raises(ServerError, match="frame_rate"):
        Limits(frame_rate=0)


# ---- limits -----------------------------------------------------------------------------------


def png_that_declares(width: int, height: int) -> bytes:
    """A whole PNG but for its size: a few bytes that would be gigabytes of pixels."""
    small = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    head = struct.pack(">II", width, height) + small[24:29]
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return small[:16] + head + crc + small[33:]


def test_size_count_and_pixels(model: Path, jpeg: bytes) -> None:
    limits = Limits(body_bytes=200_000, images=3, pixels=100_000)
    with serving(model, limits=limits) as running, running.client() as client:
        raw = {"content-type": "image/jpeg"}
        answer = client.post("/v1/predict", content=bytes(200_001), headers=raw)
        assert "larger than 0.19" in problem(answer, 413)

        def drip() -> Iterator[bytes]:  # chunked: no length is declared
            for _ in range(100):
                yield bytes(10_000)

        problem(client.post("/v1/predict", content=drip(), headers=raw), 413)
        huge = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n"
        assert b" 413 " in talk(running.port, huge)
        files = [("images", ("a.jpg", b"x"))] * 4
        assert "more than 3 images" in problem(client.post("/v1/predict", files=files), 413)
        answer = client.post("/v1/predict", content=png_that_declares(50_000, 50_000), headers=raw)
        assert "declares 50,000×50,000 pixels" in problem(answer, 422)
        answer = client.post("/v1/predict", content=jpeg, headers=raw)  # 512×512
        assert "at most 0.1 million" in problem(answer, 422)


def test_a_busy_server_says_so_and_recovers(model: Path, jpeg: bytes) -> None:
    limits = Limits(requests=2)
    raw = {"content-type": "image/jpeg"}
    with serving(model, limits=limits) as running:
        hold = threading.Event()
        workers = running.app.state.workers
        looks = workers.look

        async def slow(*args: Any, **options: Any) -> Any:
            while not hold.is_set():
                await asyncio.sleep(0.01)
            return await looks(*args, **options)

        workers.look = slow
        answers: list[httpx.Response] = []

        def ask() -> None:
            with running.client() as client:
                answers.append(client.post("/v1/predict", content=jpeg, headers=raw))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: len(answers) == 2)
        with running.client() as client:
            assert client.get("/healthz").status_code == 200
            assert client.get("/metrics").status_code == 200
            refused = client.get("/v1/models")
        problem(refused, 503)
        assert refused.headers["retry-after"] == "1"
        hold.set()
        for thread in threads:
            thread.join(10)
        assert sorted(a.status_code for a in answers) == [200, 200, 503, 503]
        with running.client() as client:
            alone = "mien_active_requests 1.0\n"
            assert eventually(lambda: alone in client.get("/metrics").text)
            assert client.get("/v1/models").status_code == 200


def test_all_bodies_together_are_bounded(model: Path) -> None:
    with (
        serving(model, limits=Limits(buffered_bytes=50_000)) as running,
        running.client() as client,
    ):
        raw = {"content-type": "image/jpeg"}
        problem(client.post("/v1/predict", content=bytes(60_000), headers=raw), 503)
        problem(client.post("/v1/predict", content=bytes(40_000), headers=raw), 422)
        problem(client.post("/v1/predict", content=bytes(40_000), headers=raw), 422)  # given back


def talk(port: int, data: bytes, seconds: float = 5.0) -> bytes:
    """Send raw bytes and read until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        out = b""
        with suppress(ConnectionResetError, BrokenPipeError):  # it closed before all was sent
            connection.sendall(data)
            while chunk := connection.recv(65536):
                out += chunk
        return out


def test_the_slow_are_not_waited_for(model: Path) -> None:
    limits = Limits(header_seconds=0.3, body_seconds=0.3)
    with serving(model, limits=limits) as running:
        start = time.monotonic()
        head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
        assert b"408" in talk(running.port, head)
        assert b"408" in talk(running.port, b"")
        body = head + b"Content-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\nabc"
        answer = talk(running.port, body)
        assert b"408" in answer.split(b"\r\n", 1)[0]
        assert b"did not come in time" in answer
        assert time.monotonic() - start < 5
        # A connection that is used again may not dawdle either.
        with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.recv(65536)
            connection.sendall(b"GET /he")
            rest = b""
            while chunk := connection.recv(65536):
                rest += chunk
            assert b" 408 " in rest


def test_a_client_that_goes_away_is_no_failure_of_the_server(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(model) as running:
        head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc"
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(head)
            time.sleep(0.2)
        metrics = running.app.state.metrics
        labels = {"route": "/v1/predict", "method": "POST", "status": "400"}
        assert eventually(lambda: metrics.value("mien_requests_total", **labels) == 1, 5)
        assert 'status="500"' not in metrics.render().decode()
        assert caplog.text == ""


def test_connections_are_bounded(model: Path) -> None:
    with serving(model, limits=Limits(connections=3)) as running:
        held = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(3)]
        time.sleep(0.2)
        answer = talk(running.port, b"")
        assert b" 503 " in answer
        assert b"application/problem+json" in answer
        for connection in held:
            connection.close()
        time.sleep(0.2)
        with running.client() as client:
            assert client.get("/healthz").status_code == 200


def test_what_is_no_http_gets_a_problem_document(server: Running) -> None:
    for data in (b"\x16\x03\x01\x02\x00", b"hello\r\n\r\n", b"\0" * 100):
        answer = talk(server.port, data)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request")
        assert b"application/problem+json" in answer
    long = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n"
    answer = talk(server.port, long)
    assert not answer or b" 400 " in answer


def test_an_unforeseen_error_shows_no_trace_of_itself(
    model: Path, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(model) as running, running.client() as client:

        async def broken(*args: Any, **options: Any) -> Any:
            raise RuntimeError("secret detail")

        running.app.state.workers.look = broken
        answer = client.post("/v1/predict", content=jpeg, headers={"content-type": "image/jpeg"})
        problem(answer, 500)
        assert "secret" not in answer.text
        assert "secret detail" in caplog.text  # for the person who runs it
        assert "JFIF" not in caplog.text


# ---- privacy ----------------------------------------------------------------------------------


def test_the_log_holds_no_image_and_no_name(
    client: httpx.Client, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="mien.web"):
        client.post("/v1/predict?faces=true", files=[("images", ("private-name.jpg", jpeg))])
        client.get("/private-path")
        assert eventually(lambda: "POST /v1/predict 200" in caplog.text)
        assert eventually(lambda: "GET other 404" in caplog.text)
    assert "private" not in caplog.text
    assert max(len(record.getMessage()) for record in caplog.records) < 100


def test_no_file_and_no_address_is_opened_for_a_client(model: Path, tmp_path: Path) -> None:
    """Python's own audit events, while paths, URLs and 4 MB of images are sent."""
    script = """
        import asyncio, sys
        import httpx
        from mien.web.app import create_app
        from mien.web.settings import Settings
        app = create_app(Settings(workers=1), model=sys.argv[1])
        watch, seen = [], []
        def hook(event, args):
            if watch and event in ("open", "socket.connect", "socket.getaddrinfo", "os.listdir",
                                   "subprocess.Popen", "tempfile.mkstemp", "urllib.Request"):
                seen.append((event, str(args[0])))
        sys.addaudithook(hook)
        async def run():
            transport = httpx.ASGITransport(app)
            base = "http://localhost"
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                raw = {"content-type": "image/jpeg"}
                await client.post("/v1/predict", content=b"warm", headers=raw)
                await client.post("/v1/predict", files={"images": ("w", b"warm")})
                watch.append(True)
                for text in ("/etc/passwd", "http://127.0.0.1:9/a.jpg", "file:///etc/passwd", "-",
                             sys.argv[1]):
                    for answer in (
                        await client.post("/v1/predict", content=text.encode(), headers=raw),
                        await client.post("/v1/predict", files={"images": (text, text.encode())}),
                        await client.post("/v1/predict", data={"images": text}),
                        await client.post("/v1/predict", json={"url": text}),
                    ):
                        assert answer.status_code in (415, 422), answer.text
                big = {"images": ("big.bin", bytes(4_000_000))}
                assert (await client.post("/v1/predict", files=big)).status_code == 422
                watch.clear()
        asyncio.run(run())
        # Reading the clock's or the memory's state is no client's doing.
        print([s for s in seen if s[1] != "/proc/self/statm"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(model)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# ---- the program ------------------------------------------------------------------------------


def drain(model: Path, jpeg: bytes) -> float:
    """Seconds from SIGTERM to the end of a server with three requests running."""
    command = [sys.executable, "-m", "mien", "serve", "--port", "0", "--model", str(model)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split("mien is at ")[1].split()[0]
        client = httpx.Client(base_url=url, trust_env=False, timeout=20)
        files = [("images", (f"{i}.jpg", jpeg)) for i in range(3)]
        answers: list[int] = []

        def ask() -> None:
            answers.append(client.post("/v1/predict", files=files).status_code)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        while not answers and "mien_active_requests 4" not in client.get("/metrics").text:
            time.sleep(0.005)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(10)
        seconds = time.monotonic() - start
        for thread in threads:
            thread.join(10)
        with pytest.raises(httpx.ConnectError):
            client.get("/healthz")
        assert (code, answers) == (0, [200, 200, 200])
        assert process.stderr.read() == ""
        return seconds
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()


def test_sigterm_finishes_what_runs_and_leaves(model: Path, jpeg: bytes) -> None:
    # Two seconds, and more where other programs hold the processors.
    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    times = []
    for _ in range(3):
        times.append(drain(model, jpeg))
        if times[-1] < 2 * crowd:
            return
    pytest.fail(f"the server took {times} s to stop")


def test_what_takes_too_long_is_cut_off_with_an_answer(model: Path, jpeg: bytes) -> None:
    answers: list[httpx.Response] = []
    with serving(model, limits=Limits(drain_seconds=1)) as running:

        async def endless(*args: Any, **options: Any) -> Any:
            await asyncio.sleep(60)

        running.app.state.workers.look = endless

        def ask() -> None:
            with running.client() as client:
                raw = {"content-type": "image/jpeg"}
                answers.append(client.post("/v1/predict", content=jpeg, headers=raw))

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.3)
        start = time.monotonic()
    thread.join(10)
    assert time.monotonic() - start < 5
    assert "stopping" in problem(answers[0], 503)


def test_mistakes_on_the_command_line(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, part in (
        (["--port", str(server.port)], f"Port {server.port} on 127.0.0.1 is in use"),
        (["--host", "0.0.0.0"], "can be reached from other machines"),
        (["--host", "203.0.113.9", "--token", TOKEN], "cannot be used"),
        (["--port", "0", "--model", "mien_distiled"], "did you mean 'mien_distilled'?"),
        (["--port", "0", "--origin", "nowhere"], "is not an origin"),
        (["--port", "0", "--detector", "yunett"], "Unknown detector"),
    ):
        assert main(["serve", *arguments]) == 2
        error = capsys.readouterr().err
        assert part in error
        assert error.splitlines()[-1].startswith("error: ")
        assert len([x for x in error.splitlines() if not x.startswith("warning: ")]) == 1


def test_photos_are_looked_at_closely_and_frames_quickly(
    client: httpx.Client, server: Running, portrait: NDArray[np.uint8], model: Path
) -> None:
    """A face of 3 % of the long side, which the setting for videos leaves out."""
    little = np.full((1800, 2400, 3), 120, np.uint8)
    face = cv2.resize(portrait[20:220, 130:330], (100, 100), interpolation=cv2.INTER_AREA)
    little[800:900, 1100:1200] = face
    photo = cv2.imencode(".png", little)[1].tobytes()
    wanted = Analyzer(model, threads=1).analyze(photo)
    assert len(wanted.faces) == 1
    answer = client.post("/v1/predict", content=photo, headers={"content-type": "image/png"})
    (got,) = answer.json()["results"]
    assert got["faces"] == wanted.to_dict()["faces"]
    pair = server.app.state.workers._analyzers[0]
    assert pair.video.analyze(little, color="bgr").faces == ()
    assert pair.video.classifier is pair.photo.classifier
