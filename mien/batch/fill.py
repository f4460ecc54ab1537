"""Outcomes in, rows out: the tables are filled part by part, and a film's parts become one film."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mien.batch.dataset import Dataset, Part
from mien.batch.engine import Engine
from mien.batch.plan import Item
from mien.batch.worker import PART_SECONDS, Opened, Opening, Options, PartSeen, Photos, Source, Task
from mien.batch.worker import Part as FilmPart
from mien.pipeline import Analyzer
from mien.results import Result
from mien.video.film import Film
from mien.video.one import OneFilm
from mien.video.options import Outputs


@dataclass(slots=True)
class Summary:
    """What a batch did: numbers of this run, and of what was done before it.

    Attributes:
        photos, films, frames, faces: analysed by this run; ``frames`` counts photos too.
        failed: sources that could not be read; each has its row, and ``error`` is the first one's.
        before: sources that were done already.
        total: sources there are, those done before among them; None while they are being counted,
            and where counting would mean reading archives.
        seconds: how long it took.
    """

    photos: int = 0
    films: int = 0
    frames: int = 0
    faces: int = 0
    failed: int = 0
    error: str = ""
    before: int = 0
    total: int | None = None
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Sources of this run that have their rows, or will with the next part."""
        return self.photos + self.films + self.failed


class Filler:
    """Takes outcomes in order and fills the tables; a film's parts are followed as one film."""

    def __init__(
        self,
        dataset: Dataset,
        analyzer: Analyzer,
        options: Options,
        checkpoint: float,
        summary: Summary,
        on_progress: Callable[[Summary], None],
        started: float,
    ) -> None:
        self._dataset, self._analyzer, self._options = dataset, analyzer, options
        self._checkpoint, self.summary, self._on_progress = checkpoint, summary, on_progress
        self._part: Part = dataset.next_part()
        self._begun = self._started = started
        self._film: _Following | None = None

    def fill(self, engine: Engine, tasks: Iterator[Task]) -> None:
        try:
            engine.run(tasks, self._take)
            self._commit()
        finally:
            self._part.discard()

    def _take(self, task: Task, outcome: Any) -> list[Task]:
        more: list[Task] = []
        if isinstance(task, Photos):
            for source, result in outcome:
                self._finish(source, [] if result is None else [result])
        elif isinstance(task, Opening):
            more = self._open(task.item, outcome)
        else:
            more = self._follow(task, outcome)
        if self._film is None and time.monotonic() - self._begun > self._checkpoint:
            self._commit()
        self.summary.seconds = time.monotonic() - self._started
        self._on_progress(self.summary)
        return more

    def _open(self, item: Item, opened: Opened) -> list[Task]:
        if opened.film is None or (opened.part is not None and opened.part.error):
            why = opened.source.error or (opened.part.error if opened.part else None)
            self._finish(replace(opened.source, error=why), [])
            return []
        self._film = _Following(opened.source, opened.film, self._analyzer, self._options)
        if opened.part is not None:
            return self._follow(FilmPart(item, opened.film), opened.part)
        length = opened.film.seconds_expected or 0.0
        count = max(1, round(length / PART_SECONDS))
        if count > 1:
            self._commit()  # so that a film that cannot be read to its end takes nothing with it
        ends = [PART_SECONDS * n for n in range(1, count)]
        return [
            FilmPart(item, opened.film, start, end, exact=not start)
            for start, end in zip([0.0, *ends], [*ends, None], strict=True)
        ]

    def _follow(self, task: FilmPart, part: PartSeen) -> list[Task]:
        film = self._film
        if film is None:  # a part before this one failed
            return []
        if part.error is None and (again := film.mismatch(task, part)) is not None:
            return [again]
        if part.error is None:
            self._add(film.take(part))
        if part.error is None and task.end is not None:
            return []
        source, self._film = film.source, None
        if part.error is not None:
            self.summary.frames -= source.frames
            self.summary.faces -= source.faces
            if task.start:  # rows of its earlier parts are there, and nothing else
                self._part.discard()
                self._part = self._dataset.next_part()
            self._finish(replace(source, error=part.error, frames=0, faces=0, skipped=0), [])
            return []
        self._add(film.rest())
        self._finish(film.source, [])
        return []

    def _add(self, results: Iterable[Result]) -> None:
        for result in results:
            self._part.add_frame(result)
            self.summary.frames += 1
            self.summary.faces += len(result.faces)

    def _finish(self, source: Source, results: Iterable[Result]) -> None:
        self._add(results)
        self._part.add(source)
        s = self.summary
        if source.error is not None:
            s.failed, s.error = s.failed + 1, s.error or source.error
        elif source.kind == "film":
            s.films += 1
        else:
            s.photos += 1

    def _commit(self) -> None:
        self._part.commit()
        self._part, self._begun = self._dataset.next_part(), time.monotonic()


class _Following:
    """A film whose parts come in one after the other."""

    def __init__(self, source: Source, film: Film, analyzer: Analyzer, options: Options) -> None:
        self.source = source
        self._every = options.film.every
        self._one = OneFilm(film, analyzer, options.film, Outputs())
        self._next = 0
        self._last: tuple[float, bytes] | None = None

    def mismatch(self, task: FilmPart, part: PartSeen) -> FilmPart | None:
        """The task again, where the part does not continue what came before it."""
        if task.exact:
            return None
        if part.before != self._last:
            return replace(task, exact=True)
        if part.frames and part.first != self._next and self._every > 1:
            return replace(task, first=self._next)  # the rate varies: other frames were chosen
        return None

    def take(self, part: PartSeen) -> Iterator[Result]:
        """The results that are known with this part, numbered as if it were read from the start."""
        shift = self._next - part.first
        for seen in part.seen:
            result = seen.result
            if shift and result.frame is not None:
                result = replace(result, frame=result.frame + shift)
            yield from self._counted(
                self._one.decided(self._one.follow(replace(seen, result=result)))
            )
        if part.frames:
            self._next = part.first + shift + part.frames
        self._last = part.last
        self.source = replace(self.source, seconds=self.source.seconds + part.seconds)

    def rest(self) -> Iterator[Result]:
        """The results that were held back to the end."""
        yield from self._counted(self._one.decided(None))

    def _counted(self, results: Iterator[Result]) -> Iterator[Result]:
        for result in results:
            s = self.source
            self.source = replace(
                s,
                frames=s.frames + 1,
                faces=s.faces + len(result.faces),
                skipped=s.skipped + result.skipped,
            )
            yield result
