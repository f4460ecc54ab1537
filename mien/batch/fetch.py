"""What a source is read from: its file, its archive's, or a temporary copy."""

from __future__ import annotations

import errno
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from mien.atomic import output_error, work_path
from mien.batch.plan import Item, open_source
from mien.errors import ImageError, OutputError
from mien.sources import is_address

#: Errors that only writing has.
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


@contextmanager
def opened(item: Item) -> Iterator[IO[bytes]]:
    """The file of ``item``, or what it is a part of, at the item's beginning."""
    check_plain(item)
    with ExitStack() as stack:
        file = stack.enter_context(open_source(item.path))
        if item.member is not None:
            archive = stack.enter_context(zipfile.ZipFile(file))
            file = stack.enter_context(archive.open(item.member))
        elif item.span is not None:
            file.seek(item.span[0])
        yield file


def check_plain(item: Item) -> None:
    """Raise ImageError for a pipe or a device, whose reading might not come to an end; OSError."""
    if not is_address(item.path) and not stat.S_ISREG(Path(item.path).stat().st_mode):
        raise ImageError(f"{item.name} is no regular file.")


@contextmanager
def fetched(item: Item) -> Iterator[Path]:
    """A video of an archive or a store as a file, for as long as it is needed.

    Raises OutputError where the temporary folder cannot hold it.
    """
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise OutputError(f"{error.strerror}; name one in TMPDIR.") from None
    suffix = Path(item.member or item.name).suffix
    with ExitStack() as stack:
        try:
            # Held: what a killed worker leaves, the next one removes.
            path = stack.enter_context(work_path(folder / f"video{suffix}"))
            path.chmod(0o600)
            with path.open("wb") as out:
                for block in _blocks(item):
                    out.write(block)
        except OSError as error:
            if error.errno not in _WRITING:
                raise
            raise output_error(folder, error) from None
        yield path


def _blocks(item: Item) -> Iterator[bytes]:
    if item.data is not None:
        yield item.data
        return
    with opened(item) as file:
        left = item.span[1] if item.span else sys.maxsize
        while left and (block := file.read(min(left, 1 << 20))):
            yield block
            left -= len(block)
