"""``mien batch``: archives of photos and videos in, Parquet tables out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import TextColumn

from mien.cli import _options as opt
from mien.cli._console import PLAIN_SECONDS, messages, progress
from mien.cli._options import argument, option
from mien.text import clock, counted

if TYPE_CHECKING:
    from mien.batch import Estimate, Summary


def batch(
    sources: Annotated[
        list[str] | None,
        argument(
            "Files, folders, quoted globs, lists (.txt, .csv, .parquet), tar and zip archives, "
            "addresses (fsspec), or - for a list on standard input.",
            metavar="SOURCE...",
        ),
    ] = None,
    out: Annotated[Path | None, option("The folder of the tables.", metavar="DIR")] = None,
    engine: Annotated[str, option("local (processes of this machine) or ray.")] = "local",
    workers: Annotated[
        int | None, option("Processes or actors; default: all cores.", min=1)
    ] = None,
    address: opt.Address = None,
    gpus: Annotated[float, option("GPUs for each Ray actor.", min=0)] = 0,
    shard: Annotated[
        str | None, option("Do one share of N; --merge joins them.", metavar="K/N")
    ] = None,
    merge: Annotated[bool, option("Join DIR's shards, or the folders named.", "--merge")] = False,
    retry: Annotated[
        bool, option("Do again those of the sources that could not be read.", "--retry")
    ] = False,
    dry_run: Annotated[
        bool, option("Say how much there is and how long it will take.", "--dry-run")
    ] = False,
    column: Annotated[str, option("The column of a list's paths.")] = "",
    checkpoint: opt.Checkpoint = 60.0,
    every: Annotated[int, option("Look at every N-th frame of videos.", min=1)] = 1,
    everyone: Annotated[bool, option("Keep faces that pass by in videos.", "--everyone")] = False,
    faces: opt.Faces = False,
    model: opt.Model = None,
    detector: opt.VideoDetector = "yunet",
    min_face: opt.MinFace = None,
    device: opt.Device = "cpu",
    prior: opt.Prior = None,
    min_confidence: opt.MinConfidence = 0.0,
    min_quality: opt.MinQuality = 0.0,
) -> None:
    """Analyse archives of photos and videos into Parquet tables: sources, frames and faces.

    The same command, stopped anywhere or with more sources, does what is left. Exit codes: 0 every
    source in the tables was read whole, 1 some were not (table sources says why), 2 none could be,
    or an option is wrong.
    """
    import mien.batch as archive
    from mien.batch.run import shard_folder
    from mien.video.options import Options as VideoOptions

    if merge and (dry_run or retry or shard is not None):
        raise typer.BadParameter("--merge goes with none of --dry-run, --retry and --shard")
    if out is None and not dry_run:
        raise typer.BadParameter("name a folder for the tables with --out")
    options = archive.Options(
        **({} if model is None else {"model": model}),  # type: ignore[arg-type]
        detector=detector,
        min_face=min_face,
        min_confidence=min_confidence,
        min_quality=min_quality,
        prior=prior,
        faces=faces,
        video=VideoOptions(every=every, everyone=everyone),
        device=device,
    )
    if merge and out is not None:
        raise typer.Exit(_tell(archive.join(out, sources or ()), out, "joined"))
    if not sources:
        raise typer.BadParameter("name a source: files, folders, lists or archives")
    chosen: dict[str, Any] = {"options": options, "workers": workers, "shard": shard}
    chosen |= {"retry": retry, "column": column}
    if dry_run:
        return _tell_estimate(archive.estimate(sources, out, **chosen))
    assert out is not None
    with _Watch() as watch:
        summary = archive.batch(
            sources,
            out,
            **chosen,
            engine=engine,
            address=address,
            gpus=gpus,
            checkpoint=checkpoint,
            on_progress=watch.show,
        )
    raise typer.Exit(_tell(summary, shard_folder(out, shard), "analysed"))


class _Watch:
    """Files, files a second and the time left: a bar, or now and then a line."""

    def __init__(self) -> None:
        self._console = messages()
        self._bar = progress(self._console, TextColumn("{task.description}", markup=False))
        self._task = self._bar.add_task("", total=None)
        self._printed = time.monotonic()

    def __enter__(self) -> _Watch:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, s: Summary) -> None:
        done, seconds = s.before + s.done, max(1e-9, s.seconds)
        of = "" if s.total is None else f" of {s.total:,}"
        line = f"{done:,}{of} files, {s.done / seconds:.1f} files/s"
        if s.frames > s.photos:
            line += f", {s.frames / seconds:.0f} frames/s"
        if s.total is not None and s.done:
            line += f", {clock(max(0, s.total - done) * seconds / s.done)} left"
        if s.failed:
            line += f", {s.failed:,} failed"
        self._bar.update(self._task, description=line, completed=done, total=s.total)
        if self._bar.disable and time.monotonic() - self._printed >= PLAIN_SECONDS:
            self._printed = time.monotonic()
            self._console.print(line)


def _tell(s: Summary, out: Path, what: str) -> int:
    """Say what was done; the exit code."""
    console = messages()
    if s.exit_code:
        if s.error:
            console.print(f"error: {s.error}")
        console.print(f"{out / 'sources'} names all that could not be read, or not whole.")
    if what == "joined":
        parts = [counted(s.photos + s.failed, "source") + f" joined in {out}"]
    else:
        parts = [counted(s.photos, "photo"), counted(s.videos, "video"), counted(s.faces, "face")]
        parts += [f"{clock(s.seconds)} of time", f"rows in {out}"]
    if s.failed:
        parts.append(f"{s.failed:,} could not be read")
    if s.damaged:
        parts.append(f"{s.damaged:,} not read whole")
    if s.before:
        earlier = f" ({s.before_failed:,} could not be read: --retry)" if s.before_failed else ""
        parts.append(f"{s.before:,} were done before{earlier}")
    console.print(", ".join(parts) + ".")
    return s.exit_code


def _tell_estimate(e: Estimate) -> None:
    text = f"{counted(e.photos, 'photo')}, {counted(e.videos, 'video')}"
    if e.videos:
        text += f" (about {clock(e.video_seconds)})"
    if e.before:
        text += f"; {e.before:,} more are done already"
    print(f"{text}.")
    cores = counted(e.workers, "core")
    print(
        f"About {clock(e.seconds)} on {cores}: {1000 * e.photo_seconds:.0f} ms a photo"
        + (f", {e.video_cost:.2f} s a second of video" if e.videos else "")
        + ", measured on a sample."
    )
