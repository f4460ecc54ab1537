"""``mien live``: this machine's camera, on the page or as JSON lines."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli._options import Device, Prior

if TYPE_CHECKING:
    from mien.pipeline import Analyzer
from mien.detect import FILM_MIN_FACE

app = typer.Typer(add_completion=False)


@app.command()
def live(
    camera: Annotated[
        str,
        typer.Option(
            metavar="N",
            help="Number of the camera, from 0, its device's path or its address (rtsp://…).",
        ),
    ] = "0",
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="No page: print one JSON object a frame.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for a camera that is missing, busy or lost.")
    ] = False,
    frames: Annotated[
        int | None, typer.Option(min=1, help="With --jsonl: stop after so many frames.")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the browser, or only say where.")
    ] = True,
    model: Annotated[
        str | None, typer.Option(help="A shipped model's name or an .onnx file.")
    ] = None,
    detector: Annotated[str, typer.Option(help="yunet or haar.")] = "yunet",
    min_face: Annotated[
        float, typer.Option(help="Smallest face to find, as a fraction of the long side.")
    ] = FILM_MIN_FACE,
    device: Device = "cpu",
    prior: Prior = None,
) -> None:
    """Open the web page on this machine's camera, or print a line a frame with --jsonl.

    The page is served on 127.0.0.1 and a free port, until Ctrl-C; the browser asks before it gives
    the camera away. Exit codes with --jsonl: 0 done, 1 the camera was lost, 2 there was none.
    """
    if jsonl:
        from mien import zoo
        from mien.pipeline import Analyzer

        analyzer = Analyzer(
            model or zoo.DEFAULT,
            detector,
            min_face=min_face,
            turns=False,
            providers=device,
            prior=prior,
        )
        _print_lines(analyzer, camera, wait, frames)
        return
    if frames is not None:
        raise typer.BadParameter("--frames goes with --jsonl")
    if not camera.isdecimal():
        raise typer.BadParameter("the page takes a camera by its number; a path needs --jsonl")
    from mien.web import require_web

    require_web("`mien live` without --jsonl")
    from mien.cli.serve import start
    from mien.web.settings import Settings

    query = f"?camera={int(camera)}{'&wait' if wait else ''}"
    start(
        Settings(port=0),
        model=model,
        detector=detector,
        min_face=min_face,
        device=device,
        prior=prior,
        query=query,
        open_browser=browser,
    )


def _print_lines(analyzer: Analyzer, camera: str, wait: bool, count: int | None) -> None:
    """Each frame's result, tracked and smoothed, with its number and its seconds from the first."""
    from rich.console import Console

    from mien.camera import camera_frames
    from mien.text import shown
    from mien.track import Smoother, Tracker

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    tracker, smoother = Tracker(), Smoother()
    source = camera_frames(camera, wait=wait, on_message=lambda m: console.print(m, markup=False))
    start: float | None = None
    for number, (seconds, image) in enumerate(islice(source, count)):
        start = seconds if start is None else start
        result = analyzer.analyze(image, color="bgr", source=f"camera {shown(camera)}")
        faces = smoother.update(tracker.update(result.faces, seconds), seconds)
        record = {
            "frame": number,
            "time": round(seconds - start, 3),
            **replace(result, faces=faces).to_dict(),
        }
        sys.stdout.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()
