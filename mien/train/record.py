"""What a run folder says of its training, and whether a call may go on with it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mien._system import processor, versions
from mien._version import __version__
from mien.atomic import remove_leftovers, write_text
from mien.data.dataset import FaceDataset, Splits
from mien.errors import RecipeError
from mien.train.distill import Teachers
from mien.train.folder import BEST, CURVES, LAST, RECIPE, RESULT, RUN, SPLITS, read_json
from mien.train.loop import Row
from mien.train.recipe import Recipe

PACKAGES = ("torch", "numpy", "opencv-python-headless", "onnxruntime")


def environment() -> dict[str, Any]:
    """Versions, commit and hardware, for the record of a run."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    return {
        "mien": __version__,
        "commit": commit,
        "python": platform.python_version(),
        "versions": versions(PACKAGES),
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def record_start(
    folder: Path, recipe: Recipe, dataset: FaceDataset, splits: Splits, **facts: Any
) -> None:
    """Write recipe.json, splits.json and run.json; facts that are None are left out."""
    write_text(folder / RECIPE, recipe.to_json() + "\n")
    write_text(folder / SPLITS, splits.to_json() + "\n")
    program = Path(sys.argv[0]).name.replace("__main__.py", "mien")
    record = {
        **environment(),
        "command": shlex.join([program, *sys.argv[1:]]),
        "started": _now(),
        "data": {"name": dataset.name, "sha256": dataset.sha256, "n": len(dataset)},
        "protocol": splits.protocol,
        "fold": splits.fold,
        **{key: value for key, value in facts.items() if value is not None},
    }
    _write(folder, record)


def record_resumption(folder: Path, precision: str, device: str) -> None:
    """Add to the run's record where, how and by which code it goes on; a finished run is left."""
    if (folder / RESULT).exists():
        return
    record = read_json(folder / RUN)
    whole = environment()
    here = {key: whole[key] for key in ("mien", "commit", "cpu", "threads", "gpu")}
    entry = {**here, "device": device, "precision": precision, "started": _now()}
    record["resumed"] = [*record.get("resumed", ()), entry]
    _write(folder, record)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    write_text(folder / RUN, json.dumps(record, indent=2, sort_keys=True) + "\n")


def check_folder(
    folder: Path,
    recipe: Recipe,
    seed: int,
    resume: bool,
    teachers: Teachers | None,
    dataset: FaceDataset,
    splits: Splits,
    unlabelled: FaceDataset | None = None,
) -> Path | None:
    """The checkpoint to resume from, or None for a fresh run.

    Raises:
        RecipeError: the folder holds a run already, or a different one than is resumed: of another
            recipe, seed, dataset or split, or with other teachers, votes or extra images.
    """
    last = folder / LAST
    if not last.exists():
        return None
    if not resume:
        raise RecipeError(
            f"{folder} already holds a run; give --resume to continue it or another --out."
        )
    record = read_json(folder / RUN)
    other = Recipe.from_dict(read_json(folder / RECIPE)).differences(recipe)
    other += [] if record.get("seed") == seed else ["seed"]
    if other:
        raise RecipeError(
            f"{folder} holds a run with another {', '.join(other)}; repeat its settings (--set) or "
            "use another --out."
        )
    data = record.get("data")
    data = data if isinstance(data, dict) else {"name": "unknown"}
    now = beside(recipe, dataset, unlabelled)
    taught = _taught(teachers.record if teachers else None)
    wrong = {
        f"on other data ({data.get('name', 'unnamed')})": data.get("sha256") != dataset.sha256,
        "on another split or fold": not _same_split(Splits.load(folder / SPLITS), splits),
        "with other teachers": _taught(record.get("teachers")) != taught,
    }
    then = record.get("beside", {})
    wrong |= {f"with other {key}": now.get(key) != sha256 for key, sha256 in then.items()}
    for key, differs in wrong.items():
        if differs:
            raise RecipeError(f"{folder} holds a run {key}; use another --out.")
    for name in (LAST, BEST):
        remove_leftovers(folder / name)  # of a kill in the middle of a write
    return last


def beside(recipe: Recipe, dataset: FaceDataset, unlabelled: FaceDataset | None) -> dict[str, str]:
    """SHA-256 of what is learned from besides the labelled images: votes and extra images."""
    found = {}
    if dataset.votes is not None and (recipe.loss.ferplus_auxiliary or recipe.loss.ferplus_blend):
        order = np.argsort(dataset.ids, kind="stable")
        found["votes"] = hashlib.sha256(dataset.votes[order].tobytes()).hexdigest()
    if unlabelled is not None:
        found["extra images"] = unlabelled.sha256
    return found


def _same_split(one: Splits, other: Splits) -> bool:
    return one.ids.keys() == other.ids.keys() and all(
        np.array_equal(np.sort(ids), np.sort(other.ids[role])) for role, ids in one.ids.items()
    )


def _taught(record: Any) -> list[tuple[str, float]]:
    return [(member["sha256"], member["share"]) for member in record or ()]


def write_curves(folder: Path, rows: Sequence[Row]) -> None:
    """``curves.csv``: one line per epoch."""
    text = io.StringIO()
    fields = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / CURVES, text.getvalue())
