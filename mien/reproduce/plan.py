"""Which runs a reproduction needs, and which of them are there already.

A run is recognised by what it is (recipe, seed, fold, protocol, data), not by its folder's name, so
runs made with ``mien train`` count. Precision is a matter of the machine and is not compared.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mien._records import RESULT, RUN, run_home
from mien.errors import DataError, MienError, RecipeError
from mien.reproduce.datasets import Datasets
from mien.reproduce.spec import BUDGETS, RunSpec, System

#: Keys of a recipe that do not change what is trained.
NOT_COMPARED = ("name", "paper", "claim", "precision")

DONE, PARTIAL, NOT_RUN = "done", "partial", "not run"


@dataclass(frozen=True)
class Task:
    """One training: a run with its seed and fold.

    Attributes:
        recipe: the resolved :class:`mien.train.recipe.Recipe`.
        folder: where it is, or where it will be made.
        state: "done", "partial" (can be resumed) or "not run".
    """

    run: RunSpec
    recipe: Any
    seed: int
    fold: int | None
    folder: Path
    state: str


@dataclass(frozen=True)
class Plan:
    """All trainings of a reproduction.

    Attributes:
        tasks: in the order in which they are trained.
        missing: run id -> why it cannot be had (no such budget, no data), in one sentence.
        runs: the folder of run folders.
    """

    system: System
    budget: str
    runs: Path
    tasks: tuple[Task, ...]
    missing: Mapping[str, str]
    dry: bool = False

    def of(self, run_id: str) -> tuple[Task, ...]:
        """The tasks of one run, in order of seeds or folds."""
        return tuple(t for t in self.tasks if t.run.id == run_id)

    @property
    def waiting(self) -> tuple[Task, ...]:
        """What is still to be trained."""
        return tuple(t for t in self.tasks if t.state != DONE)


@dataclass(frozen=True)
class _Found:
    folder: Path
    recipe: dict[str, Any]
    seed: int
    fold: int | None
    sha256: str
    state: str


def resolve(run: RunSpec, budget: str) -> Any | None:
    """The run's recipe under ``budget`` with the run's protocol; None where it has none."""
    from mien.train.recipes import get_recipe

    chosen = run.recipes.get(budget)
    if chosen is None:
        return None
    recipe = chosen() if callable(chosen) else get_recipe(chosen)
    return replace(recipe, protocol=run.protocol)


def folder_name(run: RunSpec, recipe: Any, seed: int, fold: int | None) -> str:
    """ "bah_resnet_fast-fer2013-seed0", "bah_ckplus_fast-subjects-fold3"."""
    parts = [str(recipe.name), run.suffix]
    if fold is None or seed:
        parts.append(f"seed{seed}")
    if fold is not None:
        parts.append(f"fold{fold}")
    return "-".join(part for part in parts if part)


def make_plan(
    system: System,
    budget: str,
    runs: Path,
    datasets: Datasets,
    *,
    seeds: int | None = None,
    only: Sequence[str] = (),
    need_data: bool = True,
    dry: bool = False,
) -> Plan:
    """Work out the trainings of ``system`` and find those that are in ``runs``.

    Args:
        seeds: number of seeds of every run without folds, instead of the run's own number.
        only: ids of the runs to make; the others are taken if they are there.
        need_data: a dataset that is missing, or a folder that holds another run, is an error; else
            such runs are reported as not run.
        dry: two epochs of one seed and fold each, in a folder of their own.

    Raises:
        RecipeError: unknown budget or run, or seeds below 1.
        DataError: a dataset is needed and missing.
    """
    _check(system, budget, seeds, only)
    found = _index(run_home(runs, dry))
    tasks: list[Task] = []
    missing: dict[str, str] = {}
    for run in system.runs:
        recipe = resolve(run, budget)
        if recipe is None:
            missing[run.id] = f"The {budget} budget leaves it out."
            continue
        why = datasets.missing(run.dataset)
        if why and need_data and (not only or run.id in only):
            raise DataError(why)
        if why:
            # Not the reader's sentence: that names folders, and this goes into the report.
            missing[run.id] = f"The dataset {run.dataset} was not there."
            continue
        if dry:
            from mien.train.fit import dry as shorten

            recipe = shorten(recipe)
        sha256 = datasets.get(run.dataset).sha256
        for seed, fold in _repeats(run, budget, seeds, dry):
            tasks.append(_task(run, recipe, seed, fold, sha256, runs, found, dry))
            blocked = tasks[-1].state == NOT_RUN and (tasks[-1].folder / "last.ckpt").exists()
            if blocked and need_data and (not only or run.id in only):
                raise RecipeError(
                    f"{tasks[-1].folder} holds another run (recipe, seed, fold or data differ); "
                    "move it away or use another --runs folder."
                )
    return Plan(system, budget, runs, tuple(tasks), missing, dry)


def _check(system: System, budget: str, seeds: int | None, only: Sequence[str]) -> None:
    if budget not in BUDGETS:
        raise RecipeError(f"--budget must be one of {', '.join(BUDGETS)}, not {budget!r}.")
    if seeds is not None and seeds < 1:
        raise RecipeError(f"--seeds must be 1 or more, not {seeds}.")
    known = [run.id for run in system.runs]
    for run_id in only:
        if run_id not in known:
            near = difflib.get_close_matches(run_id, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
            raise RecipeError(f"{system.name} has no run {run_id!r}; {hint}")


def _repeats(
    run: RunSpec, budget: str, seeds: int | None, dry: bool
) -> list[tuple[int, int | None]]:
    if dry:
        return [(0, 0 if run.folds else None)]
    if run.folds:
        return [(0, fold) for fold in range(run.folds)]
    return [(seed, None) for seed in range(seeds or run.seeds.get(budget, 1))]


def _task(
    run: RunSpec,
    recipe: Any,
    seed: int,
    fold: int | None,
    sha256: str,
    runs: Path,
    found: Sequence[_Found],
    dry: bool,
) -> Task:
    home = run_home(runs, dry) / folder_name(run, recipe, seed, fold)
    wanted = compared(recipe.to_dict())
    same = [
        f for f in found if (f.recipe, f.seed, f.fold, f.sha256) == (wanted, seed, fold, sha256)
    ]
    # The finished one first, then the one of the usual name.
    same.sort(key=lambda f: (f.state != DONE, f.folder != home, f.folder.name))
    if same:
        return Task(run, recipe, seed, fold, same[0].folder, same[0].state)
    return Task(run, recipe, seed, fold, home, NOT_RUN)


def compared(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a recipe the same one: all of its keys but :data:`NOT_COMPARED`."""
    return {key: value for key, value in recipe.items() if key not in NOT_COMPARED}


def _index(runs: Path) -> list[_Found]:
    """Every run folder in ``runs``; others, and damaged ones, are passed over."""
    return [f for path in sorted(runs.glob(f"*/{RUN}")) if (f := _look(path.parent)) is not None]


def _look(folder: Path) -> _Found | None:
    from mien.train.recipe import Recipe

    try:
        record = json.loads((folder / RUN).read_text())
        recipe = Recipe.from_dict(json.loads((folder / "recipe.json").read_text()))
        sha256 = record["data"]["sha256"]
        seed, fold = record["seed"], record.get("fold")
    except (OSError, ValueError, KeyError, TypeError, MienError):
        return None
    state = folder_state(folder)
    return _Found(folder, compared(recipe.to_dict()), seed, fold, sha256, state)


def folder_state(folder: Path) -> str:
    """ "done", "partial" or "not run", by the files of a run folder."""
    if all((folder / name).exists() for name in (RESULT, "best.ckpt", "last.ckpt")):
        return DONE
    return PARTIAL if (folder / "last.ckpt").exists() else NOT_RUN
