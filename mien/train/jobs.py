"""Many trainings: done ones are skipped, stopped ones resumed, failed ones reported.

Every job holds a lock on its folder, so any number of processes can be given the same list.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mien.data import make_splits
from mien.data.dataset import FaceDataset, Splits
from mien.errors import MienError, RecipeError
from mien.train.distill import Teachers
from mien.train.fit import dry, fit, write_run_report
from mien.train.folder import (
    BEST,
    CURVES,
    DONE,
    FAILED_STATE,
    LAST,
    NOT_RUN,
    PARTIAL,
    RECIPE,
    RESULT,
    BusyError,
    busy,
    check_folder,
    hold,
    note_failure,
    read_curves,
    read_json,
)
from mien.train.recipe import Recipe

Say = Callable[[str], None]

#: Exit code of a process that was asked for what cannot be done.
_USAGE = 2


@dataclass(frozen=True)
class Job:
    """One training: a recipe, a seed and the folder of the run.

    Attributes:
        fold: of a cross-validation protocol.
        dataset: the name by which ``run_jobs`` asks for the data, where there are several.
    """

    recipe: Recipe
    seed: int
    folder: Path
    fold: int | None = None
    dataset: str = ""

    @property
    def done(self) -> bool:
        return (self.folder / RESULT).is_file() and (self.folder / BEST).is_file()

    @property
    def state(self) -> str:
        """ "done", "partial" (it will be resumed) or "not run"."""
        return DONE if self.done else PARTIAL if (self.folder / LAST).exists() else NOT_RUN


@dataclass(frozen=True)
class Options:
    """How jobs are trained.

    Attributes:
        device: "auto", "cpu" or "cuda".
        teachers, unlabelled: as for :func:`mien.train.fit.fit`.
        splits: one split of the data for all jobs; without it each job's protocol makes its own.
    """

    device: str = "auto"
    dry_run: bool = False
    quiet: bool = False
    teachers: Teachers | None = None
    unlabelled: FaceDataset | None = None
    splits: Splits | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job: "done", "failed", "running" (in another process) or "not run".

    Attributes:
        error: of a failed one; ``why`` is it in one line.
    """

    job: Job
    state: str
    error: Exception | None = None

    @property
    def why(self) -> str:
        return "" if self.error is None else reason(self.error)


def jobs_of(recipe: Recipe, seeds: Iterable[int], runs: Path) -> list[Job]:
    """One job per seed, in folders of ``runs`` as ``mien train`` names them: :func:`run_name`."""
    return [Job(recipe, seed, runs / run_name(recipe, seed)) for seed in seeds]


def run_name(recipe: Recipe, seed: int) -> str:
    """ "mien_base-seed0"; "mien_base-ferplus-majority-seed0" where the protocol was replaced."""
    from mien.train.recipes import RECIPES

    known = RECIPES.get(recipe.name)
    replaced = known is not None and known().protocol != recipe.protocol
    name = f"{recipe.name}-{recipe.protocol}" if replaced else recipe.name
    return f"{name}-seed{seed}"


def reason(error: BaseException) -> str:
    """An error in one line, with its kind unless the sentence is mien's own."""
    line = (str(error).strip().splitlines() or [""])[0]
    return line if isinstance(error, MienError) else f"{type(error).__name__}: {line}".rstrip(": ")


def run_jobs(
    jobs: Sequence[Job],
    datasets: FaceDataset | Callable[[str], FaceDataset],
    options: Options = Options(),
    *,
    attempts: int = 1,
    budget_s: float | None = None,
    fatal: tuple[type[Exception], ...] = (),
    say: Say = print,
    after: Callable[[Job], object] = lambda job: None,
) -> list[Outcome]:
    """Train what is not done yet and that no other process is training, one after the other.

    A job that fails leaves its reason in its folder, and the others go on.

    Args:
        datasets: the data of all jobs, or job.dataset -> its data.
        attempts: times that a job is tried in this call.
        budget_s: start no further training after so many seconds.
        fatal: errors that end everything; they are raised.
        after: called with every job that is done, also with those that were done before; what it
            raises counts as the job's failure.

    Returns:
        one outcome per job, in their order.
    """
    start = time.monotonic()
    outcomes = {job.folder: Outcome(job, NOT_RUN) for job in jobs}
    for attempt in range(1, attempts + 1):
        # The second attempt looks again at what another process had: it may have died since.
        waiting = [o.job for o in outcomes.values() if o.state != DONE]
        for number, job in enumerate(waiting, 1):
            late = budget_s is not None and time.monotonic() - start > budget_s
            if late and not job.done:
                left = sum(not j.done for j in waiting)
                say(f"time is up: {left} of {len(jobs)} runs are left")
                return list(outcomes.values())
            count = f"{number} of {len(waiting)}" + (f", attempt {attempt}" * (attempt > 1))
            try:
                with hold(job.folder):
                    _train(job, datasets, options, say, count)
                    after(job)
                    note_failure(job.folder, "")
            except BusyError:
                outcomes[job.folder] = Outcome(job, "running")
            except Exception as error:  # whatever it is: the other jobs are not to wait for it
                if not job.done:  # a finished run, of something else, is not ours to mark
                    note_failure(job.folder, reason(error))
                if isinstance(error, fatal):
                    raise
                say(f"failed: {job.folder.name}: {reason(error)}")
                outcomes[job.folder] = Outcome(job, FAILED_STATE, error)
            else:
                outcomes[job.folder] = Outcome(job, DONE)
    return list(outcomes.values())


def raise_first(outcomes: Sequence[Outcome]) -> None:
    """Raise the first job's error, where one failed; or BusyError where one runs elsewhere."""
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        if outcome.state == "running":
            raise busy(outcome.job.folder)


def _train(
    job: Job,
    datasets: FaceDataset | Callable[[str], FaceDataset],
    options: Options,
    say: Say,
    count: str,
) -> None:
    """Train one job, or check that what its folder holds is it; ``count`` is said beside it."""
    dataset = datasets if isinstance(datasets, FaceDataset) else datasets(job.dataset)
    splits = options.splits or make_splits(
        dataset, job.recipe.protocol, seed=job.seed, fold=job.fold
    )
    recipe, o = _as_begun(job), options
    if job.done:
        wanted = dry(recipe) if o.dry_run else recipe
        taught = o.teachers.record if o.teachers else None
        arguments = (job.seed, True, taught, dataset, splits, o.unlabelled)
        check_folder(job.folder, wanted, *arguments)
        return
    say(f"{'training' if job.state == NOT_RUN else 'resuming'} {job.folder.name} ({count})")
    result = fit(
        recipe,
        dataset,
        splits,
        job.folder,
        seed=job.seed,
        resume=True,
        dry_run=o.dry_run,
        device=o.device,
        quiet=o.quiet,
        teachers=o.teachers,
        unlabelled=o.unlabelled,
    )
    write_run_report(result, dataset, splits)


def _as_begun(job: Job) -> Recipe:
    """The job's recipe; where its folder holds a run, under that one's name and precision: neither
    changes what is trained."""
    if job.state == NOT_RUN:
        return job.recipe
    saved = read_json(job.folder / RECIPE)
    return replace(
        job.recipe,
        name=str(saved.get("name", job.recipe.name)),
        precision=str(saved.get("precision", job.recipe.precision)),
    )


def share_out(
    arguments: Sequence[str], processes: int, *, device: str = "auto", say: Say = print
) -> bool:
    """Run ``mien ARGUMENTS`` in several processes that take jobs of one list, by their locks.

    They have the GPUs in turn, or the cores divided among them.

    Returns:
        whether they came to their end. Where one was killed, one more process does what is left,
        alone; False says that this one did not end well either.

    Raises:
        RecipeError: a process ended with a usage error; it has said which.
    """
    from mien.train.precision import gpu_count

    gpus = 0 if device == "cpu" else gpu_count()
    command = [sys.executable, "-m", "mien", *arguments]
    children = []
    for number in range(processes):
        env = dict(os.environ)
        if gpus > 1:
            mine = os.environ.get("CUDA_VISIBLE_DEVICES")
            turn = number % gpus
            env["CUDA_VISIBLE_DEVICES"] = mine.split(",")[turn] if mine else str(turn)
        else:
            env["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
        children.append(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL))
    try:
        codes = [child.wait() for child in children]
    except BaseException:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
        raise
    if _USAGE in codes:
        raise RecipeError(
            f"{codes.count(_USAGE)} of {processes} processes stopped; what they said stands above."
        )
    if any(codes):  # killed, say for want of memory: one more process has what they left
        say(f"{sum(map(bool, codes))} of {processes} processes ended early: one more goes on.")
        return not subprocess.call(command, env=env, stdin=subprocess.DEVNULL)
    return True


def result_of(folder: Path) -> dict[str, Any]:
    """What a finished run reached: result.json and, from the curves, ``last_val_accuracy``.

    The last epoch's accuracy was not chosen among many, so it compares recipes better than the
    best one's.
    """
    rows = read_curves(folder / CURVES)
    last = rows[-1].get("val_accuracy") if rows else None
    return {**read_json(folder / RESULT), "last_val_accuracy": last}
