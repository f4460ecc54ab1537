"""A sweep for real: small networks on drawn faces, failures, dead processes, shared work."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")
for _name in ("timm", "torchvision"):
    if importlib.util.find_spec(_name) is None:
        pytest.skip("the [transfer] extra is not installed", allow_module_level=True)

import numpy as np
from helpers_train import drawn_faces

from mien.cli import main
from mien.data.convert import write_dataset
from mien.errors import RecipeError
from mien.reproduce import reproduce
from mien.reproduce.datasets import Datasets
from mien.reproduce.papers.ahmed2024 import shown_cells
from mien.reproduce.plan import TrainOptions
from mien.reproduce.run import Figures
from mien.reproduce.spec import get_system
from mien.reproduce.sweep import (
    COLUMNS,
    Cell,
    Sweep,
    best,
    choose,
    grid,
    papers_f1,
    planned,
    render,
)
from mien.train import jobs
from mien.train.folder import failure, in_use

QUICK = Cell("googlenet", "adam", 64, "balanced", "random")
DRY = TrainOptions("cpu", "32", dry=True, quiet=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Drawn faces as FER2013's parquet."""
    faces = drawn_faces(210)
    parts = np.array(["Training", "PublicTest", "PrivateTest"])[np.arange(210) // 7 % 3]
    faces = dataclasses.replace(faces, name="fer2013", splits=parts, votes=None)
    path = tmp_path / "fer2013.parquet"
    write_dataset(faces, path)
    return path


def sweep_of(cells: tuple[Cell, ...], tmp_path: Path, data: Path) -> Sweep:
    runs = tmp_path / "runs"
    datasets = Datasets(data, cache=runs, build=False, dry=True)
    return Sweep(cells, "fast", runs, datasets, DRY)


def test_the_grid_and_the_plans() -> None:
    assert len(grid()) == len(set(grid())) == 8 * 2 * 4 * 2
    assert planned("paper") == grid()
    fast = planned("fast")
    assert len(fast) == 17
    assert {c.backbone for c in fast if c.data == "balanced" and c.init == "random"} == {
        c.backbone for c in grid()
    }
    assert {c.init for c in planned("fast", "w.pth")} == {"w.pth"}
    assert len(planned("fast", "random")) == 16  # EfficientNet-Lite0's two become one
    shown = shown_cells("fast")
    assert {c.place for c in shown} == {c.place for c in grid()}
    assert len(shown) == 129
    scratch = Cell("resnet50", "sgd", 64, "all", "random").recipe(fast=True)
    assert (scratch.optimizer.lr, scratch.epochs) == (0.1, 12)
    assert Cell("resnet50", "sgd", 64, "all").recipe(fast=True).optimizer.lr == 0.01
    assert len(best()) == 16
    assert {c.init for c in best()} == {"imagenet"}
    assert Cell("googlenet", "sgd", 16, "all") not in planned("fast")
    more = shown_cells("fast", [best()[0], Cell("googlenet", "sgd", 16, "all", "random")])
    assert best()[0] in more
    assert [c.init for c in more if c.place == ("googlenet", "sgd", 16, "all")] == ["random"]


def test_only() -> None:
    assert len(choose(grid(), ["backbone=resnet50,optimizer=adam"])) == 8
    assert len(choose(grid(), ["batch=16", "batch=32"])) == 64
    assert choose(planned("fast"), ["init=imagenet, data=all"]) == (planned("fast")[-1],)
    for only, message in (
        ("backbone", "write key=value"),
        ("bakbone=x", "did you mean 'backbone'"),
        ("backbone=resnet5", "did you mean 'resnet50'"),
        ("batch=12", "no batch '12'"),
        ("batch=16", "add --grid"),
    ):
        with pytest.raises(RecipeError, match=message):
            choose(planned("fast"), [only])


def test_figures_use_the_papers_f1() -> None:
    nothing = Figures(0, 0.0, (), (), {}, macro_precision=0.0, macro_recall=0.0)
    assert papers_f1(nothing) == 0.0
    made = dataclasses.replace(nothing, macro_precision=0.6589, macro_recall=0.6425)
    assert papers_f1(made) == pytest.approx(0.6505, abs=1e-4)


def test_a_sweep_is_trained_once_and_tabulated(tmp_path: Path, data: Path) -> None:
    made = sweep_of((QUICK, Cell("googlenet", "sgd", 16, "all", "random")), tmp_path, data)
    before = made.table()
    assert [row.state for row in before] == ["not run", "not run"]
    assert all(row.accuracy is None for row in before)
    assert render(before, "markdown").count("not run") == 2 + 2 * 4
    made.run()
    rows = made.table()
    assert [row.state for row in rows] == ["done", "done"]
    assert all(0 <= row.accuracy <= 1 for row in rows)
    assert (rows[0].paper_optimizer, rows[0].paper_accuracy) == ("sgd", 0.5391)
    folder = tmp_path / "runs" / "dry-run"
    stamps = {p: p.stat().st_mtime_ns for p in folder.glob("*/last.ckpt")}
    assert len(stamps) == 2
    made.run()
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*/last.ckpt")} == stamps
    scored = json.loads((next(folder.glob("*_adam64_*")) / "scores.json").read_text())
    assert len(scored) == 1  # once, though the table was made three times
    read = list(csv.DictReader(io.StringIO(render(rows, "csv"))))
    assert tuple(read[0]) == COLUMNS
    assert float(read[1]["accuracy"]) == rows[1].accuracy
    assert json.loads(render(rows, "json")) == [dataclasses.asdict(row) for row in rows]
    with pytest.raises(RecipeError, match="csv, json, markdown"):
        render(rows, "xml")


@pytest.mark.parametrize("error", [RuntimeError, AttributeError])
def test_failed_cells_are_retried_reported_and_tried_again(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    made = sweep_of((QUICK,), tmp_path, data)
    real, calls = jobs.fit, []

    def breaks(times: int) -> Any:
        def train(*arguments: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) <= times:
                raise error("out of memory\nand a page more")
            return real(*arguments, **options)

        return train

    monkeypatch.setattr(jobs, "fit", breaks(2))
    made.run()
    (row,) = made.table()
    assert (row.state, row.why) == ("failed", f"{error.__name__}: out of memory")
    assert row.accuracy is None
    assert len(calls) == 2
    calls.clear()
    monkeypatch.setattr(jobs, "fit", breaks(1))
    made.run()  # the next call: fails once, and its second attempt succeeds
    (row,) = made.table()
    assert (row.state, row.why, len(calls)) == ("done", "", 2)


_DIES = """
import os, signal, sys
from pathlib import Path
from mien.reproduce.datasets import Datasets
from mien.reproduce.plan import TrainOptions
from mien.reproduce.sweep import Cell, Sweep
from mien.train import jobs
runs = Path(sys.argv[2])
def killed(*_, **__):
    print("training", flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
jobs.fit = killed
cell = Cell("googlenet", "adam", 64, "balanced", "random")
data = Datasets(Path(sys.argv[1]), cache=runs, build=False, dry=True)
Sweep((cell,), "fast", runs, data, TrainOptions("cpu", "32", dry=True, quiet=True)).run()
"""


def test_a_dead_process_leaves_its_cell_to_others(tmp_path: Path, data: Path) -> None:
    runs = tmp_path / "runs"
    other = subprocess.Popen(
        [sys.executable, "-c", _DIES, str(data), str(runs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdin is not None
    assert other.stdout.readline() == "training\n"
    made = sweep_of((QUICK,), tmp_path, data)
    made.run()  # the other process has the cell: nothing is left to do here
    (row,) = made.table()
    assert row.state == "running"
    other.stdin.write("now\n")
    other.stdin.flush()
    assert other.wait(60) == -signal.SIGKILL
    name = f"{QUICK.recipe(fast=True).name}-seed0"
    assert not in_use(runs / "dry-run" / name)
    made.run()
    (row,) = made.table()
    assert row.state == "done"
    assert failure(runs / "dry-run" / name) == ""


def test_missing_weights_stop_the_run_and_are_said(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sweep", "ahmed2024", "--data", str(data), "--runs", str(tmp_path / "r")]
    arguments += ["--dry-run", "--device", "cpu", "--only", "backbone=googlenet"]
    assert main([*arguments, "--init", "nowhere.pth"]) == 2
    assert "error: No weights at 'nowhere.pth'" in capsys.readouterr().err
    assert not list((tmp_path / "r").glob("dry-run/ahmed_*/run.json"))  # nothing was begun


def test_two_processes_share_the_work_and_the_table_is_written(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = tmp_path / "runs", tmp_path / "table.csv"
    arguments = ["-m", "mien", "sweep", "ahmed2024", "--grid", "--init", "random", "--dry-run"]
    for cell in ("batch=16,data=balanced", "batch=32,data=balanced"):
        arguments += ["--only", f"backbone=googlenet,optimizer=sgd,{cell}"]
    arguments += ["--data", str(data), "--runs", str(runs), "--device", "cpu"]
    arguments += ["--precision", "32", "--jobs", "2", "--out", str(out), "--format", "markdown"]
    env = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "17179869184"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in csv.DictReader(out.open())] == ["done", "done"]
    assert done.stdout.count("| balanced | GoogLeNet | sgd") == 2
    for cell in (16, 32):  # each once, by one of the two
        name = f"ahmed_googlenet_sgd{cell}_balanced_random_fast-seed0"
        assert done.stderr.count(f"training {name}") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ahmed2023"], "Unknown sweep 'ahmed2023'; there is one: ahmed2024."),
        (["ahmed2024", "--budget", "huge"], "--budget must be fast or paper, not 'huge'."),
        (["ahmed2024", "--out", "t.txt"], "--out t.txt: give a name ending in .csv, .json, .md."),
        (["ahmed2024", "--format", "xml"], "--format must be csv, json or markdown"),
        (["ahmed2024", "--seeds", "0"], "--seeds must be 1 or more, not 0."),
        (["ahmed2024", "--only", "batch"], "--only batch: write key=value"),
    ],
)
def test_bad_options(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_the_report_of_what_was_not_run(tmp_path: Path, data: Path) -> None:
    record, paths = reproduce(
        "ahmed2024", tmp_path / "out", runs=tmp_path / "runs", data=data, report_only=True
    )
    assert {mark.ours_text for mark in record.headlines} == {"not run"}
    assert {run.state for run in record.runs} == {"not run"}
    cells = record.extra["grid"]["cells"]
    assert len(cells) == 129
    assert {cell["state"] for cell in cells} == {"not run"}
    table = record.extra["grid"]["tables"][0]
    assert table["rows"][0]["paper"]["accuracy"] == 0.6547
    assert table["rows"][0]["ours"] is None
    assert "not run" in paths["markdown"].read_text()


def test_the_systems_runs_have_the_papers_figures() -> None:
    system = get_system("ahmed2024")
    assert len({run.id for run in system.runs}) == len(system.runs) == 17
    assert sum("fast" in run.recipes for run in system.runs) == 17
    papers = {h.run: h.paper for h in system.headlines if h.paper is not None}
    assert len(papers) == 14
    assert papers["inceptionresnetv2_balanced"] == 0.6849
    for run in system.runs:
        for make in run.recipes.values():
            assert make().protocol == run.protocol  # type: ignore[operator]
