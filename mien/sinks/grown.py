"""Tables that grow: a run that was stopped goes on, and one that is finished takes what is new.

Results are kept beside the first table, in ``NAME.resume``, one line of JSON each, until the tables
are made of them; a finished table's own rows stay, so whatever it holds is not done again.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from mien._system import import_pyarrow_parquet
from mien.atomic import lock, open_atomic, told_of
from mien.emotions import FER2013, Label
from mien.errors import OutputError, first_line
from mien.results import Result
from mien.sinks import CsvSink, JsonLinesSink, ParquetSink, Sink
from mien.sinks.rows import columns
from mien.text import from_cell, shown

#: The end of a sentence on a stopped run that cannot be gone on with.
START_OVER = "leave --resume out to start over."


def name_of(source: object) -> str:
    """A source's name as every kind of table agrees on it."""
    return shown(str(source)).removeprefix("./")


def sources_of(
    kind: str, path: Path, labels: Sequence[Label], sha256: str, *, video: bool = False
) -> set[str]:
    """The sources that a table of ``kind`` holds; none if it is not there.

    Raises:
        OutputError: it has other columns, or its rows are of another model.
    """
    if not path.is_file():
        return set()
    try:
        found = {(name_of(name), sha) for name, sha in _rows(kind, path, labels, video)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path} is no table of this run ({first_line(error)}); {START_OVER}"
        ) from None
    if other := next((name for name, sha in found if sha != sha256), None):
        raise OutputError(f"{path} holds rows of another model ({other}); {START_OVER}")
    return {name for name, _ in found}


def _rows(kind: str, path: Path, labels: Sequence[Label], video: bool) -> Iterator[tuple[str, str]]:
    """Source and model of every row."""
    if kind == "jsonl":
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                yield record["source"], record["model_sha256"]
        return
    wanted = list(columns(labels, video))
    if kind == "parquet":
        file = import_pyarrow_parquet().ParquetFile(path)
        if file.schema_arrow.names != wanted:
            raise ValueError("its columns are others")
        for batch in file.iter_batches(columns=["source", "model_sha256"]):
            yield from zip(
                batch["source"].to_pylist(), batch["model_sha256"].to_pylist(), strict=True
            )
        return
    with path.open(encoding="utf-8", newline="") as text:
        rows = csv.reader(text)
        if next(rows, wanted) != wanted:
            raise ValueError("its columns are others")
        at = wanted.index("model_sha256")
        yield from ((from_cell(row[0]), row[at]) for row in rows)


class GrowingSink(Sink):
    """All tables of a run that can be gone on with.

    Args:
        targets: "csv", "jsonl" or "parquet" -> a file's name.
        labels: the model's classes.
        sha256: the model's.
        top: see :class:`mien.sinks.JsonLinesSink`.

    Attributes:
        done: :func:`name_of` of every source that is in the tables, or was done by a stopped run.

    Raises:
        OutputError: a table is of another run, or the tables differ in what they hold.
    """

    def __init__(
        self,
        targets: Mapping[str, str],
        labels: Sequence[Label] = FER2013,
        sha256: str = "",
        top: int | None = None,
    ) -> None:
        super().__init__()
        if "parquet" in targets:
            import_pyarrow_parquet()
        self._targets = {kind: Path(target) for kind, target in targets.items()}
        self._labels, self._top = labels, top
        self._first = next(iter(self._targets.values()))
        self._path = self._first.with_name(self._first.name + ".resume")
        self._file: IO[bytes] | None = None
        self._held = {k: sources_of(k, p, labels, sha256) for k, p in self._targets.items()}
        self.done = set.intersection(*self._held.values())
        with told_of(self._path), suppress(FileNotFoundError):
            if any(result.model_sha256 != sha256 for result in self._results()):
                raise OutputError(f"{self._path} is of a run with another model; {START_OVER}")
            self.done |= {name_of(result.source) for result in self._results()}
        if any(names - self.done for names in self._held.values()):
            raise OutputError(
                f"{self._first} and the other tables hold different images; {START_OVER}"
            )

    def _results(self) -> Iterator[Result]:
        """What the stopped run had done: its last line may be cut."""
        with self._path.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    try:
                        yield Result.from_dict(json.loads(line))
                    except (ValueError, KeyError, TypeError):
                        raise OutputError(f"{self._path} is damaged; {START_OVER}") from None

    def _open(self) -> None:
        for path in self._targets.values():
            self._stack.enter_context(lock(path))
        with told_of(self._path):
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            self._file = self._stack.enter_context(
                os.fdopen(os.open(self._path, flags, 0o666), "r+b")
            )
            data = self._file.read()
            self._file.truncate(data.rfind(b"\n") + 1)
            self._file.seek(0, os.SEEK_END)

    def write(self, result: Result, image: Any = None) -> None:
        assert self._file is not None
        with told_of(self._path):
            self._file.write(json.dumps(result.to_dict()).encode() + b"\n")
            self._file.flush()

    def __exit__(self, *error: Any) -> bool | None:
        try:
            if error[0] is None:
                self._finish()
            if error[0] is None or not self._path.stat().st_size:
                self._path.unlink()
        finally:
            self._stack.close()
        return None

    def _finish(self) -> None:
        for kind, path in self._targets.items():
            after = path if path.is_file() else None
            with ExitStack() as stack:
                sink: Sink
                if kind == "parquet":
                    sink = ParquetSink(path, labels=self._labels, locked=True, after=after)
                else:
                    stream = stack.enter_context(open_atomic(path, newline=""))
                    if kind == "csv":
                        sink = CsvSink(stream, labels=self._labels, after=after)
                    else:
                        sink = JsonLinesSink(stream, top=self._top, after=after)
                stack.enter_context(sink)
                for result in self._results():
                    if name_of(result.source) not in self._held[kind]:  # killed after this table
                        sink.write(result)
