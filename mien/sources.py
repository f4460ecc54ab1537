"""Where pictures and films come from: files, folders, globs and standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mien.errors import ImageError, MienError

#: File endings that are looked for in folders; a file named outright may end in anything.
SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "pgm", "ppm"),
    )
)

#: The same for films.
VIDEO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "mts", "m2ts"),
        *("3gp", "wmv", "flv", "ogv", "vob", "mjpeg", "y4m"),
    )
)

#: Stands for standard input.
STDIN = "-"

OnError = Callable[[str, MienError], None]


def find_images(
    inputs: Iterable[str | Path], *, recursive: bool = True, on_error: OnError | None = None
) -> Iterator[str | Path]:
    """Expand files, folders and globs to the pictures they mean, lazily, folders in name order.

    Args:
        inputs: paths; a folder means every picture in it, by file ending; a name with ``*``,
            ``?`` or ``[`` that is no file is a glob (``**`` goes down); "-" is standard input.
        recursive: whether a folder's sub-folders count.
        on_error: called with (name, error) for an input that yields nothing, and the rest goes
            on; None raises the error.

    Yields:
        Paths, and "-" for standard input: what :meth:`mien.Analyzer.analyze` takes.
    """
    return _find(inputs, SUFFIXES, "pictures", recursive, on_error)


def find_videos(
    inputs: Iterable[str | Path], *, recursive: bool = True, on_error: OnError | None = None
) -> Iterator[str | Path]:
    """Expand files, folders and globs to the films they mean; see :func:`find_images`."""
    return _find(inputs, VIDEO_SUFFIXES, "films", recursive, on_error)


def _find(
    inputs: Iterable[str | Path],
    suffixes: frozenset[str],
    what: str,
    recursive: bool,
    on_error: OnError | None,
) -> Iterator[str | Path]:
    for item in inputs:
        try:
            yield from _expand(item, suffixes, what, recursive, on_error)
        except ImageError as error:
            if on_error is None:
                raise
            on_error(str(item), error)


def read_stdin() -> bytes:
    """All of standard input. Raises ImageError when it is a terminal."""
    if sys.stdin.isatty():
        raise ImageError("Standard input is a terminal; pipe a picture in: mien predict - < a.jpg")
    return sys.stdin.buffer.read()


def _expand(
    item: str | Path,
    suffixes: frozenset[str],
    what: str,
    recursive: bool,
    on_error: OnError | None,
) -> Iterator[str | Path]:
    if str(item) == STDIN:
        yield STDIN
        return
    path = Path(item)
    if path.is_dir():
        found = False
        for file in _walk(path, suffixes, recursive, on_error):
            found = True
            yield file
        if not found:
            raise ImageError(f"{path} holds no {what} ({', '.join(sorted(suffixes))}).")
    elif not path.exists() and glob.has_magic(str(item)):
        matches = sorted(glob.glob(str(item), recursive=True))  # noqa: PTH207 - absolute too
        if not matches:
            raise ImageError(f"No file matches {str(item)!r}.")
        yield from (Path(m) for m in matches if Path(m).is_file())
    elif not path.exists():
        raise ImageError(f"{path} does not exist.")
    else:
        yield path


def _walk(
    folder: Path, suffixes: frozenset[str], recursive: bool, on_error: OnError | None
) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            listing = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        problem = ImageError(f"{folder} cannot be read: {error.strerror or error}.")
        if on_error is None:
            raise problem from None
        on_error(str(folder), problem)
        return
    for entry in listing:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if recursive:
                yield from _walk(Path(entry.path), suffixes, recursive, on_error)
        elif Path(entry.name).suffix.lower() in suffixes:
            yield Path(entry.path)
