"""A whole small reproduction, for real: trained, scored once, resumed, adopted, reported."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from helpers_train import drawn_faces

from mien.data.convert import write_dataset
from mien.errors import DataError, RecipeError
from mien.report.document import Section
from mien.reproduce import reproduce
from mien.reproduce.datasets import Datasets
from mien.reproduce.papers.njoku2024 import Mislabelled, mislabelled
from mien.reproduce.plan import TrainOptions, folder_name, make_plan
from mien.reproduce.record import read_record
from mien.reproduce.run import Deviation
from mien.reproduce.spec import (
    HOUSE_SCORES,
    Extra,
    Headline,
    PrintedEpochs,
    RunSpec,
    ScoreSpec,
    System,
)
from mien.train.recipe import Recipe
from mien.train.recipes import get_recipe


def fast() -> Recipe:
    base = get_recipe("mondal_shallow")
    return dataclasses.replace(base, name="tiny_fast", epochs=3, batch_size=16, precision="32")


def paper() -> Recipe:
    return dataclasses.replace(fast(), name="tiny", epochs=6)


# The run is called as Njoku's, so that its extra and its photos are made too.
TINY = System(
    name="tiny2000",
    title="A tiny paper",
    citation="Nobody 2000",
    runs=(
        RunSpec(
            id="njoku_cnn",
            label="Tiny",
            recipes={"fast": fast, "paper": paper},
            seeds={"fast": 2},
            scores=(*HOUSE_SCORES, ScoreSpec("paper", "last", ("val", "test"), "Both at once.")),
            readings=(Deviation("filters", "not given", "32", "As usual."),),
            whys={"epochs": "Fewer do."},
            parameters=2_345_607,
            printed={"val_accuracy": 0.5},
        ),
        RunSpec(id="large", label="Large", recipes={"paper": paper}),
    ),
    headlines=(
        Headline("val", "Validation", "njoku_cnn", "last.val_accuracy", 0.5, 0.0, "50 %"),
        Headline("never", "Not to be met", "njoku_cnn", "test.macro_f1", 0.5, 1.1, "50 %"),
        Headline("large", "Large", "large", "test", 0.5, 0.5, "50 %"),
    ),
    printed_epochs=PrintedEpochs(
        "njoku_cnn", "table 1", 6, {1: {"val_accuracy": 0.2}, 6: {"val_accuracy": 0.5}}
    ),
    comparison=("njoku_cnn", "large"),
    photos="njoku_cnn",
    extras=(
        Extra(
            "mislabelled_report", Mislabelled, mislabelled, lambda _: Section("m", "Mislabelled")
        ),
    ),
)


@dataclasses.dataclass
class World:
    data: Path
    runs: Path
    out: Path
    record: dict[str, Any]
    paths: dict[str, Path]
    lines: list[str]

    def again(self, runs: Path | None = None, **options: Any) -> dict[str, Any]:
        self.lines.clear()
        system = options.pop("system", TINY)
        options = {"options": TrainOptions("cpu", quiet=True), **options}
        record, _ = reproduce(
            system,
            self.out,
            runs=runs or self.runs,
            data=self.data,
            say=self.lines.append,
            **options,
        )
        return json.loads(record.to_json())

    def copy(self, folder: Path) -> Path:
        shutil.copytree(self.runs, folder)
        return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Drawn faces as a FER2013 CSV, and the tiny paper reproduced on them."""
    home = tmp_path_factory.mktemp("reproduce")
    faces = drawn_faces(140)
    parts = np.array(["Training", "Training", "Training", "PublicTest", "PrivateTest"])
    faces = dataclasses.replace(faces, splits=parts[np.arange(140) % 5], votes=None)
    # Two PrivateTest images are copies of training images.
    private, train = (np.flatnonzero(faces.splits == s) for s in ("PrivateTest", "Training"))
    faces.images[private[:2]] = faces.images[train[:2]]
    write_dataset(faces, home / "fer2013.csv", "csv")
    lines: list[str] = []
    record, paths = reproduce(
        TINY,
        home / "out",
        runs=home / "runs",
        data=home / "fer2013.csv",
        options=TrainOptions("cpu", quiet=True),
        command="mien reproduce tiny2000",
        say=lines.append,
    )
    assert read_record(paths["json"]).to_json() == record.published().to_json()
    plain = json.loads(record.to_json())
    return World(home / "fer2013.csv", home / "runs", home / "out", plain, paths, list(lines))


def seeds_of(record: dict[str, Any], run: int = 0) -> list[dict[str, Any]]:
    return record["runs"][run]["seeds"]


def scores_of(record: dict[str, Any], seed: int = 0) -> dict[str, dict[str, Any]]:
    return {entry["key"]: entry for entry in seeds_of(record)[seed]["scores"]}


def test_the_record_holds_runs_scores_and_what_was_not_run(world: World) -> None:
    record = world.record
    tiny, large = record["runs"]
    assert (tiny["state"], large["state"]) == ("done", "not run")
    assert large["why_not_run"] == "The fast budget leaves it out."
    assert [s["seed"] for s in tiny["seeds"]] == [0, 1]
    assert [len(s["curves"]) for s in tiny["seeds"]] == [3, 3]
    assert tiny["parameters"]["total"] == tiny["parameters"]["paper_total"] == 2_345_607
    assert sum(row["parameters"] for row in tiny["layers"]) == 2_345_607
    scores = scores_of(record)
    assert [scores[k]["n"] for k in ("val", "test", "test_twin_free", "paper")] == [28, 28, 26, 56]
    assert scores["test"]["checkpoint"] == "best"
    assert scores["paper"]["epoch"] == 3
    assert scores["paper"]["split"] == "val + test"  # drawn faces: FER2013 alone has its names
    best = seeds_of(record)[0]["best_epoch"]
    curve = seeds_of(record)[0]["curves"][best - 1]
    assert scores["val"]["scores"]["accuracy"] == pytest.approx(curve["val_accuracy"], abs=1e-6)
    summary = tiny["summary"]["test"]
    assert summary["n_seeds"] == 2
    assert summary["mean"] == pytest.approx(np.mean(summary["each"]))
    assert summary["std"] == pytest.approx(np.std(summary["each"], ddof=1), abs=1e-6)
    counts = record["data"][0]["counts"]
    assert {name: sum(by.values()) for name, by in counts.items()} == {
        "Training": 84,
        "PublicTest": 28,
        "PrivateTest": 28,
    }


def test_the_deviations_are_named(world: World) -> None:
    found = {d["field"]: d for d in world.record["runs"][0]["deviations"]}
    assert found["epochs"] == {"field": "epochs", "paper": 6, "ours": 3, "why": "Fewer do."}
    assert found["filters"]["why"] == "As usual."
    assert set(found) == {"epochs", "filters"}


def test_headlines_are_measured_not_assumed(world: World) -> None:
    val, never, large = world.record["headlines"]
    last = [s["curves"][-1]["val_accuracy"] for s in seeds_of(world.record)]
    assert val["ours"] == pytest.approx(np.mean(last), abs=1e-6)
    assert val["difference"] == pytest.approx(val["ours"] - 0.5, abs=1e-6)
    assert val["met"] is True
    assert "(2 seeds)" in val["ours_text"]
    f1 = [scores_of(world.record, s)["test"]["scores"]["macro_f1"] for s in (0, 1)]
    assert never["ours"] == pytest.approx(np.mean(f1), abs=1e-6)
    assert never["met"] is False
    assert (large["ours"], large["met"], large["ours_text"]) == (None, None, "not run")


def test_printed_epochs_are_mapped_by_fraction(world: World) -> None:
    table = world.record["printed_epochs"]
    assert "3 epochs and the paper's 6" in table["note"]
    first, last = table["rows"]
    assert (first["ours_epoch"], last["ours_epoch"]) == (1, 3)  # 1/6 rounds to our first
    assert first["ours_same_epoch"] == first["ours"]
    assert last["ours_same_epoch"] is None
    ours = np.mean([s["curves"][2]["val_accuracy"] for s in seeds_of(world.record)])
    assert last["ours"]["val_accuracy"] == pytest.approx(ours, abs=1e-6)


def test_comparison_photos_and_extra(world: World) -> None:
    tiny, large = world.record["comparison"]
    assert tiny["paper"]["val_accuracy"] == 0.5
    assert tiny["ours"]["test_accuracy"] is not None
    assert large["ours"]["val_accuracy"] is None
    portrait = world.record["photos"][0]
    assert portrait["name"] == "astronaut.jpg"
    assert sum(portrait["faces"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert [p["expected"] for p in world.record["photos"][1:]][:2] == ["angry", "disgust"]
    assert world.record["extra"]["mislabelled_report"]["state"] == "done"


def test_the_report_is_written(world: World) -> None:
    assert set(world.paths) == {"json", "markdown", "html"}
    written = json.loads(world.paths["json"].read_text())
    assert written["headlines"] == world.record["headlines"]


def test_called_again_it_trains_and_scores_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("called again")

    monkeypatch.setattr("mien.train.jobs.fit", never)
    monkeypatch.setattr("mien.reproduce.scoring.predict", never)
    record = world.again()
    for old, new in zip(seeds_of(world.record), seeds_of(record), strict=True):
        assert old["scores"] == new["scores"]


def test_a_changed_checkpoint_is_scored_anew(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mien.reproduce.scoring as scoring

    runs = world.copy(tmp_path / "runs")
    path = runs / "tiny_fast-seed0" / "last.ckpt"
    path.write_bytes(path.read_bytes() + b"\0")  # zip files bear a tail
    real, sizes = scoring.predict, []

    def counted(function: Any, dataset: Any, *rest: Any, **options: Any) -> Any:
        sizes.append(len(dataset))
        return real(function, dataset, *rest, **options)

    monkeypatch.setattr(scoring, "predict", counted)
    world.again(runs, report_only=True)
    assert sizes == [56]
    assert len(json.loads((path.parent / "scores.json").read_text())) == 4


def test_runs_are_known_by_what_they_are(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = world.copy(tmp_path / "runs")
    (runs / "tiny_fast-seed0").rename(runs / "another name")
    recipe = runs / "another name" / "recipe.json"
    # Precision is the machine's matter, the name a label.
    other = json.loads(recipe.read_text()) | {"precision": "bf16", "name": "x"}
    recipe.write_text(json.dumps(other))
    monkeypatch.setattr("mien.train.jobs.fit", lambda *_, **__: pytest.fail("trained"))
    record = world.again(runs)
    assert record["runs"][0]["state"] == "done"
    assert seeds_of(record)[0]["curves"] == seeds_of(world.record)[0]["curves"]


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("recipe.json", {"epochs": 4}),
        ("run.json", {"data": {"sha256": "0"}}),
        ("run.json", {"fold": 3}),
    ],
)
def test_another_run_is_not_taken(
    world: World, tmp_path: Path, file: str, change: dict[str, Any]
) -> None:
    runs = world.copy(tmp_path / "runs")
    home = runs / "tiny_fast-seed1"
    path = home / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RecipeError, match=r"tiny_fast-seed1 holds another run"):
        world.again(runs)
    stale = world.again(runs, report_only=True)  # a report does not stumble over it
    assert [s["state"] for s in seeds_of(stale)] == ["done", "not run"]
    home.rename(runs / "elsewhere")
    record = world.again(runs, report_only=True)
    assert record["runs"][0]["state"] == "partial"
    assert [s["state"] for s in seeds_of(record)] == ["done", "not run"]
    assert "(1 seed of 2)" in record["headlines"][0]["ours_text"]


class KilledError(Exception):
    """Stands for a kill between the end of an epoch and its checkpoint."""


def test_a_killed_run_goes_on_to_the_same_end(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitting = sys.modules["mien.train.fit"]
    real = fitting.write_curves

    def killed(folder: Path, rows: Any) -> None:
        if len(rows) == 2:
            raise KilledError
        real(folder, rows)

    runs = tmp_path / "runs"
    with monkeypatch.context() as patched:
        patched.setattr(fitting, "write_curves", killed)
        with pytest.raises(KilledError):
            world.again(runs, seeds=1)
    record = world.again(runs, seeds=1, report_only=True)
    assert seeds_of(record)[0]["state"] == "partial"
    assert len(seeds_of(record)[0]["curves"]) == 1
    assert record["headlines"][0]["ours"] is None
    record = world.again(runs, seeds=1)
    assert "resuming tiny_fast-seed0 (1 of 1)" in world.lines
    for key in ("train_loss", "val_loss", "val_accuracy"):
        ours = [row[key] for row in seeds_of(record)[0]["curves"]]
        assert ours == [row[key] for row in seeds_of(world.record)[0]["curves"]]
    resumed = json.loads((world.out / "reproduction.json").read_text(encoding="utf-8"))
    world.again(tmp_path / "whole", seeds=1)
    whole = json.loads((world.out / "reproduction.json").read_text(encoding="utf-8"))
    ours, others = ({k: v for k, v in flat(r) if not TIMES.search(k)} for r in (resumed, whole))
    assert {k: (v, others.get(k)) for k, v in ours.items() if others.get(k) != v} == {}
    assert ours.keys() == others.keys()


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a record with its path."""
    if isinstance(value, (list, dict)):
        for key, item in enumerate(value) if isinstance(value, list) else value.items():
            yield from flat(item, f"{path}/{key}")
    else:
        yield path, value


#: Paths of times, of places, and of the machine that a run went on with.
TIMES = re.compile(r"/resumed/|seconds|minutes|_at$|date|started|ended|created|folder")


def test_predictions_in_another_order_are_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Njoku's mistake, made on purpose: the guard catches it before a report is written."""
    import mien.reproduce.scoring as scoring

    real = scoring.predict

    def spoiled(*given: Any, **options: Any) -> Any:
        made, seconds = real(*given, **options)
        ids = np.random.default_rng(0).permutation(made.ids)
        return dataclasses.replace(made, ids=ids), seconds

    runs = world.copy(tmp_path / "runs")
    shutil.rmtree(runs / "tiny_fast-seed0" / "predictions")
    monkeypatch.setattr(scoring, "predict", spoiled)
    with pytest.raises(DataError, match="different orders"):
        world.again(runs, report_only=True)


def test_a_run_on_another_division_is_refused(world: World, tmp_path: Path) -> None:
    runs = world.copy(tmp_path / "runs")
    path = runs / "tiny_fast-seed0" / "splits.json"
    splits = json.loads(path.read_text())
    splits["ids"]["train"].append(splits["ids"]["test"].pop())
    path.write_text(json.dumps(splits))
    with pytest.raises(DataError, match="another split"):
        world.again(runs, report_only=True)


def test_damage_is_one_sentence(world: World, tmp_path: Path) -> None:
    runs = world.copy(tmp_path / "runs")
    home = runs / "tiny_fast-seed0"
    kept = next((home / "predictions").iterdir())
    kept.write_bytes(b"no npz")
    with pytest.raises(DataError, match=r"\.npz is damaged; remove it"):
        world.again(runs, report_only=True)
    kept.unlink()
    (home / "curves.csv").write_text("epoch,val_accuracy\none,two\n")
    with pytest.raises(DataError, match=r"curves\.csv is damaged"):
        world.again(runs, report_only=True)


def test_a_dry_run_stands_apart_and_means_nothing(world: World, tmp_path: Path) -> None:
    runs = world.copy(tmp_path / "runs")
    record = world.again(runs, options=TrainOptions("cpu", quiet=True, dry=True))
    assert record["budget"] == "fast (dry run)"
    assert record["remarks"][0]["title"] == "A dry run"
    assert [len(s["curves"]) for s in seeds_of(record)] == [2]
    assert {h["met"] for h in record["headlines"]} == {None}
    assert (runs / "dry-run" / "tiny_fast-seed0" / "result.json").exists()
    with pytest.raises(RecipeError, match="--dry-run trains"):
        world.again(runs, report_only=True, options=TrainOptions(dry=True))


def test_nothing_there_reads_not_run(world: World, tmp_path: Path) -> None:
    record = world.again(tmp_path / "none", report_only=True)
    assert [run["state"] for run in record["runs"]] == ["not run", "not run"]
    assert {h["ours_text"] for h in record["headlines"]} == {"not run"}
    assert record["photos"] == []
    assert record["extra"]["mislabelled_report"]["ours"] is None
    assert all(v is None for v in record["printed_epochs"]["rows"][0]["ours"].values())


def test_missing_data(world: World, tmp_path: Path) -> None:
    run = dataclasses.replace(TINY.runs[0], dataset="ckplus", protocol="ckplus-random")
    system = dataclasses.replace(TINY, runs=(run, TINY.runs[1]), extras=(), photos="")
    with pytest.raises(DataError, match="holds no ckplus"):
        world.again(tmp_path / "runs", system=system)
    record = world.again(tmp_path / "runs", system=system, report_only=True)
    assert record["runs"][0]["why_not_run"] == "The dataset ckplus was not there."
    assert any("holds no ckplus" in line for line in world.lines)


def test_plans(world: World, tmp_path: Path) -> None:
    datasets = Datasets(world.data, cache=tmp_path)
    plan = make_plan(TINY, "paper", tmp_path, datasets, seeds=3)
    assert [(t.run.id, t.job.seed, t.state) for t in plan.tasks] == [
        *(("njoku_cnn", k, "not run") for k in range(3)),
        *(("large", k, "not run") for k in range(3)),
    ]
    with pytest.raises(RecipeError, match="--seeds must be 1 or more"):
        make_plan(TINY, "paper", tmp_path, datasets, seeds=0)
    with pytest.raises(RecipeError, match="did you mean 'large'"):
        make_plan(TINY, "paper", tmp_path, datasets, only=["larg"])
    with pytest.raises(RecipeError, match="--budget must be one of fast, paper"):
        make_plan(TINY, "slow", tmp_path, datasets)


@pytest.mark.parametrize(
    ("suffix", "seed", "fold", "name"),
    [
        ("", 0, None, "tiny-seed0"),
        ("fer2013", 2, None, "tiny-fer2013-seed2"),
        ("subjects", 0, 3, "tiny-subjects-fold3"),
        ("subjects", 1, 3, "tiny-subjects-seed1-fold3"),
    ],
)
def test_folder_names(suffix: str, seed: int, fold: int | None, name: str) -> None:
    run = dataclasses.replace(TINY.runs[0], suffix=suffix)
    assert folder_name(run, paper(), seed, fold) == name
