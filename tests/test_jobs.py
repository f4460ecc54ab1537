"""The job runner on real trainings: failures, locks, another process, what is resumed."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from helpers_train import drawn_faces, drawn_splits, small_recipe

from mien.data.dataset import FaceDataset
from mien.errors import RecipeError
from mien.train.fit import fit
from mien.train.folder import BusyError, failure, hold, in_use, run_home
from mien.train.jobs import Cluster, Job, Options, raise_first, run_jobs
from mien.train.recipe import override

DATA = drawn_faces(70)
OPTIONS = Options("cpu", quiet=True, splits=drawn_splits(DATA))
HOLDER = """
import sys
from pathlib import Path
from mien.train.folder import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_failed_job_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    good = small_recipe(epochs=1)
    bad = override(good, ["model_args.widths=[16,16]"])
    jobs = [Job(bad, 0, tmp_path / "bad"), Job(good, 0, tmp_path / "good")]
    lines: list[str] = []
    outcomes = run_jobs(jobs, DATA, OPTIONS, say=lines.append)
    assert [o.state for o in outcomes] == ["failed", "done"]
    assert "stages" in outcomes[0].why == failure(jobs[0].folder)
    assert f"failed: bad: {outcomes[0].why}" in lines
    with pytest.raises(type(outcomes[0].error), match="stages"):  # type: ignore[arg-type]
        raise_first(outcomes)
    mended = [dataclasses.replace(jobs[0], recipe=good), jobs[1]]
    again = run_jobs(mended, lambda name: DATA, OPTIONS)
    assert [o.state for o in again] == ["done", "done"]
    assert failure(jobs[0].folder) == ""

    def fails(name: str) -> FaceDataset:
        raise ZeroDivisionError("of a dataset")

    (outcome, _) = run_jobs(mended, fails, OPTIONS, attempts=2)
    assert outcome.why == "ZeroDivisionError: of a dataset"
    with pytest.raises(ZeroDivisionError):
        run_jobs(mended, fails, OPTIONS, fatal=(ArithmeticError,))


def test_jobs_on_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same folders, by tasks of Ray; a failure is reported and tried again."""
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    good = small_recipe(epochs=1)
    bad = override(good, ["model_args.widths=[16,16]"])
    jobs = [Job(recipe, 0, tmp_path / name) for name, recipe in (("bad", bad), ("good", good))]
    lines: list[str] = []
    how = dataclasses.replace(OPTIONS, cluster=Cluster())
    outcomes = run_jobs(jobs, DATA, how, attempts=2, say=lines.append)
    assert [o.state for o in outcomes] == ["failed", "done"]
    assert "stages" in outcomes[0].why == failure(jobs[0].folder)
    assert sum(line.startswith("failed: bad") for line in lines) == 2
    assert [o.state for o in run_jobs(jobs[1:], DATA, OPTIONS)] == ["done"]


def test_two_processes_never_train_in_one_folder(tmp_path: Path) -> None:
    recipe, folder = small_recipe(epochs=1), tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert in_use(folder)
    (outcome,) = run_jobs([Job(recipe, 0, folder)], DATA, OPTIONS)
    assert (outcome.state, outcome.why) == ("running", "")
    holds = rf"training in .*run \(process {holder.pid}, since \d{{4}}-"
    with pytest.raises(BusyError, match=holds):
        raise_first([outcome])
    with pytest.raises(BusyError, match=holds):
        fit(recipe, DATA, drawn_splits(DATA), folder, device="cpu", quiet=True, resume=True)
    holder.kill()  # the system frees what a dead process held
    holder.communicate()
    assert not in_use(folder)
    assert run_jobs([Job(recipe, 0, folder)], DATA, OPTIONS)[0].state == "done"
    assert (folder / ".lock").read_text() == ""  # nobody's any more


def test_a_run_goes_on_under_the_name_it_was_begun_with(tmp_path: Path) -> None:
    recipe = small_recipe(epochs=1)
    (begun,) = run_jobs([Job(recipe, 0, tmp_path / "run")], DATA, OPTIONS)
    renamed = dataclasses.replace(begun.job, recipe=dataclasses.replace(recipe, name="another"))
    assert run_jobs([renamed], DATA, OPTIONS)[0].state == "done"
    longer = dataclasses.replace(begun.job, recipe=dataclasses.replace(recipe, epochs=2))
    (outcome,) = run_jobs([longer], DATA, OPTIONS)
    assert "another epochs" in outcome.why
    assert isinstance(outcome.error, RecipeError)
    assert failure(begun.job.folder) == ""  # a finished run is not marked by it
    assert run_home(tmp_path, True) == tmp_path / "dry-run"


def test_a_process_may_ask_about_a_folder_that_it_holds_itself(tmp_path: Path) -> None:
    with hold(tmp_path), hold(tmp_path):
        assert not in_use(tmp_path)  # by another
    assert not in_use(tmp_path)
