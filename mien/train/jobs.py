"""Many trainings: done ones are skipped, stopped ones resumed, failed ones reported.

Every job holds a lock on its folder, so any number of processes can be given the same list.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mien._system import child_environment, connect_ray
from mien.data import make_splits
from mien.data.dataset import FaceDataset, Splits
from mien.errors import MienError, RecipeError, first_line
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
    check_same,
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
class Cluster:
    """A Ray cluster that trains jobs, each on so many CPUs and GPUs.

    Attributes:
        address: None starts one on this machine.
    """

    address: str | None = None
    cpus: float = 1
    gpus: float = 0


@dataclass(frozen=True)
class Options:
    """How jobs are trained.

    Attributes:
        device: "auto", "cpu" or "cuda".
        teachers, unlabelled: as for :func:`mien.train.fit.fit`.
        splits: one split of the data for all jobs; without it each job's protocol makes its own.
        cluster: trains them; None: this process.
    """

    device: str = "auto"
    dry_run: bool = False
    quiet: bool = False
    teachers: Teachers | None = None
    unlabelled: FaceDataset | None = None
    splits: Splits | None = None
    cluster: Cluster | None = None


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
) -> list[Outcome]:
    """Train what is not done yet and that no other process is training: one after the other, or
    as many at a time as the cluster of the options has room for.

    A job that fails leaves its reason in its folder, and the others go on.

    Args:
        datasets: the data of all jobs, or job.dataset -> its data.
        attempts: times that a job is tried in this call.
        budget_s: start no further training after so many seconds.
        fatal: errors that end everything; they are raised.

    Returns:
        one outcome per job, in their order.
    """
    end = math.inf if budget_s is None else time.monotonic() + budget_s
    outcomes = {job.folder: Outcome(job, NOT_RUN) for job in jobs}
    of = (lambda _: datasets) if isinstance(datasets, FaceDataset) else datasets
    go = _one_by_one if options.cluster is None else _on_cluster
    for attempt in range(1, attempts + 1):
        # The second attempt looks again at what another process had: it may have died since.
        waiting = [o.job for o in outcomes.values() if o.state != DONE]
        again = f", attempt {attempt}" * (attempt > 1)
        for outcome in go(waiting, of, options, end, again, say):
            outcomes[outcome.job.folder] = outcome
            if isinstance(outcome.error, fatal):
                raise outcome.error
            if outcome.error is not None:
                say(f"failed: {outcome.job.folder.name}: {outcome.why}")
        if any(o.state == NOT_RUN for o in outcomes.values()):
            left = sum(not job.done for job in waiting)
            say(f"time is up: {left} of {len(jobs)} runs are left")
            break
    return list(outcomes.values())


def _one_by_one(
    jobs: Sequence[Job],
    datasets: Callable[[str], FaceDataset],
    options: Options,
    end: float,
    again: str,
    say: Say,
) -> Iterator[Outcome]:
    """Try the jobs; those that are begun after ``end`` are left out."""
    for number, job in enumerate(jobs, 1):
        if time.monotonic() > end and not job.done:
            return
        try:
            with hold(job.folder):
                _train(job, datasets, options, say, f"{number} of {len(jobs)}{again}")
                note_failure(job.folder, "")
            yield Outcome(job, DONE)
        except BusyError:
            yield Outcome(job, "running")
        except Exception as error:  # whatever it is: the other jobs are not to wait for it
            if not job.done:  # a finished run, of something else, is not ours to mark
                note_failure(job.folder, reason(error))
            yield Outcome(job, FAILED_STATE, error)


def _task(job: Job, dataset: FaceDataset, options: Options) -> Outcome:
    """One job, in a process of Ray's on some node."""
    [outcome] = run_jobs([job], dataset, options, say=lambda line: None)
    return outcome


def _on_cluster(
    jobs: Sequence[Job],
    datasets: Callable[[str], FaceDataset],
    options: Options,
    end: float,
    again: str,
    say: Say,
) -> Iterator[Outcome]:
    """The outcomes of the jobs, as they end; those that are begun after ``end`` are left out.

    Data and options travel through Ray, and every node has the runs under the same names. A task
    whose worker or node dies is started again by Ray, and resumes its run.

    Raises:
        MissingExtraError: Ray is not installed.
        MienError: the cluster does not answer, or is too small for a job.
    """
    assert options.cluster is not None
    each = {"CPU": options.cluster.cpus, "GPU": options.cluster.gpus}
    with ExitStack() as stack:
        ray = connect_ray(options.cluster.address, stack)
        whole = ray.cluster_resources()
        fits = [int(whole.get(kind, 0) / share) for kind, share in each.items() if share]
        room = min(fits, default=len(jobs))
        if room < 1:
            raise RecipeError(f"No job of {each} fits the Ray cluster, which has {whole}.")
        # What glibc reads when a process starts.
        allocator = {k: v for k, v in os.environ.items() if k.startswith("MALLOC_")}
        task = ray.remote(
            num_cpus=each["CPU"], num_gpus=each["GPU"], runtime_env={"env_vars": allocator}
        )(_task)
        how = ray.put(replace(options, cluster=None, quiet=True))
        data: dict[str, object] = {}
        running: dict[object, Job] = {}
        waiting = list(enumerate(jobs, 1))
        while waiting or running:
            while waiting and len(running) < room and time.monotonic() < end:
                number, job = waiting.pop(0)
                if job.dataset not in data:
                    data[job.dataset] = ray.put(datasets(job.dataset))
                say(f"training {job.folder.name} by Ray ({number} of {len(jobs)}{again})")
                there = replace(job, folder=job.folder.resolve())
                running[task.remote(there, data[job.dataset], how)] = job
            if not running:
                return
            [done], _ = ray.wait(list(running))
            job = running.pop(done)
            try:
                yield replace(ray.get(done), job=job)
            except ray.exceptions.RayError as error:
                failed = RecipeError(f"its worker ended: {first_line(error)}")
                note_failure(job.folder, str(failed))
                yield Outcome(job, FAILED_STATE, failed)


def raise_first(outcomes: Sequence[Outcome]) -> None:
    """Raise the first job's error, where one failed; or BusyError where one runs elsewhere."""
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        if outcome.state == "running":
            raise busy(outcome.job.folder)


def _train(
    job: Job,
    datasets: Callable[[str], FaceDataset],
    options: Options,
    say: Say,
    count: str,
) -> None:
    """Train one job, or check that what its folder holds is it; ``count`` is said beside it."""
    dataset = datasets(job.dataset)
    splits = options.splits or make_splits(
        dataset, job.recipe.protocol, seed=job.seed, fold=job.fold
    )
    recipe, o = _as_begun(job), options
    if job.done:
        wanted = dry(recipe) if o.dry_run else recipe
        taught = o.teachers.record if o.teachers else None
        check_same(job.folder, wanted, job.seed, taught, dataset, splits, o.unlabelled)
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
    command = [sys.executable, "-P", "-m", "mien", *arguments]
    children = []
    for number in range(processes):
        env = child_environment()
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
