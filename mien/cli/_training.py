"""What the verbs that train share: their beginning, one training with its report, their options."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien._system import child_environment
from mien.cli._console import say
from mien.errors import RecipeError, require_extra

if TYPE_CHECKING:
    from mien.data.dataset import FaceDataset, Splits
    from mien.train.distill import Teachers
    from mien.train.jobs import Cluster
    from mien.train.recipe import Recipe

# glibc hands big blocks back to the system after each step, which halves training speed on a CPU.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


def relaunch_with_allocator() -> None:
    """Start this process anew with the allocator's settings, which glibc reads only at start."""
    if not sys.platform.startswith("linux") or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return
    if "PYTEST_CURRENT_TEST" in os.environ or sys.argv[0].endswith("pytest"):
        return
    arguments = [sys.executable, "-P", "-m", "mien", *sys.argv[1:]]
    os.execve(sys.executable, arguments, {**child_environment(), **ALLOCATOR})


def check_choice(option: str, value: str | None, known: Sequence[str | None]) -> None:
    """Raise RecipeError where ``--option`` has a value that is not known; None is "not given"."""
    if value in known:
        return
    *rest, last = (name for name in known if name)
    names = f"{', '.join(rest)} or {last}" if rest else last
    raise RecipeError(f"--{option} must be {names}, not {value!r}.")


def check_machine(device: str, precision: str = "auto") -> None:
    """Raise RecipeError for a device or precision that is not known."""
    check_choice("device", device, ("auto", "cpu", "cuda"))
    check_choice("precision", precision, ("auto", "32", "bf16"))


def begin(verb: str, device: str, relaunch: bool = True) -> None:
    """Check what every training needs; start the process anew with the allocator's settings."""
    check_machine(device)
    require_extra("train", ("torch", "pyarrow"), f"`mien {verb}`")
    if relaunch:
        relaunch_with_allocator()


def cluster_of(engine: str, address: str | None, cpus: float, gpus: float) -> Cluster | None:
    """The cluster that the options of a verb with many trainings name; None: none."""
    check_choice("engine", engine, ("local", "ray"))
    if engine == "local":
        return None
    from mien.train.jobs import Cluster

    return Cluster(address, cpus, gpus)


def resolved(recipe: str, settings: Sequence[str] | None, **replaced: str | None) -> Recipe:
    """A named recipe with its ``--set`` settings, then the options of their own that were given."""
    from mien.train.recipe import override
    from mien.train.recipes import get_recipe

    more = [f"{key}={value}" for key, value in replaced.items() if value]
    return override(get_recipe(recipe), [*(settings or ()), *more])


def train_one(
    recipe: Recipe,
    dataset: FaceDataset,
    splits: Splits,
    out: Path | None,
    *,
    seed: int,
    dry_run: bool,
    teachers: Teachers | None = None,
    **options: Any,
) -> None:
    """Train, write the run's report, say where it ended; ``options`` are further ones of fit."""
    from mien.train.fit import fit, write_run_report
    from mien.train.folder import default_folder
    from mien.train.jobs import run_name

    folder = out or default_folder(Path("runs"), run_name(recipe, seed), dry_run)
    how = {"seed": seed, "dry_run": dry_run, "teachers": teachers, **options}
    if options.get("resume") and not folder.exists():  # a queue's script says --resume always
        say(f"{folder} holds no run to resume; it begins")
    result = fit(recipe, dataset, splits, folder, **how)
    if os.environ.get("RANK", "0") != "0":  # the first of torchrun's processes writes and speaks
        return
    write_run_report(result, dataset, splits)
    chosen = "the last, for there is no validation split"
    if result.val_accuracy is not None:
        chosen = f"val accuracy {result.val_accuracy:.4f}"
    taught = f" by {len(teachers.members)} teachers" if teachers else ""
    say(
        f"epoch {result.best_epoch} ({chosen}); {result.seconds / 60:.1f} min of training{taught}; "
        f"{result.checkpoint}"
    )
