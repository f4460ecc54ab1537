"""The tables of a run that can be gone on with: they are made from one file that grows meanwhile.

That file, the part, is called ``NAME.TOKEN.part`` after the first table; the token is the run's,
saved with its state. It holds each result as a line of JSON, so that it can be cut at the last
frame that is known to be whole, and any table can be made of it. It is made exclusively and never
followed where it is a link. Standard output, pipes and devices are written to directly.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from mien.atomic import make_folder, open_atomic, remove, told_of
from mien.emotions import Label
from mien.errors import VideoError, require_extra
from mien.results import Result
from mien.sinks import STDOUT, CsvSink, JsonLinesSink, ParquetSink, Sink, check_table, is_stream
from mien.sinks.grown import START_OVER, name_of, sources_of
from mien.text import cut


def new_token() -> str:
    """What tells a run's parts from anybody else's files."""
    return secrets.token_hex(6)


def part_of(target: str | os.PathLike[str], token: str) -> Path:
    """Where ``target`` grows."""
    path = Path(os.path.realpath(target))
    return path.with_name(f"{cut(path.name, 230)}.{token}.part")


def remove_parts(folders: Iterable[Path], token: str) -> None:
    """Remove everything in ``folders`` that the run of this token was making."""
    for folder in folders:
        for part in folder.glob(f"*.{token}.part"):
            remove(part)


def open_part(path: Path, length: int | None = None) -> IO[bytes]:
    """A new file, or a stopped run's, cut back to ``length`` bytes.

    Raises:
        VideoError: it is gone, shorter, or a link.
        OSError: it cannot be made.
    """
    if length is None:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "r+b")
    if path.is_symlink() or not path.is_file() or path.stat().st_size < length:
        raise VideoError(f"{path} is missing or shorter than the stopped run left it; {START_OVER}")
    part = os.fdopen(os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)), "r+b")
    part.truncate(length)
    part.seek(length)
    return part


class Tables:
    """All tables of one run: results go in, the files appear with :meth:`finish`.

    Args:
        targets: "csv", "jsonl" or "parquet" -> a file's name; "-" is standard output.
        labels: the model's classes.
        token: the run's.
        sha256: the model's, where rows are to be added to tables that are there.

    Raises:
        OutputError: Parquet is to go to a pipe.
        MissingExtraError: Parquet without pyarrow.
    """

    def __init__(
        self,
        targets: Mapping[str, str],
        labels: Sequence[Label],
        token: str,
        sha256: str | None = None,
    ) -> None:
        self._labels, self._sha256 = labels, sha256
        self._streams = {kind: t for kind, t in targets.items() if is_stream(t)}
        self._files = {kind: t for kind, t in targets.items() if kind not in self._streams}
        if "parquet" in targets:
            require_extra("train", ("pyarrow",), "Parquet output")
            check_table("parquet", targets["parquet"])
        self._first = next(iter(self._files.values()), os.devnull)
        self._path = part_of(self._first, token)
        self._part: IO[bytes] | None = None
        self._sinks: list[Sink] = []

    def held(self, kind: str) -> set[str]:
        """The videos in a table that is to be added to. Raises OutputError."""
        path = Path(self._files[kind])
        if self._sha256 is None:
            return set()
        return sources_of(kind, path, self._labels, self._sha256, video=True)

    def videos(self) -> set[str]:
        """The videos in all of the tables that are to be added to. Raises OutputError."""
        return set.intersection(*map(self.held, self._files)) if self._files else set()

    @contextmanager
    def open(self, length: int | None) -> Iterator[None]:
        """Take results within the block; ``length`` is what a stopped run's part is cut to.

        Raises:
            OutputError: something cannot be written.
            VideoError: the stopped run's part is gone.
        """
        with ExitStack() as stack:
            for kind, target in self._streams.items():
                stream = sys.stdout
                if target != STDOUT:
                    with told_of(target):
                        stream = stack.enter_context(Path(target).open("w", encoding="utf-8"))
                self._sinks.append(stack.enter_context(self._text(kind, stream)))
            if self._files:
                make_folder(self._path.parent)
                with told_of(self._first):
                    self._part = stack.enter_context(open_part(self._path, length))
            yield

    def write(self, result: Result) -> None:
        for sink in self._sinks:
            sink.write(result)
        if self._part is not None:
            with told_of(self._first):
                self._part.write(json.dumps(result.to_dict()).encode() + b"\n")

    def sync(self) -> int | None:
        """Bring everything to the disk; the part's length in bytes, None if there is none."""
        if self._part is None:
            return None
        with told_of(self._first):
            self._part.flush()
            os.fsync(self._part.fileno())
            return self._part.tell()

    def cut(self, length: int | None) -> None:
        """Take back what came since :meth:`sync` gave this length; what was printed stays."""
        if self._part is not None and length is not None:
            with told_of(self._first):
                self._part.truncate(length)
                self._part.seek(length)

    def finish(self) -> None:
        """Make the files, each whole or not at all; a run that was stopped here does it again."""
        for kind, target in self._files.items():
            if self._path.is_symlink() or not self._path.is_file():
                raise VideoError(f"{self._path} is gone; {START_OVER}")
            held = self.held(kind)
            after = Path(target) if held else None
            with ExitStack() as stack:
                stack.enter_context(told_of(target))
                lines = stack.enter_context(self._path.open("rb"))
                sink: Sink
                if kind == "parquet":
                    sink = ParquetSink(
                        target, labels=self._labels, video=True, locked=True, after=after
                    )
                else:
                    stream = stack.enter_context(open_atomic(target, newline=""))
                    sink = self._text(kind, stream, after)
                stack.enter_context(sink)
                for line in lines:
                    result = Result.from_dict(json.loads(line))
                    if name_of(result.source) not in held:
                        sink.write(result)

    def _text(self, kind: str, stream: IO[str], after: Path | None = None) -> Sink:
        if kind == "csv":
            return CsvSink(stream, labels=self._labels, video=True, after=after)
        return JsonLinesSink(stream, after=after)
