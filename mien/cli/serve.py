"""``mien serve``: the REST and WebSocket server and its page."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli._options import Device, Prior
from mien.detect import FILM_MIN_FACE

if TYPE_CHECKING:
    from rich.console import Console

    from mien.web.settings import Settings

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
    model: Annotated[
        str | None, typer.Option(help="A shipped model's name or an .onnx file.")
    ] = None,
    detector: Annotated[str, typer.Option(help="yunet or haar.")] = "yunet",
    min_face: Annotated[
        float, typer.Option(help="Smallest face to find, as a fraction of the long side.")
    ] = FILM_MIN_FACE,
    device: Device = "cpu",
    prior: Prior = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="What clients must show; needed beyond this machine. 'auto' makes one. A value "
            "given here can be read by every user of this machine: prefer --token-file or the "
            "environment variable MIEN_TOKEN."
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file that holds the token.")
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="A web page's origin that may call, e.g. https://example.org."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Threads that look at pictures; default one a core.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log one line a request: never a picture.")
    ] = False,
) -> None:
    """Serve the web page, REST and WebSocket until Ctrl-C or SIGTERM.

    Nothing that is sent is kept. The page is at /, the description of the API at /openapi.json.
    """
    from mien.web import require_web

    require_web("`mien serve`")
    from mien.web.settings import Settings, new_token, read_token

    if token is not None and token_file is not None:
        raise typer.BadParameter("give --token or --token-file, not both")
    if token is not None and token != "auto":
        warning = "warning: every user of this machine can read --token in the list of processes; "
        typer.echo(warning + "use --token-file or MIEN_TOKEN.", err=True)
    if token_file is not None:
        token = read_token(token_file)
    token = token or os.environ.get("MIEN_TOKEN") or None
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
        model=model,
        detector=detector,
        min_face=min_face,
        device=device,
        prior=prior,
        verbose=verbose,
        made_token=made,
    )


def start_line(url: str, settings: Settings, *, made: bool) -> str:
    """The address to open; with the token only where mien made it, since nobody knows it yet.

    Behind the # it stays in the browser: it is in no request line and no log.
    """
    return f"{url}#token={settings.token}" if made else url


def start(
    settings: Settings,
    *,
    model: str | None,
    detector: str = "yunet",
    min_face: float = FILM_MIN_FACE,
    device: str = "cpu",
    prior: str | None = None,
    verbose: bool = False,
    made_token: bool = False,
    query: str = "",
    open_browser: bool = False,
) -> None:
    """Bind, load the models, say where the page is and serve; ``mien live`` uses it too."""
    import cv2
    from rich.console import Console

    from mien import zoo
    from mien.web.app import create_app
    from mien.web.log import OncePerMinute
    from mien.web.server import address_of, listen, run

    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.addFilter(OncePerMinute())
    logging.getLogger("mien.web").setLevel(logging.INFO if verbose else logging.WARNING)
    # OpenCV would write lines of its own about every damaged picture that a client sends.
    cv2.utils.logging.setLogLevel(0)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    listener = listen(settings)
    try:
        application = create_app(
            settings,
            model=model or zoo.DEFAULT,
            detector=detector,
            min_face=min_face,
            providers=device,
            prior=prior,
        )
        url = address_of(listener, settings) + query
        page = start_line(url, settings, made=made_token)
        run(application, settings, listener, started=lambda: _say(console, page, open_browser))
    finally:
        listener.close()


def _say(console: Console, page: str, open_browser: bool) -> None:
    console.print(f"mien is at {page}  (Ctrl-C stops it)", markup=False)
    if open_browser:
        import threading

        threading.Thread(target=_open, args=(console, page), daemon=True).start()


def _open(console: Console, page: str) -> None:
    """In a thread: some browsers' launchers do not return at once."""
    import webbrowser

    if not webbrowser.open(page):
        console.print("No browser was found: open that address yourself.", markup=False)
