"""A run folder: the names of its files, what state it is in, and the lock of whoever trains in it.

No torch: reports and plans read run folders too.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mien.atomic import make_folder, write_text
from mien.errors import RecipeError

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
            # Into the locked file itself: it says nothing once the lock is free.
            path.write_text(f"process {os.getpid()}, since {since}", encoding="utf-8")
        yield
    finally:
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
