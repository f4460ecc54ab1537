"""The page's files, read once from the package. What Python knows is written into one script."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mien._version import __version__
from mien.emotions import Label, colour_of
from mien.sinks.rows import LANDMARKS, columns
from mien.web.guard import route_path

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page with what HTTP says of it."""

    data: bytes
    media_type: str

    @property
    def etag(self) -> str:
        """Strong validator: the content's hash."""
        return f'"{hashlib.sha256(self.data).hexdigest()[:24]}"'


def add_page(app: Starlette, labels: Sequence[Label], page: str = "index.html") -> None:
    """Serve a page of ``static/`` at "/", and the scripts and styles beside it."""
    files = page_files(labels, page)

    async def file(request: Request) -> Response:
        found = files.get(route_path(request.scope))
        if found is None:
            raise HTTPException(404)
        headers = {"cache-control": "no-cache", "etag": found.etag}
        if request.headers.get("if-none-match") == found.etag:
            return Response(status_code=304, headers=headers)
        return Response(found.data, media_type=found.media_type, headers=headers)

    for path in ("/", "/static/{name}"):
        app.router.add_route(path, file, ["GET"], include_in_schema=False)


def page_files(labels: Sequence[Label], page: str = "index.html") -> dict[str, PageFile]:
    """Every address of a page ("/" and "/static/…") with its file, for a model's labels."""
    out = {}
    for entry in resources.files("mien.web").joinpath("static").iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in _TYPES and (suffix != ".html" or entry.name == page):
            out[f"/static/{entry.name}"] = PageFile(entry.read_bytes(), _TYPES[suffix])
    out["/"] = out.pop(f"/static/{page}")
    out["/static/facts.js"] = PageFile(_facts(labels).encode(), _TYPES[".js"])
    return out


def _facts(labels: Sequence[Label]) -> str:
    """Emotions, their colours and the columns of the CSV: one source, :mod:`mien`."""
    values = {
        "VERSION": __version__,
        "PALETTE": {label.value: colour_of(label) for label in labels},
        "LANDMARKS": LANDMARKS,
        "CSV_COLUMNS": columns(labels),
        "VIDEO_COLUMNS": columns(labels, video=True),
    }
    return "".join(f"export const {k} = {json.dumps(v)};\n" for k, v in values.items())
