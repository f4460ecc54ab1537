"""``/v1/stream``: JPEG frames in, results out. The newest frame wins; nothing is queued.

Every binary message is one JPEG frame. While one is looked at, only the newest of those that
follow is kept; the others count as dropped. Answers are JSON text messages:

- ``hello`` once, with the model, the labels and the limits;
- ``result`` for a frame: ``frame`` (its number, from 0), ``dropped`` (so far), ``milliseconds``
  (from its arrival to this answer) and ``result`` (``mien.Result``, its faces tracked and smoothed
  over this stream);
- ``problem`` for a frame that cannot be read, as an RFC 9457 document with ``frame``.

A client paces itself by its answers: two frames on the way keep the server busy. Close codes:
1001 no frame for a minute, 1003 a text message, 1008 too fast or too many bad frames, 1009 a
message too large, 1012 the server stops.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from mien.errors import ImageError
from mien.images import read_image
from mien.pipeline import Analyzer
from mien.results import Result
from mien.track import Smoother, Tracker
from mien.web.problems import Problem
from mien.web.settings import Limits, Settings
from mien.web.work import Workers

if TYPE_CHECKING:
    from mien.web.metrics import Metrics

#: The subprotocol; a token travels beside it as ``token.…``.
SUBPROTOCOL = "mien.v1"

#: So many bad frames in a row end a stream.
_PATIENCE = 30


@dataclass(frozen=True, slots=True)
class _Frame:
    number: int
    data: bytes
    arrived: float


class _Ended(Exception):  # noqa: N818 - a stream may end well
    """Close the stream with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class _Rate:
    """A bucket of two seconds' worth of frames."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = 2.0 * per_second
        self._last = time.monotonic()

    def take(self) -> bool:
        now = time.monotonic()
        fresh = (now - self._last) * self._per_second
        self._left = min(2.0 * self._per_second, self._left + fresh) - 1
        self._last = now
        return self._left >= 0


async def serve_stream(
    websocket: WebSocket, workers: Workers, metrics: Metrics, settings: Settings
) -> None:
    """Serve one WebSocket until it ends."""
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
    stream = _Stream(websocket, workers, metrics, settings.limits)
    code, reason = 1000, ""
    try:
        await stream.run()
    except _Ended as ended:
        code, reason = ended.code, ended.reason
    except (WebSocketDisconnect, ConnectionError):
        return
    if websocket.application_state is WebSocketState.CONNECTED:
        with suppress(RuntimeError, ConnectionError, WebSocketDisconnect):  # it went first
            await websocket.close(code, reason)


class _Stream:
    """One connection: a reader that keeps the newest frame, and a worker that takes it."""

    def __init__(
        self, websocket: WebSocket, workers: Workers, metrics: Metrics, limits: Limits
    ) -> None:
        self._socket = websocket
        self._workers = workers
        self._metrics = metrics
        self._limits = limits
        self._newest: _Frame | None = None
        self._ready = asyncio.Event()
        self._dropped = 0
        self._bad = 0
        self._tracker, self._smoother = Tracker(), Smoother()

    async def run(self) -> None:
        """Until one side ends; the other is cancelled."""
        await self._send(self._hello())
        tasks = {asyncio.create_task(self._read()), asyncio.create_task(self._work())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        rate = _Rate(self._limits.frame_rate)
        number = 0
        while True:
            try:
                async with asyncio.timeout(self._limits.idle_seconds):
                    message = await self._socket.receive()
            except TimeoutError:
                raise _Ended(1001, "no frame came for a while; connect again") from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            data = message.get("bytes")
            if data is None:
                raise _Ended(1003, "send each frame as a binary message: one JPEG")
            if len(data) > self._limits.frame_bytes:  # a server without a limit of its own
                raise _Ended(1009, "the frame is too large")
            if not rate.take():
                most = self._limits.frame_rate
                raise _Ended(1008, f"more than {most} frames a second; wait for the answers")
            if self._newest is not None:
                self._dropped += 1
                self._metrics.frames.labels("dropped").inc()
            self._newest = _Frame(number, data, time.monotonic())
            self._ready.set()
            number += 1

    async def _work(self) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            frame, self._newest = self._newest, None
            if frame is not None:
                await self._answer(frame)

    async def _answer(self, frame: _Frame) -> None:
        try:
            result = await self._workers.run(lambda analyzers: self._look(analyzers.video, frame))
        except ImageError as error:
            self._bad += 1
            self._metrics.frames.labels("refused").inc()
            problem = Problem(422, str(error)).document()
            await self._send({**problem, "type": "problem", "frame": frame.number})
            if self._bad >= _PATIENCE:
                raise _Ended(1008, f"{_PATIENCE} frames in a row could not be read") from None
            return
        self._bad = 0
        seconds = time.monotonic() - frame.arrived
        self._metrics.frames.labels("read").inc()
        self._metrics.faces.inc(len(result.faces))
        self._metrics.frame_seconds.observe(seconds)
        answer = {
            "type": "result",
            "frame": frame.number,
            "dropped": self._dropped,
            "milliseconds": round(seconds * 1e3, 2),
            "result": result.to_dict(),
        }
        await self._send(answer)

    def _look(self, analyzer: Analyzer, frame: _Frame) -> Result:
        """In a worker's thread. One frame of a stream at a time, in order."""
        name = f"Frame {frame.number}"
        if not frame.data.startswith(b"\xff\xd8\xff"):
            raise ImageError(f"{name} is not a JPEG.")
        image = read_image(frame.data, name=name, max_pixels=self._limits.frame_pixels)
        result = analyzer.analyze(image, color="bgr")
        tracked = self._tracker.update(result.faces, frame.arrived)
        return replace(result, faces=self._smoother.update(tracked, frame.arrived))

    def _hello(self) -> dict[str, Any]:
        limits, info = self._limits, self._workers.info
        told = ("frame_bytes", "frame_pixels", "frame_rate")
        return {
            "type": "hello",
            "model": info.name,
            "labels": [label.value for label in info.labels],
            "limits": {name: getattr(limits, name) for name in told},
        }

    async def _send(self, value: dict[str, Any]) -> None:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        try:
            async with asyncio.timeout(self._limits.send_seconds):
                await self._socket.send_text(text)
        except TimeoutError:
            raise _Ended(1008, "the answers were not taken") from None
