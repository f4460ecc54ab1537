"""Runs the application in this process: its own socket, bounded connections, a quick stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import uvicorn
from h11 import RemoteProtocolError
from h11._receivebuffer import ReceiveBuffer  # no public hook sees a head's raw lines
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from mien.web.guard import CUT_OFF, HEAD_BYTES, SECURITY_HEADERS
from mien.web.problems import Problem, busy
from mien.web.settings import Limits, ServerError, Settings

if TYPE_CHECKING:
    from h11 import Request
    from starlette.types import ASGIApp

#: What a closed connection's client has not taken after so many seconds is thrown away. Closing
#: alone waits for ever for a client that does not read, and its place is taken meanwhile.
LINGER_SECONDS = 5.0

#: A WebSocket is asked for a sign of life so often, and has as long to answer: who does not read
#: does not answer, however large the buffers on the way are.
PING_SECONDS = 5.0

#: After the server's goodbye a client has so many seconds to answer it.
CLOSING_SECONDS = 1.0

#: Where all places are taken, the connection whose client has owed something for longest gives its
#: own up, if that is at least so many seconds.
SPARED_SECONDS = 0.5


def listen(settings: Settings) -> socket.socket:
    """A bound, listening socket. Raises ServerError."""
    host, port = settings.host.strip("[]"), settings.port
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise ServerError(f"{settings.host!r} is no address of this machine.") from None
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it every answer
    # would wait 40 ms for the acknowledgement of its head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":  # there it would let two programs share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(settings.limits.connections)
    except OSError as error:
        listener.close()
        if isinstance(error, PermissionError):
            why = "is reserved for the system; choose one from 1024"
        elif error.errno is not None and "in use" in (error.strerror or ""):
            why = "is in use; choose another with --port, or --port 0 for a free one"
        else:
            why = f"cannot be used: {error.strerror or error}"
        raise ServerError(f"Port {port} on {host} {why}.") from None
    return listener


def address_of(listener: socket.socket, settings: Settings) -> str:
    """The URL under which this machine's browser reaches the server, with its last slash."""
    host, port = settings.host.strip("[]"), listener.getsockname()[1]
    if host in ("0.0.0.0", "::", ""):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def run(
    app: ASGIApp,
    settings: Settings,
    listener: socket.socket,
    *,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what runs, within ``limits.drain_seconds``.

    ``app`` was made with these ``settings``; ``listener`` is from :func:`listen` and closed at the
    end; ``started`` is called once the server answers.
    """
    server = Server(make_config(app, settings.limits), started)
    try:
        asyncio.run(server.serve([listener]))
    finally:
        listener.close()


def make_config(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    """uvicorn's settings: no access log, no headers of its own, no trust in proxies' headers."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    # One warning for each damaged form would let any client fill the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    return uvicorn.Config(
        app,
        http=_with(_Protocol, limits),
        ws=_with(_SocketProtocol, limits),
        ws_max_size=limits.frame_bytes,
        ws_per_message_deflate=False,  # a JPEG gains nothing, and nothing can be inflated
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=max(1, round(limits.drain_seconds)),
        h11_max_incomplete_event_size=HEAD_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
    )


class Server(uvicorn.Server):
    """Ends without raising the signal again, so that the program exits with 0."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self.handle_exit(number, frame)

        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


P = TypeVar("P", bound="_Bounded")


def _with(protocol: type[P], limits: Limits) -> type[P]:
    return type(protocol.__name__, (protocol,), {"bounds": limits})


class _Bounded(asyncio.Protocol):
    """For a client that does not read: its connection is cut off after a time."""

    bounds: Limits
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _stalled: asyncio.TimerHandle | None = None

    @property
    def patience(self) -> float:
        """Seconds for which answers may be held up."""
        return self.bounds.answer_seconds

    def pause_writing(self) -> None:
        super().pause_writing()
        self._go_on()
        self._stalled = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        self._go_on()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        super().connection_lost(exc)

    def _go_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _abort_later(self) -> None:
        """The transport closes; end it though its client never takes what is left."""
        if self.transport.get_write_buffer_size():
            self.loop.call_later(LINGER_SECONDS, self.transport.abort)


class _StrictLines(ReceiveBuffer):
    """h11 takes a bare line feed for a line's end, where a server on the way may not."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        before = bytes(self)
        lines = super().maybe_extract_lines()
        head = before[: len(before) - len(self)]
        if head.count(b"\n") != head.count(b"\r\n"):
            raise RemoteProtocolError("a line ends without a carriage return")
        return lines


class _Protocol(_Bounded, H11Protocol):
    """uvicorn's HTTP with a bound on connections and on the time a request's head may take."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn._receive_buffer = _StrictLines()
        self._owed_since = self.loop.time()
        self._head_timer: asyncio.TimerHandle | None = None
        # uvicorn puts this into every request's scope, as "state".
        self.app_state = {**self.app_state, CUT_OFF: self._cut_off}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) <= self.bounds.connections or self._make_room():
            self._await_head()
        else:
            self._close_with(busy("The server has as many connections as it takes"))

    def _make_room(self) -> bool:
        """Cut off the client that has owed the rest of its request, or a new one, for longest."""
        owing = [c for c in self.connections if isinstance(c, _Protocol) and c._owes()]
        oldest = min(owing, key=lambda c: c._owed_since)
        if self.loop.time() - oldest._owed_since < SPARED_SECONDS:
            return False
        oldest.transport.abort()
        return True

    def _owes(self) -> bool:
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()
        else:
            self._head_came()

    def on_response_complete(self) -> None:
        self._owed_since = self.loop.time()
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_later()

    def handle_websocket_upgrade(self, event: Request) -> None:
        self._head_came()
        self._go_on()
        if self.flow.write_paused:  # which the WebSocket would not be told
            self.transport.abort()
            return
        super().handle_websocket_upgrade(event)
        # From here on the transport speaks to another protocol; data_received must not arm again.
        self._await_head = lambda: None  # type: ignore[method-assign]

    def send_400_response(self, msg: str) -> None:
        self._close_with(Problem(400, "This is not a valid HTTP request."))

    def _await_head(self) -> None:
        if self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self.bounds.header_seconds, self._too_slow)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self._close_with(Problem(408, "The request's head did not come in time."))

    def _close_with(self, problem: Problem) -> None:
        """Answer outside of any request and close."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # an answer is on its way already
            self._abort_later()
            return
        head = f"HTTP/1.1 {problem.status} {problem.title}\r\n".encode()
        headers = [*problem.asgi_headers(), *SECURITY_HEADERS, (b"connection", b"close")]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(head + lines + b"\r\n" + problem.body())
        self.transport.close()
        self._abort_later()

    def _cut_off(self) -> None:
        """Break off in the middle of an answer, and let uvicorn expect no more of it."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.abort()


class _SocketProtocol(_Bounded, WebSocketsSansIOProtocol):
    """uvicorn's WebSocket; one whose client takes no answers ends."""

    @property
    def patience(self) -> float:
        return self.bounds.send_seconds

    def handle_connect(self, event: Any) -> None:
        send = self.conn.send_response

        def with_headers(response: Any) -> None:
            """The library's own refusals carry the headers too."""
            if response.status_code != 101:
                for name, value in SECURITY_HEADERS:
                    response.headers.setdefault(name.decode(), value.decode())
            send(response)

        self.conn.send_response = with_headers  # type: ignore[method-assign]
        super().handle_connect(event)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if self.writable.is_set():
            self.loop.call_later(CLOSING_SECONDS, self.transport.abort)
        else:
            self.transport.abort()
