"""Errors as RFC 9457 problem documents: one sentence, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

MEDIA_TYPE = "application/problem+json"
#: The header of answers that nobody may keep.
NO_STORE = {"cache-control": "no-store"}


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """An answer other than success.

    Args:
        status: HTTP status.
        detail: one sentence that says what is wrong and what to do.
        headers: further response headers.
        extra: further members of the document, e.g. ``errors``.
    """

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    @property
    def title(self) -> str:
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return "Error"

    def document(self) -> dict[str, Any]:
        base = {"type": "about:blank", "title": self.title, "status": self.status}
        return {**base, "detail": self.detail, **self.extra}

    def body(self) -> bytes:
        """The document as JSON in UTF-8. Lone surrogates of a client's text are escaped."""
        try:
            return json.dumps(self.document(), ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            return json.dumps(self.document()).encode("ascii")

    def asgi_headers(self) -> list[tuple[bytes, bytes]]:
        out = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(self.body())).encode()),
            (b"cache-control", b"no-store"),
        ]
        return out + [(k.lower().encode(), v.encode("latin-1")) for k, v in self.headers.items()]


def busy(what: str) -> Problem:
    """503 with ``Retry-After``."""
    return Problem(503, f"{what}; try again in a second.", headers={"Retry-After": "1"})
