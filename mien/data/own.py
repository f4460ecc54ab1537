"""Anybody's own photos with classes of their own: folders or a table, listed before any is read."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from mien._system import mode_of
from mien.data.dataset import ROLE_OF
from mien.data.folders import SPLIT_FOLDERS, list_folder
from mien.data.parquet import image_bytes, image_column, parquet_schema, read_table
from mien.errors import DataError, MienError, first_line
from mien.results import Box
from mien.sources import SUFFIXES, LeftOut, OnLeftOut, find_images
from mien.text import NOT_UTF8, csv_table, from_cell, printable

#: Most classes of a model.
MOST_CLASSES = 1000

#: What a table's columns may be called, the best name first.
COLUMNS = {
    "path": ("path", "file", "filename", "image", "source"),
    "label": ("label", "class", "emotion", "expression"),
    "group": ("group", "subject", "person", "user", "user_id", "user.id"),
    "split": ("split", "usage"),
}
_BOX = ("box_x", "box_y", "box_width", "box_height")  # as `mien predict --csv` calls them
#: Why a row is left out that nobody has labelled, which is no fault.
NO_LABEL = "the label is missing"


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo that is to be read.

    Attributes:
        name: its path below the folder, or as the table has it; the sample's id.
        source: where it is, or its bytes.
        label: the class's name as its owner writes it.
        group: person, video or other source that must not lie in two splits, or "".
        split: "train", "val", "test" or "".
        box: which face is meant, in pixels; None takes the largest.
    """

    name: str
    source: Path | bytes
    label: str
    group: str = ""
    split: str = ""
    box: Box | None = None


@dataclass(frozen=True)
class Listing:
    """The photos, and what was left out before any was read.

    Attributes:
        photos: that are to be read.
        left_out: (name, reason).
        empty: classes without a photo.
        unread: how many of those left out are faults: rows, and images that mien does not read.
    """

    photos: tuple[Photo, ...]
    left_out: tuple[tuple[str, str], ...]
    empty: tuple[str, ...] = ()
    unread: int = 0


def list_photos(path: str | Path, group_by: str | None = None, least_classes: int = 2) -> Listing:
    """The photos of a folder of class folders, or of a table.

    Args:
        path: class folders, directly or below ``train/``, ``val/`` and ``test/`` (or some of
            them); or a CSV, Parquet or JSON lines file with columns path and label, and where
            wanted group, split and box (``x,y,width,height``).
        group_by: a regular expression; what its first group, or the whole, matches in a photo's
            path names the person or video that it shows.
        least_classes: to learn from takes two; to score on, one is enough.

    Raises:
        DataError: nothing usable is there, fewer than ``least_classes`` or more than 1,000; the
            expression is none.
    """
    path = Path(path)
    mode = mode_of(path, DataError)
    if not mode:
        raise DataError(f"{path} does not exist; give a folder of class folders, or a table.")
    listing = _folder(path) if S_ISDIR(mode) else list_table(path)
    if group_by is not None:
        try:
            pattern = re.compile(group_by)
        except re.error as error:
            raise DataError(f"--group-by {group_by!r} is no regular expression: {error}.") from None
        listing = replace(
            listing, photos=tuple(_grouped(photo, pattern) for photo in listing.photos)
        )
    classes = len({photo.label for photo in listing.photos})
    if not listing.photos:
        why = f" ({listing.left_out[0][0]}: {listing.left_out[0][1]})" if listing.left_out else ""
        raise DataError(f"{path} holds no labelled photos{why}; give class folders of photos.")
    if classes < least_classes:
        label = printable(listing.photos[0].label)
        raise DataError(f"{path} holds one class alone, {label!r}; a second one is needed.")
    if classes > MOST_CLASSES:
        raise DataError(f"{path} holds {classes:,} classes; at most {MOST_CLASSES:,} are learned.")
    return listing


def _grouped(photo: Photo, pattern: re.Pattern[str]) -> Photo:
    found = pattern.search(_composed(photo.name))
    if found is None:
        return photo
    return replace(photo, group=(found.group(1) if pattern.groups else found.group()) or "")


def _composed(text: str) -> str:
    """Without blanks at its ends, and the same whichever system wrote it: macOS takes é apart."""
    return unicodedata.normalize("NFC", text).strip()


def class_name(text: str) -> str:
    """A class's name as every output shows it: composed, without blanks at its ends."""
    return printable(_composed(text))


def place_of(folders: Sequence[str]) -> tuple[str, str]:
    """The split and the class of a photo that lies in ``folders`` of a folder of photos."""
    first = folders[0].lower() if folders else ""
    if first in SPLIT_FOLDERS and len(folders) > 1:
        return ROLE_OF.get(first, ""), class_name(folders[1])
    return "", class_name(folders[0]) if folders else ""


def _folder(root: Path) -> Listing:
    folders, files = list_folder(root)
    left = [(f.name, "lies in no class folder") for f in files if f.suffix.lower() in SUFFIXES]
    hidden = [f for f in sorted(root.iterdir()) if f.name.startswith(".") and f.is_dir()]
    left += [(f"{f.name}/", "is hidden: its name begins with a dot") for f in hidden]
    splits = [f for f in folders if f.name.lower() in SPLIT_FOLDERS and list_folder(f)[0]]
    if splits and len(splits) < len(folders):
        others = ", ".join(printable(f.name) for f in folders if f not in splits)
        raise DataError(
            f"{root} holds {splits[0].name}/ with class folders beside {others}; move one kind "
            "away."
        )
    found: list[tuple[str, Path]] = [("", f) for f in folders]
    if splits:
        found = [(s.name, f) for s in splits for f in list_folder(s)[0]]
    photos: list[Photo] = []
    empty: list[str] = []
    passed: list[LeftOut] = []
    for split, folder in found:
        before = len(photos)
        # A photo of the class may lie any number of folders deep.
        for file in _images(folder, passed.append):
            name = printable(file.relative_to(root).as_posix())
            role = ROLE_OF.get(split.lower(), "")
            photos.append(Photo(name, file, class_name(folder.name), split=role))
        if len(photos) == before:
            empty.append(class_name(folder.name))
    left += [(file.path.relative_to(root).as_posix(), file.reason) for file in passed]
    without = dict.fromkeys(set(empty) - {photo.label for photo in photos})
    unread = sum(file.wanted for file in passed)
    return Listing(tuple(photos), tuple(left), tuple(without), unread)


def _images(folder: Path, on_left_out: OnLeftOut) -> Iterator[Path]:
    def ignore(name: str, error: MienError) -> None:
        """It holds none, or a folder in it cannot be read."""

    yield from map(Path, find_images([folder], on_left_out=on_left_out, on_error=ignore))


def list_table(path: Path) -> Listing:
    """The photos of a table. Raises DataError: it is none."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; give a folder of photos, or a table of them.")
    kind = path.suffix.lower()
    with path.open("rb") as file:
        parquet = file.read(4) == b"PAR1"
    if parquet:
        rows: Iterator[Mapping[str, Any]] = _parquet(path)
    elif kind in (".jsonl", ".ndjson", ".json"):
        rows = _json_lines(path)
    elif kind in (".csv", ".tsv", ".txt"):
        rows = _csv(path)
    else:
        raise DataError(
            f"{path} is no table of photos; expected .csv, .parquet or .jsonl with path and label, "
            "or a folder of class folders."
        )
    photos: list[Photo] = []
    left: list[tuple[str, str]] = []
    seen: Counter[str] = Counter()
    for number, row in enumerate(rows, 1):
        try:
            photo = _photo(path, number, row)
        except ValueError as error:
            left.append((f"row {number}", str(error)))
            continue
        seen[photo.name] += 1
        if seen[photo.name] > 1:  # another face of the photo, or a copy
            photo = replace(photo, name=f"{photo.name}#{seen[photo.name]}")
        photos.append(photo)
    unread = sum(why != NO_LABEL for _, why in left)
    return Listing(tuple(photos), tuple(left), unread=unread)


def _photo(table: Path, number: int, row: Mapping[str, Any]) -> Photo:
    """Raises ValueError with what is wrong with the row."""

    def cell(column: str) -> str:
        # The first of the column's names that the table has: where it is empty, a later one, such
        # as the emotion that a model gave, is no answer.
        value = next((row[n] for n in COLUMNS[column] if n in row), None)
        return "" if value is None else str(value)

    name, label, split = cell("path"), class_name(cell("label")), cell("split").strip().lower()
    if name != name.strip() and not (table.parent / name).is_file():  # a name may end in blanks
        name = name.strip()
    data = row.get("_bytes")
    if not label:
        raise ValueError(NO_LABEL)
    if not name and not data:
        raise ValueError("the path is missing")
    if split and split not in ROLE_OF:
        raise ValueError(f"the split {split[:40]!r} is none of train, val and test")
    source = data if isinstance(data, bytes) else table.parent / name
    if isinstance(source, Path) and not source.is_file():
        raise ValueError(f"there is no file {name!r}")
    role, marked = ROLE_OF.get(split, ""), _box(row)
    name = printable(name) or f"row {number}"
    return Photo(name, source, label, _composed(cell("group")), role, marked)


def _box(row: Mapping[str, Any]) -> Box | None:
    given = row.get("box")
    if given in (None, ""):
        given = [row.get(name) for name in _BOX]
        if any(value in (None, "") for value in given):
            return None
    if isinstance(given, Mapping):
        given = [given.get(k) for k in ("x", "y", "width", "height")]
    if isinstance(given, str):
        given = re.split(r"[,;\s]+", given.strip("[]() "))
    try:
        x, y, width, height = map(float, given)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"the box {str(given)[:40]!r} is not x, y, width, height") from None
    if not (0 < width < 1e6 and 0 < height < 1e6 and abs(x) < 1e6 and abs(y) < 1e6):
        raise ValueError("the box has no size")
    return Box(x, y, width, height)


def _need(path: Path, names: list[str]) -> None:
    for column in ("path", "label"):
        if not set(COLUMNS[column]) & set(names):
            raise DataError(
                f"{path} has no column {column!r} (columns: {printable(', '.join(names))}); "
                "expected path and label, and where wanted group, split and box."
            )


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv_table(file, path.name)
            header = [name.strip().lower() for name in next(rows, [])]
            _need(path, header)
            for row in rows:
                if row:
                    yield dict(zip(header, map(from_cell, row), strict=False))
    except UnicodeDecodeError:
        raise DataError(f"{path} {NOT_UTF8}") from None
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({first_line(error)}).") from None


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number} is no JSON object; expected one per line.")
            row = {str(key).lower(): value for key, value in row.items()}
            if number == 1:
                _need(path, list(row))
            yield row
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON lines ({first_line(error)}).") from None


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    schema = parquet_schema(path)
    column = image_column(schema)
    names = [str(name).lower() for name in schema.names]
    _need(path, [*names, "path"] if column else names)
    table = read_table(path, schema.names)
    blobs = image_bytes(table[column]) if column else [None] * len(table)
    kept = table.select([name for name in schema.names if name != column])
    for row, blob in zip(kept.to_pylist(), blobs, strict=True):
        yield {**{str(key).lower(): value for key, value in row.items()}, "_bytes": blob}
