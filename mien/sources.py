"""Where images and videos come from: files, folders, globs and standard input."""

from __future__ import annotations

import glob
import os
import re
import shlex
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from mien._system import mode_of
from mien.errors import ImageError, MienError


def _endings(words: str) -> frozenset[str]:
    return frozenset(f".{word}" for word in words.split())


#: File endings that are looked for in folders; a file named outright may end in anything.
SUFFIXES = _endings(
    "jpg jpeg jpe jfif jfi jif pjpeg pjp mpo jps insp png apng webp gif bmp dib tif tiff btf tf8 "
    "pgm ppm pnm pbm pfm ico jp2 j2k j2c jpx jpc jpf avif avifs heic heics heif heifs hif"
)
#: Images too, but of kinds that mien does not read: a folder that holds one was not read whole.
UNREAD_SUFFIXES = _endings(
    "cr2 cr3 crw nef nrw arw sr2 srf dng raf orf rw2 rwl raw pef srw erf kdc dcr mrw x3f 3fr fff "
    "iiq mef mos gpr psd psb xcf svg eps wmf emf tga jxl exr hdr pcx dcx qoi jxr hdp wdp dds sgi "
    "rgb rgba bw cur icns blp ras pcd xbm"
)
#: The same as ``SUFFIXES`` for videos.
VIDEO_SUFFIXES = _endings(
    "mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts 3gp wmv flv ogv vob mjpeg y4m"
)

#: Endings of archives; ``mien batch`` looks into them.
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ZIPS = (".zip",)

#: Stands for standard input.
STDIN = "-"

#: An address. One letter before the colon is a drive.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

#: A folder that an annotated video grows in (:func:`mien.video.tables.part_of`).
_PART = re.compile(r"\.[0-9a-f]{12}\.part$")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file of a folder that was left out, why, and whether it is what was looked for."""

    path: Path
    reason: str
    wanted: bool


OnError = Callable[[str, MienError], None]
OnLeftOut = Callable[[LeftOut], None]


def find_images(
    inputs: Iterable[str | Path],
    *,
    recursive: bool = True,
    on_error: OnError | None = None,
    on_left_out: OnLeftOut | None = None,
) -> Iterator[str | Path]:
    """Expand files, folders and globs to the images they mean, lazily, folders in name order.

    Args:
        inputs: paths; a folder means every image in it, by file ending; a name with ``*``, ``?``
            or ``[`` that is no file is a glob (``**`` goes down); "-" is standard input.
        recursive: whether a folder's sub-folders count; linked ones do too, each once.
        on_error: called with (name, error) for an input that yields nothing, and the rest goes
            on; None raises the error.
        on_left_out: called with every file of a folder that is passed over.

    Yields:
        Paths, and "-" for standard input: what :meth:`mien.Analyzer.analyze` takes.
    """
    return _Finder("images", SUFFIXES, recursive, on_error, on_left_out).find(inputs)


def find_videos(
    inputs: Iterable[str | Path], *, on_error: OnError | None = None
) -> Iterator[str | Path]:
    """Expand files, folders and globs to the videos they mean; see :func:`find_images`."""
    return _Finder("videos", VIDEO_SUFFIXES, True, on_error, None).find(inputs)


def find_media(
    inputs: Iterable[str | Path],
    more: Iterable[str] = (),
    *,
    on_error: OnError | None = None,
    on_left_out: OnLeftOut | None = None,
) -> Iterator[str | Path]:
    """Expand files, folders and globs to the images and videos they mean; see :func:`find_images`.

    ``more`` are further file endings to look for in folders.
    """
    suffixes = SUFFIXES.union(VIDEO_SUFFIXES, more)
    return _Finder("images or videos", suffixes, True, on_error, on_left_out).find(inputs)


def is_address(text: str) -> bool:
    """Whether ``text`` is an address: "https://…", "s3://…"."""
    return _ADDRESS.match(text) is not None


def is_data_url(source: object) -> bool:
    """Whether ``source`` is the text of a data URL: "data:image/jpeg;base64,…"."""
    return isinstance(source, str) and source[:5].lower() == "data:"


def refuse_address(text: str, what: str = "images") -> None:
    """Raise ImageError where ``text`` is an address; ``what`` was looked for there."""
    if not is_address(text):
        return
    why = f"{text} is an address, and mien fetches none; "
    if text.lower().startswith("file:"):
        raise ImageError(f"{why}give the file's path.")
    if text.lower().startswith("rts"):
        raise ImageError(f"{why}for a camera: mien live --camera {shlex.quote(text)}")
    if what == "videos":
        raise ImageError(f"{why}fetch the video first: curl -O {shlex.quote(text)}")
    raise ImageError(f"{why}pipe the image in: curl -s {shlex.quote(text)} | mien predict -")


def open_stdin() -> BinaryIO:
    """Standard input. Raises ImageError when it is a terminal."""
    if sys.stdin.isatty():
        raise ImageError("Standard input is a terminal; pipe an image in: mien predict - < a.jpg")
    return sys.stdin.buffer


def real_path(path: str | os.PathLike[str]) -> Path:
    """``path`` absolute and without links; unlike ``Path.resolve`` it takes links that loop."""
    return Path(os.path.realpath(path))


@dataclass(frozen=True, slots=True)
class _Finder:
    what: str
    suffixes: frozenset[str]
    recursive: bool
    on_error: OnError | None
    on_left_out: OnLeftOut | None

    def find(self, inputs: Iterable[str | Path]) -> Iterator[str | Path]:
        for item in inputs:
            try:
                yield from self._expand(item)
            except ImageError as error:
                self._report(item, error)

    def _report(self, item: str | Path, error: ImageError) -> None:
        if self.on_error is None:
            raise error from None
        self.on_error(str(item), error)

    def _expand(self, item: str | Path) -> Iterator[str | Path]:
        path = Path(item)
        if not str(item):
            raise ImageError("An empty name names nothing.")
        if is_data_url(str(item)):
            raise ImageError("Data URLs are for Python; pipe the image in: mien predict - < a.jpg")
        mode = mode_of(path, ImageError)
        if str(item) == STDIN:
            yield STDIN
        elif stat.S_ISDIR(mode):
            files = self._walk(path, set())
            first = next(files, None)
            if first is None:
                raise ImageError(
                    f"{path} holds no {self.what} ({', '.join(sorted(self.suffixes))})."
                )
            yield from chain([first], files)
        elif mode:
            if path.suffix.lower() in VIDEO_SUFFIXES - self.suffixes:
                raise ImageError(f"{path} is a video; analyse it with: mien video {path}")
            if (
                path.name.lower().endswith((*TARS, *ZIPS))
                and path.suffix.lower() not in self.suffixes
            ):
                command = f"mien batch {shlex.quote(str(path))} --out FOLDER"
                raise ImageError(
                    f"{path} is an archive; unpack it, or look into it with: {command}"
                )
            yield path
        else:
            refuse_address(str(item), self.what)
            if not glob.has_magic(str(item)):
                raise ImageError(f"{path} does not exist.")
            matches = sorted(glob.glob(str(item), recursive=True))  # noqa: PTH207 - absolute too
            matched = [
                path
                for path in map(Path, matches)
                if stat.S_ISREG(mode_of(path, ImageError)) and not _PART.search(path.parent.name)
            ]
            if not matched:
                raise ImageError(f"No file matches {str(item)!r}.")
            yield from matched

    def _walk(self, folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
        try:
            status = folder.stat()
            with os.scandir(folder) as entries:
                listing = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            reason = error.strerror or error
            self._report(folder, ImageError(f"{folder} cannot be read: {reason}."))
            return
        place = (status.st_dev, status.st_ino)
        if place in seen and status.st_ino:  # a link that leads back, or to a folder read already
            return
        seen.add(place)
        for entry in listing:
            path = Path(entry.path)
            if _is_folder(entry):
                if entry.name.startswith("."):
                    self._leave(path, "a hidden folder", False)
                elif _PART.search(entry.name):
                    self._leave(path, "of a stopped run of mien video", False)
                elif self.recursive:
                    yield from self._walk(path, seen)
            elif why := self._reason(path):
                wanted = path.suffix.lower() in self.suffixes and not path.name.startswith("._")
                unread = self.what != "videos" and path.suffix.lower() in UNREAD_SUFFIXES
                self._leave(path, why, wanted or unread)
            else:
                yield path

    def _leave(self, path: Path, reason: str, wanted: bool) -> None:
        if self.on_left_out is not None:
            self.on_left_out(LeftOut(path, reason, wanted))

    def _reason(self, path: Path) -> str | None:
        """Why a folder's file is left out; None if it is not."""
        suffix = path.suffix.lower()
        if path.name.startswith("."):
            return "hidden"
        if suffix in self.suffixes:
            return "no regular file" if _is_special(path) else None
        if suffix in VIDEO_SUFFIXES:
            return "a video, for mien video"
        if path.name.lower().endswith((*TARS, *ZIPS)):
            return "an archive, for mien batch"
        if suffix in UNREAD_SUFFIXES:
            return f"{suffix[1:].upper()} is not read"
        return f"no {self.what[:-1]} by its ending"


def _is_special(path: Path) -> bool:
    """Whether ``path`` is a pipe, a socket or a device: to read it could take for ever."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # reading it says why
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere
        return False
