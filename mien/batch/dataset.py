"""The folder that a batch fills: three tables in files that appear together, and what is done.

``sources``, ``frames`` and ``faces`` hold Parquet files of the same names, one of each a part of
the run. The file of the sources is renamed last: a source is done when it stands there, and what
has no such file beside it was never finished and is removed. So there is no other manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mien._system import arrow_errors, import_pyarrow_parquet
from mien._version import __version__
from mien.atomic import atomic_path, make_folder, output_error, write_text
from mien.batch.worker import Options, Source
from mien.emotions import Label, to_labels
from mien.errors import OutputError, first_line, require_extra
from mien.results import Result
from mien.sinks.rows import columns, face_rows, parquet_schema

#: Raised when a table changes.
FORMAT = 1
TABLES = ("frames", "faces", "sources")
RECORD = "batch.json"
FRAMES = ("source", "frame", "time", "skipped", "width", "height", "faces")
#: Columns of the sources that tell what is done.
_STATE = ("source", "error", "frames")
#: Rows that are gathered before they are written.
GROUP = 8192


def key(name: str) -> bytes:
    """Sixteen bytes that stand for a source's name."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Dataset:
    """A folder of tables. The caller holds its lock (:func:`mien.atomic.lock`).

    Args:
        folder: made if it is not there.
        record: what is alike in all its rows: :func:`record_of`.
        sweep: remove what a killed run left; without, only read and without the lock.

    Raises:
        OutputError: it was begun with another record, is something else, or cannot be written.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any], *, sweep: bool = True) -> None:
        self.folder, self.record = folder, dict(record)
        require_extra("scale", ("pyarrow",), "`mien batch`")
        self._pq = import_pyarrow_parquet()
        old = read_record(folder)
        if old is None:
            others = ("shard-", ".")  # shards that are to be joined here; locks
            if folder.is_dir() and any(not p.name.startswith(others) for p in folder.iterdir()):
                raise OutputError(f"{folder} is not empty and no batch's; name a new folder.")
            make_folder(folder)
            write_text(folder / RECORD, json.dumps(self.record, indent=2) + "\n")
        else:
            same_record(folder, old, self.record)
        self._before, self._mends = set(self.files("sources")), sweep
        if sweep:
            self._sweep()

    def _sweep(self) -> None:
        """Remove what a killed run left: files without their sources."""
        done = {path.name for path in self.files("sources")}
        for table in TABLES:
            if (self.folder / table).is_symlink():  # what it points to is somebody else's
                raise OutputError(f"{self.folder / table} is a link; give the folder of the batch.")
        for table in TABLES[:-1]:
            make_folder(self.folder / table)
            there = {path.name for path in self.files(table)}
            if lost := sorted(done - there):
                gone = self.folder / table / lost[0]
                raise OutputError(f"{gone} is missing, a part of what was done: restore it.")
            for name in there - done:
                (self.folder / table / name).unlink()
        make_folder(self.folder / "sources")

    def files(self, table: str) -> list[Path]:
        return sorted((self.folder / table).glob("[!.]*.parquet"))

    def done(self) -> tuple[set[bytes], set[bytes], int]:
        """The :func:`key` of every source that is done, and of those that could not be read; and
        how many were read, but not whole.

        Errors that a killed run had mended are removed.
        """
        keys, failed, replaced, damaged = self._scan()
        if self._mends:
            self._remove(replaced)
        return keys, set(map(key, failed)), damaged

    def _scan(self) -> tuple[set[bytes], dict[str, Path], dict[Path, list[str]], int]:
        """The keys of all sources, those that could not be read and where, by file those of them
        that have a newer row, and how many were not read whole."""
        keys: set[bytes] = set()
        damaged = 0
        failed: dict[str, Path] = {}
        replaced: dict[Path, list[str]] = {}
        for path in self.files("sources"):
            for name, unread, part in self._rows(path):
                keys.add(key(name))
                if (before := failed.pop(name, None)) is not None:
                    replaced.setdefault(before, []).append(name)
                if unread:
                    failed[name] = path
                damaged += part
        return keys, failed, replaced, damaged

    def _rows(self, path: Path) -> Iterator[tuple[str, bool, bool]]:
        """The source of every row of a file, whether it could not be read, and whether it was not
        read whole."""
        columns = self._sources(path, [*_STATE]).to_pydict()
        rows = zip(*(columns[name] for name in _STATE), strict=True)
        return (
            (name, error is not None and not frames, error is not None and bool(frames))
            for name, error, frames in rows
        )

    def _sources(self, path: Path, names: list[str] | None = None) -> Any:
        try:
            table = self._pq.read_table(path, columns=names, partitioning=None)
            if str(table["source"].type) != "string" or table["source"].null_count:
                raise ValueError("a source has no name")
            return table
        except arrow_errors() as error:
            raise _damaged(path, error) from None

    def drop_replaced(self, mended: Set[bytes] = frozenset()) -> None:
        """Remove the row of every source that could not be read and has a newer one.

        Args:
            mended: those whose rows of before the run go anyhow: an archive that can be read now
                has none of its own.
        """
        _, failed, replaced, _ = self._scan()
        for name, path in failed.items():
            if path in self._before and key(name) in mended:
                replaced.setdefault(path, []).append(name)
        self._remove(replaced)

    def _remove(self, failed: Mapping[Path, list[str]]) -> None:
        """Take the errors of these sources out of the files."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for path, names in failed.items():
            table = self._sources(path)
            old = pc.is_in(table["source"], value_set=pa.array(names, pa.string()))
            old = pc.and_(old, table["error"].is_valid())
            with atomic_path(path) as temporary:
                kept = table.filter(pc.invert(old))
                self._pq.write_table(kept, temporary, compression="zstd")

    def schemas(self) -> dict[str, Any]:
        """The ``pyarrow.Schema`` of each table, with the record in its metadata."""
        import pyarrow as pa

        text, whole = pa.string(), pa.int64()
        kinds = {"size": whole, "modified": pa.timestamp("us", tz="UTC"), "seconds": pa.float64()}
        kinds |= dict.fromkeys(("frames", "faces", "skipped"), pa.int32())
        labels = to_labels(self.record["labels"])
        schemas = {
            "sources": pa.schema([(f.name, kinds.get(f.name, text)) for f in fields(Source)]),
            "frames": parquet_schema(FRAMES),
            "faces": parquet_schema(columns(labels, video=True)),
        }
        flat = {
            f"mien.{name}": value if isinstance(value, str) else json.dumps(value)
            for name, value in self.record.items()
        }
        return {name: schema.with_metadata(flat) for name, schema in schemas.items()}

    def next_part(self) -> Part:
        last = max((int(p.stem) for p in self.files("sources") if p.stem.isdecimal()), default=-1)
        return Part(self.folder, f"{last + 1:08d}.parquet", self.schemas())


def _damaged(path: Path, error: Exception) -> OutputError:
    return OutputError(f"{path} is damaged: {first_line(error)}; restore it.")


class Part:
    """Rows that appear together, with :meth:`commit`, or not at all. Rows are not kept in memory.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, folder: Path, name: str, schemas: Mapping[str, Any]) -> None:
        self._place, self._schemas = (folder, name), schemas
        self._stack, self._files = ExitStack(), ExitStack()
        self._rows: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
        self._writers: dict[str, Any] = {}
        self.sources = 0

    def _writer(self, table: str) -> Any:
        if not self._writers:
            pq, (folder, name) = import_pyarrow_parquet(), self._place
            for one in reversed(TABLES):  # the sources' file is the last to be renamed
                path = self._stack.enter_context(atomic_path(folder / one / name))
                writer = pq.ParquetWriter(path, self._schemas[one], compression="zstd")
                self._writers[one] = self._files.enter_context(writer)
        return self._writers[table]

    def add(self, source: Source) -> None:
        """The row of a source; its frames were added before."""
        self.sources += 1
        self._put("sources", [asdict(source)])

    def add_frame(self, result: Result) -> None:
        rows = face_rows(result)
        self._put("frames", [{name: rows[0].get(name) for name in FRAMES}])
        if result.faces:
            self._put("faces", rows)

    def _put(self, table: str, rows: list[dict[str, Any]]) -> None:
        self._rows[table] += rows
        if len(self._rows[table]) >= GROUP:
            self._flush(table)

    def _flush(self, table: str) -> None:
        import pyarrow as pa

        rows, self._rows[table] = self._rows[table], []
        try:
            writer = self._writer(table)
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=self._schemas[table]))
        except OSError as error:
            self.discard()
            raise output_error(self._place[0], error) from error

    def commit(self) -> None:
        """Write it, if it holds a source."""
        if not self.sources:
            self.discard()
            return
        try:
            for table in TABLES:
                self._flush(table)
            self._files.close()
        except OSError as error:
            self.discard()
            raise output_error(self._place[0], error) from error
        except BaseException:
            self.discard()
            raise
        self._stack.close()

    def discard(self) -> None:
        for stack in (self._files, self._stack):
            with suppress(OSError, _Dropped):  # a full disk lets no file be closed either
                stack.__exit__(_Dropped, _Dropped(), None)


class _Dropped(Exception):  # noqa: N818 - an event
    """Thrown into the writers of a part that is not wanted."""


def record_of(options: Options, labels: Sequence[Label], sha256: str) -> dict[str, Any]:
    """What is alike in all rows of a folder, JSON-ready."""
    chosen = asdict(options)
    video = chosen.pop("video")
    del chosen["device"]
    for name in ("start", "end", "batch", "workers", "bars", "checkpoint"):
        del video[name]
    return {
        "format": FORMAT,
        "mien_version": __version__,
        "model_sha256": sha256,
        "labels": [label.value for label in labels],
        "options": {**chosen, **{f"video_{name}": value for name, value in video.items()}},
    }


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a batch's folder; None if there is none. Raises OutputError."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record["options"], dict) and isinstance(record["labels"], list):
            return dict(record)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise OutputError(f"{path} is damaged; restore it, or name a new folder.")


def same_record(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise OutputError where rows of ``new`` do not belong to the folder of ``old``."""
    old, new = json.loads(json.dumps([old, new]))
    other = [name for name in ("format", "model_sha256", "labels") if old.get(name) != new[name]]
    names = {*old["options"], *new["options"]} - {"model"}  # its content counts, not its path
    other += sorted(n for n in names if old["options"].get(n) != new["options"].get(n))
    if other:
        raise OutputError(
            f"{folder} was begun with other {', '.join(other)}: repeat that run's options, or name "
            "a new folder."
        )


def merge(folders: Iterable[Path], out: Dataset, seen: set[bytes], failed: set[bytes]) -> int:
    """Write the rows of other folders into ``out``, in few files; sources done twice count once,
    and as read where one of them was.

    Args:
        seen, failed: :meth:`Dataset.done` of ``out``; made to what it is then.

    Returns:
        how many of the sources written were not read whole.

    Raises:
        OutputError: a folder is no batch's, or of other options.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    damaged = 0
    for folder in folders:
        record = read_record(folder)
        if record is None:
            raise OutputError(f"{folder} is no batch's folder: it has no {RECORD}.")
        same_record(folder, record, out.record)
        one = Dataset(folder, record)
        part = out.next_part()
        for path in one.files("sources"):
            names = []
            for name, unread, partly in one._rows(path):
                mark = key(name)
                if mark not in seen or (not unread and mark in failed):
                    names.append(name)
                    seen.add(mark)
                    (failed.add if unread else failed.discard)(mark)
                    damaged += partly
            wanted = pa.array(names, pa.string())
            for table in TABLES:
                try:
                    file = out._pq.ParquetFile(folder / table / path.name)
                    for batch in file.iter_batches(GROUP):
                        rows = pa.Table.from_batches([batch])
                        rows = rows.filter(pc.is_in(rows["source"], value_set=wanted))
                        part._writer(table).write_table(rows.cast(part._schemas[table]))
                        if table == "sources":
                            part.sources += len(rows)
                except arrow_errors() as error:
                    part.discard()
                    if isinstance(error, OSError) and error.errno:  # of writing
                        raise output_error(out.folder, error) from error
                    raise _damaged(folder / table / path.name, error) from None
        part.commit()
    out.drop_replaced()
    return damaged
