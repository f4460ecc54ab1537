"""Which trainings a reproduction needs, which are there already, and training the others.

A run is recognised by what it is (recipe, seed, fold, protocol, data), not by its folder's name, so
runs made with ``mien train`` count. Precision is a matter of the machine and is not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.errors import DataError, MienError, RecipeError, nearest
from mien.reproduce.datasets import Datasets
from mien.reproduce.run import DONE, NOT_RUN
from mien.reproduce.spec import BUDGETS, RunSpec, System

if TYPE_CHECKING:
    from mien.train.jobs import Cluster, Job, Outcome
    from mien.train.recipe import Recipe

Say = Callable[[str], None]

#: Keys of a recipe that do not change what is trained.
NOT_COMPARED = ("name", "paper", "claim", "precision")


@dataclass(frozen=True)
class TrainOptions:
    """How to train: ``device`` "auto", "cpu" or "cuda"; ``precision`` as in a recipe, of fresh
    runs; ``dry`` runs two epochs of everything on a few images; ``cluster`` is who trains."""

    device: str = "auto"
    precision: str = "auto"
    dry: bool = False
    quiet: bool = False
    cluster: Cluster | None = None

    @property
    def scoring_device(self) -> str:
        return "cuda" if self.device == "cuda" else "cpu"


@dataclass(frozen=True)
class Task:
    """One training of a run: its job, and "done", "partial" (can be resumed) or "not run"."""

    run: RunSpec
    job: Job
    state: str


@dataclass(frozen=True)
class Plan:
    """All trainings of a reproduction.

    Attributes:
        runs: the folder of run folders.
        tasks: in the order in which they are trained.
        missing: run id -> why it cannot be had (no such budget, no data), in one sentence.
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


def resolve(run: RunSpec, budget: str) -> Recipe | None:
    """The run's recipe under ``budget`` with the run's protocol; None where it has none."""
    from mien.train.recipes import get_recipe

    chosen = run.recipes.get(budget)
    if chosen is None:
        return None
    return replace(chosen() if callable(chosen) else get_recipe(chosen), protocol=run.protocol)


def paper_recipe(run: RunSpec) -> Recipe | None:
    """The paper's own recipe, under the paper's own protocol; None where the run has none."""
    from mien.train.recipes import get_recipe

    chosen = run.recipes.get("paper", run.against)
    return get_recipe(chosen) if isinstance(chosen, str) else chosen and chosen()


def folder_name(run: RunSpec, recipe: Recipe, seed: int, fold: int | None) -> str:
    """ "bah_resnet_fast-fer2013-seed0", "bah_ckplus_fast-subjects-fold3"."""
    parts = [recipe.name, run.suffix]
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
    from mien.train.fit import dry as shorten
    from mien.train.folder import LAST, run_home
    from mien.train.jobs import Job

    _check(system, budget, seeds, only)
    home = run_home(runs, dry)
    found = _index(home)
    tasks: list[Task] = []
    missing: dict[str, str] = {}
    for run in system.runs:
        recipe = resolve(run, budget)
        if recipe is None:
            missing[run.id] = f"The {budget} budget leaves it out."
            continue
        wanted = need_data and (not only or run.id in only)
        if why := datasets.missing(run.dataset):
            if wanted:
                raise DataError(why)
            # Not the reader's sentence: that names folders, and this goes into the report.
            missing[run.id] = f"The dataset {run.dataset} was not there."
            continue
        recipe = shorten(recipe) if dry else recipe
        repeats: list[tuple[int, int | None]] = [(0, fold) for fold in range(run.folds)]
        repeats = repeats or [(seed, None) for seed in range(seeds or run.seeds.get(budget, 1))]
        for seed, fold in repeats[:1] if dry else repeats:
            folder = home / folder_name(run, recipe, seed, fold)
            usual = Job(recipe, seed, folder, fold, run.dataset)
            task = _task(run, usual, datasets.get(run.dataset).sha256, found)
            if wanted and task.state == NOT_RUN and (usual.folder / LAST).exists():
                raise RecipeError(
                    f"{usual.folder} holds another run (recipe, seed, fold or data differ); "
                    "move it away or use another --runs folder."
                )
            tasks.append(task)
    return Plan(system, budget, runs, tuple(tasks), missing, dry)


def _check(system: System, budget: str, seeds: int | None, only: Sequence[str]) -> None:
    if budget not in BUDGETS:
        raise RecipeError(f"--budget must be one of {', '.join(BUDGETS)}, not {budget!r}.")
    if seeds is not None and seeds < 1:
        raise RecipeError(f"--seeds must be 1 or more, not {seeds}.")
    known = [run.id for run in system.runs]
    for run_id in only:
        if run_id not in known:
            raise RecipeError(f"{system.name} has no run {run_id!r}{nearest(run_id, known)}")


#: What makes a training the same one: its recipe, seed, fold and the SHA-256 of its data.
_Identity = tuple[dict[str, Any], int, int | None, str]


def _task(run: RunSpec, usual: Job, sha256: str, found: Sequence[tuple[_Identity, Job]]) -> Task:
    """The training where it is; not run, in its usual folder, where it is nowhere."""
    wanted = (compared(usual.recipe.to_dict()), usual.seed, usual.fold, sha256)
    same = [job for identity, job in found if identity == wanted]
    if not same:
        return Task(run, usual, NOT_RUN)
    # The finished one first, then the one of the usual name.
    best = min(same, key=lambda j: (j.state != DONE, j.folder != usual.folder, j.folder.name))
    return Task(run, replace(usual, folder=best.folder), best.state)


def compared(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a recipe the same one: all of its keys but :data:`NOT_COMPARED`."""
    return {key: value for key, value in recipe.items() if key not in NOT_COMPARED}


def _index(runs: Path) -> list[tuple[_Identity, Job]]:
    """Every run folder in ``runs``; others, and damaged ones, are passed over."""
    from mien.train.folder import RECIPE, RUN, read_json
    from mien.train.jobs import Job
    from mien.train.recipe import Recipe

    found = []
    for path in sorted(runs.glob(f"*/{RUN}")):
        try:
            record, recipe = read_json(path), Recipe.from_dict(read_json(path.parent / RECIPE))
            seed, fold, sha256 = record["seed"], record.get("fold"), record["data"]["sha256"]
        except (MienError, KeyError, TypeError, ValueError, AttributeError):
            continue
        identity = (compared(recipe.to_dict()), seed, fold, sha256)
        found.append((identity, Job(recipe, seed, path.parent, fold)))
    return found


def train(
    plan: Plan,
    datasets: Datasets,
    options: TrainOptions,
    say: Say,
    only: Sequence[str] = (),
    by_seed: bool = False,
    attempts: int = 1,
) -> list[Outcome]:
    """Train what the plan lacks (of the runs ``only``, if any); the others go on after a failure.

    Args:
        by_seed: every run's first seed before any second one.
        attempts: times that a training is tried in this call.

    Raises:
        WeightsError: weights to start from cannot be had.
    """
    from mien.models.weights import WeightsError
    from mien.train.jobs import Options, run_jobs

    waiting = [t for t in plan.tasks if t.state != DONE and (not only or t.run.id in only)]
    if by_seed:
        waiting.sort(key=lambda t: t.job.seed)
    jobs = [t.job for t in waiting]
    if options.precision != "auto":
        jobs = [replace(j, recipe=replace(j.recipe, precision=options.precision)) for j in jobs]
    how = Options(options.device, options.dry, options.quiet, cluster=options.cluster)
    fatal = (WeightsError,) if attempts > 1 else ()
    return run_jobs(jobs, datasets.get, how, attempts=attempts, fatal=fatal, say=say)
