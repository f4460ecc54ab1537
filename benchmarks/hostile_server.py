"""Bombs against a running `mien serve` beside honest clients, and its memory over many requests."""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import numpy as np
from hostile_files import bombs, damage, write_bombs
from serve import Client, hammer, jpeg, portrait, serving

BOMBERS, HONEST = 16, 32


async def _bomb(port: int, number: int, stop: float) -> int:
    """One hostile client: bombs, bodies that never end, heads that never end, by turns."""
    sent = 0
    kinds = list(bombs().values())
    while time.perf_counter() < stop:
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            match (number + sent) % 4:
                case 0 | 1:
                    body = kinds[(number + sent) % len(kinds)]
                    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                    await asyncio.wait_for(reader.read(200), 20)
                case 2:
                    writer.write(
                        f"{head}Content-Length: 30000000\r\n\r\n".encode() + bytes(100_000)
                    )
                    for _ in range(30):
                        writer.write(b"x")
                        await writer.drain()
                        await asyncio.sleep(0.3)
                case 3:
                    writer.write(head.encode())
                    await asyncio.wait_for(reader.read(200), 12)
            writer.close()
        sent += 1
        await asyncio.sleep(0.02)
    return sent


async def _under_fire(port: int, body: bytes, seconds: float) -> tuple[dict[str, Any], int]:
    stop = time.perf_counter() + seconds
    bombers = [asyncio.create_task(_bomb(port, k, stop)) for k in range(BOMBERS)]
    honest = await hammer(port, body, HONEST, seconds)
    sent = sum(await asyncio.gather(*bombers))
    return honest, sent


def run_server(options: argparse.Namespace) -> dict[str, Any]:
    """The honest clients' errors and p95, quiet and under fire; then SIGTERM while bombs decode."""
    body = jpeg(portrait())
    write_bombs()
    with serving(None) as server:
        asyncio.run(hammer(server.port, body, 1, 1))
        quiet = asyncio.run(hammer(server.port, body, HONEST, min(20.0, options.seconds)))
        fire, sent = asyncio.run(_under_fire(server.port, body, options.seconds))
        ratio = fire["p95_ms"] / quiet["p95_ms"]
        memory = server.resident_mib()
    stopped = [_sigterm() for _ in range(3)]
    return {
        "quiet": quiet,
        "under_fire": fire,
        "bombs": sent,
        "p95_ratio": round(ratio, 2),
        "resident_mib": memory,
        "sigterm_seconds": [round(s, 2) for s in stopped],
        "met": not fire["errors"] and ratio <= 3 and max(stopped) <= 2,
    }


def _sigterm() -> float:
    """Seconds from SIGTERM to the end while two bombs are decoded."""
    bomb = list(bombs().values())[1]
    command = [sys.executable, "-m", "mien", "serve", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    port = int(process.stderr.readline().split("127.0.0.1:")[1].split("/")[0])
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    for client in clients:
        client.sendall(f"{head}Content-Length: {len(bomb)}\r\n\r\n".encode() + bomb)
    time.sleep(0.3)
    start = time.perf_counter()
    process.terminate()
    process.wait(60)
    for client in clients:
        client.close()
    return time.perf_counter() - start


def run_memory(options: argparse.Namespace) -> dict[str, Any]:
    """Resident memory over many mixed requests: right, damaged, and of several sizes."""
    good = [jpeg(np.ascontiguousarray(portrait()[::k, ::k])) for k in (1, 2, 4)]
    rng = np.random.default_rng(options.seed)
    marks: list[float] = []

    async def send(port: int, server: Any) -> None:
        for number in range(options.requests):
            body = good[number % 3]
            if number % 2:
                body = damage(rng, body)
            client = Client(port, body)
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                await asyncio.wait_for(client.post(), 20)
            client.close()
            if number % max(1, options.requests // 20) == 0:
                marks.append(server.resident_mib())

    with serving(None) as server:
        asyncio.run(send(server.port, server))
        marks.append(server.resident_mib())
    settled = marks[len(marks) // 4 :]
    growth = statistics.mean(settled[-3:]) - statistics.mean(settled[:3])
    return {
        "requests": options.requests,
        "resident_mib": marks,
        "growth_mib": round(growth, 1),
        "met": growth <= 5,
    }
