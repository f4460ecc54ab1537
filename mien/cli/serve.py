"""``mien serve``: the REST and WebSocket server and its page."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien import zoo
from mien.cli._console import say
from mien.cli._options import Device, MinFace, Model, Prior, VideoDetector, option

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from mien.web.settings import Settings


def serve(
    host: Annotated[str, option("Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, option("Port; 0 takes a free one.")] = 8000,
    model: Model = None,
    detector: VideoDetector = "yunet",
    min_face: MinFace = None,
    device: Device = "cpu",
    prior: Prior = None,
    token: Annotated[
        str | None,
        option(
            "What clients must show; needed beyond this machine. 'auto' makes one. A value "
            "given here can be read by every user of this machine: prefer --token-file or the "
            "environment variable MIEN_TOKEN."
        ),
    ] = None,
    token_file: Annotated[
        Path | None, option("A file that holds the token.", metavar="FILE")
    ] = None,
    origin: Annotated[
        list[str] | None,
        option("A web page's origin that may call, e.g. https://example.org."),
    ] = None,
    workers: Annotated[
        int | None, option("Threads that analyse images; default one per core.")
    ] = None,
    verbose: Annotated[
        bool, option("Log one line per request, never an image.", "--verbose", "-v")
    ] = False,
) -> None:
    """Serve the web page, REST and WebSocket until Ctrl-C or SIGTERM.

    Nothing that is sent is kept. The page is at /, the description of the API at /openapi.json.
    """
    from mien.web import require_web

    require_web("`mien serve`")
    from mien.web.settings import Settings, new_token

    token = _token(token, token_file)
    made = token == "auto"
    settings = Settings(
        host=host,
        port=port,
        token=new_token() if made else token,
        origins=tuple(origin or ()),
        workers=workers,
    )
    start(
        settings,
        model=model or zoo.DEFAULT,
        detector=detector,
        min_face=min_face,
        providers=device,
        prior=prior,
        verbose=verbose,
        made_token=made,
    )


def _token(token: str | None, token_file: Path | None) -> str | None:
    from mien.web.settings import read_token

    if token is not None and token_file is not None:
        raise typer.BadParameter("give --token or --token-file, not both")
    if token is not None and token != "auto":
        say(
            "warning: every user of this machine can read --token in the list of processes; "
            "use --token-file or MIEN_TOKEN."
        )
    if token_file is not None:
        token = read_token(token_file)
    if token is not None:  # an empty one is refused, not taken for none
        return token
    return os.environ.get("MIEN_TOKEN") or None


def start_line(url: str, settings: Settings, *, made: bool) -> str:
    """The address to open; with the token only where mien made it, since nobody knows it yet.

    Behind the # it stays in the browser: it is in no request line and no log.
    """
    return f"{url}#token={settings.token}" if made else url


def start(
    settings: Settings,
    *,
    verbose: bool = False,
    made_token: bool = False,
    query: str = "",
    open_browser: bool = False,
    **analyzer: Any,
) -> None:
    """Bind, load the models, say where the page is and serve; ``mien live`` uses it too.

    ``analyzer`` are the arguments of :func:`mien.web.create_app` beside the settings.
    """

    def make() -> ASGIApp:
        from mien.web.app import create_app

        return create_app(settings, **analyzer)

    logging.getLogger("mien.web").setLevel(logging.INFO if verbose else logging.WARNING)
    run_app(make, settings, made_token=made_token, query=query, open_browser=open_browser)


def run_app(
    make: Callable[[], ASGIApp],
    settings: Settings,
    *,
    made_token: bool,
    query: str = "",
    open_browser: bool = False,
) -> None:
    """Bind, make the application, say where its page is and serve it."""
    import cv2

    from mien.web.log import OncePerMinute
    from mien.web.server import address_of, listen, run

    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(OncePerMinute())
    # OpenCV would write lines of its own about every damaged image that a client sends.
    cv2.utils.logging.setLogLevel(0)
    listener = listen(settings)
    try:
        application = make()
        page = start_line(address_of(listener, settings) + query, settings, made=made_token)

        def started() -> None:
            say(f"mien is at {page}  (Ctrl-C stops it)")
            if open_browser:  # in a thread: some browsers' launchers do not return at once
                threading.Thread(target=_open, args=(page,), daemon=True).start()

        run(application, settings, listener, started=started)
    finally:
        listener.close()


def _open(page: str) -> None:
    import webbrowser

    if not webbrowser.open(page):
        say("No browser was found: open that address yourself.")
