"""Where results go: JSON lines, CSV, Parquet and annotated images, each a context manager.

A file appears under its name only when the block ends without an error (see :mod:`mien.atomic`).
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from mien._system import import_pyarrow_parquet
from mien.atomic import atomic_path, lock, make_folder, open_atomic, reason, write_bytes
from mien.emotions import FER2013, Label
from mien.errors import OutputError
from mien.results import Result
from mien.sinks.rows import columns, face_rows, parquet_schema
from mien.sources import SUFFIXES, VIDEO_SUFFIXES, real_path
from mien.text import csv_line, cut, is_formula, json_line, without_credentials

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

#: The longest side that an image file may have.
_LONGEST = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500}

#: Endings that say what a file holds; "" is nothing that mien writes.
_FORMATS = {
    **{".csv": "csv", ".json": "jsonl", ".jsonl": "jsonl", ".parquet": "parquet", ".pq": "parquet"},
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".html", *SUFFIXES, *VIDEO_SUFFIXES), ""),
}


#: Stands for standard output.
STDOUT = "-"


def is_stream(target: str | os.PathLike[str]) -> bool:
    """Whether ``target`` is standard output, a pipe or a device: written directly, never redone."""
    # pathlib would raise of a name that is too long, or in a folder that may not be entered.
    if str(target) == STDOUT:
        return True
    return os.path.exists(target) and not os.path.isfile(target)  # noqa: PTH110, PTH113


def check_table(kind: str, path: str | os.PathLike[str]) -> None:
    """Raise OutputError where a table of ``kind`` cannot go to ``path``: its name ends like another
    format, or it is Parquet, which has to be a file."""
    if kind == "parquet" and is_stream(path):
        raise OutputError(f"Parquet cannot go to {os.fspath(path)}; give it a file.")
    suffix = Path(path).suffix.lower()
    if _FORMATS.get(suffix, kind) != kind:
        raise OutputError(f"{os.fspath(path)!r} would hold {kind}, not {suffix}; name it .{kind}.")


_OUTSIDE = "A sink is a context manager: write inside its `with` block."


class Sink:
    """Takes results one by one, as a context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:  # a with statement that does not begin ends nothing either
            self._stack.__exit__(*sys.exc_info())
            raise
        return self

    def _open(self) -> None:
        """Enter in ``_stack`` what the block needs; it is left again where this fails."""

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def write(self, result: Result, image: Image | None = None) -> None:
        """Take ``result``; ``image`` is its image, uint8 (H, W, 3) BGR, for sinks that annotate."""
        raise NotImplementedError


class _TextSink(Sink):
    """Writes text to a file, atomically, or to an open stream, line by line; ``after`` the lines
    of a file."""

    def __init__(self, target: str | os.PathLike[str] | IO[str], after: Path | None = None) -> None:
        super().__init__()
        self._target, self._after = target, after
        self._stream: IO[str] | None = None

    def _open(self) -> None:
        if isinstance(self._target, (str, os.PathLike)):
            self._stack.enter_context(lock(self._target))
            self._stream = self._stack.enter_context(open_atomic(self._target, newline=""))
        else:
            self._stream = self._target
        if self._after is None:
            self._begin()
        else:
            with self._after.open(encoding="utf-8", newline="") as old:
                last = "\n"
                while text := old.read(1 << 20):
                    self._stream.write(text)
                    last = text[-1]
            if last not in "\r\n":  # an editor took the last line's end
                self._stream.write("\n")

    def _begin(self) -> None:
        """Write what comes before the first result."""

    def _put(self, text: str) -> None:
        if self._stream is None:
            raise OutputError(_OUTSIDE)
        self._stream.write(text)
        if self._stream is self._target:
            _flush(self._stream)


def _flush(stream: IO[str]) -> None:
    try:
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard output" if stream is sys.stdout else repr(stream.name)
        raise OutputError(f"Cannot write to {name}: {reason(error)}.") from error


class JsonLinesSink(_TextSink):
    """One JSON object an image and line: ``Result.to_dict()``.

    Args:
        target: a file's path, or an open text stream such as ``sys.stdout``.
        top: also give each face a ``top`` list of its K most probable [expression, probability].
        after: begin with the lines of this file.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | IO[str],
        *,
        top: int | None = None,
        after: Path | None = None,
    ) -> None:
        super().__init__(target, after)
        self._top = top

    def write(self, result: Result, image: Image | None = None) -> None:
        record = result.to_dict()
        if result.source is not None:  # bytes of a name that are no UTF-8 are no JSON either
            name = without_credentials(result.source)
            record["source"] = name.encode("utf-8", "backslashreplace").decode("utf-8")
        if self._top is not None:
            for entry, face in zip(record["faces"], result.faces, strict=True):
                entry["top"] = [[e.value, round(p, 6)] for e, p in face.top(self._top)]
        self._put(json_line(record))


class CsvSink(_TextSink):
    """One row a face, with a header; an image without faces is one row with empty face cells.

    Args:
        target: a file's path, or an open text stream such as ``sys.stdout``.
        labels, video: see :func:`columns`.
        after: begin with the lines of this file, which has the same columns.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | IO[str],
        *,
        labels: Sequence[Label] = FER2013,
        video: bool = False,
        after: Path | None = None,
    ) -> None:
        super().__init__(target, after)
        if isinstance(target, (str, os.PathLike)):
            check_table("csv", target)
        self._columns = columns(labels, video)

    def _begin(self) -> None:
        self._put(csv_line(self._columns))

    def write(self, result: Result, image: Image | None = None) -> None:
        for row in _fitting(face_rows(result), self._columns):
            self._put(csv_line(_cell(row, c) for c in self._columns))


def _fitting(rows: list[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """``rows``. Raises OutputError where a class of theirs has no column."""
    for row in rows:
        if lost := [key[2:] for key in row if key.startswith("p_") and key not in names]:
            raise OutputError(
                f"The table has no column for {', '.join(lost)}; give the sink the model's "
                "classes: labels=analyzer.info.labels."
            )
    return rows


def _cell(row: Mapping[str, Any], column: str) -> Any:
    """A file's name that a spreadsheet would take for a formula stays a path: "./=1+1.jpg"."""
    cell = row.get(column)
    return f"./{cell}" if column == "source" and is_formula(cell) else cell


class ParquetSink(Sink):
    """The rows of :class:`CsvSink` as a typed Parquet file; needs pyarrow.

    Args:
        path: the file to write.
        labels, video: see :func:`columns`.
        locked: the caller holds the file's lock.
        after: begin with the rows of this file, which has the same columns.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    _GROUP = 4096

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        labels: Sequence[Label] = FER2013,
        video: bool = False,
        locked: bool = False,
        after: Path | None = None,
    ) -> None:
        super().__init__()
        check_table("parquet", path)
        self._locked, self._after = locked, after
        import_pyarrow_parquet()  # before the first photo is looked at
        self._path = path
        self._columns = columns(labels, video)
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None

    def _open(self) -> None:
        import pyarrow.parquet as pq

        self._schema = parquet_schema(self._columns)
        if not self._locked:
            self._stack.enter_context(lock(self._path))
        temporary = self._stack.enter_context(atomic_path(self._path))
        self._writer = self._stack.enter_context(pq.ParquetWriter(str(temporary), self._schema))
        self._stack.push(self._last_rows)
        if self._after is not None:
            for batch in pq.ParquetFile(self._after).iter_batches(self._GROUP):
                self._writer.write_batch(batch)

    def _last_rows(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write_rows()
        self._writer = None

    def write(self, result: Result, image: Image | None = None) -> None:
        if self._writer is None:
            raise OutputError(_OUTSIDE)
        self._rows.extend(_fitting(face_rows(result), self._columns))
        if len(self._rows) >= self._GROUP:
            self._write_rows()

    def _write_rows(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


class AnnotatedSink(Sink):
    """Annotated copies of the images in a folder: ``<name>-mien.jpg`` for JPEG, else ``.png``.

    Two sources of one name do not overwrite each other (``-2``, ``-3`` … is added), and neither
    does an annotated copy overwrite a source.

    Args:
        folder: where to write; made if it does not exist.
        roots: source folders; an image below one keeps its sub-folder in ``folder``.
        sources: every image of this run, never to be overwritten.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        roots: Iterable[str | os.PathLike[str]] = (),
        sources: Iterable[str | os.PathLike[str]] = (),
    ) -> None:
        super().__init__()
        self._folder = Path(folder)
        self._roots = [Path(root) for root in roots]
        self._taken = {file_key(Path(s)) for s in sources}

    def _open(self) -> None:
        make_folder(self._folder)

    def write(self, result: Result, image: Image | None = None) -> None:
        """Annotate and save. Raises OutputError when it cannot be written."""
        if image is None:
            raise OutputError("An annotated copy needs its image: write(result, image).")
        target = self.name_for(result.source)
        make_folder(target.parent)
        write_bytes(target, annotated(image, result, target.suffix))

    def name_for(self, source: str | None) -> Path:
        """The file for ``source``'s annotated copy; every call gives another one."""
        path = Path(source) if source and source != "standard input" else Path("image.png")
        suffix = ".jpg" if path.suffix.lower() in (".jpg", ".jpeg", ".jpe") else ".png"
        inside = (path.relative_to(r).parent for r in self._roots if path.is_relative_to(r))
        return free_name(self._folder / next(inside, Path()), path.stem, suffix, self._taken)


def free_name(folder: Path, stem: str, suffix: str, taken: set[str]) -> Path:
    """``STEM-mien`` with that suffix in ``folder``, numbered if need be, and taken from now on."""
    tails = chain([""], (f"-{number}" for number in count(2)))
    stem = cut(stem, 200)
    paths = (folder / f"{stem}-mien{tail}{suffix}" for tail in tails)
    path = next(path for path in paths if file_key(path) not in taken)
    taken.add(file_key(path))
    return path


def is_copy(path: str | os.PathLike[str]) -> bool:
    """Whether :func:`free_name` could have given that name to an annotated photo or video."""
    return re.search(r"-mien(-\d+)?\.(jpg|png|mp4|webm|mkv)$", str(path), re.IGNORECASE) is not None


def file_key(path: Path) -> str:
    """Lower case, as some file systems do not tell A.jpg from a.jpg."""
    return str(real_path(path)).casefold()


def annotated(image: Image, result: Result, suffix: str = ".png") -> bytes:
    """``image``, uint8 (H, W, 3) BGR, with ``result`` drawn on it, as a file of that suffix.

    Raises OutputError where such a file holds no image of that size.
    """
    import cv2

    from mien.draw import draw

    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if suffix in (".jpg", ".jpeg") else []
    most = _LONGEST.get(suffix, math.inf)
    if max(image.shape[:2]) > most:  # OpenCV would print lines of its own
        size = f"{image.shape[1]:,}×{image.shape[0]:,}"
        raise OutputError(f"{size} is more than {suffix} holds ({most:,} a side); save it as .png.")
    _, data = cv2.imencode(suffix, draw(image, result), options)
    return bytes(data.tobytes())
