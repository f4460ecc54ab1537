"""The state of a run, saved beside its outputs, from which a killed run goes on."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mien._system import mode_of
from mien._version import __version__
from mien.atomic import make_folder, write_text
from mien.errors import VideoError
from mien.pipeline import Analyzer
from mien.sinks import is_stream
from mien.sinks.grown import START_OVER
from mien.video.options import Options, Outputs, is_folder

#: Raised when what is saved changes its meaning.
FORMAT = 9


def state_file(outputs: Outputs, several: bool) -> Path | None:
    """``NAME.resume`` beside the first output, or ``mien-video.resume`` in it where it is a folder;
    None if there is none."""
    targets: list[str | Path | None] = [outputs.video, *outputs.tables.values(), outputs.plot]
    for target in targets:
        if isinstance(target, Path) and is_folder(target, several):  # also one still to be made
            return target / "mien-video.resume"
        if target is not None and not is_stream(target):
            path = Path(os.path.realpath(target))
            return path.with_name(path.name + ".resume")
    return None


def fingerprint(
    videos: Sequence[Path], analyzer: Analyzer, options: Options, outputs: Outputs
) -> dict[str, Any]:
    """What must be the same for a run to be gone on with, by the user's word for it."""
    chosen = asdict(options)
    for name in ("batch", "workers", "checkpoint"):  # they change nothing in the results
        del chosen[name]
    stats = [(video, video.stat()) for video in videos]
    return {
        "videos": [[str(video.absolute()), s.st_size, s.st_mtime_ns] for video, s in stats],
        "model": analyzer.classifier.sha256,
        "prior": analyzer.prior,
        "detector": {
            "name": analyzer.detector.name,
            "min_face": getattr(analyzer.detector, "min_face", None),
            "min_score": getattr(analyzer.detector, "min_score", None),
            "min_confidence": analyzer.min_confidence,
            "min_quality": analyzer.min_quality,
            "flip": analyzer.flip,
        },
        "options": chosen,
        "outputs": {name: value and str(value) for name, value in asdict(outputs).items()},
    }


def save(path: Path, token: str, fingerprint: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write the state whole or not at all."""
    record = {"format": FORMAT, "mien": __version__, "token": token, "run": fingerprint, **state}
    make_folder(path.parent)
    write_text(path, json.dumps(record))


def _record(path: Path) -> dict[str, Any]:
    """What lies in ``path``. Raises VideoError where that is no run's state."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads(path.read_text(encoding="utf-8"))
        # Another file's words are not to name files outside of the outputs' folders.
        if re.fullmatch("[0-9a-f]{12}", record["token"]) and {"run", "format"} <= record.keys():
            return dict(record)
    raise VideoError(f"{path} is damaged; {START_OVER}")


def token_of(path: Path) -> str | None:
    """The token of the run whose state lies in ``path``; None where nothing legible does."""
    with suppress(VideoError):
        return str(_record(path)["token"])
    return None


def run_of(path: Path) -> dict[str, Any]:
    """The fingerprint of the run whose state lies in ``path``. Raises VideoError."""
    return dict(_record(path)["run"])


def load(path: Path, fingerprint: Mapping[str, Any]) -> dict[str, Any] | None:
    """A stopped run's state; None if there is none, or it stopped before it saved anything.

    It may have had fewer videos: the first ones of those in ``fingerprint``. Those of its own that
    are gone since are passed over; what it has of the one that it was stopped in is left out.

    Raises:
        VideoError: damaged, or of another run.
    """
    if not path.exists():
        return None
    record = _record(path)
    if record["format"] != FORMAT:
        raise VideoError(f"{path} is of mien {record.get('mien')}; {START_OVER}")
    wanted = json.loads(json.dumps(fingerprint))
    before = record["run"].get("videos", [])
    gone = [n for n, (video, *_) in enumerate(before) if not mode_of(video, VideoError)]
    if len({Path(video).stem.casefold() for video, *_ in before}) < len(before):
        gone = []  # without them others' outputs would have other names
    left = [video for n, video in enumerate(before) if n not in gone]
    wanted["videos"] = wanted["videos"][: len(left)]
    found = {**record["run"], "videos": left}
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other:
        raise VideoError(
            f"{path} belongs to a run with other {', '.join(other)}: repeat that run's command, or "
            + START_OVER
        )
    if (at := record.get("video")) in gone:
        record |= {"tables": record["begin"], "inside": None}
    if at is not None:
        record["video"] = at - sum(n < at for n in gone)
    return None if record.get("phase") == "begun" else record
