"""A real server in a thread, on a free loopback port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi import FastAPI

from mien.web.app import create_app
from mien.web.server import Server, address_of, listen, make_config
from mien.web.settings import Limits, Settings

TOKEN = "a-token-of-enough-length"


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
    listener = listen(settings)
    app = create_app(settings, model=model)
    started = threading.Event()
    server = Server(make_config(app, settings.limits), started.set)
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
