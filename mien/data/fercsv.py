"""FER2013 as CSV (``fer2013.csv``, ``icml_face_data.csv``) and FER+ votes (``fer2013new.csv``)."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.assemble import BadRows, assemble
from mien.data.dataset import FER2013_ROLES, FaceDataset, official_split
from mien.emotions import FER2013, FERPLUS_COLUMNS, Emotion, parse_emotion, parse_fer2013_code
from mien.errors import DataError
from mien.text import from_cell

SIDE = 48
PIXELS = SIDE * SIDE
#: A class by number.
CODE = re.compile(r"-?[0-9]+")
#: A face's votes for one expression are fewer.
MOST_VOTES = 1e6
#: What whole numbers look like that were saved as a list, or of a table of floats.
_SAVED_AS_LIST = re.compile(r"[\[\],]|\.0*(?![0-9])")


def read_header(path: Path) -> list[str]:
    """The first row of a CSV, lower case, without blanks. Raises DataError when unreadable."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            row = next(csv.reader(file), None)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}); check the file.") from None
    if not row:
        raise DataError(f"{path} is empty; fetch it again.")
    return [name.strip().lower() for name in row]


def is_fer2013_header(header: list[str]) -> bool:
    """Whether the columns are those of FER2013 (in any order)."""
    return "pixels" in header or {"emotion", "usage"} <= set(header)


def is_ferplus_header(header: list[str]) -> bool:
    """Whether the columns are those of ``fer2013new.csv``."""
    return {"usage", "neutral", "nf"} <= set(header)


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(row number from 0, fields) after the header; blank lines are skipped, and not numbered."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.reader(file)
            next(reader)
            yield from enumerate(filter(None, reader))
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}); check the file.") from None


def _column(path: Path, header: list[str], name: str) -> int:
    if name not in header:
        raise DataError(
            f"{path} has no {name!r} column (columns: {', '.join(header)}); FER2013 has "
            "emotion, pixels and Usage."
        )
    return header.index(name)


def parse_pixels(text: str) -> NDArray[np.uint8]:
    """2,304 values 0..255 -> uint8 (48, 48), between blanks, or as pandas saves a list.

    Raises:
        ValueError: with what is wrong, for a BadRows note.
    """
    if "," in text or "." in text or "[" in text:
        text = _SAVED_AS_LIST.sub(" ", text)
    raw = text.encode()
    # int() per value is 20 times slower; loadtxt too. Every other character shows up as a value
    # that cannot be parsed, which numpy reports as a ValueError or DeprecationWarning.
    if raw.translate(None, b"0123456789 \t"):
        strange = next((w for w in text.split() if not w.isdecimal()), "")
        if not strange:
            raise ValueError("the pixels are separated by something else than blanks")
        if strange.lstrip("-").isdigit():
            raise ValueError(f"the pixel value {strange} is outside 0 to 255")
        raise ValueError(f"{strange[:20]!r} is not a pixel value")
    values = np.fromstring(text, dtype=np.int64, sep=" ") if text.strip() else np.zeros(0, np.int64)
    if len(values) != PIXELS:
        raise ValueError(f"{len(values):,} pixels, expected {PIXELS:,} (48×48)")
    if values.max() > 255 or values.min() < 0:
        worst = values[(values > 255) | (values < 0)][0]
        raise ValueError(f"the pixel value {worst} is outside 0 to 255")
    return values.astype(np.uint8).reshape(SIDE, SIDE)


def parse_label(text: str, names: Sequence[str] | None = None) -> Emotion:
    """An expression's name, or its code: its place in ``names``, else FER2013's 0 to 6.

    Raises:
        DataError: it is missing or unknown.
        ValueError: a code of thousands of digits.
    """
    text = text.strip()
    if not text:
        raise DataError("the label is missing")
    if not CODE.fullmatch(text):
        return parse_emotion(text)
    code = int(text)
    if names is None:
        return parse_fer2013_code(code)
    if not 0 <= code < len(names):
        raise DataError(f"label code {code} is outside 0 to {len(names) - 1}")
    return parse_emotion(names[code])


def read_fer2013_csv(path: Path, *, skip_bad: bool = False) -> FaceDataset:
    """Read FER2013's CSV, with the FER+ votes of a ``fer2013new.csv``-like file beside it.

    The columns may stand in any order, in any capitals, with blanks around their names. Sample
    ids are "fer2013:" and the row number. A column ``id``, which ``mien data convert`` writes for
    other datasets, takes their place.

    Raises:
        DataError: a column is missing, or a row is bad (unless ``skip_bad``).
    """
    header = read_header(path)
    pixels = _column(path, header, "pixels")
    label = _column(path, header, "emotion")
    usage = header.index("usage") if "usage" in header else None
    id_column = header.index("id") if "id" in header else None
    group = header.index("group") if "group" in header else None
    bad = BadRows(path, skip=skip_bad)
    images, emotions, numbers, ids, splits, groups = [], [], [], [], [], []
    rows_in_file = 0
    for number, fields in csv_rows(path):
        rows_in_file = number + 1
        try:
            if len(fields) != len(header):
                wanted = f"expected {len(header)}; is it half-written?"
                raise DataError(f"{len(fields)} fields, {wanted}")
            image = parse_pixels(fields[pixels])
            emotion = parse_label(fields[label])
            split = from_cell(fields[usage].strip()) if usage is not None else ""
            if id_column is None:
                split = official_split(split)
                if split not in ("", *FER2013_ROLES):
                    raise DataError(f"unknown Usage {split[:20]!r}")
        except (ValueError, DataError) as error:
            bad.add(f"row {number}", str(error).rstrip("."))
            continue
        images.append(image)
        emotions.append(emotion)
        numbers.append(number)
        splits.append(split)
        own = None if id_column is None else from_cell(fields[id_column])
        ids.append(f"fer2013:{number:05d}" if own is None else own)
        groups.append(from_cell(fields[group]) if group is not None else "")
    notes = bad.check()
    beside = find_ferplus(path, any_name=id_column is None)
    votes = None
    if beside is not None:
        usages = dict(zip(numbers, splits, strict=True)) if usage is not None else None
        votes = read_ferplus_csv(beside, rows_in_file, usages)[numbers]
    name = dataset_name(ids)
    return assemble(
        images=images,
        emotions=emotions,
        ids=ids,
        name=name,
        source=path,
        splits=splits,
        groups=groups,
        votes=votes,
        classes=FER2013 if name == "fer2013" else None,
        notes=notes,
    )


def dataset_name(ids: list[str]) -> str:
    """The dataset that ids such as "fer2013:00012" come from; "fergit" for its two together, and
    "photo" with CK+ beside them."""
    prefixes = {i.split(":", 1)[0] if ":" in i else "faces" for i in ids}
    if prefixes == {"fer2013", "muxspace"}:
        return "fergit"
    if prefixes == {"fer2013", "muxspace", "ckplus"}:
        return "photo"
    return prefixes.pop() if len(prefixes) == 1 else "faces"


def find_ferplus(path: Path, *, any_name: bool) -> Path | None:
    """The CSV beside ``path`` whose columns are those of FER+, or None.

    The name that ``mien data convert`` gives it (``fer2013new.csv`` beside ``fer2013.csv``) comes
    first; any other only with ``any_name``.
    """
    own = path.with_name(f"{path.stem}new.csv")
    others = sorted(path.parent.glob("*.csv")) if any_name else []
    for candidate in [own, *others]:
        try:
            if candidate.is_file() and is_ferplus_header(read_header(candidate)):
                return candidate
        except DataError:
            continue
    return None


def read_ferplus_csv(
    path: Path, rows: int | None = None, usages: Mapping[int, str] | None = None
) -> NDArray[np.float32]:
    """Votes of ``fer2013new.csv``: float32 (N, 10), columns as FERPLUS_COLUMNS, in row order.

    Args:
        rows: how many there must be.
        usages: row -> the Usage that it has in FER2013's CSV.

    Raises:
        DataError: a vote column is missing, a vote is no number, there are not ``rows`` rows, or a
            row has another Usage: the two files are not in the same order.
    """
    header = read_header(path)
    missing = [c for c in FERPLUS_COLUMNS if c.lower() not in header]
    if missing:
        raise DataError(f"{path} has no {missing[0]!r} column; fetch FER+'s fer2013new.csv again.")
    where = [header.index(c.lower()) for c in FERPLUS_COLUMNS]
    usage = header.index("usage")
    bad = BadRows(path)
    votes = []
    for number, fields in csv_rows(path):
        try:
            row, split = [float(fields[i]) for i in where], fields[usage].strip()
        except (ValueError, IndexError):
            bad.add(f"row {number}", "a vote is missing or no number")
            continue
        if odd := [v for v in row if not 0 <= v < MOST_VOTES]:
            bad.add(f"row {number}", f"a vote of {odd[0]:g}, expected 0 or more")
        wanted = None if usages is None else usages.get(number)
        if wanted and split != wanted:
            raise DataError(
                f"{path}: row {number} is of {split[:20] or 'no split'} and that of the "
                f"FER2013 CSV beside it of {wanted}, so the two are not in the same order; take "
                "the files as they were published, or move the votes away."
            )
        votes.append(row)
    bad.check()
    if rows is not None and len(votes) != rows:
        raise DataError(
            f"{path} has votes for {len(votes):,} rows and the FER2013 CSV beside it has {rows:,}; "
            "they must be the same rows in the same order, so take the complete files or move "
            "the votes away."
        )
    return np.array(votes, dtype=np.float32).reshape(-1, len(FERPLUS_COLUMNS))
