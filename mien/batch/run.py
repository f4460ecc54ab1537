"""From sources to tables: what is not done yet is given to workers and committed part by part."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread

from mien.atomic import lock
from mien.batch.dataset import Dataset, key, merge, read_record, record_of
from mien.batch.engine import Engine, Process, Remote
from mien.batch.fill import Filler, Summary
from mien.batch.plan import Item, check_sources, find_items
from mien.batch.worker import Opening, Options, Photos, Task
from mien.classify import available_cores
from mien.errors import MienError, check_count
from mien.pipeline import Analyzer
from mien.sources import STDIN, is_address

DEFAULT = Options()
#: Photos of one task.
CHUNK = 16
#: Of a compressed archive, whose bytes are read here, a task has fewer photos.
CHUNK_BYTES = 64 << 20


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
    """Analyse an archive of photos and videos into Parquet tables, each source once.

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
        retry: do again those of ``sources`` that could not be read; the others' rows stay.
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
    out = shard_folder(out, shard)
    analyzer = options.analyzer(videos=True)
    started = time.monotonic()
    with lock(out):
        dataset = open_dataset(out, options, analyzer)
        seen, failed, damaged = dataset.done()
        again = failed if retry else set()
        seen -= again
        summary = Summary(before=len(seen), before_failed=len(failed - again), damaged=damaged)
        rows = Filler(dataset, analyzer, options, checkpoint, summary, on_progress, started)
        plan = _tasks(find_items(sources, unseen(seen, number, shards), column))
        _count_aside(sources, column, summary, (number, shards))
        with ExitStack() as stack:
            stack.enter_context(_replacing(dataset, again, seen))
            start, workers = _starter(engine, options, workers, address, gpus, stack)
            rows.fill(Engine(start, workers), plan)
        left = len(again - seen)  # no sources of this run
        summary.before, summary.before_failed = summary.before + left, summary.before_failed + left
    summary.seconds = time.monotonic() - started
    return summary


@contextmanager
def _replacing(dataset: Dataset, again: set[bytes], seen: set[bytes]) -> Iterator[None]:
    """Drop at last the old rows of what is tried ``again``; of a stopped run those that have new
    ones."""
    tried: set[bytes] = set()
    try:
        yield
        tried = again & seen
    finally:
        if again:
            dataset.drop_replaced(tried)


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
        before, earlier, damaged = dataset.done()
        seen, failed = set(before), set(earlier)
        damaged += merge(found, dataset, seen, failed)
    before -= earlier - failed  # an error that a shard has mended counts as joined now
    new, wrong, old = len(seen) - len(before), len(failed - earlier), len(failed & earlier)
    summary = Summary(photos=new - wrong, failed=wrong, before=len(before), before_failed=old)
    summary.damaged = damaged
    return summary


def _shards(out: Path) -> list[Path]:
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


def shard_folder(out: str | Path, shard: str | None) -> Path:
    """The folder that a share is written to. Raises MienError."""
    number, shards = parse_shard(shard)
    return Path(out) if shard is None else Path(out) / f"shard-{number}-of-{shards}"


def open_dataset(out: Path, options: Options, analyzer: Analyzer, *, sweep: bool = True) -> Dataset:
    """The folder for rows of these options. Raises OutputError."""
    record = record_of(options, analyzer.info.labels, analyzer.classifier.sha256)
    return Dataset(out, record, sweep=sweep)


def in_share(mark: bytes, number: int, shards: int) -> bool:
    """Whether the source of this key is in the ``number``-th of so many shares."""
    return int.from_bytes(mark[:8]) % shards == number - 1


def unseen(seen: set[bytes], number: int, shards: int) -> Callable[[str], bool]:
    """Whether a name is this shard's and was not given before; from then on it was."""

    def wanted(name: str) -> bool:
        mark = key(name)
        if not in_share(mark, number, shards) or mark in seen:
            return False
        seen.add(mark)
        return True

    return wanted


def _tasks(items: Iterator[Item]) -> Iterator[Task]:
    chunk: list[Item] = []
    held = 0
    for item in items:
        if item.video:
            yield Opening(item)
            continue
        chunk.append(item)
        held += len(item.data or b"")
        if len(chunk) == CHUNK or held > CHUNK_BYTES:
            yield Photos(tuple(chunk))
            chunk, held = [], 0
    if chunk:
        yield Photos(tuple(chunk))


def _count_aside(
    sources: Sequence[str | Path], column: str, summary: Summary, share: tuple[int, int]
) -> None:
    """Count the sources in a thread, for the time left; a store is not listed twice for it."""

    def count() -> None:
        total = 0
        with suppress(MienError):  # the run says it
            for item in find_items(sources, lambda name: in_share(key(name), *share), column):
                if item.data is not None:  # it would all be read twice
                    return
                total += 1
            summary.total = total

    if not any(str(source) == STDIN or is_address(str(source)) for source in sources):
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
    if workers is not None:
        check_count("workers", workers, MienError)
    if engine == "local":
        return lambda: Process(options), workers or available_cores()
    if engine == "ray":
        from mien.batch.cluster import ray_starter

        return ray_starter(options, workers, address, gpus, stack)
    raise MienError(f"Unknown engine {engine!r}; known: local, ray.")
