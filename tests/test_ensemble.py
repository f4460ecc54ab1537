"""Ensembles and ablation tables on small real trainings: choice, cache, the one test score."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from helpers_train import drawn_faces

from mien.cli import main
from mien.data import make_splits, read_dataset
from mien.data.dataset import FaceDataset, Splits
from mien.emotions import ALL, FER2013
from mien.errors import ModelError, RecipeError
from mien.train.ablation import (
    _paired,
    _residual,
    _t975,
    ablate,
    image,
    read_table,
    to_markdown,
)
from mien.train.checkpoint import load_checkpoint
from mien.train.distill import dropped, find_members, load_teachers
from mien.train.ensemble import build_ensemble, common_draw, common_protocol, greedy_weights
from mien.train.folder import DONE
from mien.train.jobs import Options, jobs_of, raise_first, result_of, run_jobs, run_name
from mien.train.recipe import override
from mien.train.recipes import get_recipe

TINY = ["precision=32", "batch_size=16", "model_args.widths=[16,16,32]", "clean_epochs=0"]


def three_parts() -> FaceDataset:
    data = drawn_faces(112)
    parts = np.array(["Training", "Training", "PublicTest", "PrivateTest"])[np.arange(112) % 4]
    return dataclasses.replace(data, splits=parts)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three short trainings of one recipe; called twice, the second call trains nothing."""
    runs = tmp_path_factory.mktemp("runs")
    recipe = override(get_recipe("mien_fast"), [*TINY, "epochs=3", "ema=0"])
    jobs = jobs_of(recipe, range(3), runs)
    options = Options("cpu", quiet=True)
    none = run_jobs(jobs, three_parts(), options, budget_s=-1)
    assert {o.state for o in none} == {"not run"}
    assert {o.state for o in run_jobs(jobs, three_parts(), options)} == {DONE}
    stamps = [(job.folder / "last.ckpt").stat().st_mtime_ns for job in jobs]
    assert {o.state for o in run_jobs(jobs, three_parts(), options)} == {DONE}
    assert stamps == [(job.folder / "last.ckpt").stat().st_mtime_ns for job in jobs]
    other = jobs_of(override(recipe, ["epochs=4"]), [0], runs)
    with pytest.raises(RecipeError, match=r"with another epochs; repeat its settings"):
        raise_first(run_jobs(other, three_parts(), options))
    return [job.folder for job in jobs]


def test_greedy_finds_the_good_members() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    truth = np.eye(3)[labels]

    def member(quality: float) -> np.ndarray:
        p = quality * truth + rng.dirichlet([1, 1, 1], 300)
        return p / p.sum(1, keepdims=True)

    weights = greedy_weights(np.stack([member(0.5), member(0.0), member(0.5)]), labels)
    assert weights.sum() == pytest.approx(1)
    assert weights[1] < 0.05
    assert min(weights[0], weights[2]) > 0.3
    alone = greedy_weights(np.stack([member(0.5)]), labels)
    assert alone.tolist() == [1.0]


def test_an_ensemble_is_the_mean_of_its_members(trained: list[Path], tmp_path: Path) -> None:
    data = three_parts()
    splits = make_splits(data, "fer2013")
    out = tmp_path / "ensemble"
    record = build_ensemble(trained, data, splits, out, tta="none")
    val = splits.select(data, "val")
    mean = sum(load_checkpoint(p / "best.ckpt").predict_proba(val.images) for p in trained) / 3
    expected = float((np.asarray(mean).argmax(1) == val.labels).mean())
    assert record["val"]["accuracy"] == pytest.approx(expected, abs=1e-6)
    assert [m["weight"] for m in record["members"]] == [pytest.approx(1 / 3, abs=1e-6)] * 3
    assert "test" not in record
    assert "not scored" in (out / "ensemble.md").read_text()
    assert (out / "report" / "report.json").is_file()
    # its folder is a teacher: the same mean again
    teachers = load_teachers([out])
    seen = teachers(torch.from_numpy(val.images)[:, None].float() / 255, 1.0)
    assert np.allclose(seen.numpy(), mean, atol=1e-4)
    # and a member of another ensemble
    nested = build_ensemble([out], data, splits, tmp_path / "nested", tta="none")
    assert len(nested["members"]) == 3
    # whose shares stay as they are, small ones too
    file = out / "ensemble.json"
    members = [m | {"weight": w} for m, w in zip(record["members"], (0.8, 0.15, 0.05), strict=True)]
    file.write_text(json.dumps({"members": members}))
    nested = build_ensemble([out], data, splits, tmp_path / "again", tta="none")
    assert [m["weight"] for m in nested["members"]] == pytest.approx([0.8, 0.15, 0.05])
    assert [m.name for m in find_members([out], leading=True)] == [members[0]["name"]]
    with pytest.raises(RecipeError, match="--choose"):
        build_ensemble(trained, data, splits, out, choose="best")
    splits.ids["test"] = splits.ids["test"][:0]
    with pytest.raises(RecipeError, match="no test split; leave --test out"):
        build_ensemble(trained, data, splits, tmp_path / "none", test=True)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "ensemble.json").write_text('{"members": []}')
    with pytest.raises(ModelError, match="no ensemble"):
        load_teachers([damaged])


@pytest.mark.parametrize(
    ("protocol", "asked", "said"),
    [
        ("random-80-20", [], "has no validation split to choose on"),
        ("val-from-train", ["--test"], "no test split; leave --test out"),
        ("val-from-train", ["--choose", "best"], "--choose must be one of"),
        ("val-from-train", ["--tta", "nine"], "must be one of none, flip, ten"),
        ("val-from-train", ["{member}"], "trained on 7 of the images that are val"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused_before_anything_is_trained(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trained: list[Path],
    protocol: str,
    asked: list[str],
    said: str,
) -> None:
    data = tmp_path / "data" / "train"
    for emotion in FER2013:
        (data / emotion.value).mkdir(parents=True)
        for number in range(4):
            face = np.full((48, 48), 30 * FER2013.index(emotion) + number, np.uint8)
            cv2.imwrite(str(data / emotion.value / f"{number}.png"), face)
    member = tmp_path / "member"
    shutil.copytree(trained[0], member)
    whole = read_dataset(data.parent)
    (member / "splits.json").write_text(
        Splits("fer2013", 0, {"train": whole.ids, "val": whole.ids[:0]}).to_json()
    )
    runs = tmp_path / "runs"
    arguments = ["ensemble", "--recipe", "mien_fast", "--data", str(data.parent)]
    arguments += [*(a.format(member=member) for a in asked), "--protocol", protocol]
    arguments += ["--runs", str(runs), "--out", str(tmp_path / "out"), "--dry-run"]
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert not runs.exists()


def test_the_test_split_is_scored_once(trained: list[Path], tmp_path: Path) -> None:
    data = three_parts()
    splits = make_splits(data, "fer2013")
    out = tmp_path / "ensemble"
    first = build_ensemble(trained, data, splits, out, tta="flip", test=True)
    assert first["test"]["n"] == 28
    assert len(first["test"]["member_accuracies"]) == 3
    stamp = (out / "test.json").stat().st_mtime_ns
    again = build_ensemble(trained, data, splits, out, tta="flip", test=True)
    assert again["test"] == first["test"]
    assert (out / "test.json").stat().st_mtime_ns == stamp
    quiet = build_ensemble(trained, data, splits, out, tta="flip")  # not asked for, not lost
    assert quiet["test"] == first["test"]
    for test in (True, False):  # another choice would replace this one's record
        with pytest.raises(RecipeError, match="test score of another choice"):
            build_ensemble(trained[:2], data, splits, out, tta="flip", test=test)
    assert json.loads((out / "ensemble.json").read_text())["test"] == first["test"]
    # Every member alone under every augmentation, so that no row needs a second look at the split.
    held_out = splits.select(data, "test")
    for folder, single in zip(trained, first["test"]["members"], strict=True):
        assert single["by_tta"].keys() == {"none", "flip", "ten"}
        assert single["by_tta"]["flip"] == single["accuracy"]
        p = load_checkpoint(folder / "best.ckpt").predict_proba(held_out.images)
        alone = float((p.argmax(1) == held_out.labels).mean())
        assert single["by_tta"]["none"] == pytest.approx(alone, abs=1e-6)


def test_members_of_other_labels_are_refused(trained: list[Path], tmp_path: Path) -> None:
    assert common_protocol(trained) == "fer2013"
    assert common_draw(trained, "fer2013") == (0, None)
    drawn = tmp_path / "drawn"
    shutil.copytree(trained[0], drawn)
    splits = make_splits(three_parts(), "random-80-20", seed=3)
    (drawn / "splits.json").write_text(splits.to_json())
    assert common_draw([drawn], "random-80-20") == (3, None)
    assert common_draw([drawn, *trained], "random-80-20") == common_draw([drawn], "fer2013")
    contempt = dataclasses.replace(three_parts(), classes=ALL)
    splits = make_splits(contempt, "fer2013")
    with pytest.raises(RecipeError, match=r"has .*contempt; give the --protocol"):
        build_ensemble(trained[:1], contempt, splits, tmp_path / "out")
    other = tmp_path / "other" / "best.ckpt"
    other.parent.mkdir()
    record = torch.load(trained[0] / "best.ckpt", weights_only=True)
    record["mien"]["data"]["protocol"] = "balanced"
    torch.save(record, other)
    with pytest.raises(RecipeError, match="balanced and fer2013; say with --protocol"):
        common_protocol([trained[1], other])


def test_a_done_training_without_its_last_checkpoint_is_taken_as_it_is(
    trained: list[Path], tmp_path: Path
) -> None:
    recipe = override(get_recipe("mien_fast"), [*TINY, "epochs=3", "ema=0"])
    [job] = jobs_of(recipe, [0], tmp_path)
    shutil.copytree(trained[0], job.folder)
    (job.folder / "last.ckpt").unlink()
    options = Options("cpu", quiet=True)
    [outcome] = run_jobs([job], three_parts(), options)
    assert outcome.state == DONE
    other = jobs_of(override(recipe, ["epochs=4"]), [0], tmp_path)
    with pytest.raises(RecipeError, match="with another epochs"):
        raise_first(run_jobs(other, three_parts(), options))


def test_a_replaced_protocol_has_a_folder_of_its_own(tmp_path: Path) -> None:
    recipe = override(get_recipe("mien_base"), ["protocol=ferplus-majority"])
    assert run_name(recipe, 1) == "mien_base-ferplus-majority-seed1"
    assert run_name(get_recipe("mien_base"), 1) == "mien_base-seed1"


def test_small_shares_do_not_teach_and_are_named(trained: list[Path], tmp_path: Path) -> None:
    made = tmp_path / "ensemble"
    data = three_parts()
    build_ensemble(trained[:2], data, make_splits(data, "fer2013"), made, tta="none")
    assert dropped([made]) == []
    path = made / "ensemble.json"
    record = json.loads(path.read_text())
    for member, share in zip(record["members"], (0.76, 0.24), strict=True):
        member["weight"] = share
    path.write_text(json.dumps(record))
    assert dropped([made, trained[2]]) == [trained[1].name]
    teachers = load_teachers([made])
    assert [t["name"] for t in teachers.record] == [trained[0].name]
    assert teachers.record[0]["epochs"] == 3
    # A delivered checkpoint lies beside others: its own name tells it apart.
    lone = tmp_path / "mien_wide-seed3.ckpt"
    lone.write_bytes((trained[0] / "best.ckpt").read_bytes())
    assert [m.name for m in find_members([lone])] == ["mien_wide-seed3"]


def test_an_ablation_table(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    text = 'recipe = "mien_fast"\nseeds = [0, 1]\nset = {}\n[rows]\nsmooth = ["loss.cutmix=1.0"]\n'
    path.write_text(text.replace("{}", json.dumps([*TINY, "epochs=1"])))
    table = read_table(path)
    assert list(table.rows) == ["base", "smooth"]
    out = tmp_path / "out"
    arguments = {"device": "cpu", "quiet": True}
    partial = ablate(table, three_parts(), out, budget_s=-1, **arguments)
    assert not partial["complete"]
    assert partial["rows"][0]["mean"] is None
    whole = ablate(table, three_parts(), out, **arguments)
    assert whole["complete"]
    base, smooth = whole["rows"]
    pairs = []
    for seed in ("0", "1"):
        folder = out / "runs" / f"small-smooth-seed{seed}"
        assert smooth["accuracies"][seed] == result_of(folder)["last_val_accuracy"]
        pairs.append(smooth["accuracies"][seed] - base["accuracies"][seed])
    assert smooth["difference"]["mean"] == pytest.approx(np.mean(pairs), abs=1e-6)
    half = 12.706 * np.std(pairs, ddof=1) / np.sqrt(2)
    assert smooth["difference"]["high"] == pytest.approx(np.mean(pairs) + half, abs=1e-5)
    assert base["difference"] is None
    page = (out / "small.md").read_text()
    assert page == to_markdown(whole)
    assert "`loss.cutmix=1.0`" in page
    assert partial["residual"] is None
    assert "No row can be compared" in image(partial)
    plot = ElementTree.fromstring((out / "small.svg").read_text())
    words = [mark.text for mark in plot.iter("{http://www.w3.org/2000/svg}text")]
    assert "smooth" in words
    assert f"{100 * smooth['difference']['mean']:+.2f}" in words
    assert len(list(plot.iter("{http://www.w3.org/2000/svg}circle"))) == 3  # two seeds, one mean


def test_the_interval_of_an_ablation_is_that_of_a_two_way_analysis() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    seeds = rng.normal(0, 0.01, 3)
    table = np.array([0.6, 0.61, 0.58, 0.6])[:, None] + seeds + rng.normal(0, 0.003, (4, 3))
    scores = {name: dict(enumerate(row)) for name, row in zip("abcd", table, strict=True)}
    noise = _residual(scores)
    assert noise is not None
    # Least squares with one column a row and a seed, which is what the closed form must equal.
    rows, columns = np.divmod(np.arange(12), 3)
    design = np.hstack([np.eye(4)[rows], np.eye(3)[columns]])
    found, _, rank, _ = np.linalg.lstsq(design, table.ravel(), rcond=None)
    fit = design @ found
    assert noise["df"] == 12 - rank
    assert noise["sd"] == pytest.approx(np.sqrt(((table.ravel() - fit) ** 2).sum() / noise["df"]))
    pairs = list(table[1] - table[0])
    half = stats.t.ppf(0.975, noise["df"]) * noise["sd"] * np.sqrt(2 / 3)
    assert _paired(pairs, noise)["high"] == pytest.approx(np.mean(pairs) + half, abs=2e-6)
    assert _paired(pairs, None)["low"] is None
    for df in (1, 2, 10, 11, 13, 26, 100):
        assert _t975(df) == pytest.approx(stats.t.ppf(0.975, df), abs=1e-3)
    # A row that lacks a seed: the spread is taken from the seeds that all rows have.
    del scores["d"][2]
    fewer = _residual(scores)
    assert fewer is not None
    assert fewer["df"] == 3
    del scores["d"][1]
    assert _residual(scores) is None


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("recipe = 3", "lacks the key 'rows'"),
        ("recipe = ", "no ablation table"),
        ('recipe = "mien_fast"\nseeds = [0]\n[rows]\n"a b" = []', "letters, digits"),
        ('recipe = "mien_fast"\nseeds = [0]\n[rows]\na = ["epoch=1"]', "did you mean 'epochs'"),
        ('recipe = "mien_fast"\nseed = [0]\n[rows]\na = []', "unknown key 'seed'"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=match):
        read_table(path)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_table(tmp_path / "none.toml")


def test_the_shipped_table_resolves() -> None:
    path = Path(__file__).parent.parent / "benchmarks" / "flagship" / "ablation.toml"
    table = read_table(path)
    assert len(table.seeds) >= 3
    plain = [dataclasses.replace(table.recipe_of(row), name="row") for row in table.rows]
    recipes = {recipe.to_json() for recipe in plain}
    assert len(recipes) == len(table.rows) >= 20
