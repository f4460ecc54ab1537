"""What a worker does: photos and segments of videos in, results out. It keeps only its models.

As a program (:func:`main`) it takes pickled tasks on standard input and gives
pickled outcomes on standard output, until its input ends: so it does not outlive its driver.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from mien import zoo
from mien.batch.fetch import check_plain, fetched, opened
from mien.batch.plan import Item
from mien.detect import VIDEO_MIN_FACE
from mien.errors import MienError, OutputError, first_line
from mien.images.codecs import MAX_MEMORY
from mien.pipeline import Analyzer, Found
from mien.results import Result
from mien.video.cuts import glance
from mien.video.flow import Seen, analyze_frames
from mien.video.options import Options as VideoOptions
from mien.video.reader import Frame, Video

#: Seconds of a video in one task, and how much earlier reading begins, to compare with the one
#: before it.
SEGMENT_SECONDS = 30.0
RUN_UP = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """How photos and videos are analysed: what is alike in all rows of a folder.

    Attributes:
        model, detector, min_face, min_score, min_confidence, min_quality, prior: of
            :class:`mien.Analyzer`; ``min_face`` is that of photos.
        video_min_face: the same for videos.
        faces: the photos already are faces.
        video: how videos are followed (:class:`mien.video.options.Options`).
        device: where the classifier runs; not compared when a run goes on.
    """

    model: str | Path = zoo.DEFAULT
    detector: str = "yunet"
    min_face: float | None = None
    min_score: float | None = None
    min_confidence: float = 0.0
    min_quality: float = 0.0
    prior: str | None = None
    video_min_face: float = VIDEO_MIN_FACE
    faces: bool = False
    video: VideoOptions = field(default_factory=VideoOptions)
    device: str = "cpu"

    def __post_init__(self) -> None:
        if isinstance(self.model, Path):  # the record holds text
            object.__setattr__(self, "model", str(self.model))

    def analyzer(self, videos: bool = False) -> Analyzer:
        """The analyzer of photos or of videos, with one thread. Raises ModelError."""
        return Analyzer(
            self.model,
            self.detector,
            min_face=self.video_min_face if videos else self.min_face,
            min_score=self.min_score,
            min_confidence=self.min_confidence,
            min_quality=self.min_quality,
            turns=not videos,
            threads=1,
            providers=self.device,
            prior=self.prior,
        )


@dataclass(frozen=True, slots=True)
class Source:
    """A row of the table of sources; ``error`` is a sentence where it could not be read, and where
    a video was not read whole: that has frames.

    ``sha256`` and ``size`` (bytes) are those of the content, ``modified`` is the file's time,
    ``seconds`` what the analysis took.
    """

    source: str
    kind: str
    sha256: str | None = None
    size: int | None = None
    modified: datetime | None = None
    seconds: float = 0.0
    frames: int = 0
    faces: int = 0
    skipped: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Photos:
    """A task: several photos."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Opening:
    """A task: open a video; what is no file of its own is analysed on the way."""

    item: Item


@dataclass(frozen=True, slots=True)
class Segment:
    """A task: the frames of an opened video from ``start`` to ``end``, seconds after its first.

    Attributes:
        first: number of its first frame, where that is known.
        exact: read the video from its beginning: what seeking gave was not what was before.
    """

    item: Item
    video: Video
    start: float = 0.0
    end: float | None = None
    first: int | None = None
    exact: bool = True


Task = Photos | Opening | Segment


@dataclass(frozen=True, slots=True)
class Opened:
    """The outcome of :class:`Opening`."""

    source: Source
    video: Video | None = None
    segment: SegmentSeen | None = None


@dataclass(slots=True)
class SegmentSeen:
    """The outcome of :class:`Segment`.

    Attributes:
        seen: its frames after analysis.
        before, last: time and :func:`mien.video.cuts.glance` of the frame before it and of
            its last one; None where there is none.
        first, frames: number of its first frame, as far as is known here, and how many there are.
        skipped_last: damaged frames that none of ``seen`` tells of.
    """

    seen: list[Seen] = field(default_factory=list)
    before: tuple[float, bytes] | None = None
    last: tuple[float, bytes] | None = None
    first: int = 0
    frames: int = 0
    skipped_last: int = 0
    seconds: float = 0.0
    error: str | None = None


class Worker:
    """Does tasks; one per process. Raises ModelError where the models cannot be loaded."""

    def __init__(self, options: Options) -> None:
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        import cv2

        cv2.utils.logging.setLogLevel(0)
        cv2.setNumThreads(1)
        self._options = options
        self._photos = options.analyzer()

    @cached_property
    def _videos(self) -> Analyzer:
        return self._options.analyzer(videos=True)

    def work(self, task: Task) -> Any:
        """The outcome: [(Source, Result or None), …], :class:`Opened` or :class:`SegmentSeen`.

        Raises OutputError where the temporary folder is full, say: no fault of a video's.
        """
        if isinstance(task, Photos):
            return self._look(task.items)
        return self._open(task.item) if isinstance(task, Opening) else self._segment(task)

    def answer(self, task: Task) -> bytes:
        """The pickled outcome, or the OutputError that ends the run."""
        try:
            return pickle.dumps(self.work(task))
        except OutputError as error:
            return pickle.dumps(error)

    def _look(self, items: Sequence[Item]) -> list[tuple[Source, Result | None]]:
        out: list[tuple[Source, Result | None]] = []
        found: list[Found] = []
        places: list[int] = []
        for item in items:
            begun = time.perf_counter()
            source, data = read(item)
            if data is not None:
                try:
                    seen = self._photos.find(data, faces=self._options.faces, source=item.name)
                    places.append(len(out))
                    found.append(seen)
                except MienError as error:
                    source = replace(source, error=str(error))
            out.append((replace(source, seconds=time.perf_counter() - begun), None))
        begun = time.perf_counter()
        results = self._photos.classify(found)
        share = (time.perf_counter() - begun) / max(1, len(found))
        for place, result in zip(places, results, strict=True):
            source = out[place][0]
            out[place] = replace(source, seconds=source.seconds + share), result
        return out

    def _open(self, item: Item) -> Opened:
        begun = time.perf_counter()
        source = Source(item.name, "video", error=item.problem)
        if item.problem:
            return Opened(source)
        path = Path(item.path)
        try:
            with ExitStack() as stack:
                check_plain(item)
                if not item.is_file:
                    path = stack.enter_context(fetched(item))
                with path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                when = _time(status.st_mtime) if item.is_file else None
                source = replace(source, sha256=digest, size=status.st_size, modified=when)
                video = Video(path)
                segment = None if item.is_file else self._segment(Segment(item, video))
        except OutputError:
            raise
        except Exception as error:  # every store and codec has errors of its own
            took = time.perf_counter() - begun
            return Opened(replace(source, error=_sentence(item, error, path), seconds=took))
        return Opened(replace(source, seconds=time.perf_counter() - begun), video, segment)

    def _segment(self, task: Segment) -> SegmentSeen:
        begun = time.perf_counter()
        out = SegmentSeen(first=task.first or 0)
        try:
            stream = analyze_frames(
                self._videos,
                _frames(task, out, self._options.video.every),
                source=task.item.name,
                frame_bytes=task.video.width * task.video.height * 3,
                workers=1,
            )
            out.seen = list(stream)
        except (MienError, OSError) as error:
            out.error = _sentence(task.item, error, task.video.path)
        out.last = out.last or out.before
        out.seconds = time.perf_counter() - begun
        return out


def _frames(task: Segment, out: SegmentSeen, every: int) -> Iterator[Frame]:
    """The frames of a segment to be looked at; ``out`` is told of the others."""
    video, start = task.video, task.start + task.video.offset
    near = video.frames() if task.exact else video.frames_near(max(0.0, task.start - RUN_UP))
    before: Frame | None = None
    lost, shift = 0, 0
    for frame in near:
        if frame.time < start:
            before = frame
            continue
        if not out.frames:
            if task.exact:
                out.first = frame.number - frame.skipped
            else:
                if before is None:  # it begins too late
                    return
                out.first = frame.number - frame.skipped if task.first is None else task.first
                shift = out.first - (frame.number - frame.skipped)
            out.before = None if before is None else _mark(before)
        if task.end is not None and frame.time >= task.end + video.offset:
            break
        number, lost = frame.number + shift, lost + frame.skipped
        out.frames, out.last = number + 1 - out.first, _mark(frame)
        if (number - video.first) % every == 0:
            yield replace(frame, number=number, skipped=lost)
            lost = 0
    if before is not None and out.before is None:
        out.before = _mark(before)
    out.skipped_last = lost + video.skipped_last


def _mark(frame: Frame) -> tuple[float, bytes]:
    return frame.time, glance(frame.image).tobytes()


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _sentence(item: Item, error: Exception, path: Path | None = None) -> str:
    """What is wrong, by the item's name, where ``path`` is that of a copy."""
    if isinstance(error, MienError):
        return str(error).replace(str(path), item.name) if path else str(error)
    if isinstance(error, FileNotFoundError):
        return f"{item.name} does not exist."
    return f"{item.name} cannot be read: {getattr(error, 'strerror', None) or first_line(error)}."


def read(item: Item) -> tuple[Source, bytes | None]:
    """The bytes of a photo and what is known of it; None where it cannot be read."""
    source = Source(item.name, "photo", error=item.problem)
    if item.problem:
        return source, None
    limit = MAX_MEMORY + 1 if item.span is None else min(item.span[1], MAX_MEMORY + 1)
    try:
        if item.data is not None:
            data, when = item.data, None
        else:
            with opened(item) as file:
                data = file.read(limit)
                when = _time(os.fstat(file.fileno()).st_mtime) if item.is_file else None
    except Exception as error:  # every store has errors of its own
        return replace(source, error=_sentence(item, error)), None
    if len(data) > MAX_MEMORY:
        why = f"{item.name} is larger than {MAX_MEMORY >> 20} MiB: no image that mien reads."
        return replace(source, error=why), None
    digest = hashlib.sha256(data).hexdigest()
    return replace(source, sha256=digest, size=len(data), modified=when), data


def main() -> None:
    """Serve one driver, until it is gone: options first, then tasks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers

    def received() -> Any:
        try:
            return pickle.load(sys.stdin.buffer)
        except (EOFError, pickle.UnpicklingError):  # it may be killed while it writes
            sys.exit()

    def answer(outcome: bytes) -> None:
        try:
            pickle.dump(outcome, answers)
            answers.flush()
        except BrokenPipeError:
            os._exit(0)  # an ordinary exit would try to write what is left

    try:
        worker = Worker(received())
    except MienError as error:
        return answer(pickle.dumps(str(error)))
    answer(pickle.dumps(None))
    while True:
        answer(worker.answer(received()))
