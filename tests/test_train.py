"""Training for real on small data: recipes, resume after a kill, augmentation, checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from helpers_train import drawn_faces, drawn_splits, small_recipe

from mien.data.dataset import FaceDataset, Splits
from mien.data.splits import refuse_seen
from mien.errors import ModelError, RecipeError
from mien.train import loop, processes
from mien.train.batches import EpochBatches, augment
from mien.train.checkpoint import load_checkpoint, read_checkpoint, write_weights
from mien.train.fit import fit
from mien.train.folder import default_folder, read_curves
from mien.train.learner import Learner
from mien.train.loop import learning_rate
from mien.train.precision import PrecisionChoice, choose_device
from mien.train.recipe import (
    AugmentConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    flat_keys,
    override,
)
from mien.train.recipes import RECIPES, get_recipe
from mien.train.selection import select


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_resolves_and_goes_to_json_and_back(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.name == name
    assert Recipe.from_dict(json.loads(recipe.to_json())) == recipe


def test_papers_hyperparameters() -> None:
    debnath, bah = get_recipe("debnath_convnet"), get_recipe("bah_resnet")
    assert (debnath.optimizer.name, debnath.optimizer.lr) == ("adam", 5e-4)
    assert (debnath.batch_size, debnath.epochs, debnath.pixels) == (64, 30, "standardise")
    assert not debnath.augment.geometric
    assert (bah.optimizer.name, bah.schedule.patience, bah.early_stopping) == ("nadam", 15, 30)
    assert bah.loss.class_weights == "balanced"
    njoku = get_recipe("njoku_cnn")
    assert (njoku.optimizer.lr, njoku.batch_size, njoku.epochs) == (1e-4, 32, 100)
    assert njoku.protocol == "fer2013-folder"
    assert get_recipe("mondal_deep").optimizer.lr == 1e-4


def test_override_types_and_nearest_key() -> None:
    recipe = override(get_recipe("mien_small"), ["optimizer.lr=0.5", "model_args.dropout=0.1"])
    assert recipe.optimizer.lr == 0.5
    assert recipe.model_args == {"dropout": 0.1}
    with pytest.raises(RecipeError, match="did you mean 'batch_size'"):
        override(recipe, ["batchsize=3"])
    with pytest.raises(RecipeError, match=r"did you mean 'momentum'"):
        override(recipe, ["optimizer.momentun=3"])
    with pytest.raises(RecipeError, match="no int"):
        override(recipe, ["epochs=many"])
    with pytest.raises(RecipeError, match="key=value"):
        override(recipe, ["epochs"])
    with pytest.raises(RecipeError, match=r"optimizer\.lr"):
        override(recipe, ["optimizer=sgd"])
    with pytest.raises(RecipeError, match="must be one of"):
        override(recipe, ["optimizer.name=lion"])
    with pytest.raises(RecipeError, match="did you mean 'mien_small'"):
        get_recipe("mien_smal")
    assert "optimizer.lr" in flat_keys(recipe)


@pytest.mark.parametrize(
    "setting",
    [
        *("model_args=5", "draws=5", "loss.prior=3", "model_args.dropout=2", "model_args.widths=3"),
        *("loss.label_smoothing=2", "loss.mixup=-1", "augment.crop=-1", "schedule.warmup=3"),
        *("optimizer.eps=-1", "optimizer.momentum=-1", "augment.flip=1.5", "optimizer.lr=inf"),
        *("augment.scale=1.5", "augment.brightness=-3", "augment.contrast=nan"),
        *("augment.erasing_area=5", "schedule.final=nan", "schedule.patience=-5"),
        *("optimizer.beta1=1", "optimizer.beta2=1", "loss.mixup=1e-300"),
    ],
)
def test_values_out_of_range_are_one_sentence(setting: str, tmp_path: Path) -> None:
    data = drawn_faces()

    def train() -> None:
        recipe = override(get_recipe("mien_small"), [setting])
        fit(recipe, data, drawn_splits(data), tmp_path / "a", device="cpu", quiet=True)

    with pytest.raises((RecipeError, ModelError)):
        train()


def test_learning_rate_schedules() -> None:
    one = ScheduleConfig("onecycle", warmup=0.25)
    rates = [learning_rate(one, 1.0, s, 100) for s in range(100)]
    assert np.argmax(rates) in (24, 25)
    assert max(rates) == pytest.approx(1.0, abs=0.05)
    assert rates[0] < 0.05
    assert rates[-1] < 0.02
    cos = ScheduleConfig("cosine", final=0.1)
    assert learning_rate(cos, 1.0, 0, 100) == pytest.approx(1.0)
    assert learning_rate(cos, 1.0, 100, 100) == pytest.approx(0.1)
    assert learning_rate(ScheduleConfig(), 0.3, 77, 100) == 0.3


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("plateau", [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2]),
        ("onecycle", [1.0] * 10),
    ],
)
def test_the_rate_falls_on_a_plateau_alone(name: Any, factors: list[float]) -> None:
    """After two epochs without a gain of more than 1e-4, and not below its least."""
    schedule = ScheduleConfig(name, patience=2, factor=0.5, min_lr=0.02)
    recipe = small_recipe(optimizer=OptimizerConfig(lr=0.1), schedule=schedule)
    state = SimpleNamespace(
        best=None, best_epoch=0, epoch=0, plateau_best=-math.inf, waited=0, factor=1.0
    )
    found, best = [], []
    for score in (0.5, 0.6, 0.6, 0.60005, 0.7, 0.8, 0.1, 0.1, 0.1, 0.1):
        state.epoch += 1
        best.append(loop._choose(cast(Any, state), recipe, score))
        found.append(state.factor)
    assert found == pytest.approx(factors)
    assert best == [True, True, False, True, True, True, False, False, False, False]
    assert (state.best, state.best_epoch) == (0.8, 6)


def test_epoch_order_depends_on_seed_and_epoch_alone() -> None:
    data = drawn_faces(70)

    def order(seed: int, epoch: int) -> list[int]:
        batches = EpochBatches(data, 10, seed=seed, shuffle=True)
        batches.epoch = epoch
        return [int(v) for b in batches for v in b.images.float().mean((1, 2, 3)) * 1000]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert sorted(order(1, 2)) == sorted(order(1, 3))
    kept = EpochBatches(data, 16)
    assert len(kept) == 5
    assert torch.cat([b.labels for b in kept]).tolist() == data.labels.tolist()


def test_augment_parts() -> None:
    x = torch.rand(8, 1, 48, 48)
    assert torch.equal(augment(x, AugmentConfig()), x)
    flipped = augment(x, AugmentConfig(flip=1.0))
    assert torch.allclose(flipped, x.flip(3), atol=1e-5)
    full = AugmentConfig(0.5, 15, 0.15, 0.05, 0.1, 0.2, 0.2, 1.0, 0.2, crop=4, fill="reflect")
    torch.manual_seed(0)
    y = augment(x, full)
    torch.manual_seed(0)
    assert torch.equal(y, augment(x, full))
    assert y.shape == x.shape
    assert 0 <= float(y.min()) <= float(y.max()) <= 1
    torch.manual_seed(0)
    covered = (
        (augment(x, AugmentConfig(erasing=1.0, erasing_area=0.2)) != x).float().mean((1, 2, 3))
    )
    assert 0 < float(covered.min()) <= float(covered.max()) < 0.3
    # a shift moves a point by the fraction that was asked for, never more
    dot = torch.zeros(64, 1, 48, 48)
    dot[:, :, 24, 24] = 1
    where = augment(dot, AugmentConfig(shift=0.1, fill="zeros")).flatten(1).argmax(1)
    assert int(((where // 48) - 24).abs().max()) <= 5
    assert int(((where % 48) - 24).abs().max()) in (3, 4, 5)


def test_degraded_images_are_poor_photos_of_the_same_range() -> None:
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 6, 64), torch.linspace(0, 9, 64), indexing="ij")
    faces = ((y.sin() * x.cos() + 1) / 2).expand(256, 1, 64, 64).contiguous()

    def made(share: float) -> torch.Tensor:
        torch.manual_seed(3)
        return augment(faces.clone(), AugmentConfig(degraded=share))

    poor, mild = made(1.0), made(1e-9)
    assert torch.equal(poor, made(1.0))
    for out in (poor, mild):
        assert out.shape == faces.shape
        assert 0 <= float(out.min()) <= float(out.max()) <= 1
        assert torch.allclose(out * 255, (out * 255).round(), atol=1e-4)
    means = [out.mean((1, 2, 3)) for out in (poor, mild)]
    assert int((means[0] < 0.2).sum()) > 10 * max(1, int((means[1] < 0.2).sum()))  # dark ones
    detail = [(out[..., 1:] - out[..., :-1]).abs().mean((1, 2, 3)) for out in (poor, mild)]
    assert float(detail[0].max()) > 1.5 * float(detail[1].max())  # noise
    with pytest.raises(RecipeError, match="degraded"):
        override(small_recipe(), ["augment.degraded=1.5"])


def test_bicubic_keeps_more_of_the_detail() -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 1, 48, 48)

    def detail(mode: str) -> float:
        torch.manual_seed(1)
        out = augment(x, AugmentConfig(rotation=15, scale=0.15, shift=0.05, interpolation=mode))
        assert out.min() >= 0
        assert out.max() <= 1
        return float((out[..., 1:] - out[..., :-1]).std())

    assert detail("bilinear") < 0.9 * detail("bicubic")
    mirrored = augment(x, AugmentConfig(flip=1, interpolation="bicubic"))
    assert torch.allclose(mirrored, x.flip(-1), atol=1e-5)
    with pytest.raises(RecipeError, match="interpolation"):
        override(small_recipe(), ["augment.interpolation=nearest"])


def test_fit_learns_and_the_checkpoint_predicts(tmp_path: Path) -> None:
    data = drawn_faces()
    recipe = small_recipe(epochs=8, augment=AugmentConfig(), clean_epochs=0, ema=0.9)
    recipe = override(recipe, ["model_args.dropout=0"])
    result = fit(recipe, data, drawn_splits(data), tmp_path / "run", device="cpu", quiet=True)
    assert result.val_accuracy > 0.9
    for name in ("recipe.json", "run.json", "splits.json", "curves.csv", "best.ckpt", "last.ckpt"):
        assert (tmp_path / "run" / name).exists()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["seed"] == 0
    assert record["versions"]["torch"]
    classifier = load_checkpoint(result.checkpoint)
    val = drawn_splits(data).select(data, "val")
    p = classifier.predict_proba(val.images)
    assert p.shape == (len(val), 7)
    assert np.allclose(p.sum(1), 1, atol=1e-5)
    assert (p.argmax(1) == val.labels).mean() == pytest.approx(result.val_accuracy)
    assert classifier.info.training_data == "drawn"
    with pytest.raises(RecipeError, match="already holds a run"):
        fit(recipe, data, drawn_splits(data), tmp_path / "run", device="cpu", quiet=True)
    other = dataclasses.replace(recipe, epochs=9)
    with pytest.raises(RecipeError, match=r"another epochs; repeat its settings"):
        fit(other, data, drawn_splits(data), tmp_path / "run", device="cpu", resume=True)


@pytest.mark.parametrize(
    "changes",
    [
        ["loss.mixup=0.2", "loss.ferplus_blend=0.3"],
        ["optimizer.name=nadam", "optimizer.lr=0.001", "loss.class_weights=balanced"],
        ["optimizer.name=adamw", "schedule.name=plateau", "schedule.patience=1", "ema=0"],
        ["schedule.name=cosine", "early_stopping=1", "model=njoku_cnn"],
    ],
)
def test_options_run(tmp_path: Path, changes: list[str]) -> None:
    data = drawn_faces(70)
    recipe = override(small_recipe(epochs=2), changes)
    if recipe.model == "njoku_cnn":
        recipe = dataclasses.replace(recipe, model_args={})
        with pytest.raises(RecipeError, match="forward_features"):
            fit(recipe, data, drawn_splits(data), tmp_path / "a", device="cpu", quiet=True)
        recipe = override(recipe, ["loss.ferplus_auxiliary=0"])
    fit(recipe, data, drawn_splits(data), tmp_path / "run", device="cpu", quiet=True)
    assert len((tmp_path / "run" / "curves.csv").read_text().splitlines()) >= 2


def test_without_validation_the_last_epoch_counts(tmp_path: Path) -> None:
    data = drawn_faces(70)
    splits = dataclasses.replace(drawn_splits(data), ids={"train": data.ids, "val": data.ids[:0]})
    recipe = small_recipe(epochs=3, early_stopping=1)
    result = fit(recipe, data, splits, tmp_path / "run", device="cpu", quiet=True)
    assert (result.best_epoch, result.val_accuracy) == (3, None)
    assert "val_accuracy" not in (tmp_path / "run" / "curves.csv").read_text()


def test_votes_needed(tmp_path: Path) -> None:
    data = dataclasses.replace(drawn_faces(70), votes=None)
    with pytest.raises(RecipeError, match="FER"):
        fit(small_recipe(), data, drawn_splits(data), tmp_path, device="cpu", quiet=True)
    blend = override(small_recipe(), ["loss.ferplus_auxiliary=0", "loss.ferplus_blend=0.3"])
    with pytest.raises(RecipeError, match=r"--set loss\.ferplus_blend=0"):
        fit(blend, data, drawn_splits(data), tmp_path, device="cpu", quiet=True)


def test_images_of_another_size_are_refused_before_they_are_trained_on(tmp_path: Path) -> None:
    data = drawn_faces(70)
    small = dataclasses.replace(data, images=data.images[:, :40, :40].copy())
    with pytest.raises(RecipeError, match=r"are 40×40, and .* takes 48×48; .* mien data crop"):
        fit(small_recipe(), small, drawn_splits(data), tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_never_stands_where_a_training_is_looked_for(tmp_path: Path) -> None:
    assert default_folder(tmp_path, "a-seed0", False) == tmp_path / "a-seed0"
    folder = default_folder(tmp_path, "a-seed0", True)
    assert folder == tmp_path / "dry-run" / "a-seed0"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").touch()
    assert not default_folder(tmp_path, "a-seed0", True).exists()  # so it can be tried again


def test_a_run_is_resumed_with_its_own_votes(tmp_path: Path) -> None:
    data, recipe = drawn_faces(70), small_recipe(epochs=1)
    run = {"device": "cpu", "quiet": True}
    fit(recipe, data, drawn_splits(data), tmp_path, **run)
    assert data.votes is not None
    others = dataclasses.replace(data, votes=np.roll(data.votes, 1, axis=1))
    assert others.sha256 == data.sha256  # of images and labels
    with pytest.raises(RecipeError, match="with other votes"):
        fit(recipe, others, drawn_splits(data), tmp_path, resume=True, **run)


def test_finished_work_is_not_trained_over(tmp_path: Path) -> None:
    """Without last.ckpt a run cannot go on; what it has done is kept all the same."""
    data, recipe = drawn_faces(70), small_recipe(epochs=1)
    splits = drawn_splits(data)

    def again(resume: bool) -> None:
        fit(recipe, data, splits, tmp_path, device="cpu", quiet=True, resume=resume)

    again(False)
    with pytest.raises(RecipeError, match="already holds a run"):
        again(False)
    (tmp_path / "last.ckpt").unlink()
    again(True)  # killed between its first two files, it begins again
    (tmp_path / "last.ckpt").unlink()
    (tmp_path / "result.json").write_text("{}")
    best = (tmp_path / "best.ckpt").read_bytes()
    for resume in (False, True):
        with pytest.raises(RecipeError, match=r"without the last\.ckpt .* use another folder"):
            again(resume)
    (tmp_path / "result.json").unlink()
    with (tmp_path / "curves.csv").open("a") as file:
        file.write("2,1,1,1,1,1\n")
    with pytest.raises(RecipeError, match="so that nothing of it is lost"):
        again(False)
    assert (tmp_path / "best.ckpt").read_bytes() == best


def test_a_run_is_resumed_on_its_own_images_alone(tmp_path: Path) -> None:
    data, recipe = drawn_faces(70), small_recipe(epochs=1)
    splits = drawn_splits(data)

    def again(data: FaceDataset, splits: Splits) -> None:
        fit(recipe, data, splits, tmp_path, device="cpu", quiet=True, resume=True)

    again(data, splits)
    again(data, splits)
    ids = {role: ids[::-1] for role, ids in splits.ids.items()}  # the same in another order
    again(data, dataclasses.replace(splits, ids=ids))
    swapped = {**splits.ids, "train": splits.ids["val"], "val": splits.ids["train"]}
    with pytest.raises(RecipeError, match="another split or fold"):
        again(data, dataclasses.replace(splits, ids=swapped))
    with pytest.raises(RecipeError, match="other data"):
        again(dataclasses.replace(data, sha256="0" * 64), splits)


def test_a_resumed_run_keeps_its_precision_and_says_where_it_went_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, recipe = drawn_faces(70), override(small_recipe(epochs=1), ["precision=auto"])
    asked = []

    def choose(requested: str, device: str) -> PrecisionChoice:
        asked.append(requested)
        if requested == "bf16":
            raise RecipeError("not here")
        return PrecisionChoice("32", "chosen")

    monkeypatch.setattr("mien.train.fit.choose_precision", choose)

    def again() -> dict[str, Any]:
        fit(recipe, data, drawn_splits(data), tmp_path, device="cpu", quiet=True, resume=True)
        found: dict[str, Any] = json.loads((tmp_path / "run.json").read_text())
        return found

    assert "resumed" not in again()
    (first,) = again()["resumed"]
    assert asked == ["auto", "32"]
    assert first["precision"] == "32"
    assert first["device"] == "cpu"
    record = json.loads((tmp_path / "run.json").read_text()) | {"precision": "bf16"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert len(again()["resumed"]) == 2
    assert asked[2:] == ["bf16", "auto"]
    assert "began in bf16, which does not work here" in capsys.readouterr().err


def test_a_run_that_stopped_early_stays_stopped(tmp_path: Path) -> None:
    data = drawn_faces(70)
    recipe = small_recipe(epochs=8, early_stopping=1)

    def rows() -> list[str]:
        fit(recipe, data, drawn_splits(data), tmp_path, device="cpu", quiet=True, resume=True)
        return (tmp_path / "curves.csv").read_text().splitlines()

    first = rows()
    assert len(first) < 9, "it never stopped early: this test shows nothing"
    assert rows() == first


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)]
)
def test_a_signal_is_no_success(tmp_path: Path, number: int, code: int) -> None:
    child = start(tmp_path, 0.1)
    wait_for_epochs(child, tmp_path / "curves.csv", 1)
    for _ in range(30):  # Python drops a KeyboardInterrupt that comes while a finaliser runs
        child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(2)
            break
    assert child.poll() == code


def test_ctrl_c_in_the_middle_of_a_checkpoint_is_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*_: object) -> None:  # as torch's writer does when it is closed before its end
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(KeyboardInterrupt):
        write_weights(tmp_path / "last.ckpt", {})
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_is_not_there() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(RecipeError, match="no GPU"):
        choose_device("cuda")


def test_nothing_is_scored_on_what_it_was_trained_on(tmp_path: Path) -> None:
    data = drawn_faces(70)
    splits = drawn_splits(data)
    fit(small_recipe(epochs=1), data, splits, tmp_path, device="cpu", quiet=True)
    best = tmp_path / "best.ckpt"
    refuse_seen(best, splits, ("val",))
    other = dataclasses.replace(splits, seed=1, ids={**splits.ids, "val": splits.ids["train"][:3]})
    said = r"trained on 3 of the images that are val by protocol fer2013, seed 1; its own split is "
    with pytest.raises(RecipeError, match=said + r"protocol fer2013, seed 0 \(.*splits\.json\)"):
        refuse_seen(best, other, ("val",))
    refuse_seen(tmp_path / "elsewhere" / "best.ckpt", other, ("val",))  # nothing is known of it


#: A run in the folder of its first argument; before every batch it waits for the seconds of the
#: second, so that there is time to stop it in the middle. A factor near 1: whether an epoch is a
#: plateau hangs on one image of 35.
CHILD = """
import sys, time
from pathlib import Path
from helpers_train import drawn_faces, drawn_splits, small_recipe
from mien.train.fit import fit
from mien.train.learner import Learner
from mien.train.recipe import ScheduleConfig
import torch
torch.set_num_threads(1)
loss = Learner.loss
def late(*arguments):
    time.sleep(float(sys.argv[2]))
    return loss(*arguments)
Learner.loss = late
data = drawn_faces()
recipe = small_recipe(epochs=6, schedule=ScheduleConfig("plateau", patience=1, factor=0.9))
fit(recipe, data, drawn_splits(data), Path(sys.argv[1]), seed=3, resume=True, device="cpu")
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "last.ckpt")[1]


def start(folder: Path, pause: float = 0.0) -> subprocess.Popen[bytes]:
    """The run of ``CHILD`` in a process of its own."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent)])
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(pause)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A shell's background job has Ctrl-C ignored, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def start_two(folder: Path) -> subprocess.Popen[bytes]:
    """The run of ``CHILD``, slowly, in two processes that torchrun starts."""
    script = folder.with_suffix(".py")
    script.write_text(CHILD)
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent)])
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    return subprocess.Popen(
        [sys.executable, *command, str(folder), "0.1"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_epochs(child: subprocess.Popen[bytes], curves: Path, epochs: int) -> None:
    """Wait until ``curves`` has so many epochs and the child still runs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        if curves.exists() and len(curves.read_text().splitlines()) > epochs:
            break
        time.sleep(0.02)
    assert child.poll() is None, "the run ended before it could be stopped"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of ``CHILD`` that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert start(folder).wait(300) == 0
    return folder


def test_killed_and_resumed_equals_uninterrupted(whole: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, then --resume: the same weights as a run that was left alone."""
    broken = tmp_path / "broken"
    child, curves = start(broken, 0.1), broken / "curves.csv"
    wait_for_epochs(child, curves, 2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert len(curves.read_text().splitlines()) < 7
    assert start(broken).wait(300) == 0
    ours, theirs = weights(broken), weights(whole)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key
    rows = [line.rsplit(",", 1)[0] for line in curves.read_text().splitlines()]  # less the seconds
    wanted = (whole / "curves.csv").read_text().splitlines()
    assert rows == [line.rsplit(",", 1)[0] for line in wanted]


@pytest.mark.parametrize(
    "changes",
    [["loss.mixup=0.4", "loss.cutmix=1"], ["loss.ferplus_auxiliary=0.5", "augment.erasing=1"]],
)
def test_the_parts_gradients_add_up_to_the_batchs(
    changes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = drawn_faces(35)
    weights = np.linspace(0.2, 1, 35, dtype=np.float32)
    learner = Learner(override(small_recipe(), changes), data.classes, 0.5, 0.2)
    learner.model.eval()  # batch norm and dropout as they are whatever the part
    [batch] = EpochBatches(data, 35, shuffle=True, weights=weights)

    def gradients(number: int, count: int) -> list[torch.Tensor]:
        monkeypatch.setattr(processes, "number", lambda: number)
        monkeypatch.setattr(processes, "count", lambda: count)
        learner.zero_grad()
        learner.loss(batch, 3).backward()  # type: ignore[no-untyped-call]
        return [p.grad.clone() for p in learner.parameters() if p.grad is not None]

    whole, parts = gradients(0, 1), [gradients(k, 3) for k in range(3)]
    for ours, theirs in zip(whole, map(sum, zip(*parts, strict=True)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="its terminate() reaches no child")
def test_two_processes_train_as_one_and_one_goes_on(whole: Path, tmp_path: Path) -> None:
    """Same steps, losses close (batch norm sees halves); stopped, then resumed by one process."""
    two = tmp_path / "two"
    child = start_two(two)
    wait_for_epochs(child, two / "curves.csv", 2)
    child.terminate()
    assert child.wait(60) != 0
    rows = len(read_curves(two / "curves.csv"))
    assert 2 <= rows < 6
    assert start(two).wait(300) == 0
    ours, theirs = read_curves(two / "curves.csv"), read_curves(whole / "curves.csv")
    assert [row["epoch"] for row in ours] == [1, 2, 3, 4, 5, 6]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["train_loss"] == pytest.approx(other["train_loss"], abs=0.15)
    record = json.loads((two / "run.json").read_text())
    assert (record["processes"], record["resumed"][0]["processes"]) == (2, 1)


def test_bad_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No checkpoint"):
        load_checkpoint(tmp_path / "none.ckpt")
    junk = tmp_path / "junk.ckpt"
    junk.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="cannot be read"):
        load_checkpoint(junk)
    other = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}}, other)
    with pytest.raises(ModelError, match="not a mien checkpoint"):
        load_checkpoint(other)


def test_a_training_that_diverges_ends_in_a_sentence(tmp_path: Path) -> None:
    recipe = override(small_recipe(), ["optimizer.name=sgd", "optimizer.lr=1e12", "epochs=2"])
    data = drawn_faces(64)
    with pytest.raises(RecipeError, match=r"diverged in epoch \d .*lower optimizer.lr"):
        fit(recipe, data, drawn_splits(data), tmp_path / "run", device="cpu", quiet=True)
    recipe = override(small_recipe(), ["batch_size=64", "optimizer.lr=1e30", "epochs=1"])
    with pytest.raises(RecipeError, match=r"diverged in epoch 1 \(val_loss is nan"):
        fit(recipe, data, drawn_splits(data), tmp_path / "late", device="cpu", quiet=True)


def test_any_number_is_a_seed() -> None:
    data = drawn_faces(32)
    material = select(small_recipe(), data, drawn_splits(data))
    seed = 10**19
    learner = material.learner(small_recipe(), seed, "cpu")
    batch = next(iter(material.batches(small_recipe(), seed, "cpu")))
    assert torch.isfinite(learner.loss(batch, 0))


def test_what_watches_the_validation_split_needs_one() -> None:
    data = drawn_faces(32)
    none = drawn_splits(data)
    none.ids["val"] = none.ids["val"][:0]
    with pytest.raises(RecipeError, match="watches the validation split"):
        select(override(small_recipe(), ["schedule.name=plateau"]), data, none)
    with pytest.raises(RecipeError, match="no image to train on"):
        select(override(small_recipe(), ["draws.drawn:=0"]), data, none)
