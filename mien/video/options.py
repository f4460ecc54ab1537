"""What a run over videos does and where its results go."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mien.atomic import told_of
from mien.errors import VideoError
from mien.sinks import check_table, free_name
from mien.video.encode import SUFFIXES
from mien.video.flow import BATCH


@dataclass(frozen=True, slots=True)
class Options:
    """How videos are looked at.

    Attributes:
        every, start, end, smooth, margin, max_gap, min_track, everyone, cuts: see
            :func:`mien.video.analyze_video`. ``max_gap`` is at least two and a half times the time
            from one frame looked at to the next.
        batch: frames whose faces are classified in one call.
        workers: threads that find faces; None takes every core.
        bars: paint the panels of probabilities on the annotated video.
        checkpoint: seconds between two savings of the state: what a killed run loses at most.
    """

    every: int = 1
    start: float = 0.0
    end: float | None = None
    smooth: float = 0.4
    margin: float = 0.1
    max_gap: float = 1.0
    min_track: float = 1.0
    everyone: bool = False
    cuts: bool = True
    batch: int = BATCH
    workers: int | None = None
    bars: bool = True
    checkpoint: float = 20.0

    def __post_init__(self) -> None:
        if not isinstance(self.every, int) or self.every < 1:
            raise VideoError(f"every is {self.every}; expected a whole number, 1 or more.")
        if not 0 <= self.start < math.inf:
            raise VideoError(f"The start is {self.start:g} s; expected 0 or more.")
        if self.end is not None and not self.end > self.start:
            raise VideoError(
                f"The video would end at {self.end:g} s but begin at {self.start:g} s."
            )
        if not 0 <= self.min_track < math.inf:
            raise VideoError(f"min_track is {self.min_track:g} s; expected 0 or more.")
        if self.batch < 1 or (self.workers is not None and self.workers < 1):
            raise VideoError("batch and workers must be 1 or more.")


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where results go; None is nowhere.

    Attributes:
        csv, jsonl, parquet: tables of all videos; "-" is standard output, for the first two.
        video: the annotated video; a folder for several.
        plot: the timeline page; a folder for several videos.
    """

    csv: str | None = None
    jsonl: str | None = None
    parquet: str | None = None
    video: Path | None = None
    plot: Path | None = None

    @property
    def tables(self) -> dict[str, str]:
        """Kind -> target of each table wanted."""
        given = {"csv": self.csv, "jsonl": self.jsonl, "parquet": self.parquet}
        return {kind: target for kind, target in given.items() if target is not None}

    def check(self, several: bool) -> None:
        """Refuse names that say something else than what would be written into them.

        ``several``: whether there are several videos, so that ``video`` and ``plot`` are folders.

        Raises:
            OutputError, VideoError: another format's ending, one file for several videos, or a name
                that is too long or in a folder that may not be entered.
        """
        for name in (*self.tables.values(), self.video, self.plot):
            if name is not None:  # what pathlib is asked below would raise of some names
                with told_of(name), suppress(FileNotFoundError):
                    Path(name).stat()
        for kind, target in self.tables.items():
            check_table(kind, target)
        for path in (self.video, self.plot):
            a_file = path is not None and path.suffix.lower() in (*SUFFIXES, ".html", ".htm")
            if several and path is not None and a_file and not path.is_dir():
                raise VideoError(
                    f"{path} names one file, but there are several videos; name a folder."
                )
        page = None if several else self.plot
        if page and page.suffix.lower() not in ("", ".html", ".htm") and not page.is_dir():
            raise VideoError(f"The timeline is a page; name it .html, not {page}.")

    def for_video(self, source: Path, several: bool, taken: set[str]) -> Outputs:
        """The same with this video's own names; in folders, two videos of one name get numbers."""

        def own(path: Path | None, suffix: str) -> Path | None:
            if path is None or not is_folder(path, several):
                return path
            return free_name(path, source.stem, suffix, taken)

        suffix = source.suffix.lower()
        video = own(self.video, suffix if suffix in (".webm", ".mkv") else ".mp4")
        return replace(self, video=video, plot=own(self.plot, ".html"))


def is_folder(path: Path, several: bool) -> bool:
    """Whether ``video`` or ``plot`` names a folder, there or not."""
    return several or path.is_dir() or not path.suffix


def parse_time(text: str) -> float:
    """Seconds from "90", "1:30", "0:01:30", "1:30.5", "90s", "5m", "1h". Raises VideoError."""
    text = text.strip()
    if re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?|\d+(\.\d+)?[smh]", text) is None:
        raise VideoError(f"{text!r} is no time; write seconds, M:SS, H:MM:SS, 5m or 1h.")
    seconds = 0.0
    for part in text.rstrip("smh").split(":"):
        seconds = 60 * seconds + float(part)
    return seconds * {"m": 60.0, "h": 3600.0}.get(text[-1], 1.0)
