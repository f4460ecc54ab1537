"""Write files all or not at all: a reader never meets half a file, a failure leaves the old one.

Every file that mien writes goes through here: a temporary name in the same folder, fsync, then one
``os.replace``. Any failure of the disk becomes an :class:`OutputError` of one sentence.

Work files are called ``.mien-TOKEN-…``, are made exclusively, never through a link, and are held by
a lock of the kernel's while their writer lives. What a killed writer left is not held, and the next
one in the same folder removes it. :func:`lock` keeps two runs from writing one output.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from mien.errors import OutputError
from mien.text import cut

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_HINTS = {
    errno.ENOSPC: "the disk is full; free some space and run it again",
    errno.EDQUOT: "your disk quota is used up; free some space and run it again",
    errno.EFBIG: "the file would exceed the size limit of this process or file system",
    errno.EACCES: "permission denied; choose a folder you may write to",
    errno.EPERM: "permission denied; choose a folder you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EBADF: "it is closed",
    errno.EISDIR: "it is a folder; give the name of a file",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def reason(error: OSError) -> str:
    """Why a write failed, and what helps."""
    return _HINTS.get(error.errno or 0) or error.strerror or str(error) or "unknown error"


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """The one sentence for a failed write of ``path``."""
    target = Path(path)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        why = f"its folder {str(target.parent)!r} does not exist; create it first"
    else:
        why = reason(error)
    return OutputError(f"Cannot write {os.fspath(target)!r}: {why}.")


@contextmanager
def told_of(path: str | os.PathLike[str]) -> Iterator[None]:
    """Make of an OSError in the block the sentence for a failed write of ``path``."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create the folder ``path`` with its parents if need be and return it. Raises OutputError."""
    folder = Path(path)
    with told_of(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise OutputError(f"Cannot use {str(folder)!r} as a folder: it is a file.") from None
        except NotADirectoryError:
            why = "one of its parents is a file"
            raise OutputError(f"Cannot make the folder {str(folder)!r}: {why}.") from None
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


_WORK = re.compile(r"\.mien-([0-9a-f]{12}|lock)-.*", re.DOTALL)
_swept: set[Path] = set()


def _hold(descriptor: int, path: Path, unable: bool = True) -> bool:
    """Lock an open work file until it is closed; False if another process holds or removed it.

    ``unable`` is the answer on a file system that knows no locks.
    """
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # a byte that nobody reads
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return unable and error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what killed writers left in the folder of ``path``: work files that nobody holds."""
    folder = Path(os.path.realpath(path)).parent
    _swept.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _WORK.fullmatch(entry.name) and not entry.is_symlink():
                _remove_unheld(Path(entry.path))


def remove(path: Path) -> None:
    """Remove a file or folder, not what a link points to, if it is there."""
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _remove_unheld(path: Path) -> None:
    with suppress(OSError):
        if sys.platform == "win32":  # what is open cannot be removed there; folders cannot be held
            path.unlink()
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if _hold(descriptor, path, unable=False):
                remove(path)
        finally:
            os.close(descriptor)


@contextmanager
def work_path(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """A new, empty, held file or folder beside ``target``, whose ending it keeps."""
    if target.parent not in _swept:
        remove_leftovers(target)
    descriptor: int | None = None
    held = False
    while not held:
        stem = cut(target.stem, 100)
        name = f".mien-{secrets.token_hex(6)}-{stem}{target.suffix}"
        path = target.with_name(name)
        if folder:
            path.mkdir()
        # Created here, not by the writer, so that the umask applies and a bad folder fails early.
        make = os.O_RDONLY if folder else os.O_CREAT | os.O_EXCL | os.O_RDWR
        if sys.platform == "win32":  # it could not be renamed while it is open
            held = True
            if not folder:
                os.close(os.open(path, make, 0o666))
        else:
            descriptor = os.open(path, make, 0o666)
            held = _hold(descriptor, path)
            if not held:
                os.close(descriptor)
    try:
        yield path
    finally:
        remove(path)
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other runs of mien from writing the file or folder ``path`` while the block runs.

    The lock is the kernel's: it ends with the process, however that ends.

    Raises:
        OutputError: another run holds it, and who that is; or the folder cannot be written to.
    """
    target = Path(os.path.realpath(path))
    if (mode := _mode(target)) is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        yield  # a device, a pipe
        return
    make_folder(target.parent)
    file = target.with_name(f".mien-lock-{cut(target.name, 200)}")
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with ExitStack() as stack:
        with told_of(path):
            descriptor = os.open(file, flags, 0o666)
            while not _hold(descriptor, file):
                holder = b"" if sys.platform == "win32" else os.pread(descriptor, 200, 0)
                gone = not file.exists() or not os.path.samestat(os.fstat(descriptor), file.lstat())
                os.close(descriptor)
                if not gone:
                    who = holder.decode("utf-8", "replace") or "another process"
                    raise OutputError(
                        f"{os.fspath(path)!r} is being written by another run of mien ({who}); "
                        "wait for it, stop it, or choose another name."
                    )
                descriptor = os.open(file, flags, 0o666)
        stack.callback(os.close, descriptor)
        stack.callback(remove, file)
        with suppress(OSError):
            if os.fstat(descriptor).st_nlink == 1:  # else it is a file with another name, too
                os.ftruncate(descriptor, 0)
                since = time.strftime("%Y-%m-%d %H:%M:%S")
                holder = f"process {os.getpid()} on {socket.gethostname()} since {since}".encode()
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, holder)
        remove_leftovers(target)
        yield


def _real_target(path: str | os.PathLike[str]) -> Path:
    """Where ``path`` leads, in a folder that is there."""
    name = os.fsdecode(path)
    if "\0" in name:
        raise OutputError(f"Cannot write {name!r}: the name holds a null character.")
    target = Path(os.path.realpath(name))
    make_folder(target.parent)
    return target


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``, for writers that want a name, then move it there.

    The temporary file keeps ``path``'s suffix. It is removed if the body raises, and ``path`` is
    then untouched. Missing folders are made. A symbolic link is followed; an existing file's
    permissions are kept.

    Raises:
        OutputError: the folder is not writable, or the disk is full.
    """
    target = _real_target(path)
    mode = _mode(target)
    if mode is not None and stat.S_ISDIR(mode):
        raise output_error(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    temporary = target
    try:
        if mode is not None and not stat.S_ISREG(mode):
            yield target  # A device, pipe or socket is written to, never replaced.
            return
        with work_path(target) as temporary:
            if mode is not None:
                temporary.chmod(stat.S_IMODE(mode))
            yield temporary
            _sync(temporary)
            temporary.replace(target)
            with suppress(OSError):  # Not every file system can sync a folder.
                _sync(target.parent)
    except BrokenPipeError:
        raise  # no file's, but that of a stream which is written to beside it
    except OSError as error:
        # Writes carry no file name at all; another name is that of a file of the caller's.
        name = None if error.filename is None else Path(os.fsdecode(error.filename))
        ours = name in (None, temporary, target) or (
            name.parent == target.parent and _WORK.fullmatch(name.name)
        )
        if ours:
            raise output_error(path, error) from error
        raise


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a new folder beside ``path`` to fill, then move it there; ``path`` is new or empty.

    Raises:
        OutputError: ``path`` is a file or holds something, or the disk is full.
    """
    target = _real_target(path)
    with told_of(path):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise OutputError(f"{path} exists and is not empty; name a new folder.")
        with work_path(target, folder=True) as temporary:
            yield temporary
            if target.exists():
                target.rmdir()
            temporary.replace(target)


@contextmanager
def open_atomic(
    path: str | os.PathLike[str], mode: Literal["w", "wb"] = "w", *, newline: str | None = None
) -> Iterator[IO[Any]]:
    """Open ``path`` for writing text (UTF-8, what is none escaped) or bytes; its content appears
    when the block ends without an error. Raises OutputError; see :func:`atomic_path`."""
    encoding, errors = ("utf-8", "backslashreplace") if mode == "w" else (None, None)
    with (
        atomic_path(path) as temporary,
        temporary.open(mode, encoding=encoding, errors=errors, newline=newline) as stream,
    ):
        yield stream


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path``. Raises OutputError; see :func:`atomic_path`."""
    with open_atomic(path) as stream:
        stream.write(text)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path``. Raises OutputError; see :func:`atomic_path`."""
    with open_atomic(path, "wb") as stream:
        stream.write(data)
