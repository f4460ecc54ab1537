"""The members of an ensemble: which checkpoints, and how much each counts."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.errors import ModelError

#: The file that makes a folder an ensemble.
ENSEMBLE = "ensemble.json"


@dataclass(frozen=True)
class Member:
    """A checkpoint with its name and share of the average."""

    name: str
    path: Path
    weight: float


def relative(path: Path, folder: Path) -> str:
    """``path`` as written into a file in ``folder``, so that both can be moved together."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def read_ensemble(path: Path) -> dict[str, Any]:
    """The record of an ensemble, by its folder or its file.

    Raises:
        ModelError: missing or damaged.
    """
    file = path if path.name == ENSEMBLE else path / ENSEMBLE
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        members = record["members"]
        if not members or not all({"name", "checkpoint", "weight"} <= set(m) for m in members):
            raise KeyError("members")
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{file} is no ensemble made by mien ensemble; make it again.") from None
    return record


def read_members(path: Path) -> list[Member]:
    """The members of an ensemble, their paths resolved. Raises ModelError as read_ensemble."""
    folder = path.parent if path.name == ENSEMBLE else path
    return [
        Member(m["name"], folder / m["checkpoint"], float(m["weight"]))
        for m in read_ensemble(path)["members"]
    ]
