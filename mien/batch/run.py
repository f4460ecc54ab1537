"""From sources to tables: what is not done yet is given to workers and committed part by part."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

from mien.atomic import lock
from mien.batch.dataset import Dataset, Part, key, merge, read_record, record_of
from mien.batch.engine import Engine, Process, Remote
from mien.batch.plan import Item, check_sources, find_items
from mien.batch.worker import (
    PART_SECONDS,
    Opened,
    Opening,
    Options,
    PartSeen,
    Photos,
    Source,
    Task,
    Worker,
)
from mien.batch.worker import Part as FilmPart
from mien.classify import available_cores
from mien.errors import MienError
from mien.pipeline import Analyzer
from mien.results import Result
from mien.video.film import Film
from mien.video.one import OneFilm
from mien.video.options import Outputs

DEFAULT = Options()
#: Photos of one task.
CHUNK = 16
#: Photos and films that a dry run tries, and the seconds of a film that it looks at.
TRIED_PHOTOS, TRIED_FILMS, TRIED_SECONDS = 32, 4, 4.0


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


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a dry run found: how much there is to do, and how long that will take.

    Attributes:
        before: sources that are done already, and not counted in the others.
        photo_seconds: of one core for one photo.
        film_seconds: length of all films, by what was sampled.
        film_cost: seconds of one core for one second of film.
        workers: processes; ``seconds`` is the time with so many.
    """

    photos: int
    films: int
    before: int
    photo_seconds: float
    film_seconds: float
    film_cost: float
    workers: int

    @property
    def seconds(self) -> float:
        work = self.photos * self.photo_seconds + self.film_seconds * self.film_cost
        return work / self.workers


def batch(
    sources: Sequence[str | Path] | str | Path,
    out: str | Path,
    *,
    options: Options = DEFAULT,
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    gpus: float = 0,
    shard: str | None = None,
    retry: bool = False,
    column: str = "",
    checkpoint: float = 60.0,
    on_progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Analyse an archive of photos and films into Parquet tables, each source once.

    Stopped anywhere, or with more sources, the same call does what is left.

    Args:
        sources: files, folders, globs, lists (text, CSV, Parquet), tar and zip archives, WebDataset
            shards, addresses that fsspec knows.
        out: the folder of the tables.
        options: how to analyse; the same for all of a folder.
        engine: "local" (processes of this machine) or "ray".
        workers: processes or actors; None takes every core (of the cluster).
        address: of a running Ray cluster; None starts one on this machine.
        gpus: GPUs for each of Ray's actors.
        shard: "3/16" does the third of sixteen shares, into a folder of its own in ``out``:
            :func:`join` joins them.
        retry: do again what could not be read.
        column: the column of a list's paths.
        checkpoint: seconds between two parts: what a killed run has to do again.
        on_progress: called with the summary so far, after every task.

    Raises:
        MienError: a source is not there; ``out`` is of other options, in use or cannot be written;
            pyarrow, fsspec or Ray is missing.
    """
    sources = [sources] if isinstance(sources, (str, Path)) else list(sources)
    check_sources(sources)
    number, shards = parse_shard(shard)
    out = Path(out) if shard is None else Path(out) / f"shard-{number}-of-{shards}"
    analyzer = options.analyzer(films=True)
    started = time.monotonic()
    with lock(out):
        dataset = _dataset(out, options, analyzer)
        if retry:
            dataset.forget_failed()
        summary = Summary()
        seen = set(dataset.done())
        summary.before = len(seen)
        filler = _Filler(dataset, analyzer, options, checkpoint, summary, on_progress, started)
        plan = _tasks(find_items(sources, _wanted(seen, number, shards), column))
        _count_aside(sources, column, summary, (number, shards))
        with ExitStack() as stack:
            start, workers = _starter(engine, options, workers, address, gpus, stack)
            filler.fill(Engine(start, workers), plan)
    summary.seconds = time.monotonic() - started
    return summary


def join(
    out: str | Path, folders: Sequence[str | Path] = (), *, options: Options = DEFAULT
) -> Summary:
    """Join shards, or other batches' folders, into the folder ``out``, each source once.

    Args:
        folders: what to join; the folders of the shards in ``out`` if none is named.

    Raises:
        MienError: there is nothing to join, a shard is missing, or options differ.
    """
    out = Path(out)
    found = [Path(folder) for folder in folders] or _shards(out)
    record = read_record(found[0])
    if record is None:
        raise MienError(f"{found[0]} is no batch's folder.")
    with ExitStack() as stack:
        for folder in (out, *found):
            stack.enter_context(lock(folder))
        dataset = Dataset(out, record)
        before = sum(1 for _ in dataset.done())
        added, failed = merge(found, dataset)
    return Summary(photos=added - failed, failed=failed, before=before)


def _shards(out: Path) -> list[Path]:
    """The folders of all shards in ``out``."""
    names = [re.fullmatch(r"shard-(\d+)-of-(\d+)", p.name) for p in out.glob("shard-*-of-*")]
    pairs = sorted((int(m[1]), int(m[2])) for m in names if m)
    if not pairs:
        raise MienError(f"{out} holds no shards; name the folders to join.")
    total = pairs[0][1]
    missing = sorted({(n, total) for n in range(1, total + 1)} - set(pairs))
    if missing or len(pairs) != total:
        raise MienError(
            f"{out} holds {len(pairs)} of {total} shards"
            + (f"; number {missing[0][0]} is missing." if missing else " and others.")
        )
    return [out / f"shard-{number}-of-{total}" for number, _ in pairs]


def parse_shard(shard: str | None) -> tuple[int, int]:
    """(3, 16) from "3/16"; (1, 1) from None. Raises MienError."""
    if shard is None:
        return 1, 1
    match = re.fullmatch(r"(\d+)/(\d+)", shard.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise MienError(f"{shard!r} is no shard; write 3/16 for the third of sixteen.")
    return int(match[1]), int(match[2])


def _dataset(out: Path, options: Options, analyzer: Analyzer) -> Dataset:
    return Dataset(out, record_of(options, analyzer.info.labels, analyzer.classifier.sha256))


def _wanted(seen: set[bytes], number: int, shards: int) -> Callable[[str], bool]:
    """Whether a name is this shard's and was not given before; from then on it was."""

    def wanted(name: str) -> bool:
        mark = key(name)
        if int.from_bytes(mark[:8]) % shards != number - 1 or mark in seen:
            return False
        seen.add(mark)
        return True

    return wanted


def _tasks(items: Iterator[Item]) -> Iterator[Task]:
    chunk: list[Item] = []
    for item in items:
        if item.film:
            yield Opening(item)
            continue
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield Photos(tuple(chunk))
            chunk = []
    if chunk:
        yield Photos(tuple(chunk))


def _count_aside(
    sources: Sequence[str | Path], column: str, summary: Summary, share: tuple[int, int]
) -> None:
    """Count the sources in a thread, for the time left."""

    def count() -> None:
        number, shards = share

        def wanted(name: str) -> bool:
            return int.from_bytes(key(name)[:8]) % shards == number - 1

        total = 0
        try:
            for item in find_items(sources, wanted, column):
                if item.data is not None:  # it would all be read twice
                    return
                total += 1
        except MienError:  # the run says it
            return
        summary.total = total

    if "-" not in sources:
        Thread(target=count, name="mien-count", daemon=True).start()


def _starter(
    engine: str,
    options: Options,
    workers: int | None,
    address: str | None,
    gpus: float,
    stack: ExitStack,
) -> tuple[Callable[[], Remote], int]:
    """What makes a worker, and how many there are to be."""
    if workers is not None and workers < 1:
        raise MienError(f"workers is {workers}; expected 1 or more.")
    if engine == "local":
        return lambda: Process(options), workers or available_cores()
    raise MienError(f"Unknown engine {engine!r}; known: local, ray.")


class _Filler:
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


def estimate(
    sources: Sequence[str | Path] | str | Path,
    out: str | Path | None = None,
    *,
    options: Options = DEFAULT,
    workers: int | None = None,
    column: str = "",
    seed: int = 0,
) -> Estimate:
    """Count what there is to do and try a sample of it in this process: nothing is written.

    Args:
        sources, options, workers, column: as for :func:`batch`.
        out: the folder, to leave out what is done.

    Raises:
        MienError: as :func:`batch`.
    """
    sources = [sources] if isinstance(sources, (str, Path)) else list(sources)
    check_sources(sources)
    seen: set[bytes] = set()
    if out is not None and read_record(Path(out)) is not None:
        seen = set(_dataset(Path(out), options, options.analyzer()).done())
    before, chance = len(seen), random.Random(seed)
    counts = [0, 0]
    samples: tuple[list[Item], list[Item]] = ([], [])
    for item in find_items(sources, _wanted(seen, 1, 1), column):
        sample, most = samples[item.film], (TRIED_PHOTOS, TRIED_FILMS)[item.film]
        counts[item.film] += 1
        if len(sample) < most:
            sample.append(item)
        elif (place := chance.randrange(counts[item.film])) < most:
            sample[place] = item
    worker = Worker(options)
    worker.work(Photos(tuple(samples[0][:1])))  # the first call takes longer
    begun = time.perf_counter()
    worker.work(Photos(tuple(samples[0])))
    photo = (time.perf_counter() - begun) / max(1, len(samples[0]))
    length = looked_at = took = 0.0
    opened = [Opening(item) for item in samples[1]]
    for task in opened:
        film = worker.work(task).film
        if film is not None:
            seconds = film.seconds_expected or 0.0
            part = worker.work(FilmPart(task.item, film, 0.0, min(seconds, TRIED_SECONDS)))
            length, took = length + seconds, took + part.seconds
            looked_at += min(seconds, TRIED_SECONDS)
    film_seconds = length / max(1, len(opened)) * counts[1]
    cost = took / looked_at if looked_at else 0.0
    cores = workers or available_cores()
    return Estimate(counts[0], counts[1], before, photo, film_seconds, cost, cores)
