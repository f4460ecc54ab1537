"""The REST and WebSocket server and its page; needs the extra ``[web]``.

from mien.web import Settings, create_app
app = create_app(Settings())          # any ASGI server runs it; `mien serve` does
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mien.errors import require_extra
from mien.web.settings import Limits, Settings

if TYPE_CHECKING:
    from mien.web.app import create_app

__all__ = ["Limits", "Settings", "create_app", "require_web"]


def require_web(what: str) -> None:
    """Raise MissingExtraError unless the extra ``[web]`` is installed. ``what`` needs it."""
    require_extra(
        "web", ("fastapi", "uvicorn", "python_multipart", "websockets", "prometheus_client"), what
    )


def __getattr__(name: str) -> object:
    if name == "create_app":
        require_web("The server")
        from mien.web.app import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
