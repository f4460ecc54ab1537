"""What there is to do: every photo and video that the sources mean, one at a time.

Nothing is kept of what was given: a list of a million paths takes as much memory as one of ten.
"""

from __future__ import annotations

import csv
import glob
import io
import os
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from mien._system import arrow_errors, import_pyarrow_parquet, mode_of
from mien.errors import ImageError, MienError, MissingExtraError, first_line
from mien.images.codecs import MAX_MEMORY
from mien.sources import (
    STDIN,
    SUFFIXES,
    TARS,
    UNREAD_SUFFIXES,
    VIDEO_SUFFIXES,
    ZIPS,
    LeftOut,
    find_media,
    is_address,
)
from mien.text import csv_table, printable, shown

#: Endings of lists, which are read where they are named.
LISTS = (".txt", ".lst", ".csv", ".tsv", ".parquet", ".pq")
#: Endings of what has a row in archives and stores, read or not.
KNOWN = SUFFIXES | VIDEO_SUFFIXES | UNREAD_SUFFIXES
#: A video in a zip file expands at most so many times; deflate makes a thousandth of nothing.
MOST_EXPANSION = 200
#: Bytes of a tar file's head that is no member: a long name, or a record of attributes.
MOST_HEAD = 1 << 20
#: What reading an archive raises beside its own errors: RuntimeError is for what zipfile lacks.
DAMAGED = (OSError, EOFError, ValueError, RuntimeError, zlib.error)
#: The column of a table that holds the paths, where none is named.
COLUMNS = ("path", "file", "filename", "file_name", "image", "source", "url", "uri")


@dataclass(frozen=True, slots=True)
class Item:
    """A photo or a video, and where its bytes are.

    Attributes:
        name: what it is called in the tables; it is done once under that name.
        path: a file or an address; of an archive where ``member`` or ``span`` is given.
        video: whether it is one, by its ending.
        member: its name in a zip file.
        span: its offset and length in a tar file.
        data: its bytes, read already.
        problem: why it cannot be read, known already.
    """

    name: str
    path: str
    video: bool = False
    member: str | None = None
    span: tuple[int, int] | None = None
    data: bytes | None = None
    problem: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether it is a file of its own on this machine."""
        return not (self.member or self.span or self.data) and not is_address(self.path)


Wanted = Callable[[str], bool]


def find_items(sources: Iterable[str | Path], wanted: Wanted, column: str = "") -> Iterator[Item]:
    """Every photo and video that ``sources`` mean and whose name is ``wanted``, lazily.

    Args:
        sources: files, folders, globs, lists, archives, addresses; "-" is a list on standard input.
        wanted: asked once for every name; what it refuses is not read.
        column: of lists that are tables; one of ``COLUMNS`` if empty.

    Raises:
        MienError: a source is not there, or a list cannot be read.
    """
    for source in map(str, sources):
        if source == STDIN:
            for line in map(os.fsdecode, sys.stdin.buffer):  # names need not be UTF-8
                yield from _entry(line.strip(), "", wanted)
        elif source.lower().endswith(LISTS):
            for entry in _list(source, column):
                yield from _entry(entry, source, wanted)
        elif is_address(source):
            yield from _address(source, wanted)
        else:
            yield from _local(source, wanted)


def check_sources(sources: Iterable[str | Path]) -> None:
    """Raise MienError where one of the sources on this machine is not there."""
    for source in map(str, sources):
        if source == STDIN or is_address(source) or glob.has_magic(source):
            continue
        if not mode_of(source, ImageError):
            raise ImageError(f"{source} does not exist.")


def _local(source: str, wanted: Wanted) -> Iterator[Item]:
    problems: list[Item] = []

    def report(name: str, error: MienError) -> None:
        name = shown(os.path.abspath(name))  # noqa: PTH100 - links stay as they are
        if wanted(name):
            problems.append(replace(_item(name), problem=str(error)))

    def leave(file: LeftOut) -> None:
        if file.wanted:
            report(str(file.path), ImageError(f"{file.path} is left out: {file.reason}."))

    more = {f".{ending.rpartition('.')[2]}" for ending in (*TARS, *ZIPS)}
    for path in find_media([source], more, on_error=report, on_left_out=leave):
        name = os.path.abspath(path)  # noqa: PTH100
        named, suffix = str(path) == source, Path(name).suffix.lower()
        if named or suffix not in more or name.lower().endswith((*TARS, *ZIPS)):  # notes.gz
            yield from _file(name, wanted)
        while problems:
            yield problems.pop(0)
    yield from problems


def _entry(entry: str, beside: str, wanted: Wanted) -> Iterator[Item]:
    """A line of the list ``beside``; what is no address is looked for there."""
    if entry and is_address(beside) and not (is_address(entry) or os.path.isabs(entry)):  # noqa: PTH117
        entry = f"{beside.rpartition('/')[0]}/{entry}"
    if entry:
        here = Path(beside).parent / entry
        yield from _file(entry if is_address(entry) else os.path.abspath(here), wanted)  # noqa: PTH100


def _file(path: str, wanted: Wanted) -> Iterator[Item]:
    """One file or address: a photo, a video, or an archive of them."""
    lower = path.lower()
    if lower.endswith((*TARS, *ZIPS)):
        yield from _archive(path, wanted)
    elif wanted(shown(path)):
        yield _item(path)


def _item(path: str) -> Item:
    suffix, problem = Path(path).suffix.lower(), None
    if suffix in UNREAD_SUFFIXES:  # of some a thumbnail would be read
        problem = f"{shown(path)} is left out: {suffix[1:].upper()} is not read."
    return Item(shown(path), path, suffix in VIDEO_SUFFIXES, problem=problem)


def _archive(path: str, wanted: Wanted) -> Iterator[Item]:
    named = False

    def asked(name: str) -> bool:
        nonlocal named
        named = True
        return wanted(name)

    name = shown(path)
    try:
        if path.lower().endswith(ZIPS):
            with open_source(path) as file, zipfile.ZipFile(file) as archive:
                # A name that stands twice means its last member, here as for unzip.
                for info in map(archive.getinfo, dict.fromkeys(archive.namelist())):
                    if not info.is_dir():
                        yield from _member(path, info.filename, asked, partial(_in_zip, info))
        else:
            yield from _tar(path, asked)
        if wanted(name) and not named:
            yield Item(name, path, problem=f"{name} holds no images or videos.")
    except (*DAMAGED, zipfile.BadZipFile, tarfile.TarError) as error:
        if wanted(name):
            yield Item(name, path, problem=f"{name} cannot be read: {first_line(error)}.")


def _in_zip(info: zipfile.ZipInfo, name: str) -> dict[str, Any]:
    """Where a member of a zip file lies, or why it is not read."""
    size, video = info.file_size, Path(name).suffix.lower() in VIDEO_SUFFIXES
    if size <= MAX_MEMORY or (video and size <= MOST_EXPANSION * info.compress_size):
        return {"member": name}
    why = (
        f"{shown(name)} would take {size / 1e6:,.0f} MB, more than any photo or video of its size."
    )
    return {"problem": why}


class _Head(tarfile.TarInfo):
    """A member's head; one whose names would take memory without end is refused."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if not self.isreg() and not 0 <= self.size <= MOST_HEAD:
            raise tarfile.ReadError("it holds a head that is no file's")
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        if found.size < 0:  # Python before 3.11.14 reads it again and again
            raise tarfile.ReadError("it holds a file of less than no bytes")
        return found


def _member(
    path: str,
    name: str,
    wanted: Wanted,
    place: Callable[[str], dict[str, Any]],
    again: bool = False,
) -> Iterator[Item]:
    last, suffix = Path(name).name, Path(name).suffix.lower()
    archive = name.lower().endswith((*TARS, *ZIPS))
    if last.startswith("._") or not (archive or suffix in KNOWN):  # "._": macOS's, beside a file
        return
    if not wanted(called := shown(f"{path}::{name}{' (again)' * again}")):
        return
    why = ""
    if last.startswith("."):
        why = "hidden"
    elif archive:
        why = "an archive in an archive is not looked into"
    elif suffix in UNREAD_SUFFIXES:
        why = f"{suffix[1:].upper()} is not read"
    given = {"problem": f"{called} is left out: {why}."} if why else place(name)
    yield Item(called, path, suffix in VIDEO_SUFFIXES, **given)


def _tar(path: str, wanted: Wanted) -> Iterator[Item]:
    """The members: where they lie, or their bytes where that would mean reading from the start.

    A name that stands twice means its last member; where they are read in passing, its first.
    A hard link is what stood under its target's name before it, in a plain tar file.
    """
    plain = path.lower().endswith(".tar") and not is_address(path)
    last, linked = _offsets(path) if plain else ({}, set[str]())
    seen, spans = set[str](), dict[str, tuple[int, int]]()
    with (
        open_source(path) as file,
        tarfile.open(fileobj=file, mode="r:" if plain else "r|*", tarinfo=_Head) as tar,
    ):

        def place(name: str) -> dict[str, Any]:
            assert member is not None
            if again:
                why = "stands there more than once, and its first version was read: unpack it"
                return {"problem": f"{shown(f'{path}::{name}')} {why}."}
            if member.islnk() and (span := spans.get(os.path.normpath(member.linkname))):
                return {"span": span}
            if not member.isfile() or member.issparse():
                what = f"a link to {member.linkname}" if member.linkname else "no regular file"
                return {"problem": f"{shown(f'{path}::{name}')} is left out: {printable(what)}."}
            if plain:
                return {"span": (member.offset_data, member.size)}
            if member.size > MAX_MEMORY:
                return {"problem": f"{name} is too large for a compressed or remote archive."}
            with closing(tar.extractfile(member) or io.BytesIO()) as part:
                return {"data": part.read()}

        while (member := tar.next()) is not None:
            vars(tar)["members"] = []  # it would keep them all
            if os.path.normpath(member.name) in linked:
                _note_span(spans, member)
            if member.isdir() or last.get(member.name, member.offset) != member.offset:
                continue
            again = member.name in seen
            if not plain:
                seen.add(member.name)
            yield from _member(path, member.name, wanted, place, again)


def _note_span(spans: dict[str, tuple[int, int]], member: tarfile.TarInfo) -> None:
    """Keep where the bytes of a hard link's target lie; those of a link to a link are the same."""
    name = os.path.normpath(member.name)
    if member.isfile() and not member.issparse():
        spans[name] = member.offset_data, member.size
    elif member.islnk() and (span := spans.get(os.path.normpath(member.linkname))):
        spans[name] = span
    else:
        spans.pop(name, None)


def _offsets(path: str) -> tuple[dict[str, int], set[str]]:
    """Where each name stands last in a plain tar file, as far as it can be read, and the names that
    hard links point to."""
    found: dict[str, int] = {}
    linked: set[str] = set()
    with (
        suppress(*DAMAGED, tarfile.TarError),
        open_source(path) as file,
        tarfile.open(fileobj=file, mode="r:", tarinfo=_Head) as tar,
    ):
        while (member := tar.next()) is not None:
            vars(tar)["members"] = []
            found[member.name] = member.offset
            if member.islnk():
                linked.add(os.path.normpath(member.linkname))
    return found, linked


def _address(source: str, wanted: Wanted) -> Iterator[Item]:
    known = (*TARS, *ZIPS, *KNOWN)
    if source.lower().endswith(known) and not glob.has_magic(source):
        yield from _file(source, wanted)
        return
    try:
        _refuse_chain(source)
        system, path = import_fsspec().core.url_to_fs(source)
        names = system.glob(path) if glob.has_magic(path) else system.find(path)
    except MissingExtraError:
        raise
    except Exception as error:  # every store has errors of its own
        raise ImageError(f"{shown(source)} cannot be listed: {first_line(error)}.") from None
    found = [name for name in sorted(names) if name.lower().endswith(known)]
    if not found:
        raise ImageError(f"{shown(source)} holds no images or videos.")
    for name in found:
        yield from _file(system.unstrip_protocol(name), wanted)


def _refuse_chain(address: str) -> None:
    """Raise ValueError for an address in an address: one of fsspec's stores reads templates that
    are programs, and lists are anybody's."""
    if "::" in address:
        raise ValueError("an address within an address (::) is not opened")


def import_fsspec() -> Any:
    """``fsspec``. Raises MissingExtraError when it is not installed."""
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError(
            "Addresses need fsspec, and the package of their store (s3fs, gcsfs, adlfs, …); "
            "install it with: pip install fsspec"
        ) from None
    return fsspec


def open_source(path: str) -> IO[bytes]:
    """Open a file or an address for reading. Raises OSError, ValueError, MissingExtraError."""
    if is_address(path):
        _refuse_chain(path)
        opened: IO[bytes] = import_fsspec().open(path, "rb").open()
        return opened
    return Path(path).open("rb")


def _list(source: str, column: str) -> Iterator[str]:
    lower = source.lower()
    try:
        with open_source(source) as file:
            if lower.endswith((".parquet", ".pq")):
                yield from _parquet_list(source, file, column)
                return
            text = io.TextIOWrapper(file, "utf-8-sig", newline="")
            if not lower.endswith((".csv", ".tsv")):
                yield from map(str.strip, text)
                return
            rows = csv_table(text, source)
            head = next(rows, [])
            at = head.index(_column(source, head, column))
            yield from (row[at].strip() for row in rows if len(row) > at)
    except (OSError, ValueError, csv.Error) as error:
        raise _no_list(source, error) from None


def _parquet_list(source: str, file: IO[bytes], column: str) -> Iterator[str]:
    pq = import_pyarrow_parquet()
    try:
        table = pq.ParquetFile(file)
        name = _column(source, table.schema_arrow.names, column)
        for batch in table.iter_batches(8192, columns=[name]):
            yield from (str(v) for v in batch.column(name).to_pylist() if v is not None)
    except arrow_errors() as error:
        raise _no_list(source, error) from None


def _no_list(source: str, error: Exception) -> ImageError:
    return ImageError(f"{shown(source)} cannot be read as a list: {first_line(error)}.")


def _column(source: str, names: list[str], column: str) -> str:
    wanted = (column,) if column else COLUMNS
    for name in wanted:
        for given in names:
            if given.strip().lower() == name.lower():
                return given
    raise ImageError(
        f"{shown(source)} has no column {' or '.join(wanted)}; it has {', '.join(names)}: "
        "name one with --column."
    )
