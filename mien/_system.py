"""What this machine is and has: its processor, versions of packages, pyarrow; SHA-256 of files."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from mien.errors import MienError, MissingExtraError, first_line
from mien.text import brief


def processor() -> str:
    """The processor's name as the system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n"):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those of ``packages`` that are installed, without importing any."""
    found = {}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def child_environment() -> dict[str, str]:
    """What a ``python -P`` of ours is started with, so that it finds the modules that this process
    finds: without -P the files of the folder it runs in would come before Python's own."""
    path = os.pathsep.join(p or os.getcwd() for p in sys.path)  # noqa: PTH109
    return {**os.environ, "PYTHONPATH": path}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal, read in pieces. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_stamp(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """What changes when a file is written anew; None where there is none."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


def mode_of(path: str | os.PathLike[str], error: type[MienError]) -> int:
    """``st_mode`` of what a user's ``path`` names; 0 where there is nothing.

    For ``stat.S_ISREG`` and the like. ``Path.is_file`` and its kin raise OSError for some names
    before Python 3.14, and say from then on that nothing is there.

    Raises:
        error: a name too long, or a folder above it that may not be entered.
    """
    try:
        return Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (OSError, ValueError) as failure:
        number = getattr(failure, "errno", None)
        if number == errno.EINVAL:  # Windows, of "*.jpg"
            return 0
        name = brief(str(path)) if number == errno.ENAMETOOLONG else path
        why = getattr(failure, "strerror", None) or failure
        raise error(f"{name} cannot be read: {why}.") from None


def import_pyarrow_parquet() -> Any:
    """``pyarrow.parquet``. Raises MissingExtraError when it is not installed."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError(
            "Reading or writing parquet needs pyarrow; install it with: pip install pyarrow"
        ) from None
    return pq


def arrow_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises at damage: ArrowInvalid is a ValueError, the others are of many kinds."""
    import pyarrow as pa

    return OSError, ValueError, KeyError, MemoryError, pa.ArrowException


def give_large_blocks_back() -> None:
    """Let glibc return every freed block of 4 MiB or more to the system at once.

    By default it raises that limit to the largest block freed so far, and keeps holes of decoded
    images: a 1080p video then takes 600 MiB instead of 320, and a server grows with every image
    of a new shape. Does nothing with another C library.
    """
    _mallopt(-3, 4 << 20)  # M_MMAP_THRESHOLD of malloc.h


@contextmanager
def new_memory_is(byte: int) -> Iterator[None]:
    """Fill all memory that is taken within the block with ``byte``, 0 to 254, where glibc does."""
    _mallopt(-6, byte ^ 0xFF)  # M_PERTURB
    try:
        yield
    finally:
        _mallopt(-6, 0)


def _mallopt(parameter: int, value: int) -> None:
    """Set an option of glibc's allocator; does nothing with another C library."""
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(parameter, value)


def connect_ray(address: str | None, stack: ExitStack, workers: int | None = None) -> Any:
    """``ray``, asked to send no usage reports, and connected.

    Args:
        address: of a running cluster; None starts one of so many CPUs (``workers``; None: all) on
            this machine, for as long as ``stack``.

    Raises:
        MissingExtraError: Ray is not installed.
        MienError: the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtraError(
            "`--engine ray` needs Ray; install it with: pip install 'mien[ray]'"
        ) from None
    if not ray.is_initialized():
        new = {} if address else {"num_cpus": workers, "include_dashboard": False}
        try:
            ray.init(address=address or "local", logging_level=logging.ERROR, **new)
        except Exception as error:  # Ray has many, of every kind
            where = address or "this machine"
            raise MienError(f"Ray cannot be used on {where}: {first_line(error)}.") from None
        stack.callback(ray.shutdown)
    return ray
