"""A request's body while it comes: its size, its pace, and what all bodies together hold."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from mien.web.problems import Problem, busy
from mien.web.settings import Limits

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope

#: A body has so many seconds of grace before its pace counts.
_GRACE_SECONDS = 5.0


class Desk:
    """What all requests share: the bodies that are held, and how many are worked on."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.working = 0
        self.bodies: set[Body] = set()

    def make_room(self) -> None:
        """Cut off the body that has kept most memory waiting for longest.

        Raises:
            Problem: there is no other body than the one that came just now.
        """
        now = time.monotonic()
        victim = max(self.bodies, key=lambda body: body.burden(now), default=None)
        if victim is None or victim.burden(now) == 0 or not victim.cut_short():
            raise busy("The server holds as many images as it can")

    @property
    def buffered(self) -> int:
        return sum(body.size for body in self.bodies)


class Body:
    """Counts a request's body as it comes; bounds its size, its pace and everybody's sum.

    A request counts as worked on only once its body is there, so that bodies that never end keep
    nobody else from being answered.
    """

    def __init__(self, desk: Desk, scope: Scope, receive: Receive, *, always: bool = False) -> None:
        self._desk = desk
        self._receive = receive
        self._always = always  # answered however busy the server is
        self._length = header(scope, b"content-length")
        self._working = False
        self._waiting: asyncio.Timeout | None = None
        self.size = 0
        bare = self._length in (None, "0") and not header(scope, b"transfer-encoding")
        self.done = bare  # whether all of it has come; what follows is the disconnect
        self._begun = self._last = time.monotonic()

    def check_declared(self) -> None:
        """Refuse a body that says it is too large before reading any of it."""
        if self._length is not None and self._length.isdecimal():
            self._check_size(int(self._length[:18]))

    def _check_size(self, size: int) -> None:
        most = self._desk.limits.body_bytes
        if size > most:
            raise Problem(
                413,
                f"The request is larger than {most / (1 << 20):g} MiB; send fewer or smaller "
                "images.",
            )

    def begin_work(self) -> None:
        """All of the request is there. Raises Problem where the server has enough to do."""
        desk = self._desk
        if desk.working >= desk.limits.requests and not self._always:
            raise busy("The server is working on as many requests as it takes")
        desk.working += 1
        self._working = True

    def burden(self, now: float) -> float:
        """Byte-seconds that an unfinished body has cost since its last piece."""
        return 0.0 if self.done else self.size * (now - self._last)

    def cut_short(self) -> bool:
        """End the wait for the next piece now; False where nothing waits for one."""
        if self._waiting is None:
            return False
        self._waiting.reschedule(asyncio.get_running_loop().time())
        self.size = 0
        return True

    def _patience(self) -> float:
        """Seconds for the next piece: a body must keep a pace, and end in ``body_seconds``."""
        limits = self._desk.limits
        allowed = min(limits.body_seconds, _GRACE_SECONDS + self.size / limits.body_rate)
        return max(0.0, self._begun + allowed - time.monotonic())

    async def receive(self) -> Message:
        if self.done:
            return await self._receive()
        try:
            async with asyncio.timeout(self._patience()) as self._waiting:
                message = await self._receive()
        except TimeoutError:
            raise Problem(408, "The request's body did not come in time; send it again.") from None
        finally:
            self._waiting = None
        if message["type"] != "http.request":
            self.done = True
            raise Problem(400, "The request's body ended early; send it again.")
        self._last = time.monotonic()
        self.size += len(message.get("body", b""))
        self._desk.bodies.add(self)
        self._check_size(self.size)
        while self._desk.buffered > self._desk.limits.buffered_bytes:
            self._desk.make_room()
        self.done = not message.get("more_body", False)
        if self.done:
            self.begin_work()
        return message

    async def drop(self, seconds: float) -> None:
        """Read what still comes and forget it, for so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.done:
                    message = await self._receive()
                    self.done = message["type"] != "http.request" or not message.get("more_body")

    def free(self) -> None:
        """The body is no longer held, and no longer worked on."""
        self._desk.bodies.discard(self)
        self._desk.working -= self._working
        self._working = False


def header(scope: Scope, name: bytes) -> str | None:
    """The first value of a header, lower-case ``name``; None where there is none."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None
