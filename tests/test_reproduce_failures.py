"""One training of a reproduction that fails: the others go on, and the report and exit code say."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from helpers_train import drawn_faces

from mien.cli import main
from mien.data.convert import write_dataset
from mien.errors import MienError
from mien.reproduce import reproduce, spec
from mien.reproduce.plan import TrainOptions
from mien.reproduce.spec import Headline, RunSpec, System
from mien.train.recipe import Recipe
from mien.train.recipes import get_recipe


def good() -> Recipe:
    base = get_recipe("mondal_shallow")
    return dataclasses.replace(base, name="good", epochs=1, batch_size=16, precision="32")


def bad() -> Recipe:
    return dataclasses.replace(good(), name="bad", init="gone.safetensors")


RUNS = (RunSpec("bad", "Bad", {"fast": bad}), RunSpec("good", "Good", {"fast": good}))
SYSTEM = System(
    name="failing2000",
    title="A paper of which one network cannot be trained",
    citation="Nobody 2000",
    runs=RUNS,
    headlines=(
        Headline("bad", "Bad", "bad", "test", 0.5, 0.5, "50 %"),
        Headline("good", "Good", "good", "test", 0.5, 0.0, "50 %", "Always.", "Fast alone."),
    ),
)
QUIET = TrainOptions("cpu", quiet=True)


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command line know this module's system."""
    monkeypatch.setattr(spec, "PAPERS", (*spec.PAPERS, SYSTEM.name))
    monkeypatch.setattr(spec, "_CODED", (*spec._CODED, SYSTEM.name))
    name = f"mien.reproduce.papers.{SYSTEM.name}"
    monkeypatch.setitem(sys.modules, name, sys.modules[__name__])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    faces = dataclasses.replace(drawn_faces(60), votes=None)
    parts = np.array(["Training", "Training", "Training", "PublicTest", "PrivateTest"])
    write_dataset(
        dataclasses.replace(faces, splits=parts[np.arange(60) % 5]), tmp_path / "fer2013.csv", "csv"
    )
    return tmp_path / "fer2013.csv"


def test_the_others_go_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    register(monkeypatch)
    call = ["reproduce", SYSTEM.name, "--data", str(data), "--device", "cpu"]
    assert main(call) == 1
    said = capsys.readouterr().err
    assert "failed: bad-seed0: No weights at 'gone.safetensors'; give a file" in said
    assert "1 failed, see above" in said
    page = (tmp_path / "out" / SYSTEM.name / "reproduction.md").read_text()
    assert "This run was not run: No weights at 'gone.safetensors'" in page
    assert "Always. Fast alone." in page
    # What stands is reported without another try, and the good run is not trained again.
    record, _ = reproduce(SYSTEM, tmp_path / "again", data=data, report_only=True)
    assert [run.state for run in record.runs] == ["not run", "done"]
    assert record.failed == {}


def test_nothing_trained_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MienError, match=r"gone\.safetensors"):
        reproduce(SYSTEM, tmp_path / "out", runs=tmp_path, data=data, only=["bad"], options=QUIET)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_leaves_the_report_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    register(monkeypatch)
    call = ["reproduce", SYSTEM.name, "--data", str(data), "--device", "cpu", "--dry-run"]
    assert main([*call, "--only", "good"]) == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == [f"{SYSTEM.name}-dry-run"]


def test_an_unwanted_run_builds_no_fergit(data: Path, tmp_path: Path) -> None:
    """Faces are looked for in thousands of photos: not for a run that --only leaves out."""
    home = tmp_path / "muxspace"
    (home / "images").mkdir(parents=True)
    with resources.as_file(resources.files("mien").joinpath("assets", "astronaut.jpg")) as photo:
        shutil.copy(photo, home / "images" / "a.jpg")
    (home / "legend.csv").write_text("user.id,image,emotion\n1,a.jpg,happiness\n")
    put_together = dataclasses.replace(
        RUNS[1], id="fergit", protocol="fergit", dataset="fergit", suffix="fergit"
    )
    system = dataclasses.replace(SYSTEM, runs=(put_together, RUNS[1]), headlines=())
    lines: list[str] = []
    record, _ = reproduce(
        system,
        tmp_path / "out",
        runs=tmp_path / "runs",
        data=tmp_path,
        only=["good"],
        options=QUIET,
        say=lines.append,
    )
    assert [run.state for run in record.runs] == ["not run", "done"]
    assert any("FERGIT is not built" in line for line in lines)
    assert not any("building" in line for line in lines)
    assert not (tmp_path / "runs" / "fergit.parquet").exists()
