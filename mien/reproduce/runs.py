"""Training what a plan still lacks: fresh runs, and killed ones from where they stopped."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mien.atomic import make_folder
from mien.data import make_splits
from mien.errors import MienError
from mien.reproduce.datasets import Datasets
from mien.reproduce.plan import NOT_RUN, Plan, Task

Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainOptions:
    """How to train: ``device`` "auto", "cpu" or "cuda"; ``precision`` as in a recipe."""

    device: str = "auto"
    precision: str = "auto"
    dry: bool = False
    quiet: bool = False


def train_all(
    plan: Plan, datasets: Datasets, options: TrainOptions, only: tuple[str, ...], say: Say
) -> dict[str, str]:
    """Train every waiting task of ``plan`` (those of ``only``, if any), one after the other.

    A system with a trainer of its own (:attr:`mien.reproduce.spec.System.train`) is left to it.

    Returns:
        run folder's name -> why its training failed; the others go on without it.

    Raises:
        RecipeError: nothing could be trained: a folder is taken by another run, or the precision
            does not work here.
    """
    tasks = [t for t in plan.waiting if not only or t.run.id in only]
    if plan.system.train:
        found: dict[str, str] = call(plan.system.train)(
            replace(plan, tasks=tuple(tasks)), datasets, options, say
        )
        return found
    failed: dict[str, Exception] = {}
    for number, task in enumerate(tasks, 1):
        verb = "training" if task.state == NOT_RUN else "resuming"
        say(f"{verb} {task.folder.name} ({number} of {len(tasks)})")
        try:
            train_task(task, datasets, options)
        except Exception as error:  # whatever it is: the other runs are not to wait for it
            failed[task.folder.name] = error
            say(f"failed: {task.folder.name}: {reason(error)}")
    if failed and len(failed) == len(tasks):
        raise next(iter(failed.values()))
    return {name: reason(error) for name, error in failed.items()}


def reason(error: BaseException) -> str:
    """An error in one line, with its kind unless the sentence is mien's own."""
    text = str(error).strip()
    line = text.splitlines()[0] if text else ""
    return line if isinstance(error, MienError) else f"{type(error).__name__}: {line}".rstrip(": ")


def train_task(task: Task, datasets: Datasets, options: TrainOptions) -> None:
    """Train or resume one task to its end and write its report of the validation split."""
    from mien.train.fit import fit
    from mien.train.report import write_run_report

    dataset = datasets.get(task.run.dataset)
    splits = make_splits(dataset, task.recipe.protocol, seed=task.seed, fold=task.fold)
    make_folder(task.folder.parent)
    result = fit(
        replace(task.recipe, name=_name(task), precision=_precision(task, options)),
        dataset,
        splits,
        task.folder,
        seed=task.seed,
        resume=True,
        dry_run=options.dry,
        device=options.device,
        quiet=options.quiet,
    )
    write_run_report(result, dataset, splits)


def _saved(task: Task) -> dict[str, Any]:
    """The recipe of a run that is to be resumed; {} of a fresh one."""
    path = task.folder / "recipe.json"
    if not (task.folder / "last.ckpt").exists() or not path.exists():
        return {}
    saved: dict[str, Any] = json.loads(path.read_text())
    return saved


def _precision(task: Task, options: TrainOptions) -> str:
    # A resumed run keeps the precision it was started with: its record says so.
    given = options.precision if options.precision != "auto" else task.recipe.precision
    return str(_saved(task).get("precision", given))


def _name(task: Task) -> str:
    return str(_saved(task).get("name", task.recipe.name))


def call(path: str) -> Any:
    """The function at "module:function"."""
    module, _, function = path.partition(":")
    return getattr(importlib.import_module(module), function)
