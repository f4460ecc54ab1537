"""The record of a reproduction: ``reproduction.json``, schema 1, as frozen dataclasses.

Accuracies are fractions, what is missing is None, a run that was not done has the state "not run".
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from mien.errors import DataError
from mien.reproduce.run import Counts, Environment, Run, Seed, from_json
from mien.reproduce.spec import Earlier, Headline, Remark

SCHEMA = 1


@dataclass(frozen=True)
class Data:
    """A dataset: images of each class by split, and by the parts of each drawn split."""

    name: str
    sha256: str
    n: int
    classes: tuple[str, ...]
    counts: Mapping[str, Counts]
    divisions: Mapping[str, Mapping[str, Counts]] = field(default_factory=dict)


@dataclass(frozen=True)
class Mark(Headline):
    """One headline with our figure, and whether the mark is met."""

    ours: float | None = None
    ours_text: str | None = None
    difference: float | None = None
    met: bool | None = None


@dataclass(frozen=True)
class PrintedRow:
    """One epoch that the paper prints, and ours beside it: the mean of the finished seeds."""

    epoch: int
    paper: Mapping[str, float]
    ours_epoch: int | None
    ours: Mapping[str, float | None]
    ours_same_epoch: Mapping[str, float | None] | None = None
    nearest: bool = True


@dataclass(frozen=True)
class Printed:
    """The paper's table of epochs with ours beside it."""

    run: str
    columns: tuple[str, ...]
    rows: tuple[PrintedRow, ...]
    source: str = ""
    paper_epochs: int | None = None
    our_epochs: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Compared:
    """One model of the comparison table: column -> figure."""

    run: str
    label: str
    paper: Mapping[str, float | None]
    ours: Mapping[str, float | None]


@dataclass(frozen=True)
class PhotoFace:
    """What a network says of one face: class -> probability."""

    emotion: str
    probabilities: Mapping[str, float]
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Photo:
    """An image that anybody may see, and the faces on it; ``expected`` is what it shows."""

    name: str
    faces: tuple[PhotoFace, ...]
    source: str = ""
    expected: str = ""


@dataclass(frozen=True)
class PhotosRun:
    """Which run predicted on the photos, and what is to be said of it."""

    run: str
    text: str


@dataclass(frozen=True)
class Record:
    """A whole reproduction. ``failed`` is run folder's name -> why its training failed just now;
    ``extra`` is plain JSON of what one paper alone has (:class:`mien.reproduce.spec.Extra`)."""

    system: str
    title: str
    citation: str
    budget: str
    runs: tuple[Run, ...]
    headlines: tuple[Mark, ...]
    schema: int = SCHEMA
    command: str = ""
    created: str = ""
    environment: Environment = field(default_factory=Environment)
    data: tuple[Data, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    printed_epochs: Printed | None = None
    comparison: tuple[Compared, ...] = ()
    photos: tuple[Photo, ...] = ()
    photos_run: PhotosRun | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    earlier: tuple[Earlier, ...] = ()

    @property
    def dry(self) -> bool:
        """Whether it is of a dry run, whose figures mean nothing."""
        return "dry run" in self.budget

    def published(self) -> Record:
        """The record without the folders of this machine: "--out /a/runs/x" -> "--out x"."""
        replace = dataclasses.replace

        def cut(seed: Seed) -> Seed:
            return replace(seed, command=without_folders(seed.command))

        runs = tuple(replace(run, seeds=tuple(map(cut, run.seeds))) for run in self.runs)
        return replace(self, command=without_folders(self.command), runs=runs)

    def to_json(self) -> str:
        """Indented, with every row of numbers on one line."""
        record = dataclasses.asdict(self)
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=1)
        figure = r"(?:-?\d[\d.eE+-]*|null)"
        row = re.compile(rf"\[\s*(?:{figure},\s*)*{figure}\s*\]")
        return row.sub(lambda found: " ".join(found[0].split()), text) + "\n"


def without_folders(command: str) -> str:
    """A command whose absolute paths are cut to their last part, so that it can be published."""
    return re.sub(
        r"(?<![\w.~-])(?:~|[A-Za-z]:)?[/\\][^\s'\"]+",
        lambda found: PurePath(found[0].replace("\\", "/").rstrip("/")).name,
        command,
    )


def read_record(path: Path) -> Record:
    """The record in ``path``.

    Raises:
        DataError: it cannot be read, or is no reproduction of this schema.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}; write it anew.") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise DataError(
            f"{path} is no reproduction of schema {SCHEMA}: write it anew with mien reproduce."
        )
    try:
        record: Record = from_json(Record, found)
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); write it anew.") from error
    return record
