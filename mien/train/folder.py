"""A run folder: its files, what they say of the training, its state, and its lock.

Reports and plans read run folders too, so torch is imported only to name the hardware.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from mien._system import processor, versions
from mien._version import __version__
from mien.atomic import make_folder, remove_leftovers, write_text
from mien.data.dataset import FaceDataset, Splits
from mien.errors import DataError, RecipeError
from mien.train.recipe import Recipe

#: What was trained, written first; how it ended, written last; why it failed, if it did.
RUN, RESULT, FAILED = "run.json", "result.json", "failed.json"
RECIPE, SPLITS, CURVES = "recipe.json", "splits.json", "curves.csv"
BEST, LAST = "best.ckpt", "last.ckpt"
_LOCK = ".lock"

#: States of a run folder; "failed" where the last attempt left its reason.
DONE, PARTIAL, FAILED_STATE, NOT_RUN = "done", "partial", "failed", "not run"


class BusyError(RecipeError):
    """Another process trains in the folder."""


def run_home(runs: Path, dry: bool) -> Path:
    """The folder of run folders; of dry runs one of their own in it, where none is looked for."""
    return runs / "dry-run" if dry else runs


def default_folder(runs: Path, name: str, dry_run: bool) -> Path:
    """``runs/NAME``; of a dry run ``runs/dry-run/NAME``, emptied: nothing in it is worth keeping,
    and it must never stand where a training is looked for."""
    folder = run_home(runs, dry_run) / name
    if dry_run:
        shutil.rmtree(folder, ignore_errors=True)
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """A record of a run folder.

    Raises:
        RecipeError: it is missing, damaged or no record.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"{path} cannot be read ({error}); train the run anew.") from None
    if not isinstance(found, dict):
        raise RecipeError(f"{path} is no record of a run; train it anew.")
    return found


def failure(folder: Path) -> str:
    """Why the last attempt to train in ``folder`` failed; "" where it did not."""
    with suppress(RecipeError):
        return str(read_json(folder / FAILED).get("why", ""))
    return ""


def note_failure(folder: Path, why: str) -> None:
    """Keep why an attempt failed, for whoever looks later; "" removes an earlier reason."""
    if why:
        write_text(make_folder(folder) / FAILED, json.dumps({"why": why}) + "\n")
    else:
        (folder / FAILED).unlink(missing_ok=True)


@contextmanager
def hold(folder: Path, wait_s: float = 1.0) -> Iterator[None]:
    """Hold the folder, which is made, against other processes; a process may hold it twice.

    The system frees it when its process ends, however it ends.

    Raises:
        BusyError: another process holds it for longer than ``wait_s``; a reader holds it for an
            instant.
    """
    from filelock import FileLock, Timeout

    path = make_folder(folder) / _LOCK
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise busy(folder) from None
    try:
        if lock.lock_counter == 1:
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            # Into the locked file itself, which is empty once the lock is free.
            path.write_text(f"process {os.getpid()}, since {since}", encoding="utf-8")
        yield
    finally:
        if lock.lock_counter == 1:
            with suppress(OSError):
                path.write_text("", encoding="utf-8")
        lock.release()


def busy(folder: Path) -> BusyError:
    """The error that says who trains in ``folder``: "… (process 7, since …)"."""
    who = ""
    with suppress(OSError, ValueError):
        who = (folder / _LOCK).read_text(encoding="utf-8").strip()
    whom = f" ({who})" if who else ""
    return BusyError(f"Another mien is training in {folder}{whom}; wait for it to end.")


def in_use(folder: Path) -> bool:
    """Whether a process is training in ``folder``."""
    if not (folder / _LOCK).exists():
        return False
    try:
        with hold(folder, 0):
            return False
    except BusyError:
        return True


def read_curves(path: str | Path) -> list[dict[str, float]]:
    """The rows of a run's ``curves.csv``, in order: "epoch" (whole) and the columns it has.

    Cells left blank are left out of their row. :func:`mien.report.plots.training_curves` and
    :func:`mien.report.charts.curves` draw these rows.

    Args:
        path: the file; where it does not exist there are no rows.

    Raises:
        DataError: the file cannot be read or is damaged.
    """
    path = Path(path)
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
        return [{**row, "epoch": int(row["epoch"])} for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is damaged; train the run again.") from None


PACKAGES = ("torch", "numpy", "opencv-python-headless", "onnxruntime")


def environment() -> dict[str, Any]:
    """Versions, commit and hardware, for the record of a run."""
    import torch

    from mien.train import processes

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
        "processes": processes.count(),
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
    here = {key: whole[key] for key in ("mien", "commit", "cpu", "processes", "threads", "gpu")}
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
    teachers: Sequence[Mapping[str, Any]] | None,
    dataset: FaceDataset,
    splits: Splits,
    unlabelled: FaceDataset | None = None,
) -> Path | None:
    """The checkpoint to resume from, or None for a fresh run. Arguments as for :func:`check_same`.

    Raises:
        RecipeError: the folder holds a run already, or a different one than is resumed.
    """
    last = folder / LAST
    if not last.exists():
        # What was killed at its first checkpoint may have a best one alone: it begins again.
        epochs = len(read_curves(folder / CURVES))
        if (folder / BEST).exists() and ((folder / RESULT).exists() or epochs > 1):
            raise RecipeError(
                f"{folder} holds a run without the {LAST} from which it would go on; use another "
                "folder, so that nothing of it is lost."
            )
        return None
    if not resume:
        raise RecipeError(
            f"{folder} already holds a run; give --resume to continue it, or use another folder."
        )
    check_same(folder, recipe, seed, teachers, dataset, splits, unlabelled)
    for name in (LAST, BEST):
        remove_leftovers(folder / name)  # of a kill in the middle of a write
    return last


def check_same(
    folder: Path,
    recipe: Recipe,
    seed: int,
    teachers: Sequence[Mapping[str, Any]] | None,
    dataset: FaceDataset,
    splits: Splits,
    unlabelled: FaceDataset | None = None,
) -> None:
    """Raise RecipeError where the folder holds a run of another recipe, seed, dataset or split, or
    with other teachers, votes or extra images.

    Args:
        teachers: what names them: :attr:`mien.train.distill.Teachers.record`.
    """
    record = read_json(folder / RUN)
    other = Recipe.from_dict(read_json(folder / RECIPE)).differences(recipe)
    other += [] if record.get("seed") == seed else ["seed"]
    if other:
        raise RecipeError(
            f"{folder} holds a run with another {', '.join(other)}; repeat its settings (--set) or "
            "use another folder."
        )
    data = record.get("data")
    data = data if isinstance(data, dict) else {"name": "unknown"}
    now = beside(recipe, dataset, unlabelled)
    taught = _taught(teachers)
    wrong = {
        f"on other data ({data.get('name', 'unnamed')})": data.get("sha256") != dataset.sha256,
        "on another split or fold": not _same_split(Splits.load(folder / SPLITS), splits),
        "with other teachers": _taught(record.get("teachers")) != taught,
    }
    then = record.get("beside", {})
    wrong |= {f"with other {key}": now.get(key) != sha256 for key, sha256 in then.items()}
    for key, differs in wrong.items():
        if differs:
            raise RecipeError(f"{folder} holds a run {key}; use another folder.")


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


def write_curves(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """``curves.csv``: one line per epoch."""
    text = io.StringIO()
    fields = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / CURVES, text.getvalue())
