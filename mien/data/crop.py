"""``mien data crop``: the faces of a folder of photos, found, levelled and cut, one file each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import cv2

from mien import zoo
from mien.atomic import atomic_folder
from mien.data.own import Photo, list_table, place_of
from mien.data.own_faces import Cut, cut_all
from mien.errors import DataError, OutputError
from mien.modelinfo import SIDES
from mien.pipeline import Analyzer
from mien.sources import LeftOut, find_images
from mien.text import csv_line, printable

TABLE = "faces.csv"
_COLUMNS = ("path", "source", "face", "faces", "box_x", "box_y", "box_width", "box_height")
_MORE = ("label", "group", "split")


@dataclass(frozen=True)
class CropReport:
    """What was cut.

    Attributes:
        photos, faces: read, and written.
        left_out: (photo, reason).
        table: the CSV of what came from where; it lies in the output folder.
    """

    photos: int
    faces: int
    left_out: tuple[tuple[str, str], ...]
    table: Path

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "table": str(self.table)}


def crop_photos(
    source: str | Path,
    out: str | Path,
    *,
    size: int = 48,
    largest: bool = False,
    model: str | Path = zoo.DEFAULT,
    progress: Callable[[int, int], None] | None = None,
) -> CropReport:
    """Cut every face out of every photo as ``mien predict`` sees it, grey, size × size, PNG.

    Args:
        source: a folder, whose sub-folders are kept, or a table (:mod:`mien.data.own`).
        out: the folder to write: ``a/b.jpg`` gives ``a/b.png``, its second face ``a/b-2.png``.
        size: side of a crop in pixels.
        largest: only the largest face of a photo.
        model: the model whose crop it is; the shipped ones' is the same.
        progress: called with (photos done, photos in all).

    Raises:
        DataError: no photos, or a size out of range.
        OutputError: ``out`` lies in ``source`` or holds files, or cannot be written.
    """
    source, out = Path(source), Path(out)
    if not SIDES[0] <= size <= SIDES[1]:
        raise DataError(f"The size is {size}; expected {SIDES[0]} to {SIDES[1]}.")
    if out.resolve().is_relative_to(source.resolve()):
        raise OutputError(f"{out} lies in {source}, and the next run would cut its faces again.")
    photos, left = _photos(source)
    analyzer = Analyzer(model)
    analyzer.classifier.info = replace(analyzer.info, input_size=size)  # frames, never classifies
    taken: set[str] = set()
    count = 0
    with atomic_folder(out) as new, (new / TABLE).open("w", encoding="utf-8", newline="") as table:
        table.write(csv_line((*_COLUMNS, *_MORE)))
        for photo, cuts in cut_all(photos, analyzer, every=not largest, progress=progress):
            if isinstance(cuts, str):
                left.append((photo.name, cuts))
                continue
            for cut in cuts:
                name = _name(cut, taken)
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_bytes(cv2.imencode(".png", cut.crop)[1].tobytes())
                table.write(csv_line(_row(name, cut)))
                count += 1
    return CropReport(len(photos), count, tuple(left), out / TABLE)


def _photos(source: Path) -> tuple[tuple[Photo, ...], list[tuple[str, str]]]:
    if not source.is_dir():
        listing = list_table(source)
        return listing.photos, list(listing.left_out)
    left: list[tuple[str, str]] = []

    def leave(file: LeftOut) -> None:
        if file.wanted:  # a text beside the photos is nothing to report
            left.append((str(file.path.relative_to(source)), file.reason))

    photos = []
    for file in map(Path, find_images([source], on_left_out=leave)):
        inner = file.relative_to(source)
        split, label = place_of(inner.parts[:-1])
        photos.append(Photo(printable(inner.as_posix()), file, label, split=split))
    return tuple(photos), left


def _name(cut: Cut, taken: set[str]) -> str:
    """The crop's path below the output folder; every call gives another one inside it."""
    path = PurePosixPath(cut.photo.name)
    if os.sep == "\\" or isinstance(cut.photo.source, bytes):
        # A table's names may be Windows'. Elsewhere a file's own name holds the backslash, or the
        # escapes do of what is no text in it: as folders those would be one class.
        path = PurePosixPath(cut.photo.name.replace("\\", "/"))
    inner = PurePosixPath(*(part for part in path.parts if part not in ("..", "/", "//")))
    inner = inner if inner.name else PurePosixPath("photo")
    number = "" if cut.number == 1 else f"-{cut.number}"
    for stem in (inner.stem, inner.name):
        name = str(inner.with_name(f"{stem}{number}.png"))
        if name.lower() not in taken:
            break
    else:
        name = str(inner.with_name(f"{inner.name}-{len(taken)}{number}.png"))
    taken.add(name.lower())
    return name


def _row(name: str, cut: Cut) -> tuple[object, ...]:
    box = [round(v, 2) for v in cut.box.to_dict().values()]
    photo = cut.photo
    return (
        name,
        photo.name,
        cut.number,
        cut.of,
        *box,
        photo.label,
        photo.group,
        photo.split,
    )
