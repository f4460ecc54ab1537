"""The door: who may call, how much they may send, how long they may take, and what every answer
carries. Pure ASGI around the application, for HTTP and WebSocket alike."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mien.web.body import Body, Desk, header
from mien.web.problems import Problem, busy
from mien.web.settings import Settings, parse_origins

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mien.web.metrics import Metrics

logger = logging.getLogger("mien.web")

#: What the page may load: its own files, images it made itself, and this server.
PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

#: What every answer carries.
SECURITY_HEADERS = (
    (b"content-security-policy", PAGE_CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=(), display-capture=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

#: Reached without a token: the page holds nothing, and a probe must be able to ask for health.
_OPEN = ("/", "/healthz", "/openapi.json")

#: Answered however busy the server is.
_ALWAYS_ANSWERED = ("/healthz", "/metrics")

_ROUTES = frozenset(
    ("/", "/healthz", "/metrics", "/openapi.json", "/v1/predict", "/v1/models", "/v1/stream")
)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"))

#: In a scope's ``state``, where the server has it: breaks the connection off at once.
CUT_OFF = "mien.cut_off"

#: After a refusal the rest of the body is read and dropped for so long, so that the client reads
#: the answer instead of a broken connection.
_LINGER_SECONDS = 2.0

#: Largest head of a request: what h11 allows where the head comes in pieces.
HEAD_BYTES = 16 * 1024


class Guard:
    """ASGI middleware; see the module. ``settings.limits`` holds every bound."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self.settings = settings
        self.limits = settings.limits
        self.metrics = metrics
        self._hosts = settings.hosts
        self._desk = Desk(self.limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        answer = _Answer(scope, send, self._headers_for(scope))
        body = Body(self._desk, scope, receive, always=route_path(scope) in _ALWAYS_ANSWERED)
        self.metrics.active += 1
        try:
            self._check(scope)
            if preflight := self._preflight(scope):
                await answer.send_all(204, preflight)
                return
            body.check_declared()
            if body.done:
                body.begin_work()
            patience = self.limits.body_seconds + self.limits.answer_seconds
            async with asyncio.timeout(patience):
                await self.app(scope, body.receive, answer.send)
        except Problem as problem:
            await self._refuse(problem, answer, body)
        except TimeoutError:
            await self._refuse(busy("The server did not get to it in time"), answer, body)
        except asyncio.CancelledError:  # SIGTERM, and the time to drain is over
            await self._refuse(busy("The server is stopping"), answer, None)
        except Exception:
            logger.exception("%s %s failed", scope["method"], _route(scope))
            failure = Problem(500, "Something went wrong in the server; its log says what.")
            await self._refuse(failure, answer, body)
        finally:
            self.metrics.active -= 1
            body.free()
            method = scope["method"] if scope["method"] in _METHODS else "other"
            seconds = time.perf_counter() - start
            self.metrics.request(_route(scope), method, answer.status, seconds)
            logger.info("%s %s %d %.1f ms", method, _route(scope), answer.status, seconds * 1e3)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check(scope)
            if self.metrics.streams >= self.limits.streams:
                raise busy(f"{self.limits.streams} streams are open, and no more are served")
        except Problem as problem:
            logger.info("WebSocket %s %d", _route(scope), problem.status)
            await receive()  # websocket.connect
            headers = [*problem.asgi_headers(), *SECURITY_HEADERS]
            kind = "websocket.http.response"
            await send({"type": f"{kind}.start", "status": problem.status, "headers": headers})
            await send({"type": f"{kind}.body", "body": problem.body()})
            return
        self.metrics.streams += 1
        try:
            await self.app(scope, receive, send)
        except Problem as problem:
            logger.warning("WebSocket ended: %s", problem.detail)
        except Exception:
            logger.exception("WebSocket %s failed", _route(scope))
        finally:
            self.metrics.streams -= 1

    def _check(self, scope: Scope) -> None:
        """Raise Problem unless this caller may ask this now."""
        _check_head(scope)
        host = header(scope, b"host") or ""
        if self._hosts is not None and _hostname(host) not in self._hosts:
            raise Problem(
                421, "This server answers to the name localhost only; open it under that name."
            )
        origin = header(scope, b"origin")
        if origin is not None and not self._origin_allowed(origin, host):
            raise Problem(
                403, "Pages of this origin may not call this server; start it with --origin."
            )
        path = route_path(scope)
        preflight = scope.get("method") == "OPTIONS" and origin is not None
        closed = path not in _OPEN and not path.startswith("/static/") and not preflight
        if self.settings.token is not None and closed and not self._token_shown(scope):
            raise Problem(
                401,
                "This server wants a token: send the header 'Authorization: Bearer TOKEN'.",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _origin_allowed(self, origin: str, host: str) -> bool:
        if origin in self.settings.origins:
            return True
        try:
            (normal,) = parse_origins([origin])
            scheme = urlsplit(normal).scheme  # a proxy may speak https where we see http
            return bool(host) and parse_origins([f"{scheme}://{host}"]) == [normal]
        except Exception:
            return False

    def _token_shown(self, scope: Scope) -> bool:
        kind, _, value = (header(scope, b"authorization") or "").partition(" ")
        shown = [value.strip()] if kind.lower() == "bearer" else []
        # A browser cannot set headers on a WebSocket: the token comes as a subprotocol.
        offered = scope.get("subprotocols", [])
        shown += [p.removeprefix("token.") for p in offered if p.startswith("token.")]
        wanted = (self.settings.token or "").encode()
        return any(hmac.compare_digest(s.encode("utf-8", "replace"), wanted) for s in shown)

    def _headers_for(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        headers = list(SECURITY_HEADERS)
        if self.settings.origins:
            headers.append((b"vary", b"Origin"))
            origin = header(scope, b"origin")
            if origin in self.settings.origins:
                headers.append((b"access-control-allow-origin", origin.encode()))
        return headers

    def _preflight(self, scope: Scope) -> list[tuple[bytes, bytes]] | None:
        """The headers that answer a CORS preflight; None if it is none."""
        if scope["method"] != "OPTIONS" or not header(scope, b"access-control-request-method"):
            return None
        return [
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", b"authorization, content-type"),
            (b"access-control-max-age", b"600"),
        ]

    async def _refuse(self, problem: Problem, answer: _Answer, body: Body | None) -> None:
        """Answer with ``problem`` and drop what the client still sends."""
        if answer.started:
            if not answer.finished:  # half an answer cannot be taken back: break it off
                answer.cut_off()
            return
        unread = body is not None and not body.done
        headers = problem.asgi_headers()
        if unread and "Connection" not in problem.headers:
            headers.append((b"connection", b"close"))
        start = {"type": "http.response.start", "status": problem.status, "headers": headers}
        await answer.send(start)
        await answer.send({"type": "http.response.body", "body": problem.body(), "more_body": True})
        if unread and body is not None:
            await body.drop(_LINGER_SECONDS)
        await answer.send({"type": "http.response.body", "body": b"", "more_body": False})


class _Answer:
    """Adds the headers that every answer carries and remembers how far it got."""

    def __init__(self, scope: Scope, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._scope, self._send = scope, send
        self._headers = headers
        self.status = 0
        self.started = self.finished = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            message["headers"] = [*message.get("headers", ()), *self._headers]
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.finished = True

    async def send_all(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """An answer without a body."""
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": b""})

    def cut_off(self) -> None:
        """Break off. Raises ConnectionAbortedError in a server that cannot otherwise."""
        cut_off = self._scope.get("state", {}).get(CUT_OFF)
        if cut_off is None:
            raise ConnectionAbortedError("the answer was cut short")
        cut_off()


def _check_head(scope: Scope) -> None:
    """Raise Problem for a head that another server on the way may read differently, or too long.

    The connection is closed after it: what follows may be the rest of something else.
    """
    headers, closing = scope["headers"], {"Connection": "close"}
    names = [name for name, _ in headers]
    if b"content-length" in names and b"transfer-encoding" in names:
        why = "The request has both Content-Length and Transfer-Encoding; send one of them."
        raise Problem(400, why, headers=closing)
    if sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES:
        raise Problem(
            431, f"The request's head is larger than {HEAD_BYTES >> 10} KiB.", headers=closing
        )


def route_path(scope: Scope) -> str:
    """The path as this application knows it: without the prefix that it is mounted under."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _hostname(host: str) -> str:
    """A ``Host`` header without its port and brackets, lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _route(scope: Scope) -> str:
    """The path if it is one of ours, so that metrics and logs hold nothing a client made up."""
    path = route_path(scope)
    if path.startswith("/static/"):
        return "/static"
    return path if path in _ROUTES else "other"
