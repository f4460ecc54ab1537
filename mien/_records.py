"""The records of trainings: where they lie, and nested ones as flat ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: A run folder's record of what was trained, written first, and of how it ended, written last.
RUN, RESULT = "run.json", "result.json"


def run_home(runs: Path, dry: bool) -> Path:
    """The folder of run folders; of dry runs one of their own in it, where none is looked for."""
    return runs / "dry-run" if dry else runs


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optimizer": {"lr": 1}} -> {"optimizer.lr": 1}; an empty mapping stays a value."""
    found: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
