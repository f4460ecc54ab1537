"""What the server may be asked for: address, who may call, and every limit in one place."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from mien.errors import MienError

MIB = 1 << 20


class ServerError(MienError):
    """The server cannot be started as asked."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one client, and all together, can make the server do.

    Attributes:
        body_bytes: largest request body.
        buffered_bytes: bytes of bodies held at one time, all requests together.
        pixels: most pixels of an image, read from its header before anything is decoded.
        images: images in one request.
        requests: requests worked on or waiting at one time; more get 503 and ``Retry-After``.
        connections: open TCP connections.
        header_seconds: a request's head must have come within so many seconds.
        body_seconds: and its body within so many more.
        body_rate: after 5 seconds of grace, bytes a second that a body must come with.
        answer_seconds: a request is given up after so many seconds of waiting and work.
        streams: open WebSockets.
        frame_bytes: largest WebSocket message.
        frame_pixels: most pixels of a frame.
        frame_rate: frames a second that one WebSocket may send, over two seconds.
        idle_seconds: a WebSocket that sends no frame for so long is closed.
        send_seconds: and so is one that does not take its answers.
        drain_seconds: after SIGTERM, running requests have so long to finish.
    """

    body_bytes: int = 32 * MIB
    buffered_bytes: int = 128 * MIB
    pixels: int = 50_000_000
    images: int = 16
    requests: int = 64
    connections: int = 256
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    body_rate: int = 8 * 1024
    answer_seconds: float = 30.0
    streams: int = 8
    frame_bytes: int = 2 * MIB
    frame_pixels: int = 2_100_000
    frame_rate: int = 60
    idle_seconds: float = 60.0
    send_seconds: float = 10.0
    drain_seconds: float = 1.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            if (value := getattr(self, entry.name)) <= 0:
                raise ServerError(f"The limit {entry.name} is {value}; expected more than 0.")


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve.

    Attributes:
        host: a name or address of this machine to listen on.
        port: 0 takes a free one.
        token: what clients must show; needed beyond this machine.
        origins: pages of other sites that may call, e.g. "https://example.org".
        workers: threads that look at images; None takes one a core.
        limits: see :class:`Limits`.

    Raises:
        ServerError: a value out of range, an origin that is none, or an address that other
            machines reach without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    origins: tuple[str, ...] = ()
    workers: int | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ServerError(f"The port is {self.port}; expected 0 to 65535.")
        if self.workers is not None and self.workers < 1:
            raise ServerError(f"workers is {self.workers}; expected 1 or more.")
        object.__setattr__(self, "origins", tuple(parse_origins(self.origins)))
        if self.token is not None:
            check_token(self.token)
        elif not is_loopback(self.host):
            raise ServerError(
                f"{self.host!r} can be reached from other machines: give a token "
                "(--token-file; `--token auto` makes one), or listen on 127.0.0.1."
            )

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names by which the server may be called (``Host`` header, port left out).

        None means any: beyond this machine the token guards, not the name. On this machine a
        foreign name means that a web page has pointed its own name at 127.0.0.1.
        """
        if not is_loopback(self.host):
            return None
        named = {str(urlsplit(origin).hostname) for origin in self.origins}
        return frozenset({"localhost", "127.0.0.1", "::1", self.host.strip("[]"), *named})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``. A name other than localhost counts as not."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_token(token: str) -> None:
    """Raise ServerError unless ``token`` is 16 to 256 characters that fit into a header and URL."""
    if not re.fullmatch(r"[A-Za-z0-9._~-]{16,256}", token):
        raise ServerError(
            "The token must have 16 to 256 characters, letters, digits and . _ ~ - only; "
            "`--token auto` makes one."
        )


def read_token(path: Path) -> str:
    """The token that a file holds, blank space around it left out. Raises ServerError."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise ServerError(f"The token file {path} cannot be read: {reason}.") from None


def new_token() -> str:
    """A fresh token of 192 random bits."""
    return secrets.token_urlsafe(24)


def parse_origins(values: Iterable[str]) -> list[str]:
    """Each origin as browsers write it: scheme://host[:port], lower case, default port left out.

    Raises:
        ServerError: not an http(s) origin, or one with a path.
    """
    found = []
    for value in values:
        try:
            parts = urlsplit(value.strip())
            port, name = parts.port, parts.hostname
        except ValueError:
            parts, port, name = urlsplit(""), None, None
        rest = (parts.path.rstrip("/"), parts.query, parts.fragment, parts.username or "")
        if parts.scheme not in ("http", "https") or not name or any(rest):
            raise ServerError(
                f"{value!r} is not an origin; write it like https://example.org or "
                "http://localhost:3000."
            )
        shown = f"[{name}]" if ":" in name else name
        default = {"http": 80, "https": 443}[parts.scheme]
        tail = "" if port is None or port == default else f":{port}"
        found.append(f"{parts.scheme}://{shown}{tail}")
    return found
