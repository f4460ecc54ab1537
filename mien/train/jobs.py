"""Many trainings one after the other: done ones are skipped, stopped ones resumed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien._records import RESULT, run_home
from mien.data import make_splits
from mien.data.dataset import FaceDataset, Splits
from mien.train.callbacks import BEST
from mien.train.distill import Teachers
from mien.train.fit import check_folder, dry, fit
from mien.train.recipe import Recipe
from mien.train.report import write_run_report

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One training: a recipe, a seed and the folder of the run."""

    recipe: Recipe
    seed: int
    folder: Path

    @property
    def done(self) -> bool:
        return (self.folder / RESULT).is_file() and (self.folder / BEST).is_file()


def jobs_of(recipe: Recipe, seeds: Sequence[int], runs: Path) -> list[Job]:
    """A job a seed, in folders of ``runs`` as ``mien train`` names them: :func:`run_name`."""
    return [Job(recipe, seed, runs / run_name(recipe, seed)) for seed in seeds]


def default_folder(runs: Path, name: str, dry_run: bool) -> Path:
    """``runs/NAME``; of a dry run ``runs/dry-run/NAME``, emptied: nothing in it is worth keeping,
    and it must never stand where a training is looked for."""
    folder = run_home(runs, dry_run) / name
    if dry_run:
        shutil.rmtree(folder, ignore_errors=True)
    return folder


def run_name(recipe: Recipe, seed: int) -> str:
    """ "mien_base-seed0"; "mien_base-ferplus-majority-seed0" where the protocol was replaced."""
    from mien.train.recipes import RECIPES

    known = RECIPES.get(recipe.name)
    replaced = known is not None and known().protocol != recipe.protocol
    name = f"{recipe.name}-{recipe.protocol}" if replaced else recipe.name
    return f"{name}-seed{seed}"


def train_jobs(
    jobs: Sequence[Job],
    dataset: FaceDataset,
    *,
    device: str = "auto",
    dry_run: bool = False,
    quiet: bool = False,
    teachers: Teachers | None = None,
    unlabelled: FaceDataset | None = None,
    splits: Splits | None = None,
    budget_s: float | None = None,
    say: Say = print,
    after: Callable[[Job], None] = lambda job: None,
) -> bool:
    """Train what is not done yet; returns whether all jobs are done.

    Args:
        splits: one division for all jobs; without it each job's protocol divides by its own seed.
        budget_s: start no further training after so many seconds.
        after: called with every job that is done, also with those that were done before.

    Raises:
        RecipeError: a folder holds a run with another recipe, seed, division or teachers.
    """
    start = time.monotonic()
    for number, job in enumerate(jobs, 1):
        division = splits or make_splits(dataset, job.recipe.protocol, seed=job.seed)
        if job.done:
            recipe = dry(job.recipe) if dry_run else job.recipe
            check_folder(
                job.folder, recipe, job.seed, True, teachers, dataset, division, unlabelled
            )
        elif budget_s is not None and time.monotonic() - start > budget_s:
            say(f"time is up: {len(jobs) - number + 1} of {len(jobs)} runs are left")
            return False
        else:
            say(f"{job.folder.name} ({number} of {len(jobs)})")
            result = fit(
                job.recipe,
                dataset,
                division,
                job.folder,
                seed=job.seed,
                resume=True,
                dry_run=dry_run,
                device=device,
                quiet=quiet,
                teachers=teachers,
                unlabelled=unlabelled,
            )
            write_run_report(result, dataset, division)
        after(job)
    return True


def result_of(folder: Path) -> dict[str, Any]:
    """What a finished run reached: result.json and, from the curves, ``last_val_accuracy``.

    The last epoch's accuracy was not chosen among many, so it compares recipes better than the
    best one's.
    """
    import csv

    from mien.train.callbacks import CURVES

    record: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    with (folder / CURVES).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    last = rows[-1].get("val_accuracy") if rows else None
    record["last_val_accuracy"] = float(last) if last else None
    return record
