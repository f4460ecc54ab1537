"""Tables of a film that can be gone on with: they grow under ``NAME.part`` and appear at the end.

A part is text, so that it can be cut at the last frame that is known to be whole. Parquet files
cannot be appended to: their part is JSON lines, turned into Parquet, a row group at a time, when
the film is done.
"""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from mien.atomic import output_error
from mien.emotions import Emotion
from mien.errors import VideoError, require_extra
from mien.results import Result
from mien.sinks import CsvSink, JsonLinesSink, ParquetSink

#: Stands for standard output.
STDOUT = "-"


def part_of(target: str | os.PathLike[str]) -> Path:
    """Where ``target`` grows."""
    path = Path(os.path.realpath(target))
    return path.with_name(path.name + ".part")


def is_stream(target: str | os.PathLike[str]) -> bool:
    """Whether ``target`` is standard output, a pipe or a device: written directly, never redone."""
    if str(target) == STDOUT:
        return True
    try:
        return not stat.S_ISREG(Path(target).stat().st_mode)
    except OSError:
        return False


class Part:
    """A text file that grows beside its final name and can be cut back to a known length.

    Args:
        target: the final name.
        length: bytes to keep of a stopped run's part; None starts a new one.

    Raises:
        OutputError: the folder is missing or not writable.
        VideoError: the part is gone or shorter than ``length``.
    """

    def __init__(self, target: str | os.PathLike[str], length: int | None = None) -> None:
        self.target = Path(os.path.realpath(target))
        self.path = part_of(target)
        if self.target.is_dir():
            raise output_error(target, IsADirectoryError(21, "it is a folder"))
        if length is not None:
            size = self.path.stat().st_size if self.path.is_file() else -1
            if size < length:
                raise VideoError(
                    f"{self.path} is missing or shorter than the stopped run left it; "
                    "leave --resume out to start over."
                )
        try:
            raw = self.path.open("wb" if length is None else "r+b")
            if length is not None:
                raw.truncate(length)
                raw.seek(length)
        except OSError as error:
            raise output_error(target, error) from error
        self._raw = raw
        self.stream: IO[str] = io.TextIOWrapper(raw, encoding="utf-8", newline="")

    def sync(self) -> int:
        """Bring everything to the disk; returns the length in bytes."""
        try:
            self.stream.flush()
            os.fsync(self._raw.fileno())
            return self._raw.tell()
        except OSError as error:
            raise output_error(self.target, error) from error

    def close(self) -> None:
        """Leave the part where it is."""
        try:
            self.stream.close()
        except OSError as error:
            raise output_error(self.target, error) from error


class Table:
    """One table of one run: results go in, the file appears with :meth:`finish`.

    Args:
        kind: "csv", "jsonl" or "parquet".
        target: a file's name; "-" is standard output, for the first two.
        labels: the model's classes.
        length: bytes to keep of a stopped run; None starts afresh.

    Raises:
        OutputError: it cannot be written.
        VideoError: a stopped run's part is gone, or Parquet is to go to a pipe.
        MissingExtraError: Parquet without pyarrow.
    """

    def __init__(
        self,
        kind: str,
        target: str | os.PathLike[str],
        labels: Sequence[Emotion],
        length: int | None = None,
    ) -> None:
        self.kind, self.target, self._labels = kind, target, labels
        if kind == "parquet":
            require_extra("train", ("pyarrow",), "Parquet output")
            if is_stream(target):
                raise VideoError(f"Parquet cannot go to {target}; give it a file.")
        self._part: Part | None = None
        self._stack = ExitStack()
        if str(target) == STDOUT:
            stream: IO[str] = sys.stdout
        elif is_stream(target):
            try:
                stream = Path(target).open("w", encoding="utf-8")  # noqa: SIM115 - the stack's
            except OSError as error:
                raise output_error(target, error) from error
            self._stack.callback(stream.close)
        else:
            self._part = Part(target, length)
            self._stack.callback(self._part.close)
            stream = self._part.stream
        self._sink: CsvSink | JsonLinesSink = (
            CsvSink(stream, labels=labels, film=True, header=not length)
            if kind == "csv"
            else JsonLinesSink(stream)
        )

    def __enter__(self) -> Self:
        self._stack.enter_context(self._sink)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def write(self, result: Result) -> None:
        """Add a frame."""
        try:
            self._sink.write(result)
        except OSError as error:
            if self._part is None:
                raise
            raise output_error(self.target, error) from error

    def sync(self) -> int | None:
        """Bring everything to the disk; the part's length in bytes, None for a stream."""
        return None if self._part is None else self._part.sync()

    def finish(self) -> None:
        """Close and give the file its name."""
        if self._part is not None:
            self._part.sync()
        self._stack.close()
        if self._part is not None:
            finish_part(self.kind, self.target, self._labels)


def finish_part(
    kind: str, target: str | os.PathLike[str], labels: Sequence[Emotion], missing_ok: bool = False
) -> None:
    """Turn a complete part into its table. ``missing_ok``: it may have been done before."""
    part = part_of(target)
    if missing_ok and not part.exists():
        return
    try:
        if kind != "parquet":
            final = Path(os.path.realpath(target))
            part.replace(final)
            return
        with (
            part.open(encoding="utf-8") as lines,
            ParquetSink(target, labels=labels, film=True) as sink,
        ):
            for line in lines:
                sink.write(Result.from_dict(json.loads(line)))
        part.unlink()
    except OSError as error:
        raise output_error(target, error) from error
