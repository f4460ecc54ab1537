"""The GPU pack of benchmarks/flagship: whose results count, what comes out, when a call ends."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import time
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from helpers_train import drawn_faces

from mien.data.dataset import FaceDataset
from mien.errors import RecipeError
from mien.reproduce.plan import DONE, make_plan
from mien.reproduce.scoring import score_run
from mien.reproduce.spec import HOUSE_SCORES, RunSpec, System
from mien.train.ablation import ablate, read_table, summarise
from mien.train.recipes import get_recipe

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks" / "flagship"
TINY = ["precision=32", "batch_size=16", "model_args.widths=[16,16,32]", "clean_epochs=0"]
TINY += ["epochs=2", "ema=0"]


def three_parts() -> FaceDataset:
    data = drawn_faces(112)
    parts = np.array(["Training", "Training", "PublicTest", "PrivateTest"])[np.arange(112) % 4]
    return dataclasses.replace(data, name="fer2013", splits=parts, sha256="5a" * 32)


@pytest.fixture(scope="module")
def pack() -> Any:
    """The pack's modules, which are scripts beside one another."""
    names = ("timing", "worker", "deliver", "stages", "gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        modules: dict[str, ModuleType] = {name: importlib.import_module(name) for name in names}
        yield argparse.Namespace(**modules)


def options_for(pack: Any, work: Path, stage: str = "base-seeds", **more: Any) -> Any:
    options = argparse.Namespace(
        stage=stage,
        recipe="mien_fast",
        set=TINY,
        seeds=1,
        members=1,
        steps=0,
        work=work / "work",
        out=work / "out",
        dataset=work / "work" / "fer2013-x.npz",
        device="cpu",
        test=False,
        jobs=1,
        files=4,
        mib=56.0,
        archive=False,
        deadline=time.monotonic() + 500,
    )
    for folder in (options.work, options.out):
        folder.mkdir(parents=True, exist_ok=True)
    if not options.dataset.is_file():
        pack.worker.save_dataset(three_parts(), options.dataset)
    vars(options).update(more)
    return options


def trained(pack: Any, options: Any, run: dict[str, Any]) -> dict[str, Any]:
    """The run, identified, and trained in this process as its worker would."""
    (run,) = pack.gpu.identified(options, [run], [])
    task = {"steps": options.steps, "dataset": str(options.dataset), "device": "cpu"}
    folder = options.work / "runs" / run["name"]
    pack.worker.work_on(
        {**run, **task, "folder": str(folder), "test": options.test, "teachers": []}
    )
    return run


def test_a_result_counts_for_its_own_task_alone(pack: Any, tmp_path: Path) -> None:
    options = options_for(pack, tmp_path)
    run = trained(pack, options, pack.gpu.runs_of(options)[0])
    summary = pack.deliver.summary_of(options, run, False)
    assert summary is not None
    assert summary["data"] == "5a" * 32
    assert summary["last"]["epoch"] == 2
    assert "PublicTest ten" in summary
    assert not any(key.startswith("PrivateTest") for key in summary)
    assert pack.deliver.summary_of(options, run, True) is None  # not scored on it yet
    others = {
        "recipe": options_for(pack, tmp_path, set=[*TINY, "optimizer.lr=0.5"]),
        "steps": options_for(pack, tmp_path, steps=3),
    }
    for key, other in others.items():
        (changed,) = pack.gpu.identified(other, pack.gpu.runs_of(other), [])
        with pytest.raises(RecipeError, match=f"another .*{key}.*move it away"):
            pack.deliver.summary_of(other, changed, False)
    data = dataclasses.replace(three_parts(), sha256="6b" * 32)
    pack.worker.save_dataset(data, options.work / "other.npz")
    other = options_for(pack, tmp_path, dataset=options.work / "other.npz")
    (changed,) = pack.gpu.identified(other, pack.gpu.runs_of(other), [])
    with pytest.raises(RecipeError, match="another data; move it away"):
        pack.deliver.report(other, [changed])
    assert pack.deliver.bring_back(options, [run]) == ["mien_fast-seed0.ckpt"]


def test_decoded_by_what_was_given(
    pack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mien.data

    monkeypatch.setattr(mien.data, "read_for_protocol", lambda path, protocol: three_parts())
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    options = argparse.Namespace(work=tmp_path, steps=0, data=one)
    first = pack.gpu.decoded(options)
    options.data = None
    assert pack.gpu.decoded(options) == first
    options.data = two
    assert pack.gpu.decoded(options) != first
    options.data = None
    with pytest.raises(RecipeError, match="say which with --data"):
        pack.gpu.decoded(options)


def system_of(pack: Any, monkeypatch: pytest.MonkeyPatch) -> System:
    """A paper with one small run, known to the pack."""
    run = RunSpec(
        id="small",
        label="Small",
        recipes={"paper": lambda: small_recipe()},
        scores=HOUSE_SCORES,
    )
    system = System("paper2000", "A paper", "nobody", runs=(run,), headlines=())
    monkeypatch.setattr("mien.reproduce.spec.get_system", lambda name: system)
    return system


def small_recipe() -> Any:
    from mien.train.recipe import override

    return override(get_recipe("mien_fast"), TINY)


class _Data:
    def get(self, name: str) -> FaceDataset:
        return three_parts()

    def missing(self, name: str) -> str:
        return ""


def test_a_papers_folder_is_adopted_and_not_scored_again(
    pack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.data import make_splits

    system = system_of(pack, monkeypatch)
    options = options_for(pack, tmp_path, "papers")
    run = pack.gpu._run("small-seed0", "mien_fast", TINY, 0)
    run["paper"] = ["paper2000", "small"]
    one = trained(pack, options, run)
    summary = pack.deliver.summary_of(options, one, False)
    assert [s["key"] for s in summary["scores"]] == ["val"]
    options.test = True
    one = trained(pack, options, run)
    summary = pack.deliver.summary_of(options, one, True)
    assert [s["key"] for s in summary["scores"]][:2] == ["val", "test"]
    assert pack.deliver.bring_papers(options, [one]) == ["small-seed0"]
    runs = options.out / "runs"
    plan = make_plan(system, "paper", runs, _Data())  # type: ignore[arg-type]
    assert [task.state for task in plan.tasks] == [DONE]
    listed = (runs / "small-seed0" / "scores.json").read_text()
    assert len(json.loads(listed)) == 2
    monkeypatch.setattr("mien.train.load_checkpoint", None)  # the network is not asked again
    data = three_parts()
    entries = score_run(
        plan.tasks[0].job.folder, HOUSE_SCORES, data, make_splits(data, "fer2013"), with_roc=False
    )
    assert [e.scores.accuracy for e in entries][:2] == [s["accuracy"] for s in summary["scores"]][
        :2
    ]
    # Where a file is a burden, everything lies in a few archives.
    options.archive, options.out = True, tmp_path / "archived"
    options.out.mkdir()
    pack.deliver.bring_papers(options, [one])
    with zipfile.ZipFile(options.out / "papers-1.zip") as archive:
        names = archive.namelist()
    assert {"small-seed0/best.ckpt", "small-seed0/run.json"} <= set(names)
    options.mib = 0.05
    assert pack.deliver.bring_papers(options, [one]) == []


def test_weights_too_large_leave_the_figures(
    pack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system_of(pack, monkeypatch)
    monkeypatch.setattr(pack.worker, "FILE_BYTES", 1000)
    options = options_for(pack, tmp_path, "papers")
    run = pack.gpu._run("small-seed0", "mien_fast", TINY, 0)
    one = trained(pack, options, {**run, "paper": ["paper2000", "small"]})
    assert pack.deliver.summary_of(options, one, False)["weights"] == "too large to deliver"
    assert pack.deliver.bring_papers(options, [one]) == []
    there = {p.name for p in (options.out / "runs" / "small-seed0").iterdir()}
    assert there == {*pack.worker.RECORDS, "scores.json", "predictions"}


def test_the_papers_run_as_their_reproductions_do(pack: Any) -> None:
    from mien.reproduce.plan import compared, resolve
    from mien.reproduce.spec import get_system

    for paper, system in pack.gpu.PAPERS.items():
        run = pack.gpu._paper(paper, 0, [])
        wanted = resolve(get_system(system).run(paper), "paper")
        assert compared(pack.worker.recipe_of(run, 0).to_dict()) == compared(wanted.to_dict())


def test_a_failure_shows_the_end_of_its_log(
    pack: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = options_for(pack, tmp_path, set=[*TINY, "weights.constant=-1"])
    options.dataset = tmp_path / "none.npz"
    run = {**pack.gpu._run("a-seed0", "mien_fast", TINY, 0), "identity": {}}
    complete, failed = pack.gpu.train_all(options, [run], [], lambda: None)
    assert (complete, failed) == (False, ["a-seed0"])
    shown = capfd.readouterr().err
    assert "none.npz" in shown
    assert "FileNotFoundError" in shown
    assert shown.count("\n") <= 22


def test_combine_shares_probabilities_and_stops_in_time(pack: Any, tmp_path: Path) -> None:
    options = options_for(pack, tmp_path, "ensemble", seeds=2)
    runs = [trained(pack, options, run) for run in pack.gpu.runs_of(options)[:2]]
    options.deadline = time.monotonic() + 5
    assert pack.stages.combine(options, runs) is None
    options.deadline = time.monotonic() + 500
    made = pack.stages.combine(options, runs)
    assert made["best"] in ("equal", "greedy")
    assert "test" not in made[made["best"]]
    assert len(list((options.work / "probabilities").iterdir())) == 2
    for choose in ("equal", "greedy"):
        assert (options.work / f"ensemble-{choose}" / "probabilities").is_symlink()
    options.test = True
    tested = pack.stages.combine(options, runs)
    assert ["equal" in tested, "test" in tested[tested["best"]]] == [True, True]
    other = next(c for c in ("equal", "greedy") if c != tested["best"])
    assert "test" not in tested[other]


def test_speed_runs_go_on_and_keep_privatetest_closed(
    pack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    calls: list[tuple[str, int, tuple[int, ...]]] = []

    def fake(recipe: Any, dataset: Any, splits: Any, *, seeds: Any, test: bool, **_: Any) -> Any:
        calls.append((recipe.name, seeds[0], (len(splits.ids["val"]), test)))
        each = [{"seed": seeds[0], "seconds": 1.0 + seeds[0], "val": 0.5}]
        return {"runs": 1, "seconds": 1.0 + seeds[0], "accuracy": 0.5, "each": each}

    monkeypatch.setattr(pack.timing, "speedrun", fake)
    options = options_for(pack, tmp_path, "speedrun", seeds=2, deadline=time.monotonic() - 1)
    assert not pack.stages.speed(options)
    assert calls == []
    options.deadline = time.monotonic() + 500
    assert pack.stages.speed(options)
    names = ("mien_fast", "mien_fast_folder")
    # 28 PublicTest images are the validation split of both, and the test split stays closed.
    assert calls == [(name, seed, (28, False)) for name in names for seed in (0, 1)]
    options.seeds = 3
    assert pack.stages.speed(options)
    assert [seed for _, seed, _ in calls[4:]] == [2, 2]
    record = json.loads((options.out / "speedrun.json").read_text())["speedruns"]["mien_fast"]
    assert record["runs"] == 3
    assert record["seconds"] == 2.0
    assert [each["seed"] for each in record["each"]] == [0, 1, 2]
    options.set = [*TINY, "optimizer.lr=0.5"]
    with pytest.raises(RecipeError, match="another recipe"):
        pack.stages.speed(options)
    options.set, options.test = TINY, True
    assert pack.stages.speed(options)  # the folder release's test set is for --test
    assert calls[-1] == ("mien_fast_folder", 2, (0, True))


def test_a_table_takes_its_own_runs_alone(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    settings = json.dumps([s for s in TINY if not s.startswith("epochs")])
    path.write_text(f'recipe = "mien_fast"\nseeds = [0]\nset = {settings}\n[rows]\n')
    arguments: dict[str, Any] = {"device": "cpu", "quiet": True, "dry_run": True}
    made = ablate(read_table(path), three_parts(), tmp_path, **arguments)
    assert made["complete"]
    table, runs = read_table(path), tmp_path / "runs"
    sha256 = three_parts().sha256
    assert summarise(table, runs, sha256=sha256, dry_run=True)["rows"][0]["mean"] is not None
    with pytest.raises(RecipeError, match="another recipe than the table's"):
        summarise(table, runs, sha256=sha256)  # a dry run is no run
    with pytest.raises(RecipeError, match="another dataset"):
        summarise(table, runs, sha256="6b" * 32, dry_run=True)
