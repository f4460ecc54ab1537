"""Tables of a film that can be gone on with: they grow under another name and appear at the end.

A part is called ``NAME.TOKEN.part``; the token is the run's, saved with its state. It is made
exclusively and never followed where it is a link.

A part is text, so that it can be cut at the last frame that is known to be whole. Parquet files
cannot be appended to: their part is JSON lines, turned into Parquet, a row group at a time, when
the film is done.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import IO, Self

from mien.atomic import make_folder, output_error, remove, told_of
from mien.emotions import Emotion
from mien.errors import VideoError, require_extra
from mien.results import Result
from mien.sinks import CsvSink, JsonLinesSink, ParquetSink

#: Stands for standard output.
STDOUT = "-"


def new_token() -> str:
    """What tells a run's parts from anybody else's files."""
    return secrets.token_hex(6)


def part_of(target: str | os.PathLike[str], token: str) -> Path:
    """Where ``target`` grows."""
    path = Path(os.path.realpath(target))
    return path.with_name(f"{path.name}.{token}.part")


def remove_parts(folders: Iterable[Path], token: str) -> None:
    """Remove everything in ``folders`` that the run of this token was making."""
    for folder in folders:
        for part in folder.glob(f"*.{token}.part"):
            remove(part)


def is_stream(target: str | os.PathLike[str]) -> bool:
    """Whether ``target`` is standard output, a pipe or a device: written directly, never redone."""
    if str(target) == STDOUT:
        return True
    path = Path(target)
    return path.exists() and not path.is_file()


class Part:
    """A text file that grows beside its final name and can be cut back to a known length.

    Args:
        target: the final name.
        token: the run's.
        length: bytes to keep of a stopped run's part; None starts a new one.

    Raises:
        OutputError: the folder is missing or not writable.
        VideoError: the part is gone or shorter than ``length``.
    """

    def __init__(self, target: str | Path, token: str, length: int | None = None) -> None:
        self.target = Path(os.path.realpath(target))
        self.path = part_of(target, token)
        if self.target.is_dir():
            raise output_error(target, IsADirectoryError(21, "it is a folder"))
        if length is not None and (
            self.path.is_symlink() or not self.path.is_file() or self.path.stat().st_size < length
        ):
            raise VideoError(
                f"{self.path} is missing or shorter than the stopped run left it; "
                "leave --resume out to start over."
            )
        make_folder(self.target.parent)
        how = os.O_CREAT | os.O_EXCL if length is None else getattr(os, "O_NOFOLLOW", 0)
        with told_of(target):
            self._raw = os.fdopen(os.open(self.path, os.O_RDWR | how, 0o666), "r+b")
            if length is not None:
                self._raw.truncate(length)
                self._raw.seek(length)
        self.stream: IO[str] = io.TextIOWrapper(self._raw, encoding="utf-8", newline="")

    def sync(self) -> int:
        """Bring everything to the disk; returns the length in bytes."""
        with told_of(self.target):
            self.stream.flush()
            os.fsync(self._raw.fileno())
            return self._raw.tell()

    def close(self) -> None:
        """Leave the part where it is."""
        with told_of(self.target):
            self.stream.close()


class Table:
    """One table of one run: results go in, the file appears with :meth:`finish`.

    Args:
        kind: "csv", "jsonl" or "parquet".
        target: a file's name; "-" is standard output, for the first two.
        labels: the model's classes.
        token, length: as for :class:`Part`.

    Raises:
        OutputError: it cannot be written.
        VideoError: a stopped run's part is gone, or Parquet is to go to a pipe.
        MissingExtraError: Parquet without pyarrow.
    """

    def __init__(
        self,
        kind: str,
        target: str | Path,
        labels: Sequence[Emotion],
        token: str,
        length: int | None = None,
    ) -> None:
        self.kind, self.target, self._labels, self._token = kind, target, labels, token
        if kind == "parquet":
            require_extra("train", ("pyarrow",), "Parquet output")
            if is_stream(target):
                raise VideoError(f"Parquet cannot go to {target}; give it a file.")
        self._part: Part | None = None
        self._stack = ExitStack()
        if str(target) == STDOUT:
            stream: IO[str] = sys.stdout
        elif is_stream(target):
            with told_of(target):
                stream = self._stack.enter_context(Path(target).open("w", encoding="utf-8"))  # noqa: SIM115
        else:
            self._part = Part(target, token, length)
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

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, result: Result) -> None:
        """Add a frame."""
        with told_of(self.target) if self._part else nullcontext():
            self._sink.write(result)

    def sync(self) -> int | None:
        """Bring everything to the disk; the part's length in bytes, None for a stream."""
        return None if self._part is None else self._part.sync()

    def finish(self) -> None:
        """Close and give the file its name."""
        if self._part is None:
            return
        self._part.sync()
        self._stack.close()
        finish_part(self.kind, self.target, self._labels, self._token)


def finish_part(
    kind: str,
    target: str | os.PathLike[str],
    labels: Sequence[Emotion],
    token: str,
    missing_ok: bool = False,
) -> None:
    """Turn a complete part into its table. ``missing_ok``: it may have been done before."""
    part = part_of(target, token)
    if missing_ok and not part.exists():
        return
    if part.is_symlink():
        raise VideoError(f"{part} is a link; leave --resume out to start over.")
    with told_of(target):
        if kind != "parquet":
            part.replace(os.path.realpath(target))
            return
        with (
            part.open(encoding="utf-8") as lines,
            ParquetSink(target, labels=labels, film=True, locked=True) as sink,
        ):
            for line in lines:
                sink.write(Result.from_dict(json.loads(line)))
        part.unlink()
