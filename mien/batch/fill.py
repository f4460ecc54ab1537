"""Outcomes in, rows out: the tables are filled part by part, and segments one video."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mien.batch import worker
from mien.batch.dataset import Dataset, Part
from mien.batch.engine import Engine
from mien.batch.plan import Item
from mien.pipeline import Analyzer
from mien.results import Result
from mien.text import clock, counted
from mien.video.one import OneVideo
from mien.video.options import Outputs
from mien.video.reader import Video


@dataclass(slots=True)
class Summary:
    """What a batch did: numbers of this run, and of what was done before it.

    Attributes:
        photos, videos, frames, faces: analysed by this run; ``frames`` counts photos too.
        failed: sources that could not be read; each has its row, and ``error`` is the first one's.
        damaged: videos in the tables that were read, but not whole.
        before, before_failed: sources that were done already, and those that could not be read.
        total: sources there are, those done before among them; None while they are being counted,
            and where counting would mean reading archives.
        seconds: how long it took.
    """

    photos: int = 0
    videos: int = 0
    frames: int = 0
    faces: int = 0
    failed: int = 0
    damaged: int = 0
    error: str = ""
    before: int = 0
    before_failed: int = 0
    total: int | None = None
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Sources of this run that have their rows, or will with the next part."""
        return self.photos + self.videos + self.failed

    @property
    def exit_code(self) -> int:
        """0: every source in the tables was read whole; 1: some were not; 2: none was."""
        if not (self.failed or self.before_failed or self.damaged):
            return 0
        return 1 if self.photos or self.videos or self.before > self.before_failed else 2


class Filler:
    """Takes outcomes in order and fills the tables."""

    def __init__(
        self,
        dataset: Dataset,
        analyzer: Analyzer,
        options: worker.Options,
        checkpoint: float,
        summary: Summary,
        on_progress: Callable[[Summary], None],
        started: float,
    ) -> None:
        self._dataset, self._analyzer, self._options = dataset, analyzer, options
        self._checkpoint, self.summary, self._on_progress = checkpoint, summary, on_progress
        self._part: Part = dataset.next_part()
        self._begun = self._started = started
        self._video: _Following | None = None

    def fill(self, engine: Engine, tasks: Iterator[worker.Task]) -> None:
        try:
            engine.run(tasks, self._take)
            self._commit()
        finally:
            self._part.discard()

    def _take(self, task: worker.Task, outcome: Any) -> list[worker.Task]:
        more: list[worker.Task] = []
        if isinstance(task, worker.Photos):
            for source, result in outcome:
                self._finish(source if result is None else self._add([result], source))
        elif isinstance(task, worker.Opening):
            more = self._open(task.item, outcome)
        else:
            more = self._follow(task, outcome)
        if self._video is None and time.monotonic() - self._begun > self._checkpoint:
            self._commit()
        self.summary.seconds = time.monotonic() - self._started
        self._on_progress(self.summary)
        return more

    def _open(self, item: Item, opened: worker.Opened) -> list[worker.Task]:
        if opened.video is None or (opened.segment is not None and opened.segment.error):
            why = opened.source.error or (opened.segment.error if opened.segment else None)
            self._finish(replace(opened.source, error=why))
            return []
        self._video = _Following(opened.source, opened.video, self._analyzer, self._options)
        if opened.segment is not None:
            return self._follow(worker.Segment(item, opened.video), opened.segment)
        length = opened.video.seconds_expected or 0.0
        count = max(1, round(length / worker.SEGMENT_SECONDS))
        if count > 1:
            self._commit()  # so that a video that cannot be read to its end takes nothing with it
        ends = [worker.SEGMENT_SECONDS * n for n in range(1, count)]
        return [
            worker.Segment(item, opened.video, start, end, exact=not start)
            for start, end in zip([0.0, *ends], [*ends, None], strict=True)
        ]

    def _follow(self, task: worker.Segment, segment: worker.SegmentSeen) -> list[worker.Task]:
        video = self._video
        if video is None:  # a segment before this one failed
            return []
        if segment.error is None and (again := video.mismatch(task, segment)) is not None:
            return [again]
        if segment.error is None:
            source = replace(video.source, seconds=video.source.seconds + segment.seconds)
            video.source = self._add(video.take(segment), source)
            if task.end is not None:
                return []
        source, self._video = video.source, None
        if segment.error is not None:
            self.summary.frames -= source.frames
            self.summary.faces -= source.faces
            if task.start:  # rows of its earlier segments are there, and nothing else
                self._part.discard()
                self._part = self._dataset.next_part()
            self._finish(replace(source, error=segment.error, frames=0, faces=0, skipped=0))
        else:
            self._finish(video.judged(self._add(video.rest(), source)))
        return []

    def _add(self, results: Iterable[Result], source: worker.Source) -> worker.Source:
        """Add the rows of a source's results; returns it with them counted."""
        frames, faces, skipped = source.frames, source.faces, source.skipped
        for result in results:
            self._part.add_frame(result)
            frames, faces = frames + 1, faces + len(result.faces)
            skipped += result.skipped
        self.summary.frames += frames - source.frames
        self.summary.faces += faces - source.faces
        return replace(source, frames=frames, faces=faces, skipped=skipped)

    def _finish(self, source: worker.Source) -> None:
        self._part.add(source)
        s = self.summary
        s.error = s.error or source.error or ""
        if source.error is not None and not source.frames:
            s.failed += 1
            return
        s.damaged += source.error is not None
        if source.kind == "video":
            s.videos += 1
        else:
            s.photos += 1

    def _commit(self) -> None:
        self._part.commit()
        self._part, self._begun = self._dataset.next_part(), time.monotonic()


class _Following:
    """A video whose segments come in one after the other."""

    def __init__(
        self, source: worker.Source, video: Video, analyzer: Analyzer, options: worker.Options
    ) -> None:
        self.source = source
        self._every = options.video.every
        self._one = OneVideo(video, analyzer, options.video, Outputs())
        self._next = 0
        self._last: tuple[float, bytes] | None = None
        self._lost = 0

    def mismatch(self, task: worker.Segment, segment: worker.SegmentSeen) -> worker.Segment | None:
        """The task again, where the segment does not continue what came before it."""
        if task.exact:
            return None
        if segment.before != self._last:
            return replace(task, exact=True)
        if segment.frames and segment.first != self._next and self._every > 1:
            return replace(task, first=self._next)  # the rate varies: other frames were chosen
        return None

    def take(self, segment: worker.SegmentSeen) -> Iterator[Result]:
        """The results that are known with this segment, numbered as if read from the start."""
        shift = self._next - segment.first
        for seen in segment.seen:
            result = seen.result
            if shift and result.frame is not None:
                result = replace(result, frame=result.frame + shift)
            result, self._lost = replace(result, skipped=result.skipped + self._lost), 0
            yield from self._one.decided(self._one.follow(replace(seen, result=result)))
        if segment.frames:
            self._next = segment.first + shift + segment.frames
        self._last, self._lost = segment.last, self._lost + segment.skipped_last

    def rest(self) -> Iterator[Result]:
        """The results that were held back to the end."""
        return self._one.decided(None)

    def judged(self, source: worker.Source) -> worker.Source:
        """The row of the whole video, which says where it was not read whole."""
        skipped, why = source.skipped + self._lost, []
        if skipped:
            why.append(f"{counted(skipped, 'damaged frame')} skipped")
        if self._one.cut_short():
            why.append(f"it ends at {clock(self._one.time or 0.0)}, before its container says")
        error = f"{source.source} was not read whole: {'; '.join(why)}." if why else None
        return replace(source, skipped=skipped, error=error)
