"""Parts of a reproduction: the papers as data, shuffled labels, leakage, FERGIT, the verb."""

from __future__ import annotations

import dataclasses
import shutil
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from helpers_train import drawn_faces

from mien.cli import main
from mien.data.convert import write_dataset
from mien.data.dataset import FaceDataset, Splits
from mien.emotions import CKPLUS, FER2013
from mien.errors import DataError, RecipeError
from mien.evaluate.metrics import confusion_matrix, suspicions
from mien.models.registry import get_spec
from mien.models.summary import summarise
from mien.reproduce.assemble import COLUMNS, deviations, set_beside
from mien.reproduce.datasets import Datasets
from mien.reproduce.papers.bah2022 import ckplus_leakage, duplicates, sequences
from mien.reproduce.papers.njoku2024 import TABLE_5, shuffled_report
from mien.reproduce.plan import paper_recipe, resolve
from mien.reproduce.run import Run, Seed, from_json
from mien.reproduce.scoring import disagreement
from mien.reproduce.spec import BUDGETS, DATASETS, PAPERS, PrintedEpochs, System, get_system

CURVES = {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_every_paper_fits_together(name: str) -> None:
    system = get_system(name)
    ids = [run.id for run in system.runs]
    assert system.name == name
    assert len(set(ids)) == len(ids)
    assert len({h.key for h in system.headlines}) == len(system.headlines)
    for run in system.runs:
        assert run.dataset in DATASETS
        assert set(run.recipes) <= set(BUDGETS)
        assert {s.checkpoint for s in run.scores} <= {"best", "last"}
        assert set(run.printed) <= set(COLUMNS)
    for headline in system.headlines:
        head, _, rest = headline.figure.partition(".")
        keys = {s.key for s in system.run(headline.run).scores}
        assert rest in CURVES if head in ("last", "best") else head in keys
    assert set(system.comparison) <= set(ids)
    if system.printed_epochs is not None:
        assert system.printed_epochs.run in ids
        for row in system.printed_epochs.rows.values():
            assert set(row) <= CURVES
            assert all(0 < value < 3 for value in row.values())


def unknown(given: Any, taken: Any, path: str = "") -> list[str]:
    """Keys of a TOML file that its dataclasses have not."""
    if isinstance(given, dict):
        if dataclasses.is_dataclass(taken):
            taken = vars(taken)
        known = {str(key): value for key, value in taken.items()}
        missing = [f"{path}.{key}" for key in given if key not in known]
        both = [(v, known[k], f"{path}.{k}") for k, v in given.items() if k in known]
        return missing + [found for pair in both for found in unknown(*pair)]
    if isinstance(given, list) and not dataclasses.is_dataclass(taken):
        pairs = enumerate(zip(given, taken, strict=True))
        return [found for i, (a, b) in pairs for found in unknown(a, b, f"{path}[{i}]")]
    return []


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_file_has_no_key_that_nobody_reads(name: str) -> None:
    text = resources.files("mien.reproduce.papers").joinpath(f"{name}.toml").read_text("utf-8")
    given = tomllib.loads(text)
    assert unknown(given, from_json(System, given)) == []
    assert unknown({**given, "remark": ""}, from_json(System, given)) == [".remark"]


@pytest.mark.parametrize("name", ["debnath2021", "njoku2024", "bah2022", "mondal2022"])
def test_every_deviation_says_why_and_every_network_weighs_the_papers(name: str) -> None:
    for run in get_system(name).runs:
        fast = resolve(run, "fast")
        assert fast is not None
        assert fast.protocol == run.protocol
        for deviation in deviations(run, paper_recipe(run), fast):
            assert deviation.why, (run.id, deviation)
        total = summarise(get_spec(fast.model)).parameters
        assert total == (run.parameters or total)


def test_the_papers_reports_have_the_supports_of_their_sets() -> None:
    sets = {"bah_resnet": 2465, "bah_basic": 2465, "bah_ckplus": 99, "njoku_cnn": 7178}
    runs = [run for name in ("bah2022", "njoku2024") for run in get_system(name).runs]
    reports = {run.id: run.report for run in runs if run.report}
    assert reports.keys() == sets.keys()
    for name, report in reports.items():
        means = {key: report[key] for key in ("accuracy", "macro", "weighted") if key in report}
        classes = [row.support for key, row in report.items() if key not in means]
        assert sum(classes) == sets[name]
        assert {row.support for row in means.values()} == {sets[name]}


def test_a_replaced_recipe_is_named_with_what_it_reached() -> None:
    for name in ("debnath2021", "njoku2024", "bah2022", "mondal2022"):
        for earlier in get_system(name).earlier:
            assert earlier.budget in BUDGETS
            assert "%" in earlier.figures
            assert earlier.why.endswith(".")


def test_of_several_printed_epochs_beside_one_of_ours_the_nearest_has_the_difference() -> None:
    paper = {epoch: {"val_accuracy": epoch / 100} for epoch in (1, 2, 4, 6, 96, 99, 100)}
    printed = PrintedEpochs("r", "table 3", 100, paper, "Other images.")
    curves = tuple({"epoch": e, "val_accuracy": e / 10} for e in range(1, 11))
    run = Run("r", "R", "done", "fer2013", "fer2013", seeds=(Seed(0, "done", curves=curves),))
    table = set_beside(printed, run)
    assert [(r.epoch, r.ours_epoch, r.nearest) for r in table.rows] == [
        (1, 1, False),
        (2, 1, False),
        (4, 1, False),
        (6, 1, True),
        (96, 10, False),
        (99, 10, False),
        (100, 10, True),
    ]
    assert table.note.endswith("Other images.")
    none = dataclasses.replace(run, seeds=())
    same = set_beside(dataclasses.replace(printed, epochs=10, rows={3: {}}), none)
    assert [(r.ours_epoch, r.nearest) for r in same.rows] == [(None, True)]


def njoku_like() -> np.ndarray:
    """A good network's confusion matrix on the paper's 7,178 images: 65 % right in every class."""
    support = np.array([row.support for row in TABLE_5.values()])
    confusion = np.zeros((7, 7), dtype=np.int64)
    for k, n in enumerate(support):
        spread = (n - round(0.65 * n)) * support / (support.sum() - n)
        confusion[k] = np.floor(spread)
        confusion[k, k] = 0
        confusion[k, k] = n - confusion[k].sum()
    return confusion


def test_shuffled_labels_give_the_papers_report() -> None:
    made = shuffled_report(njoku_like(), list(TABLE_5), repeats=200)
    assert made.accuracy.mean == pytest.approx(0.18, abs=0.012)
    assert made.accuracy.mean == pytest.approx(made.accuracy.expected, abs=1e-3)
    assert made.accuracy.low < made.accuracy.mean < made.accuracy.high
    for name, row in made.per_class.items():
        # Recall is the share of predictions of the class, precision its share of the labels.
        assert row.recall == pytest.approx(row.predicted_share, abs=0.01)
        assert row.precision == pytest.approx(row.support / 7178, abs=0.01)
        assert row.f1 == pytest.approx(TABLE_5[name].f1, abs=0.04)
    assert shuffled_report(njoku_like(), list(TABLE_5), repeats=200) == made


def test_shuffling_is_the_same_as_shuffling_the_real_labels() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 7, 2000)
    predicted = np.where(rng.random(2000) < 0.6, labels, rng.integers(0, 7, 2000))
    brute = [
        float((np.random.default_rng(s).permutation(labels) == predicted).mean())
        for s in range(300)
    ]
    made = shuffled_report(confusion_matrix(labels, predicted, 7), [str(k) for k in range(7)], 300)
    assert made.accuracy.mean == pytest.approx(np.mean(brute), abs=2e-3)
    assert made.accuracy.std == pytest.approx(np.std(brute), rel=0.2)


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_are_caught(seed: int) -> None:
    """Both guards: the accuracy that training measured, and the confusion matrix alone."""
    confusion = njoku_like()
    pairs = np.repeat(np.arange(49), confusion.ravel())
    labels, predicted = pairs // 7, pairs % 7
    measured = float((labels == predicted).mean())
    shuffled = np.random.default_rng(seed).permutation(labels)
    wrong = confusion_matrix(shuffled, predicted, 7)
    accuracy = float((shuffled == predicted).mean())
    assert "different orders" in disagreement(accuracy, measured, len(labels))
    assert any("different orders" in s for s in suspicions(wrong, FER2013))
    assert disagreement(measured, measured + 0.004, len(labels)) == ""
    assert suspicions(confusion, FER2013) == []


def ckplus_like() -> FaceDataset:
    rng = np.random.default_rng(0)
    ids, groups = [], []
    for subject in range(20):
        for sequence in range(1 + subject % 3):
            for frame in range(3):
                ids.append(f"ckplus:S{subject:03d}_{sequence:03d}_{frame:08d}")
                groups.append(f"S{subject:03d}")
    n = len(ids)
    return FaceDataset(
        images=rng.integers(0, 255, (n, 48, 48), dtype=np.uint8),
        labels=np.zeros(n, dtype=np.int64),
        ids=np.array(ids),
        classes=CKPLUS,
        name="ckplus",
        splits=np.array([""] * n),
        groups=np.array(groups),
    )


@pytest.mark.parametrize("seed", range(3))
def test_leakage_against_brute_force(seed: int) -> None:
    data = ckplus_like()
    order = np.random.default_rng(seed).permutation(len(data))
    parts = {"test": order[:20], "val": order[20:40], "train": order[40:]}
    splits = Splits("ckplus-random", seed, {role: data.ids[rows] for role, rows in parts.items()})
    found = vars(ckplus_leakage(data, splits))
    names = [key.split(":")[1].rsplit("_", 1)[0] for key in data.ids.tolist()]

    def count(of: list[str], roles: tuple[str, ...]) -> int:
        return sum(any(of[i] == of[j] for r in roles for j in parts[r]) for i in parts["test"])

    people = [str(g) for g in data.groups]
    assert found == {
        "seed": seed,
        "test": 20,
        "same_sequence_in_training": count(names, ("train",)),
        "same_sequence_seen": count(names, ("train", "val")),
        "same_subject_in_training": count(people, ("train",)),
        "same_subject_seen": count(people, ("train", "val")),
    }
    assert 0 < found["same_sequence_in_training"] <= found["same_subject_seen"]


def test_ids_without_a_sequence_are_refused() -> None:
    data = dataclasses.replace(drawn_faces(7), name="ckplus")
    with pytest.raises(DataError, match="names no CK\\+ sequence"):
        sequences(data)


def smooth(rng: np.random.Generator, n: int) -> np.ndarray:
    """Images with structure, so that a perceptual hash has something to hold."""
    import cv2

    small = rng.integers(30, 200, (n, 6, 6), dtype=np.uint8)
    return np.stack([cv2.resize(s, (48, 48), interpolation=cv2.INTER_CUBIC) for s in small])


def test_duplicates_exact_and_near() -> None:
    images = smooth(np.random.default_rng(3), 60)
    images[0] = images[40]  # test 0: an exact copy in training
    images[1] = np.clip(images[41].astype(int) + 12, 0, 255)  # test 1: brighter in training
    images[2] = images[3]  # both in test: no twin in training
    images[4] = images[30]  # a copy in validation only
    # A copy in training of the image that test 5's near twin copies.
    images[5] = np.clip(images[42].astype(int) + 9, 0, 255)
    images[43] = images[42]
    source = ["fer2013"] * 3 + ["muxspace"] * 57
    data = dataclasses.replace(
        drawn_faces(60),
        images=images,
        ids=np.array([f"{s}:{i:03d}" for i, s in enumerate(source)]),
    )
    parts = {"test": range(10), "val": range(28, 36), "train": [*range(10, 28), *range(36, 60)]}
    splits = Splits("x", 0, {role: data.ids[list(rows)] for role, rows in parts.items()})
    found = dataclasses.asdict(duplicates(data, splits))
    seen = {images[i].tobytes() for i in parts["train"]}
    assert found["exact_twin_in_training"] == sum(images[i].tobytes() in seen for i in range(10))
    assert (found["test"], found["exact_twin_in_training"], found["near_twin_in_training"]) == (
        10,
        1,
        3,
    )
    assert found["by_source"]["fer2013"] == {
        "test": 3,
        "exact_twin_in_training": 1,
        "near_twin_in_training": 2,
    }


def test_fergit_is_built_once_and_kept(tmp_path: Path) -> None:
    faces = dataclasses.replace(
        drawn_faces(14),
        splits=np.array(["Training", "PrivateTest"] * 7),
        ids=np.array([f"fer2013:{i:05d}" for i in range(14)]),
        name="fer2013",
        votes=None,
    )
    home = tmp_path / "data"
    (home / "muxspace" / "images").mkdir(parents=True)
    write_dataset(faces, home / "fer2013.csv", "csv")
    with resources.as_file(resources.files("mien").joinpath("assets", "astronaut.jpg")) as photo:
        shutil.copy(photo, home / "muxspace" / "images" / "a.jpg")
    (home / "muxspace" / "legend.csv").write_text("user.id,image,emotion\n1,a.jpg,happiness\n")
    lines: list[str] = []
    kept = Datasets(home, cache=tmp_path / "runs", build=False)
    assert "FERGIT is not built" in kept.missing("fergit")
    built = Datasets(home, cache=tmp_path / "runs", say=lines.append).get("fergit")
    assert (built.name, len(built)) == ("fergit", 15)
    assert len(lines) == 2
    again = Datasets(home, cache=tmp_path / "runs", build=False).get("fergit")
    assert again.sha256 == built.sha256
    given = Datasets(home, tmp_path / "runs" / "fergit.parquet", cache=tmp_path, build=False)
    assert given.get("fergit").sha256 == built.sha256
    with pytest.raises(DataError, match="holds no ckplus"):
        given.get("ckplus")
    wrong = Datasets(home, home / "fer2013.csv", cache=tmp_path, build=False)
    assert "is fer2013, and fergit is needed" in wrong.missing("fergit")


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence on stderr of a call that must exit with 2."""
    assert main(["reproduce", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_cli_errors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "did you mean 'mondal2022'" in fails(capsys, "mondal2023")
    assert "known: debnath2021" in fails(capsys, "xyz")
    assert "--device must be auto, cpu or cuda" in fails(capsys, "mondal2022", "--device", "tpu")
    assert "--precision must be auto, 32 or bf16" in fails(capsys, "mondal2022", "--precision", "8")
    at = ["--runs", str(tmp_path), "--out", str(tmp_path / "out")]
    assert "--budget must be one of" in fails(capsys, "mondal2022", "--budget", "slow", *at)
    assert "--seeds must be 1" in fails(capsys, "mondal2022", "--seeds", "0", *at)
    only = ["--only", "mondal_dep"]
    assert "did you mean 'mondal_deep'" in fails(capsys, "mondal2022", *only, *at)
    both = ["--dry-run", "--report-only"]
    assert "leave one out" in fails(capsys, "mondal2022", *both, *at)
    gone = ["--data", str(tmp_path / "gone")]
    assert "does not exist" in fails(capsys, "mondal2022", *gone, *at)
    assert not (tmp_path / "out").exists()


def test_cli_lists_the_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in PAPERS)


def test_unknown_system() -> None:
    with pytest.raises(RecipeError, match="did you mean 'njoku2024'"):
        get_system("njoku")
