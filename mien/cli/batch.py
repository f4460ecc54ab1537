"""``mien batch``: archives of photos and films in, Parquet tables out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli._options import Device, Faces, MinFace, Model, Prior
from mien.text import counted

if TYPE_CHECKING:
    from mien.batch import Estimate, Summary

#: Without a terminal a line of progress is printed every so many seconds.
PLAIN_SECONDS = 30.0


def batch(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Files, folders, quoted globs, lists (.txt, .csv, .parquet), tar and zip "
            "archives, addresses (fsspec), or - for a list on standard input.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of the tables.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="local (processes of this machine) or ray.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes or actors; default: all cores.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster: auto, or its address.")
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs for each Ray actor.")] = 0,
    shard: Annotated[
        str | None, typer.Option(metavar="K/N", help="Do one share of N; --merge joins them.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Join the shards in DIR, or the folders named.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Do again what could not be read.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how much there is and how long it will take.")
    ] = False,
    column: Annotated[str, typer.Option(help="The column of a list's paths.")] = "",
    checkpoint: Annotated[
        float, typer.Option(min=0, help="Seconds between savings: what a killed run loses.")
    ] = 60.0,
    every: Annotated[int, typer.Option(min=1, help="Look at every N-th frame of films.")] = 1,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="Keep faces that pass by in films.")
    ] = False,
    faces: Faces = False,
    model: Model = None,
    detector: Annotated[str, typer.Option(help="yunet or haar.")] = "yunet",
    min_face: MinFace = None,
    device: Device = "cpu",
    prior: Prior = None,
    min_confidence: Annotated[
        float, typer.Option(help="Leave out faces whose expression is less sure than this, 0 to 1.")
    ] = 0.0,
    min_quality: Annotated[
        float, typer.Option(help="Leave out faces whose photo is worse than this, 0 to 1.")
    ] = 0.0,
) -> None:
    """Analyse archives of photos and films into Parquet tables: sources, frames and faces.

    The same command, stopped anywhere or with more sources, does what is left. Exit codes: 0 every
    source was read, 1 some could not be (table sources says why), 2 none could, or an option is
    wrong.
    """
    import mien.batch as archive
    from mien.video.options import Options as FilmOptions

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
        film=FilmOptions(every=every, everyone=everyone),
        device=device,
    )
    if merge and out is not None:
        raise typer.Exit(_tell(archive.join(out, sources or ()), out, "joined"))
    if not sources:
        raise typer.BadParameter("name a source: files, folders, lists or archives")
    if dry_run:
        return _tell_estimate(
            archive.estimate(sources, out, options=options, workers=workers, column=column)
        )
    assert out is not None
    with _Watch() as watch:
        summary = archive.batch(
            sources,
            out,
            options=options,
            engine=engine,
            workers=workers,
            address=address,
            gpus=gpus,
            shard=shard,
            retry=retry,
            column=column,
            checkpoint=checkpoint,
            on_progress=watch.show,
        )
    raise typer.Exit(_tell(summary, out, "analysed"))


class _Watch:
    """Files, files a second and the time left: a bar, or now and then a line."""

    def __init__(self) -> None:
        from rich.progress import TextColumn

        from mien.cli._console import messages, progress

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
        from mien.video.timeline import clock

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
    from mien.cli._console import messages
    from mien.video.timeline import clock

    console = messages()
    if s.failed:
        console.print(f"error: {s.error}" if s.error else "error: not every source could be read.")
        others = f", like {s.failed - 1:,} more" if s.failed > 1 and s.error else ""
        console.print(
            f"{others.lstrip(', ')}{'; ' if others else ''}{out / 'sources'} names every one."
        )
    if what == "joined":
        parts = [counted(s.photos + s.failed, "source") + f" joined in {out}"]
    else:
        parts = [counted(s.photos, "photo"), counted(s.films, "video"), counted(s.faces, "face")]
        parts += [f"{clock(s.seconds)} of time", f"rows in {out}"]
    if s.failed:
        parts.append(f"{s.failed:,} could not be read")
    if s.before:
        parts.append(f"{s.before:,} were done before")
    console.print(", ".join(parts) + ".")
    return 0 if not s.failed else 1 if s.photos or s.films or s.before else 2


def _tell_estimate(e: Estimate) -> None:
    from mien.video.timeline import clock

    text = f"{counted(e.photos, 'photo')}, {counted(e.films, 'video')}"
    if e.films:
        text += f" (about {clock(e.film_seconds)})"
    if e.before:
        text += f"; {e.before:,} more are done already"
    print(f"{text}.")
    cores = counted(e.workers, "core")
    print(
        f"About {clock(e.seconds)} on {cores}: {1000 * e.photo_seconds:.0f} ms a photo"
        + (f", {e.film_cost:.2f} s a second of video" if e.films else "")
        + ", measured on a sample."
    )
