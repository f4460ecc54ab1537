"""Write files all or not at all: a reader never meets half a file, a failure leaves the old one.

Every file that mien writes goes through here: a temporary name in the same folder, fsync, then one
``os.replace``. Any failure of the disk becomes an :class:`OutputError` of one sentence.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mien.errors import OutputError

_HINTS = {
    errno.ENOSPC: "the disk is full; free some space and run it again",
    errno.EDQUOT: "your disk quota is used up; free some space and run it again",
    errno.EFBIG: "the file would exceed the size limit of this process or file system",
    errno.EACCES: "permission denied; choose a folder you may write to",
    errno.EPERM: "permission denied; choose a folder you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EISDIR: "it is a folder; give the name of a file",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """The one sentence for a failed write of ``path``."""
    target = Path(path)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        reason = f"its folder {str(target.parent)!r} does not exist; create it first"
    else:
        code = error.errno or 0
        reason = _HINTS.get(code) or error.strerror or str(error) or "unknown error"
    return OutputError(f"Cannot write {os.fspath(target)!r}: {reason}.")


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create the folder ``path`` with its parents if need be and return it.

    Raises:
        OutputError: it cannot be made, or a file stands in its place.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(f"Cannot use {str(folder)!r} as a folder: it is a file.") from None
    except NotADirectoryError:
        raise OutputError(
            f"Cannot make the folder {str(folder)!r}: one of its parents is a file."
        ) from None
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


def _mode(path: Path) -> int | None:
    """``st_mode`` of an existing file; None if there is none or its name is impossible."""
    try:
        return path.stat().st_mode
    except OSError:
        return None


def _sync(path: Path) -> None:
    # Windows flushes nothing that is open for reading alone; a folder cannot be opened otherwise.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_about(error: OSError, *paths: Path) -> bool:
    """Whether an error in the body concerns the output; writes carry no file name at all."""
    return error.filename is None or str(error.filename) in {str(p) for p in paths}


_TOKEN_BYTES = 6


def _temporary(target: Path, token: str) -> str:
    return f".{target.stem[:100]}.{token}{target.suffix}"


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what killed writers of ``path`` left beside it; nobody may be writing it now."""
    target = Path(os.path.realpath(path))
    before, after = _temporary(target, "/").split("/")
    pattern = re.compile(rf"{re.escape(before)}[0-9a-f]{{{2 * _TOKEN_BYTES}}}{re.escape(after)}")
    with suppress(OSError):
        for other in target.parent.iterdir():
            if pattern.fullmatch(other.name):
                other.unlink()


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``, for writers that want a name, then move it there.

    The temporary file keeps ``path``'s suffix. It is removed if the body raises, and ``path`` is
    then untouched. A symbolic link is followed; an existing file's permissions are kept.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    mode = _mode(target)
    if mode is not None and stat.S_ISDIR(mode):
        raise output_error(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    if mode is not None and not stat.S_ISREG(mode):
        yield target  # A device, pipe or socket is written to, never replaced.
        return
    temporary = target.parent / _temporary(target, secrets.token_hex(_TOKEN_BYTES))
    try:
        # Created here, not by the writer, so that the umask applies and a bad folder fails early.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        with suppress(OSError):  # Not every file system can sync a folder.
            _sync(target.parent)
    except OSError as error:
        if _is_about(error, temporary, target):
            raise output_error(path, error) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def open_atomic(
    path: str | os.PathLike[str],
    mode: str = "w",
    *,
    encoding: str | None = None,
    newline: str | None = None,
) -> Iterator[IO[Any]]:
    """Open ``path`` for writing; its content appears when the block ends without an error.

    Args:
        mode: "w" (text, UTF-8 unless ``encoding`` says otherwise) or "wb".

    Raises:
        OutputError: see :func:`atomic_path`.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"mode must be 'w' or 'wb', not {mode!r}")
    if mode == "w":
        encoding = encoding or "utf-8"
    with atomic_path(path) as temporary:
        try:
            with temporary.open(mode, encoding=encoding, newline=newline) as stream:
                yield stream
                stream.flush()
        except OSError as error:
            # A device is written to directly, so atomic_path does not see its errors.
            if _is_about(error, temporary):
                raise output_error(path, error) from error
            raise


def write_text(path: str | os.PathLike[str], text: str, encoding: str = "utf-8") -> None:
    """Write ``text`` to ``path``. Raises OutputError; see :func:`atomic_path`."""
    with open_atomic(path, encoding=encoding) as stream:
        stream.write(text)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path``. Raises OutputError; see :func:`atomic_path`."""
    with open_atomic(path, "wb") as stream:
        stream.write(data)
