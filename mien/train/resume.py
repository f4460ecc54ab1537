"""What a run folder says it is trained on, and whether a call may go on with it."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mien.atomic import remove_leftovers, write_text
from mien.data.dataset import FaceDataset, Splits
from mien.errors import RecipeError
from mien.train.distill import Teachers
from mien.train.folder import BEST, CURVES, LAST, RECIPE, RUN, SPLITS, read_json
from mien.train.loop import Row
from mien.train.recipe import Recipe


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
    if not resume:
        if last.exists():
            raise RecipeError(
                f"{folder} already holds a run; give --resume to continue it or another --out."
            )
        return None
    if not last.exists():
        return None
    old = Recipe.from_dict(read_json(folder / RECIPE))
    record = read_json(folder / RUN)
    other = old.differences(recipe) + ([] if record.get("seed") == seed else ["seed"])
    if other:
        raise RecipeError(
            f"{folder} holds a run with another {', '.join(other)}; repeat its settings (--set) or "
            "use another --out."
        )
    data = record.get("data")
    if not isinstance(data, dict) or data.get("sha256") != dataset.sha256:
        name = data.get("name", "unnamed") if isinstance(data, dict) else "unknown"
        raise RecipeError(f"{folder} holds a run on other data ({name}); use another --out.")
    if not _same_split(Splits.load(folder / SPLITS), splits):
        raise RecipeError(f"{folder} holds a run on another split or fold; use another --out.")
    if _taught(record.get("teachers")) != _taught(teachers.record if teachers else None):
        raise RecipeError(f"{folder} holds a run with other teachers; use another --out.")
    beside = beside_of(recipe, dataset, unlabelled)
    for key, value in record.get("beside", {}).items():
        if beside.get(key) != value:
            raise RecipeError(f"{folder} holds a run with other {key}; use another --out.")
    for name in (LAST, BEST):
        remove_leftovers(folder / name)  # of a kill in the middle of a write
    return last


def beside_of(
    recipe: Recipe, dataset: FaceDataset, unlabelled: FaceDataset | None
) -> dict[str, str]:
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
