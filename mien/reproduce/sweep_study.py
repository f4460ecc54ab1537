"""Running cells: an Optuna study in a local file, shared by any number of processes.

A cell is trained under a lock of its own, so two processes never train the same one, and a cell
whose process died is free again at once: its trial is closed as failed and it is tried anew,
resuming at its last epoch. What is done is known by the run folders; the study keeps what became of
every attempt, and Optuna's own tools read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mien._records import run_home
from mien.atomic import make_folder
from mien.data import make_splits
from mien.errors import require_extra
from mien.reproduce.datasets import Datasets
from mien.reproduce.plan import DONE, NOT_RUN, Plan, Task, folder_state
from mien.reproduce.runs import Say, TrainOptions, reason, train_task
from mien.reproduce.scoring import score_run
from mien.reproduce.sweep import DATA_TITLES, KEYS, OPTIMIZERS
from mien.train.ahmed_table import BACKBONES, BATCHES

#: Attempts at a cell in one call; a later call tries what failed again.
ATTEMPTS = 2

JOURNAL, LOCKS = "ahmed2024.journal", "locks"

#: Why of a trial that its user stopped: the cell is partly done, it did not fail.
_INTERRUPTED = "Interrupted."

_CHOICES: dict[str, Sequence[Any]] = {
    "backbone": BACKBONES,
    "optimizer": OPTIMIZERS,
    "batch": BATCHES,
    "data": tuple(DATA_TITLES),
}


@dataclass(frozen=True)
class Outcome:
    """What became of a task: state "done", "failed" (why), "running" elsewhere or "not run"."""

    state: str
    why: str = ""


def home(plan: Plan) -> Path:
    """The folder of the plan's run folders, its study and its locks."""
    return run_home(plan.runs, plan.dry)


def open_study(runs: Path, budget: str) -> Any:
    """The budget's Optuna study in ``runs``; made where it is missing.

    Raises:
        MissingExtraError: the [transfer] extra is not installed.
    """
    require_extra("transfer", ("optuna", "filelock", "timm", "torchvision"), "`mien sweep`")
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    make_folder(runs)
    with _lock(runs, "study"):
        storage = JournalStorage(JournalFileBackend(str(runs / JOURNAL)))
        return optuna.create_study(
            storage=storage,
            study_name=f"ahmed2024-{budget}",
            direction="maximize",
            load_if_exists=True,
        )


@contextmanager
def _lock(runs: Path, name: str) -> Iterator[None]:
    """Hold a lock among processes; the system frees it when its process ends."""
    from filelock import FileLock

    with FileLock(make_folder(runs / LOCKS) / f"{name}.lock"):
        yield


def run_tasks(
    plan: Plan,
    datasets: Datasets,
    options: TrainOptions,
    say: Say,
    tasks: Sequence[Task] | None = None,
) -> dict[str, Outcome]:
    """Train every waiting task that no other process is training.

    Args:
        plan: its tasks are cells; see :func:`mien.reproduce.sweep.system_of`.
        tasks: some of the plan's; all of them by default.

    Returns:
        run folder's name -> outcome.

    Raises:
        WeightsError: weights to start from cannot be had: nothing goes on without them.
    """
    study = open_study(home(plan), plan.budget)
    chosen = list(plan.tasks if tasks is None else tasks)
    outcomes: dict[str, Outcome] = {}
    for attempt in range(1, ATTEMPTS + 1):
        again = [t for t in chosen if outcomes.get(t.folder.name, _NEW).state in _OPEN]
        for number, task in enumerate(again, 1):
            count = f"{number} of {len(again)}" + (", second attempt" if attempt > 1 else "")
            outcomes[task.folder.name] = _one(study, plan, task, datasets, options, say, count)
    return outcomes


_NEW = Outcome(NOT_RUN)
#: The second attempt looks again at what another process had: it may have died since.
_OPEN = (NOT_RUN, "failed", "running")


def _one(
    study: Any,
    plan: Plan,
    task: Task,
    datasets: Datasets,
    options: TrainOptions,
    say: Say,
    count: str,
) -> Outcome:
    from filelock import FileLock, Timeout

    runs = home(plan)
    # A second, because a table that is being made holds the lock for an instant.
    lock = FileLock(make_folder(runs / LOCKS) / f"{task.folder.name}.lock", timeout=1)
    try:
        lock.acquire()
    except Timeout:
        return Outcome("running")
    try:
        task = replace(task, state=folder_state(task.folder))
        _close_dead(study, runs, task)
        if task.state == DONE:
            if not plan.dry and not _known(study, task):
                trial = _ask(study, runs, task)
                _tell(study, trial, paper_scores(task, datasets, options.device))
            return Outcome(DONE)
        verb = "training" if task.state == NOT_RUN else "resuming"
        say(f"{verb} {task.folder.name} ({count})")
        trial = _ask(study, runs, task)
        return _attempt(
            study, trial, task.folder.name, lambda: _train(task, datasets, options, plan.dry), say
        )
    finally:
        lock.release()


def _train(task: Task, datasets: Datasets, options: TrainOptions, dry: bool) -> Mapping[str, float]:
    train_task(task, datasets, options)
    return paper_scores(task, datasets, options.device, dry=dry)


def _attempt(
    study: Any, trial: Any, name: str, work: Callable[[], Mapping[str, float]], say: Say
) -> Outcome:
    """Do the work of a trial; a failure is kept with its reason and the sweep goes on."""
    from mien.models.weights import WeightsError

    try:
        scores = work()
    except WeightsError as error:
        _fail(study, trial, str(error))
        raise
    except Exception as error:  # whatever it is: the other cells are not to wait for it
        why = reason(error)
        _fail(study, trial, why)
        say(f"failed: {name}: {why}")
        return Outcome("failed", why)
    except BaseException:  # Ctrl-C: the next call resumes it
        _fail(study, trial, _INTERRUPTED)
        raise
    _tell(study, trial, scores)
    return Outcome(DONE)


def _ask(study: Any, runs: Path, task: Task) -> Any:
    """A new trial of this very task. Under a lock, for Optuna hands out what was queued first."""
    name = task.folder.name
    with _lock(runs, "study"):
        study.enqueue_trial(_parameters(task), user_attrs={"run": name})
        while True:
            trial = study.ask()
            if trial.user_attrs.get("run") == name:
                break
            # Queued by a process that died before it asked.
            _fail(study, trial, "The process ended.")
    for key, choices in _CHOICES.items():
        trial.suggest_categorical(key, choices)
    return trial


def _parameters(task: Task) -> dict[str, Any]:
    recipe = task.recipe
    data = "balanced" if recipe.protocol == "balanced" else "all"
    values = (recipe.model, recipe.optimizer.name, recipe.batch_size, data)
    made = dict(zip(KEYS, values, strict=True))
    # A dry run shrinks the batch; the grid's choices are fixed.
    made["batch"] = min(BATCHES, key=lambda b: abs(b - made["batch"]))
    return made


def _tell(study: Any, trial: Any, scores: Mapping[str, float]) -> None:
    for key, value in scores.items():
        trial.set_user_attr(key, value)
    study.tell(trial, scores["accuracy"])


def _fail(study: Any, trial: Any, why: str) -> None:
    import optuna

    trial.set_user_attr("why", why)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _trials(study: Any, name: str) -> list[Any]:
    return [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("run") == name]


def _known(study: Any, task: Task) -> bool:
    return any(t.state.name == "COMPLETE" for t in _trials(study, task.folder.name))


def _close_dead(study: Any, runs: Path, task: Task) -> None:
    """Trials of this cell that are still open belong to dead processes: we hold its lock."""
    import optuna

    with _lock(runs, "study"):
        for trial in _trials(study, task.folder.name):
            if trial.state.name == "RUNNING":
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def failures(study: Any) -> dict[str, str]:
    """Run folder's name -> why its last attempt failed, where it did."""
    found: dict[str, str] = {}
    for trial in study.get_trials(deepcopy=False):
        name = trial.user_attrs.get("run", "")
        found.pop(name, None)
        why = trial.user_attrs.get("why", "The process ended.")
        if trial.state.name == "FAIL" and why != _INTERRUPTED:
            found[name] = why
    return found


def in_use(runs: Path, name: str) -> bool:
    """Whether a process is training the cell."""
    from filelock import FileLock, Timeout

    path = runs / LOCKS / f"{name}.lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def paper_scores(
    task: Task, datasets: Datasets, device: str = "cpu", *, dry: bool = False
) -> dict[str, float]:
    """Accuracy, macro precision, recall and F1 on the paper's test set at the last epoch.

    ``f1`` is the paper's: the harmonic mean of the two averages (its equation 4); ``macro_f1`` is
    the mean of the classes' F1.
    """
    dataset = datasets.get(task.run.dataset)
    splits = make_splits(dataset, task.recipe.protocol, seed=task.seed)
    spec = next(s for s in task.run.scores if s.key == "paper")
    device = "cuda" if device == "cuda" else "cpu"
    entries = score_run(
        task.folder, (spec,), dataset, splits, device=device, with_roc=False, dry=dry
    )
    return figures(next(e for e in entries if e["key"] == "paper")["scores"])


def figures(scores: Mapping[str, Any]) -> dict[str, float]:
    """The paper's four figures, and ours, of a score's record."""
    precision, recall = float(scores["macro_precision"]), float(scores["macro_recall"])
    both = precision + recall
    return {
        "accuracy": float(scores["accuracy"]),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / both if both else 0.0,
        "macro_f1": float(scores["macro_f1"]),
    }


def train_plan(plan: Plan, datasets: Datasets, options: TrainOptions, say: Say) -> dict[str, str]:
    """Train the tasks of ``mien reproduce ahmed2024``: :attr:`mien.reproduce.spec.System.train`.

    Returns:
        run folder's name -> why its training failed.
    """
    outcomes = run_tasks(plan, datasets, options, say)
    for name, outcome in outcomes.items():
        if outcome.state != DONE:
            say(f"{outcome.state}: {name}{': ' + outcome.why if outcome.why else ''}")
    return {name: o.why for name, o in outcomes.items() if o.state == "failed"}
