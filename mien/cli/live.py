"""``mien live``: this machine's camera, on the page or as JSON lines."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien import zoo
from mien.cli import _options as opt
from mien.cli._console import say
from mien.cli._options import option
from mien.detect import VIDEO_MIN_FACE

if TYPE_CHECKING:
    from mien.pipeline import Analyzer


_HELP = "Number of the camera, from 0, its device's path or its address (rtsp://…)."


def live(
    camera: Annotated[str, option(_HELP, metavar="N")] = "0",
    jsonl: Annotated[bool, option("No page: print one JSON object per frame.", "--jsonl")] = False,
    wait: Annotated[
        bool, option("Wait for a camera that is missing, busy or lost.", "--wait")
    ] = False,
    frames: Annotated[int | None, option("With --jsonl: stop after so many frames.", min=1)] = None,
    browser: opt.Browser = True,
    model: opt.Model = None,
    detector: opt.VideoDetector = "yunet",
    min_face: opt.VideoMinFace = VIDEO_MIN_FACE,
    device: opt.Device = "cpu",
    prior: opt.Prior = None,
) -> None:
    """Open the web page on this machine's camera, or print one line per frame with --jsonl.

    The page is served on 127.0.0.1 and a free port, until Ctrl-C; the browser asks before it gives
    the camera away. Exit codes with --jsonl: 0 done, 1 the camera was lost, 2 there was none.
    """
    chosen: dict[str, Any] = {"model": model or zoo.DEFAULT, "detector": detector}
    chosen |= {"min_face": min_face, "providers": device, "prior": prior}
    if jsonl:
        from mien.pipeline import Analyzer

        _print_lines(Analyzer(**chosen, turns=False), camera, wait, frames)
        return
    if frames is not None:
        raise typer.BadParameter("--frames goes with --jsonl")
    if not camera.isdecimal():
        raise typer.BadParameter("the page takes a camera by its number; a path needs --jsonl")
    from mien.web import require_web

    require_web("`mien live` without --jsonl")
    from mien.cli.serve import start
    from mien.web.settings import Settings

    if min_face == VIDEO_MIN_FACE:  # photos are dropped there too
        chosen["min_face"] = None
    query = f"?camera={int(camera)}{'&wait' if wait else ''}"
    start(Settings(port=0), query=query, open_browser=browser, **chosen)


def _print_lines(analyzer: Analyzer, camera: str, wait: bool, count: int | None) -> None:
    """Each frame's result, tracked and smoothed, with its number and its seconds from the first."""
    from mien.sinks import JsonLinesSink
    from mien.text import shown
    from mien.track import Smoother, Tracker
    from mien.video.camera import camera_frames

    tracker, smoother = Tracker(), Smoother()
    start: float | None = None
    frames = islice(camera_frames(camera, wait=wait, on_message=say), count)
    with JsonLinesSink(sys.stdout) as sink:
        for number, (seconds, image) in enumerate(frames):
            start = seconds if start is None else start
            result = analyzer.analyze(image, color="bgr", source=f"camera {shown(camera)}")
            faces = smoother.update(tracker.update(result.faces, seconds), seconds)
            time = round(seconds - start, 3)
            sink.write(replace(result, faces=faces, frame=number, time=time))
