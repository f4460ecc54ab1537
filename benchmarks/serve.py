"""How `mien serve` holds up: load, latency, malformed requests, the webcam loop. Loopback only.

    python benchmarks/serve.py load --clients 32 --seconds 60
    python benchmarks/serve.py malformed --requests 10000
    python benchmarks/serve.py page --seconds 20          # needs playwright and Chromium
    python benchmarks/serve.py all --out results/serve.json

Each starts a server of its own. Server, clients and browser share this machine's cores. The photo
is scikit-image's public-domain portrait at 640×480. Exit code 1: a target was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from malformed import send_malformed
from numpy.typing import NDArray
from skimage import data as skimage_data

from mien._system import processor, versions
from mien.atomic import write_text
from mien.classify import available_cores

#: What the issue asks for: key -> (limit, "max" or "min").
TARGETS = {
    "idle_p50_ms": (15.0, "max"),
    "load_errors": (0, "max"),
    "malformed_server_errors": (0, "max"),
    "malformed_growth_mib": (16.0, "max"),
    "page_frames_per_s": (25.0, "min"),
}


@dataclass(frozen=True)
class Server:
    """A running `mien serve`."""

    port: int
    pid: int

    def resident_mib(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


@contextmanager
def serving(model: str | None) -> Iterator[Server]:
    """Start `mien serve` on a free port; stop it by SIGTERM."""
    command = [sys.executable, "-m", "mien", "serve", "--port", "0"]
    command += ["--model", model] if model else []
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        if "http://127.0.0.1:" not in line:
            raise SystemExit(f"the server did not start: {line}{process.stderr.read()}")
        yield Server(int(line.split("127.0.0.1:")[1].split("/")[0]), process.pid)
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
    if errors:
        print(f"the server complained:\n{errors}", file=sys.stderr)


def portrait() -> NDArray[np.uint8]:
    """640×480 BGR with one face of a webcam's usual size."""
    rgb = skimage_data.astronaut()[:384]
    return np.ascontiguousarray(cv2.resize(rgb, (640, 480))[:, :, ::-1])


def jpeg(image: NDArray[np.uint8], quality: int = 90) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


class Client:
    """The least that speaks HTTP, so that the clients take little of the cores they share."""

    def __init__(self, port: int, body: bytes) -> None:
        head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self) -> tuple[int, bytes]:
        """Send the photo; the status and the body of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        body = await reader.readexactly(length)
        if "connection: close" in head:
            self.close()
        return int(head.split()[1]), body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def hammer(port: int, body: bytes, clients: int, seconds: float) -> dict[str, Any]:
    """``clients`` send the photo one after another, each as fast as it is answered."""
    statuses: Counter[str] = Counter()
    times: list[float] = []
    stop = time.perf_counter() + seconds

    async def one() -> None:
        client = Client(port, body)
        while time.perf_counter() < stop:
            start = time.perf_counter()
            try:
                status, answer = await asyncio.wait_for(client.post(), 30)
                good = status == 200 and len(json.loads(answer)["results"][0]["faces"]) == 1
                statuses[str(status) if good or status != 200 else "wrong answer"] += 1
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                statuses[type(error).__name__] += 1
                client.close()
            times.append((time.perf_counter() - start) * 1e3)
        client.close()

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    took = time.perf_counter() - start
    cuts = statistics.quantiles(times, n=100)
    return {
        "clients": clients,
        "seconds": round(took, 1),
        "requests": len(times),
        "statuses": dict(statuses),
        "errors": len(times) - statuses["200"],
        "images_per_s": round(len(times) / took, 1),
        "p50_ms": round(cuts[49], 2),
        "p95_ms": round(cuts[94], 2),
        "max_ms": round(max(times), 1),
    }


def run_load(options: argparse.Namespace) -> dict[str, Any]:
    """Latency of one client on an idle server, then all clients at once."""
    body = jpeg(portrait())
    with serving(options.model) as server:
        asyncio.run(hammer(server.port, body, 1, min(2.0, options.seconds)))  # warm
        idle = asyncio.run(hammer(server.port, body, 1, min(10.0, options.seconds)))
        before = server.resident_mib()
        load = asyncio.run(hammer(server.port, body, options.clients, options.seconds))
        memory = {"before": before, "after": server.resident_mib()}
    return {"photo_bytes": len(body), "idle": idle, "load": load, "resident_mib": memory}


def run_malformed(options: argparse.Namespace) -> dict[str, Any]:
    """Malformed requests one after another: no 500, and the memory stays where it is."""
    good = jpeg(portrait())
    with serving(options.model) as server:
        first = asyncio.run(Client(server.port, good).post())
        start = time.perf_counter()
        report = send_malformed(server.port, options.requests, server.resident_mib, options.seed)
        report["seconds"] = round(time.perf_counter() - start, 1)
        last = asyncio.run(Client(server.port, good).post())
        report["same_answer_after"] = first == last and last[0] == 200
    return report


def run_page(options: argparse.Namespace) -> dict[str, Any]:
    """The page in Chromium with a video as its webcam: frames answered a second, and how late."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with serving(options.model) as server, tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "webcam.mjpeg"
        video.write_bytes(jpeg(portrait()) * 30)
        arguments = ["--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream"]
        arguments += ["--use-fake-device-for-media-stream"]
        arguments += [f"--use-file-for-fake-video-capture={video}"]
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=arguments)
            page = browser.new_page(viewport={"width": 1100, "height": 900})
            page.goto(f"http://127.0.0.1:{server.port}/?camera")
            page.locator("#overlay rect.box").wait_for(timeout=30_000)
            page.wait_for_timeout(3000)
            rates, lates = [], []
            for _ in range(max(2, round(options.seconds))):
                page.wait_for_timeout(1000)
                rates.append(float(page.locator("#rate").inner_text()))
                lates.append(float(page.locator("#latency").inner_text().split()[0]))
            word = page.locator("#overlay text.word").text_content()
            version = browser.version
            browser.close()
    return {
        "frames_per_s": statistics.median(rates),
        "least_frames_per_s": min(rates),
        "latency_ms": statistics.median(lates),
        "seconds": len(rates),
        "word": word,
        "chromium": version,
    }


def summary(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Each target that was measured, with its figure."""
    values: dict[str, float] = {}
    if "load" in report:
        values["idle_p50_ms"] = report["load"]["idle"]["p50_ms"]
        values["load_errors"] = report["load"]["load"]["errors"]
    if "malformed" in report:
        values["malformed_server_errors"] = report["malformed"]["server_errors"]
        values["malformed_growth_mib"] = report["malformed"]["growth_mib"]
    if "page" in report:
        values["page_frames_per_s"] = report["page"]["frames_per_s"]
    rows = []
    for key, value in values.items():
        limit, kind = TARGETS[key]
        met = value <= limit if kind == "max" else value >= limit
        rows.append({"name": key, "value": value, "target": limit, "met": met})
    return rows


def main() -> int:
    """Measure what was asked for; JSON on standard output, or into --out, which it adds to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["load", "malformed", "page", "all"])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load, and of the page")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="a shipped model's name or an .onnx file")
    parser.add_argument("--out", type=Path, help="JSON file; sections not measured now are kept")
    options = parser.parse_args()
    report: dict[str, Any] = {}
    if options.out and options.out.exists():
        report = json.loads(options.out.read_text(encoding="utf-8"))
    load_before = round(os.getloadavg()[0], 2)
    parts = {"load": run_load, "malformed": run_malformed, "page": run_page}
    for name, run in parts.items():
        if options.what in (name, "all"):
            command = "python benchmarks/serve.py " + " ".join(sys.argv[1:])
            report[name] = {**run(options), "load_average_before": load_before, "command": command}
    report["summary"] = summary(report)
    report["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    report["system"] = {
        "processor": processor(),
        "cores": available_cores(),
        "python": sys.version.split()[0],
        **versions(("fastapi", "uvicorn", "onnxruntime", "numpy")),
    }
    text = json.dumps(report, indent=1) + "\n"
    if options.out:
        write_text(options.out, text)
    else:
        sys.stdout.write(text)
    return 0 if all(row["met"] for row in report["summary"]) else 1


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        raise SystemExit(main())
