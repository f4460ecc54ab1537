"""Statistics of a batch's faces by source, person and time, with intervals.

Faces that are doubtful (unsure, or below a quality) are left out and counted. An interval is that
of a block bootstrap: neighbouring frames are no independent witnesses, so stretches of a video are
drawn, not frames; of photos, each is a block.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._system import arrow_errors, import_pyarrow_parquet
from mien.errors import MienError, first_line, nearest
from mien.sinks.rows import parquet_schema
from mien.sources import TARS, ZIPS
from mien.text import printable

#: What faces may be grouped by.
KEYS = ("source", "folder", "track")
#: Columns without which a table is none of faces.
NEEDED = ("face", "source", "emotion", "unsure", "quality")
#: Times in seconds from there on are none.
LONGEST = 1e9
#: A member at the top of an archive.
_TOP = re.compile(rf"(.*(?:{'|'.join(map(re.escape, (*TARS, *ZIPS)))}))::[^/]+", re.I | re.S)
#: With fewer blocks there is no interval.
LEAST_BLOCKS = 5
DRAWS = 1000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One group, in one window of time where windows were asked for.

    Attributes:
        group: the values of the keys, in their order; a track is None for photos.
        start, end: of the window, in seconds; None without windows, and for photos.
        faces, doubtful: faces counted, and faces left out.
        transitions: changes of a followed face's name.
        shares, means: of each class: of the faces that have its name, and of its probability.
        share_intervals, mean_intervals: their 95 % intervals, None with fewer than 5 blocks.
    """

    group: tuple[str | int | None, ...]
    start: float | None
    end: float | None
    faces: int
    doubtful: int
    transitions: int
    shares: Floats
    means: Floats
    share_intervals: Floats | None
    mean_intervals: Floats | None


@dataclass(slots=True)
class Summary:
    """All rows, in the order of their groups and windows.

    Attributes:
        keys: what the groups are; see :data:`KEYS`.
        labels: the model's classes.
        changes: (from, to) -> how often a followed face's name changed so.
    """

    keys: tuple[str, ...]
    labels: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def columns(self) -> list[str]:
        """Of the table: keys, window, counts, and six figures a class."""
        parts = ("share", "share_low", "share_high", "mean", "mean_low", "mean_high")
        figures = [f"{part}_{printable(label)}" for label in self.labels for part in parts]
        return [*self.keys, "start", "end", "faces", "doubtful", "transitions", *figures]

    def cells(self, row: Row) -> list[Any]:
        """A row of the table; None where there is no figure."""
        none = np.full((2, len(self.labels)), np.nan)
        share = none if row.share_intervals is None else row.share_intervals
        mean = none if row.mean_intervals is None else row.mean_intervals
        figures = np.stack([row.shares, *share, row.means, *mean], axis=1).ravel().tolist()
        known = [None if math.isnan(value) else round(value, 6) for value in figures]
        counts = [row.start, row.end, row.faces, row.doubtful, row.transitions]
        return [*row.group, *counts, *known]


class _Group:
    """The sums of one group and window, block by block."""

    def __init__(self, classes: int) -> None:
        #: Faces, faces of each name, sums of probabilities.
        self.blocks: dict[tuple[int, int], Floats] = {}
        self.doubtful = self.transitions = 0
        self._size = 1 + 2 * classes

    def figures(self, rng: np.random.Generator) -> tuple[int, Floats, Floats | None]:
        """Faces; shares and means, (2K,); and their intervals, (2, 2K)."""
        if not self.blocks:
            return 0, np.full(self._size - 1, np.nan), None
        blocks = np.array(list(self.blocks.values()))
        total = blocks.sum(axis=0)
        values = total[1:] / total[0]
        if len(blocks) < LEAST_BLOCKS:
            return int(total[0]), values, None
        even = np.full(len(blocks), 1 / len(blocks))
        drawn = np.array([rng.multinomial(len(blocks), even) @ blocks for _ in range(DRAWS)])
        # A draw of nothing but small blocks may hold few faces, never none.
        intervals = np.percentile(drawn[:, 1:] / drawn[:, :1], [2.5, 97.5], axis=0)
        return int(total[0]), values, intervals


def summarize(
    data: str | Path,
    *,
    by: Sequence[str] = ("source", "track"),
    every: float | None = None,
    min_quality: float = 0.0,
    block: float = 2.0,
    seed: int = 0,
) -> Summary:
    """Shares, means and transitions of the faces of a batch.

    Args:
        data: the folder of ``mien batch``, or a Parquet file of ``mien video`` or ``predict``.
        by: keys of the groups: "source", "folder" (that a source lies in; of an archive's members
            their folder in it), "track" (one of its source, which is added); none is all.
        every: seconds of a window; None takes each video as a whole.
        min_quality: a face below it is doubtful, 0..1; so is every unsure one.
        block: seconds of a bootstrap block; longer than an expression lasts.
        seed: of the bootstrap.

    Raises:
        MienError: an unknown key, a value out of range, or no table of faces.
    """
    for key in by:
        if key not in KEYS:
            raise MienError(f"Unknown key {key!r}{nearest(key, KEYS)}")
    if not block > 0 or (every is not None and not 0 < every < LONGEST):
        raise MienError("Windows and blocks must be longer than 0 seconds.")
    if not 0 <= min_quality <= 1:
        raise MienError(f"The least quality is {min_quality:g}; expected 0 to 1.")
    if seed < 0:
        raise MienError(f"The seed is {seed}; expected 0 or more.")
    if "track" in by and "source" not in by:
        at = list(by).index("track")
        by = [*by[:at], "source", *by[at:]]
    keys, videos, groups = tuple(by), {}, {}  # type: ignore[var-annotated]
    out: Summary | None = None
    last: dict[tuple[str, int], int] = {}
    for table in face_tables(Path(data), NEEDED, ("time", "track", "steady")):
        columns = dict(zip(table.column_names, table.columns, strict=True))
        labels = tuple(name[2:] for name in columns if name.startswith("p_"))
        out = out or Summary(keys, labels)
        _add(columns, out, groups, videos, last, every, block, min_quality)
    if out is None:
        raise MienError(f"{data} holds no faces.")
    rng = np.random.default_rng(seed)
    for (group, window), sums in sorted(groups.items(), key=lambda item: _order(item[0])):
        faces, values, intervals = sums.figures(rng)
        start = end = None
        if every is not None and window is not None:
            start, end = round(window * every, 6), round((window + 1) * every, 6)
        counts = (faces, sums.doubtful, sums.transitions)
        spread = (None, None) if intervals is None else np.split(intervals, 2, axis=1)
        out.rows.append(Row(group, start, end, *counts, *np.split(values, 2), *spread))
    return out


def _order(key: tuple[tuple[Any, ...], int | None]) -> tuple[Any, ...]:
    group, window = key
    return tuple((value is not None, value) for value in (*group, window))


def face_files(data: Path) -> list[Path]:
    """The Parquet files of the faces in ``data``, of finished parts. Raises MienError."""
    files = [data] if data.is_file() else sorted((data / "faces").glob("[!.]*.parquet"))
    if (sources := data / "sources").is_dir():
        files = [file for file in files if (sources / file.name).exists()]
    if not files:
        raise MienError(f"{data} is no folder of mien batch and no Parquet file of faces.")
    return files


def face_tables(data: Path, needed: Sequence[str], more: Sequence[str] = ()) -> Iterator[Any]:
    """Faces of ``data``, some thousand rows at a time, as ``pyarrow.Table`` of mien's own types.

    Args:
        needed: columns; those of ``more``, and of the probabilities, come where they are.

    Raises:
        MienError: a file cannot be read, or holds something else.
    """
    pq, labels = import_pyarrow_parquet(), None
    import pyarrow as pa

    for path in face_files(data):
        try:
            file = pq.ParquetFile(path)
            there = file.schema_arrow.names
            names = [n for n in there if n.startswith("p_")]
            labels = names if labels is None else labels
            if not names or names != labels:
                raise ValueError("its probabilities are missing, or of other classes")
            wanted = [*needed, *(n for n in more if n in there), *names]
            for batch in file.iter_batches(1 << 16, columns=wanted):
                table = pa.Table.from_batches([batch]).select(wanted).cast(parquet_schema(wanted))
                known = table.filter(pa.compute.is_valid(table[needed[0]]))
                if len(known):
                    yield known.filter(pa.compute.is_valid(known["source"]))
        except arrow_errors() as error:
            raise MienError(f"{path} cannot be read: {first_line(error)}.") from None


def _add(
    columns: dict[str, Any],
    out: Summary,
    groups: dict[Any, _Group],
    videos: dict[str, int],
    last: dict[tuple[str, int], int],
    every: float | None,
    block: float,
    min_quality: float,
) -> None:
    count, labels = len(columns["source"]), out.labels
    sources = [printable(name) for name in columns["source"].to_pylist()]
    codes = np.array([videos.setdefault(name, len(videos)) for name in sources])
    time, track = (_floats(columns.get(name), count) for name in ("time", "track"))
    steady = columns["steady"].to_pylist() if "steady" in columns else [None] * count
    names = [s or e for s, e in zip(steady, columns["emotion"].to_pylist(), strict=True)]
    place = {label: n for n, label in enumerate(labels)}
    named = np.array([place.get(name, -1) for name in names])  # -1: "unsure"
    quality = _floats(columns["quality"], count)
    doubtful = (named < 0) | np.array(columns["unsure"].to_pylist(), bool) | (quality < min_quality)
    known = np.abs(time) < LONGEST
    seconds = np.where(known, time, 0.0)
    window = np.where(known & (every is not None), _part(seconds, every or 1.0), -1).astype(int)
    # Each photo is one block, whatever faces are on it: its cells have its own code.
    blocks = np.where(known, _part(seconds, block), -1).astype(int)
    number = np.where(np.isfinite(track), track, -1).astype(int)
    p = np.stack([_floats(columns[f"p_{label}"], count) for label in labels], axis=1)
    sums = np.concatenate(
        [np.ones((count, 1)), np.eye(len(labels))[np.maximum(named, 0)], p], axis=1
    )
    table = np.stack([codes, number, window, blocks], axis=1)
    cells, inverse = np.unique(table, axis=0, return_inverse=True)
    added = np.zeros((len(cells), sums.shape[1]))
    np.add.at(added, inverse.ravel()[~doubtful], sums[~doubtful])
    left_out = np.bincount(inverse.ravel(), doubtful, len(cells))
    changed = np.zeros(len(cells), int)
    for row in np.flatnonzero((number >= 0) & ~doubtful).tolist():
        followed = sources[row], int(number[row])
        before = last.get(followed)
        last[followed] = int(named[row])
        if before is not None and before != named[row]:
            changed[inverse.ravel()[row]] += 1
            out.changes[labels[before], labels[named[row]]] += 1
    video = list(videos)
    for cell, more, doubts, changes in zip(cells.tolist(), added, left_out, changed, strict=True):
        code, person, at, part = cell
        values = {
            "source": video[code],
            "folder": _folder(video[code]),
            "track": person if person >= 0 else None,
        }
        key = tuple(values[k] for k in out.keys), at if at >= 0 else None
        group = groups.setdefault(key, _Group(len(labels)))
        group.doubtful += int(doubts)
        group.transitions += int(changes)
        if more[0]:
            group.blocks[code, part] = group.blocks.get((code, part), 0.0) + more


def _part(seconds: Floats, length: float) -> Floats:
    """The number of the part that each time is in; one at its edge, to a microsecond, begins it."""
    return np.floor((seconds + 1e-6) / length)


def _folder(source: str) -> str:
    top = _TOP.fullmatch(source)
    return top[1] if top else str(PurePosixPath(source).parent)


def _floats(column: Any, count: int) -> Floats:
    if column is None:
        return np.full(count, np.nan)
    return np.array([np.nan if v is None else v for v in column.to_pylist()], float)
