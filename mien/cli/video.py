"""``mien video``: videos in, tables, an annotated video and a timeline out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mien import zoo
from mien._system import give_large_blocks_back
from mien.cli import _options as opt
from mien.cli._console import PLAIN_SECONDS, messages, progress, without_copies
from mien.cli._options import argument, option
from mien.detect import VIDEO_MIN_FACE
from mien.emotions import colour_of
from mien.errors import MienError
from mien.text import brief, clock, counted, shown

if TYPE_CHECKING:
    from mien.results import Result
    from mien.video.one import VideoSummary
    from mien.video.options import Options
    from mien.video.reader import Video
    from mien.video.run import VideoRun
    from mien.video.timeline import Timeline


def video(
    videos: Annotated[
        list[str], argument("Videos, folders of videos, quoted globs.", metavar="VIDEO...")
    ],
    out: Annotated[
        Path | None,
        option("Write an annotated video; a folder for several videos.", metavar="FILE"),
    ] = None,
    csv: opt.Csv = None,
    jsonl: Annotated[
        str | None,
        option("Write JSON lines, one object per frame; - prints them.", metavar="FILE"),
    ] = None,
    parquet: opt.Parquet = None,
    plot: Annotated[
        Path | None,
        option("Write a timeline page; a folder for several videos.", metavar="FILE"),
    ] = None,
    every: Annotated[int, option("Look at every N-th frame.", min=1)] = 1,
    start: Annotated[
        str, option("Begin here: seconds, M:SS or H:MM:SS.", "--from", metavar="TIME")
    ] = "0",
    end: Annotated[str | None, option("Stop before this time.", "--to", metavar="TIME")] = None,
    resume: Annotated[
        bool, option("Go on with a stopped run of the same command.", "--resume")
    ] = False,
    checkpoint: opt.Checkpoint = 20.0,
    smooth: Annotated[
        float, option("Smoothing's time constant in seconds; 0 is --no-smooth.", min=0)
    ] = 0.4,
    no_smooth: Annotated[
        bool, option("Raw scores only: no smoothing, no hysteresis.", "--no-smooth")
    ] = False,
    margin: Annotated[
        float,
        option("Lead another expression needs to take over the name.", min=0, max=1),
    ] = 0.1,
    max_gap: Annotated[
        float, option("Seconds a face may be hidden and keep its number.", min=0)
    ] = 1.0,
    min_track: Annotated[
        float, option("Seconds a face must be seen; else it is passing by.", min=0)
    ] = 1.0,
    everyone: Annotated[
        bool,
        option("Keep passers-by, and faces smaller than --min-face.", "--everyone"),
    ] = False,
    cuts: Annotated[
        bool,
        option("New numbers where the video cuts to another shot.", "--cuts/--no-cuts"),
    ] = True,
    bars: Annotated[bool, option("Draw the panels of probabilities.", "--bars/--no-bars")] = True,
    batch: Annotated[int, option("Frames whose faces are classified in one call.", min=1)] = 16,
    model: opt.Model = None,
    detector: opt.VideoDetector = "yunet",
    min_face: opt.VideoMinFace = VIDEO_MIN_FACE,
    device: opt.Device = "cpu",
    prior: opt.Prior = None,
    min_confidence: Annotated[
        float, option("Name no expression that is less probable than this, 0 to 1.")
    ] = 0.0,
    min_quality: Annotated[
        float, option("Name no expression by frames whose face is worse, 0 to 1.")
    ] = 0.0,
) -> None:
    """Follow faces through videos and name their expressions.

    Exit codes: 0 every video was read, 1 some could not be read, or not every frame of one, 2 none
    could, or an option is wrong. A run that was stopped goes on with --resume.
    """
    if csv == "-" and jsonl == "-":
        raise typer.BadParameter("--csv - and --jsonl - would both print; give one a file")
    # ffmpeg inside OpenCV writes its own lines about every odd packet; ours say what matters.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    from mien.pipeline import Analyzer
    from mien.video.options import Options, Outputs, parse_time
    from mien.video.run import VideoRun

    cv2.utils.logging.setLogLevel(0)
    # Frames are shared out over threads; threads inside a frame would only get in their way.
    cv2.setNumThreads(1)
    give_large_blocks_back()
    console = messages()
    options = Options(
        every=every,
        start=parse_time(start),
        end=None if end is None else parse_time(end),
        smooth=0.0 if no_smooth else smooth,
        margin=margin,
        max_gap=max_gap,
        min_track=min_track,
        everyone=everyone,
        cuts=cuts,
        batch=batch,
        bars=bars,
        checkpoint=checkpoint,
    )
    outputs = Outputs(csv, jsonl, parquet, out, plot)
    failed: list[str] = []
    good = _readable(videos, out, console, failed)
    if not good:
        raise typer.Exit(2)
    analyzer = Analyzer(
        model or zoo.DEFAULT,
        detector,
        min_face=min_face,
        turns=False,
        min_confidence=min_confidence,
        min_quality=min_quality,
        providers=device,
        prior=prior,
    )
    run = VideoRun(good, analyzer, options, outputs, go_on=resume)
    with run.locked():
        code = _work(run, console, options, printed="-" in (csv, jsonl))
    raise typer.Exit(code or bool(failed))


def _readable(
    videos: list[str], out: Path | None, console: Console, failed: list[str]
) -> list[Path]:
    """The videos that can be opened, each once, without copies in ``out`` of an earlier call; the
    others are named on standard error."""
    from mien.sources import STDIN, find_videos
    from mien.video.reader import Video

    def report(name: str, error: MienError) -> None:
        failed.append(name)
        console.print(f"error: {error}")

    good: dict[Path, None] = {}
    for item in without_copies(find_videos(videos, on_error=report), out, console):
        try:
            if item == STDIN:
                raise MienError("A video cannot come from standard input; name its file.")
            good[Video(item).path] = None
        except MienError as error:
            report(str(item), error)
    return list(good)


def _work(run: VideoRun, console: Console, options: Options, printed: bool) -> int:
    """The exit code: 0 where every frame that the containers promise could be read."""
    whole, failed = True, 0
    if run.stopped is not None:
        console.print("Going on with the stopped run.")
    elif run.was_stopped:
        console.print("A stopped run was found; starting over (--resume would go on with it).")
    watch = _Watch(console, options)
    with watch.bar, _hint(run, console):
        for summary in run.run(watch.frame):
            watch.done()
            if summary.failed is not None:
                failed += 1
                console.print(f"error: {summary.failed}")
                continue
            whole &= not summary.skipped and not summary.cut_short
            _tell(summary, console)
            if not printed:
                print_video(summary.timeline, str(summary.source))
    if run.done:
        console.print(f"{counted(run.done, 'video')} had been done before.")
    for path in run.missing:
        name, why = shown(str(path)), "its video is in the table already"
        console.print(f"{name} is not made: {why}; leave --resume out for it.", soft_wrap=True)
    if run.stopped is not None and not watch.videos:
        console.print("All frames were looked at before; the files are complete now.")
    if failed:
        return 2 if failed == len(run.videos) and not run.done else 1
    return 0 if whole else 1


@contextmanager
def _hint(run: VideoRun, console: Console) -> Iterator[None]:
    """On Ctrl-C, say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        if run.can_resume:
            console.print("Stopped; the same command with --resume goes on from here.")
        raise


class _Watch:
    """Shows frames, frames a second and the time left: a bar, or now and then a line."""

    def __init__(self, console: Console, options: Options) -> None:
        self._console, self._options = console, options
        self.bar = _progress(console)
        self.videos = 0
        self._begin()

    def _begin(self) -> None:
        self._task = self.bar.add_task("", total=None, rate="")
        self._count, self._before, self._total = 0, 0, 0
        self._started = self._printed = time.monotonic()

    def frame(self, video: Video, result: Result) -> None:
        if not self._count:
            self._first(video, result)
        self._count += 1
        done = self._before + self._count
        speed = f"{self._rate:.0f} frames/s"
        self.bar.update(self._task, completed=done, rate=speed)
        due = time.monotonic() - self._printed >= PLAIN_SECONDS
        if self._count > 1 and self.bar.disable and due:
            self._printed = time.monotonic()
            line = f"{video.path.name}: {done:,} frames"
            if self._total:
                left = max(0, self._total - done) / max(self._rate, 1e-9)
                line += f" of about {self._total:,}, {speed}, {clock(left)} left"
            else:
                line += f", {speed}"
            self._console.print(line)

    def _first(self, video: Video, result: Result) -> None:
        o, seconds = self._options, video.seconds_expected
        start = max(0.0, o.start - video.offset)
        if seconds is not None:
            end = seconds if o.end is None else min(o.end - video.offset, seconds)
            self._total = max(1, round((end - start) * video.fps / o.every))
        self._before = max(0, ((result.frame or 0) - round(start * video.fps)) // o.every)
        self._started = self._printed = time.monotonic()
        total = self._total or None
        self.bar.update(self._task, description=shown(video.path.name), total=total)

    @property
    def _rate(self) -> float:
        """Frames a second; the first one's time is the skipping before it and says nothing."""
        return (self._count - 1) / max(1e-9, time.monotonic() - self._started)

    def done(self) -> None:
        """A video is done: say how fast, and begin the next."""
        self.videos += 1
        if self._count > 1:
            took = clock(time.monotonic() - self._started)
            self._console.print(f"{self._count:,} frames in {took}, {self._rate:.0f} frames/s.")
        self.bar.remove_task(self._task)
        self._begin()


def _progress(console: Console) -> Progress:
    return progress(
        console,
        TextColumn("{task.description}", markup=False),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}"),
    )


def _tell(summary: VideoSummary, console: Console) -> None:
    """What was written, and what the reader should know about it."""
    name = summary.source.name  # the console escapes it
    if summary.resumed:
        console.print(f"{name}: went on at frame {summary.resumed:,}.")
    if not summary.timeline.frames:
        begins = f"; it begins at {summary.offset:.3f} s" if summary.offset else ""
        console.print(f"{name}: no frame lies in the chosen time{begins}.")
    if summary.skipped:
        one = summary.skipped == 1
        frames = "1 damaged frame was" if one else f"{summary.skipped:,} damaged frames were"
        where = "; the tables say where, in column skipped"
        if summary.skipped_last == summary.skipped:
            where = " at the end or where the times leap"
        elif summary.skipped_last:
            where += f", and {summary.skipped_last:,} at the end or where the times leap"
        console.print(f"{name}: {frames} skipped{where}.")
    if summary.cut_short:
        console.print(
            f"{name}: ends at {clock(summary.timeline.end)}, before its container says; "
            "it may be damaged or cut short."
        )
    if summary.video is not None:
        console.print(f"wrote {summary.video} ({summary.encoder})")
        if "without sound" in summary.encoder:
            console.print("Install ffmpeg for H.264 and for the sound.")
    if summary.plot is not None:
        console.print(f"wrote {summary.plot}")


def print_video(timeline: Timeline, name: str, faces: int = 12) -> None:
    """Print a video's name, and one row per face, longest seen first, with its expressions.

    The name has a line of its own, so that it is whole at any width.
    """
    console = Console(highlight=False)
    console.print(Text(shown(name), "bold"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("face", "seen", "from", "to"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("in the lead")
    ranked = timeline.ranked()
    for track in ranked[:faces]:
        total = track.charted or 1.0
        shares = sorted(((s / total, e.value) for e, s in track.shares.items()), reverse=True)
        words = Text()
        for share, emotion in shares[:3]:
            words.append(f"{brief(emotion)} {share:.0%}  ", colour_of(emotion))
        if track.unsure / total >= 0.005:
            words.append(f"unsure {track.unsure / total:.0%}", "dim")
        row = (str(track.track), f"{track.seconds:.1f} s", clock(track.first), clock(track.last))
        table.add_row(*row, words)
    rest = len(ranked) - faces + timeline.dropped
    if rest > 0:
        table.add_row("", "", "", "", Text(f"and {rest:,} more faces", "dim"))
    if timeline.passers:
        text = f"and {timeline.passers:,} passing by; --everyone shows them"
        table.add_row("", "", "", "", Text(text, "dim"))
    if not ranked and not timeline.passers:
        table.add_row("", "", "", "", Text("no face", "dim"))
    console.print(table)
