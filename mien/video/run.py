"""A run over films: analyse, track, smooth, write, and be able to go on after a kill."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.atomic import lock, write_text
from mien.classify import available_cores
from mien.draw import draw
from mien.errors import VideoError
from mien.pipeline import Analyzer
from mien.results import Result
from mien.timeline import Timeline, to_html
from mien.track import Smoother, Tracker
from mien.video import resume
from mien.video.cuts import CutDetector
from mien.video.film import Film
from mien.video.flow import Seen, analyze_frames, waiting_room
from mien.video.options import Options, Outputs
from mien.video.tables import Table, finish_part, is_stream, new_token, remove_parts
from mien.video.writer import FilmWriter

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class FilmSummary:
    """What a run did with a film.

    Attributes:
        film: the file.
        timeline: its faces over time.
        resumed: number of the first frame looked at by this run; 0 unless it went on with another.
        cut_short: the film gave clearly fewer frames than its container promises.
        skipped: damaged frames that were left out.
        video, plot: what was written, or None.
        encoder: what wrote ``video``, in words.
    """

    film: Path
    timeline: Timeline
    resumed: int = 0
    cut_short: bool = False
    skipped: int = 0
    video: Path | None = None
    plot: Path | None = None
    encoder: str = ""


#: Called with (film, frame's result) after every frame.
OnFrame = Callable[[Film, Result], None]


def film_results(
    path: str | os.PathLike[str], analyzer: Analyzer, options: Options
) -> Iterator[Result]:
    """The results of one film, written nowhere. Raises at once when it cannot be read."""
    return _OneFilm(Film(path), analyzer, options, Outputs()).results(lambda state: None)


class VideoRun:
    """Analyses films one after the other and writes everything asked for.

    Args:
        films: the files; their tables are joined.
        analyzer, options, outputs: what to do and where results go.
        go_on: go on with a stopped run of the same films, options and outputs, if there is one.

    Raises:
        VideoError: no film, a film that cannot be read, or a stopped run that does not fit.
        OutputError: something cannot be written.
    """

    def __init__(
        self,
        films: Sequence[Path],
        analyzer: Analyzer,
        options: Options | None = None,
        outputs: Outputs | None = None,
        *,
        go_on: bool = False,
    ) -> None:
        self.options, self.outputs = options or Options(), outputs or Outputs()
        self.analyzer = analyzer
        self.films = [Film(path) for path in films]
        if not self.films:
            raise VideoError("There is no film to look at.")
        several, taken = len(self.films) > 1, {f.path for f in self.films}
        self.outputs.check(several)
        self._places = [self.outputs.for_film(f.path, several, taken) for f in self.films]
        self._check_targets()
        self._state_file = resume.state_file(self.outputs)
        paths = [f.path for f in self.films]
        self._run = resume.fingerprint(paths, analyzer, self.options, self.outputs)
        #: Whether a stopped run's state lies there, gone on with or not.
        self.was_stopped = self.can_resume
        self.stopped: dict[str, Any] | None = None
        if go_on:
            if self._state_file is None:
                raise VideoError("A run without an output file cannot be gone on with.")
            self.stopped = resume.load(self._state_file, self._run)
        self._token = str(self.stopped["token"]) if self.stopped else new_token()
        self._tables: list[Table] = []
        self._locked = self._saved = False

    @property
    def can_resume(self) -> bool:
        """Whether a state is saved from which a later run could go on."""
        return self._state_file is not None and self._state_file.exists()

    def _targets(self) -> list[Path]:
        """Every file that the run writes."""
        tables = [Path(t) for t in self.outputs.tables.values() if not is_stream(t)]
        return tables + [p for o in self._places for p in (o.video, o.plot) if p is not None]

    def _check_targets(self) -> None:
        """No output may replace a film that is still to be read, or another output."""
        sources = {film.path.resolve() for film in self.films}
        taken: dict[Path, Path] = {}
        for target in self._targets():
            path = target.resolve()
            if path in sources:
                raise VideoError(f"{path} is a film to be read; choose another name.")
            if path in taken:
                raise VideoError(
                    f"{taken[path]} and {target} would be written to the same file; choose another "
                    "name for one."
                )
            taken[path] = target

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs from these outputs; :meth:`run` does it, too.

        Raises:
            OutputError: another run is writing one of them.
        """
        if self._locked:
            yield
            return
        with ExitStack() as stack:
            for target in self._targets():
                stack.enter_context(lock(target))
            self._locked = True
            stack.callback(setattr, self, "_locked", False)
            yield

    def run(self, on_frame: OnFrame | None = None) -> Iterator[FilmSummary]:
        """Do it; yields after each film. Closing the iterator stops the run for a later one."""
        with self.locked():
            try:
                yield from self._run_all(on_frame)
            except BaseException:
                if not self.stopped and not self._saved:  # nothing to go on with
                    self._clean()
                raise

    def _run_all(self, on_frame: OnFrame | None) -> Iterator[FilmSummary]:
        stopped = self.stopped or {}
        if not stopped and self._state_file is not None:
            if (old := resume.token_of(self._state_file)) is not None:
                remove_parts(self._folders(), old)
            # From here on the next run knows what to remove, whenever this one is killed.
            resume.save(self._state_file, self._token, self._run, {"phase": "begun"})
        labels = self.analyzer.info.labels
        if stopped.get("phase") != "finishing":
            with ExitStack() as stack:
                lengths = stopped.get("tables", {})
                for kind, target in self.outputs.tables.items():
                    table = Table(kind, target, labels, self._token, lengths.get(kind))
                    self._tables.append(stack.enter_context(table))
                for index in range(stopped.get("film", 0), len(self.films)):
                    now = stopped if stopped.get("film") == index else {}
                    yield self._film(index, now.get("inside"), on_frame)
                self._save({"phase": "finishing", "tables": self._sync()})
                for table in self._tables:
                    table.finish()
        else:
            for kind, target in self.outputs.tables.items():
                finish_part(kind, target, labels, self._token, missing_ok=True)
        self._clean()

    def _folders(self) -> set[Path]:
        """Where the outputs are made."""
        return {Path(os.path.realpath(target)).parent for target in self._targets()}

    def _clean(self) -> None:
        """Remove what is left of the parts, and then the state: if killed between, once more."""
        remove_parts(self._folders(), self._token)
        if self._state_file is not None:
            self._state_file.unlink(missing_ok=True)

    def _sync(self) -> dict[str, int | None]:
        return {table.kind: table.sync() for table in self._tables}

    def _save(self, state: dict[str, Any]) -> None:
        if self._state_file is not None:
            resume.save(self._state_file, self._token, self._run, state)
            self._saved = True

    def _film(
        self, index: int, inside: dict[str, Any] | None, on_frame: OnFrame | None
    ) -> FilmSummary:
        film, place = self.films[index], self._places[index]
        one = _OneFilm(film, self.analyzer, self.options, place, inside, self._token)

        def save(inside: dict[str, Any]) -> None:
            self._save({"film": index, "inside": inside, "tables": self._sync()})

        try:
            for result in one.results(save):
                for table in self._tables:
                    table.write(result)
                if on_frame is not None:
                    on_frame(one.film, result)
            summary = one.finish()
        except BaseException:
            one.abandon()
            raise
        self._save({"film": index + 1, "inside": None, "tables": self._sync()})
        one.clean()
        return summary


class _OneFilm:
    """The part of a run that is about one film."""

    def __init__(
        self,
        film: Film,
        analyzer: Analyzer,
        options: Options,
        outputs: Outputs,
        state: dict[str, Any] | None = None,
        token: str | None = None,
    ) -> None:
        self.film, self.analyzer, self.options, self.outputs = film, analyzer, options, outputs
        o = options
        # With few frames a second a face is not lost from one to the next.
        gap = max(o.max_gap, 2.5 * o.every / film.fps)
        self.tracker = Tracker(gap)
        self.smoother = Smoother(o.smooth, o.margin, gap) if o.smooth else None
        self.cuts = CutDetector() if o.cuts else None
        self.timeline = Timeline(analyzer.info.labels)
        self.last: int | None = None
        self.time: float | None = None
        self.skipped = 0
        if state is not None:
            self.last, self.time, self.skipped = state["frame"], state["time"], state["skipped"]
            self.tracker.restore(state["tracker"])
            if self.smoother is not None:
                self.smoother.restore(state["smoother"])
            if self.cuts is not None:
                self.cuts.restore(state["cuts"])
            self.timeline.restore(state["timeline"])
        self.resumed = 0 if self.last is None else self.last + 1
        self.writer: FilmWriter | None = None
        if outputs.video is not None:
            saved = None if state is None else state["video"]
            self.writer = FilmWriter(
                outputs.video,
                film.fps / o.every,
                film.path,
                saved,
                token=token,
                offset=film.offset,
            )

    def state(self) -> dict[str, Any]:
        return {
            "frame": self.last,
            "time": self.time,
            "skipped": self.skipped,
            "tracker": self.tracker.state(),
            "smoother": None if self.smoother is None else self.smoother.state(),
            "cuts": None if self.cuts is None else self.cuts.state(),
            "timeline": self.timeline.state(),
            "video": None if self.writer is None else self.writer.checkpoint(),
        }

    def results(self, save: Callable[[dict[str, Any]], None]) -> Iterator[Result]:
        """Each frame's result, tracked and smoothed, once; ``save`` is called now and then."""
        o = self.options
        frames = self.film.frames(every=o.every, start=o.start, end=o.end, after=self.last)
        frame_bytes = self.film.width * self.film.height * 3
        stream = analyze_frames(
            self.analyzer,
            frames,
            source=str(self.film.path),
            frame_bytes=frame_bytes,
            batch=o.batch,
            workers=o.workers,
            images=self.writer is not None,
            thumbnails=self.outputs.plot is not None,
        )
        painter = _Painter(self.writer, frame_bytes, o.bars)
        saved = time.monotonic()
        with closing(painter), closing(stream):
            for seen in stream:
                if self.last is not None and time.monotonic() - saved > o.checkpoint:
                    # The frames before this one are with the tables and the painter.
                    painter.drain()
                    save(self.state())
                    saved = time.monotonic()
                result = self._take(seen)
                painter.paint(seen.image, result)
                yield result
            painter.drain()

    def _take(self, seen: Seen) -> Result:
        result, now = seen.result, seen.result.time or 0.0
        if self.cuts is not None and self.cuts.update(seen.glance, now):
            self.tracker.cut()
        faces = self.tracker.update(result.faces, now)
        if self.smoother is not None:
            faces = self.smoother.update(faces, now)
        result = replace(result, faces=faces)
        usual = self.options.every / self.film.fps
        # A frame stands for the time since the one before it; a hole in the film is nobody's.
        seconds = usual if self.time is None else min(now - self.time, max(1.0, 2 * usual))
        self.timeline.add(result, seconds, seen.thumbnails)
        self.last, self.time, self.skipped = result.frame, now, self.skipped + result.skipped
        return result

    def finish(self) -> FilmSummary:
        """Make the film and the page."""
        made = self.writer is not None and self.writer.finish()
        if self.outputs.plot is not None:
            write_text(
                self.outputs.plot, to_html(self.timeline, self.film.path.name, self._details())
            )
        return FilmSummary(
            self.film.path,
            self.timeline,
            self.resumed,
            self._cut_short(),
            self.skipped,
            self.outputs.video if made else None,
            self.outputs.plot,
            self.writer.codec if self.writer is not None else "",
        )

    def _cut_short(self) -> bool:
        expected, o = self.film.seconds_expected, self.options
        if expected is None:
            return False
        expected = expected if o.end is None else min(expected, o.end)
        reached = o.start if self.time is None else self.time
        return reached < 0.95 * expected - 1.0 - o.every / self.film.fps

    def _details(self) -> list[tuple[str, str]]:
        o, film, detector = self.options, self.film, self.analyzer.detector.name
        frames = "every frame" if o.every == 1 else f"every {o.every}th frame"
        smooth = f"over {o.smooth:g} s, margin {o.margin:g}" if o.smooth else "off"
        return [
            ("film", f"{film.path.name}, {film.width}×{film.height}, {film.fps:.3g} frames/s"),
            ("model", self.analyzer.info.name),
            ("detector", f"{detector}, on {frames}"),
            ("smoothing", smooth),
        ]

    def abandon(self) -> None:
        if self.writer is not None:
            self.writer.abandon()

    def clean(self) -> None:
        if self.writer is not None:
            self.writer.clean()


class _Painter:
    """Paints frames in threads and hands them to the writer in order."""

    def __init__(self, writer: FilmWriter | None, frame_bytes: int, bars: bool) -> None:
        self._writer, self._bars = writer, bars
        self._ahead = min(available_cores() + 1, waiting_room(frame_bytes))
        self._pool = ThreadPoolExecutor(available_cores(), "mien-paint") if writer else None
        self._waiting: deque[tuple[Future[Image], float]] = deque()

    def paint(self, image: Image | None, result: Result) -> None:
        if self._pool is None or image is None:
            return
        future = self._pool.submit(draw, image, result, bars=self._bars)
        self._waiting.append((future, result.time or 0.0))
        while len(self._waiting) > self._ahead:
            self._write_one()

    def _write_one(self) -> None:
        future, time = self._waiting.popleft()
        if self._writer is not None:
            self._writer.write(future.result(), time)

    def drain(self) -> None:
        """Write everything that is waiting."""
        while self._waiting:
            self._write_one()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
