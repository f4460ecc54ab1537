"""A real server in a thread, on a free loopback port."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from mien.web.app import create_app
from mien.web.server import Server, address_of, listen, make_config
from mien.web.settings import Limits, Settings

TOKEN = "a-token-of-enough-length"


def eventually(condition: Callable[[], object], seconds: float = 10) -> bool:
    """Whether ``condition`` comes to hold within ``seconds``.

    The server counts and logs a request after its answer has left, so a client may ask sooner.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@dataclass(frozen=True)
class Running:
    """A server that answers: where, and its application."""

    url: str
    port: int
    app: FastAPI

    def client(self, **options: object) -> httpx.Client:
        # No proxy of the environment: only this server is spoken to.
        return httpx.Client(base_url=self.url, trust_env=False, timeout=20, **options)  # type: ignore[arg-type]


@contextmanager
def serving(
    model: str | Path,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    origins: tuple[str, ...] = (),
    workers: int = 1,
) -> Iterator[Running]:
    """Serve ``model`` until the block ends."""
    settings = Settings(
        port=0, token=token, origins=origins, workers=workers, limits=limits or Limits()
    )
    with serving_app(create_app(settings, model=model), settings) as running:
        yield running


@contextmanager
def serving_app(
    app: Any, settings: Settings, keep_alive: float = 5, small_buffer: bool = False
) -> Iterator[Running]:
    """Serve any ASGI application as ``mien serve`` does, until the block ends."""
    listener = listen(settings)
    if small_buffer:  # of the kernel, so that a client that does not read is noticed soon
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    started = threading.Event()
    config = make_config(app, settings.limits)
    config.timeout_keep_alive = keep_alive  # type: ignore[assignment]
    server = Server(config, started.set)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        assert started.wait(20)
        yield Running(address_of(listener, settings), listener.getsockname()[1], app)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
    assert not thread.is_alive()
