"""Distillation for real on small data: teachers, extra images, resume after a stop, the command."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from helpers_train import drawn_faces, drawn_splits

from mien.data.dataset import FaceDataset
from mien.errors import ModelError, RecipeError
from mien.train import learner as learner_module
from mien.train.batches import smaller
from mien.train.checkpoint import read_checkpoint
from mien.train.distill import find_members, load_teachers
from mien.train.fit import fit
from mien.train.recipe import Recipe, override
from mien.train.recipes import get_recipe
from mien.train.selection import select

TINY = ["precision=32", "batch_size=16", "model_args.widths=[16,16,32]", "clean_epochs=0"]
DATA = drawn_faces(84)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trained networks, one of them good."""
    folder = tmp_path_factory.mktemp("teachers")
    paths = []
    for seed, epochs in ((0, 24), (1, 1)):
        recipe = override(get_recipe("mien_fast"), [*TINY, f"epochs={epochs}", "ema=0"])
        recipe = override(recipe, ["augment.rotation=0", "augment.erasing=0", "progressive=[]"])
        path = folder / f"teacher{seed}"
        fit(recipe, DATA, drawn_splits(DATA), path, seed=seed, device="cpu", quiet=True)
        paths.append(path)
    return paths


def student(*settings: str) -> Recipe:
    base = [*TINY, "epochs=3", "ema=0.9", "loss.mixup=0.2", "distill.variants=0"]
    return override(get_recipe("mien_distilled"), [*base, *settings])


def test_teachers_average_their_probabilities(teachers: list[Path]) -> None:
    both = load_teachers(teachers)
    singles = [load_teachers([path]) for path in teachers]
    x = torch.rand(5, 1, 48, 48)
    mean = (singles[0](x, 3.0) + singles[1](x, 3.0)) / 2
    assert torch.allclose(both(x, 3.0), mean, atol=1e-6)
    assert torch.allclose(both(x, 3.0).sum(1), torch.ones(5), atol=1e-5)
    assert not both(x, 3.0).requires_grad
    # what a teacher sees is what its own classifier would see
    faces = DATA.images[:5]
    direct = singles[0].members[0].predict_proba(faces)
    seen = singles[0](torch.from_numpy(faces)[:, None].float() / 255, 1.0)
    assert np.allclose(direct, seen.numpy(), atol=1e-4)
    assert [round(m.weight, 3) for m in find_members(teachers)] == [0.5, 0.5]
    with pytest.raises(ModelError, match="is no trained network"):
        find_members([teachers[0] / "nothing"])
    with pytest.raises(ModelError, match="No teacher"):
        find_members([])


def test_a_student_follows_its_teacher_not_the_labels(teachers: list[Path], tmp_path: Path) -> None:
    """With weight 1 and shuffled labels the student still learns the teacher's answers."""
    rng = np.random.default_rng(0)
    spoiled = dataclasses.replace(DATA, labels=rng.permutation(DATA.labels))
    settings = ["distill.weight=1", "epochs=48", "loss.mixup=0", "ema=0"]
    settings += ["loss.ferplus_auxiliary=0", "augment.rotation=0", "augment.erasing=0"]
    recipe = student(*settings)
    loaded = load_teachers(teachers[:1])
    fit(
        recipe,
        spoiled,
        drawn_splits(spoiled),
        tmp_path / "student",
        device="cpu",
        quiet=True,
        teachers=loaded,
    )
    answers = load_teachers([tmp_path / "student" / "last.ckpt"]).members[0]
    ours = answers.predict_proba(DATA.images).argmax(1)
    theirs = loaded.members[0].predict_proba(DATA.images).argmax(1)
    assert (ours == theirs).mean() > 0.6
    assert (ours == spoiled.labels).mean() < 0.3


@pytest.mark.parametrize("settings", [(), ("distill.variants=1", "model_args.dropout=0.3")])
def test_stopped_and_resumed_equals_uninterrupted(
    teachers: list[Path], tmp_path: Path, settings: tuple[str, ...]
) -> None:
    recipe = student(*settings)
    arguments = {"seed": 4, "device": "cpu", "quiet": True, "resume": True}

    def run(folder: Path, paths: list[Path] = teachers) -> None:
        taught = load_teachers(paths)
        fit(recipe, DATA, drawn_splits(DATA), folder, teachers=taught, **arguments)

    run(tmp_path / "whole")
    fitting = sys.modules["mien.train.fit"]
    real = fitting.save_checkpoint

    def stop(path: Path, *given: Any) -> None:
        real(path, *given)
        if path.name == "last.ckpt":
            raise InterruptedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "save_checkpoint", stop)
        with pytest.raises(InterruptedError):
            run(tmp_path / "broken")
    with pytest.raises(RecipeError, match="other teachers"):
        run(tmp_path / "broken", teachers[:1])
    run(tmp_path / "broken")
    ours, theirs = (read_checkpoint(tmp_path / n / "last.ckpt")[1] for n in ("whole", "broken"))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key
    assert not any("teacher" in key for key in ours)  # the teachers' weights are not the student's
    record = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert [t["share"] for t in record["teachers"]] == [0.5, 0.5]
    assert all(len(t["sha256"]) == 64 for t in record["teachers"])


def test_images_that_come_again_are_answered_once(teachers: list[Path], tmp_path: Path) -> None:
    settings = ["epochs=9", "clean_epochs=4", "distill.variants=2", "loss.mixup=0"]
    loaded, asked = load_teachers(teachers[:1]), []

    class Counting(type(loaded)):  # type: ignore[misc]
        def __call__(self, x: torch.Tensor, temperature: float) -> torch.Tensor:
            asked.append(x)
            return super().__call__(x, temperature)

    counting = Counting(loaded.members, loaded.weights, loaded.record)
    base = {"device": "cpu", "quiet": True, "teachers": counting}
    fit(student(*settings), DATA, drawn_splits(DATA), tmp_path / "run", **base)
    batches = len(drawn_splits(DATA).ids["train"]) // 16
    assert len(asked) == 4 * batches, "two epochs of pictures, two of clean ones"
    assert not torch.equal(asked[0], asked[batches])
    # The clean ones are every image and its mirror image; a few fall out of the last batch.
    first, second = (torch.cat(asked[k * batches : (k + 1) * batches]) for k in (2, 3))

    def found(images: torch.Tensor) -> int:
        return sum(any(torch.allclose(x, y, atol=1e-5) for y in second) for x in images)

    assert found(first) == 0
    assert found(first.flip(3)) > 0.6 * len(first)
    # Every image of the third epoch is the first one's, so its answer is the right one.
    checkpoint = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    answers = checkpoint["resume"]["answers"]
    assert answers.shape[0] == 4
    assert float(answers[0].nan_to_num().sum()) == pytest.approx(16 * batches, rel=1e-2)


def test_teachers_see_full_size_where_the_student_sees_less(
    teachers: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So an answer stands for the image when it comes again larger."""
    loaded, asked, learned = load_teachers(teachers[:1]), [], []

    class Noting(type(loaded)):  # type: ignore[misc]
        def __call__(self, x: torch.Tensor, temperature: float) -> torch.Tensor:
            asked.append(x)
            return super().__call__(x, temperature)

    def shrink(x: torch.Tensor, side: int | None) -> torch.Tensor:
        small = smaller(x, side)
        learned.append((x, small))
        return small

    monkeypatch.setattr(learner_module, "smaller", shrink)
    noting = Noting(loaded.members, loaded.weights, loaded.record)
    recipe = student(
        "epochs=4", "distill.variants=2", "progressive=[[0,24],[0.5,48]]", "loss.mixup=0"
    )
    base = {"device": "cpu", "quiet": True, "teachers": noting}
    fit(recipe, DATA, drawn_splits(DATA), tmp_path / "run", **base)
    batches = len(drawn_splits(DATA).ids["train"]) // 16
    assert {x.shape[-1] for x in asked} == {48}
    assert len(asked) == 2 * batches
    assert [s.shape[-1] for _, s in learned] == [24] * 2 * batches + [48] * 2 * batches
    # The same image came small, and came again at full size.
    (early, small), (late, large) = learned[0], learned[2 * batches]
    assert torch.equal(early, late)
    assert torch.equal(large, late)
    halves = torch.nn.functional.avg_pool2d(early, 2)
    both = torch.stack([small.flatten(), halves.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.95, "small is the same picture, antialiased"


def test_extra_images_only_where_the_recipe_says_so(teachers: list[Path], tmp_path: Path) -> None:
    extra = dataclasses.replace(drawn_faces(40, seed=9), name="muxspace")
    extra = dataclasses.replace(extra, ids=np.array([f"muxspace:{i}" for i in range(40)]))
    loaded = load_teachers(teachers[:1])
    base = {"device": "cpu", "quiet": True}
    splits = drawn_splits(DATA)
    with pytest.raises(RecipeError, match="uses no extra images"):
        fit(student(), DATA, splits, tmp_path / "a", teachers=loaded, unlabelled=extra, **base)
    named = override(get_recipe("mien_distilled_extra"), [*TINY, "epochs=1"])
    with pytest.raises(RecipeError, match="pass --unlabelled"):
        fit(named, DATA, splits, tmp_path / "b", teachers=loaded, **base)
    with pytest.raises(RecipeError, match="learns from teachers"):
        fit(student(), DATA, splits, tmp_path / "c", **base)
    recipe = student("distill.weight=0")
    with pytest.raises(RecipeError, match="would ignore its teachers"):
        fit(recipe, DATA, splits, tmp_path / "d", teachers=loaded, **base)
    val = splits.select(DATA, "val")
    for leaked in (
        dataclasses.replace(extra, images=np.concatenate([extra.images[:39], val.images[:1]])),
        dataclasses.replace(extra, ids=np.concatenate([extra.ids[:39], val.ids[:1]])),
    ):
        with pytest.raises(RecipeError, match="1 of the extra images of muxspace are validation"):
            fit(named, DATA, splits, tmp_path / "l", teachers=loaded, unlabelled=leaked, **base)
    assert not (tmp_path / "l").exists()
    fit(named, DATA, splits, tmp_path / "e", teachers=loaded, unlabelled=extra, **base)
    record = json.loads((tmp_path / "e" / "run.json").read_text())
    assert record["training_images"] == {"split": 63, "used": 103}
    kept, _ = read_checkpoint(tmp_path / "e" / "last.ckpt")
    assert kept["data"]["name"] == "drawn + muxspace (unlabelled)"


class MeanTeacher:
    """Answers with an image's mean: (mean, 1 - mean, 0, ...)."""

    classes = DATA.classes
    log_prior = None

    def to(self, device: str) -> MeanTeacher:
        return self

    def check(self, classes: tuple[Any, ...]) -> None:
        pass

    def __call__(self, x: torch.Tensor, temperature: float) -> torch.Tensor:
        mean = x.mean(dim=(1, 2, 3))
        return torch.stack([mean, 1 - mean, *[torch.zeros_like(mean)] * 5], dim=1)


def answers_of(recipe: Recipe, data: FaceDataset) -> tuple[torch.Tensor, torch.Tensor]:
    """What the student sees of the first batch (its images' means) and what it is told of them."""
    material = select(recipe, data, drawn_splits(data), MeanTeacher())  # type: ignore[arg-type]
    learner = material.learner(recipe, 0, "cpu", MeanTeacher())  # type: ignore[arg-type]
    learner.begin(0)
    told: list[torch.Tensor] = []
    real = learner_module.distillation_loss

    def note(logits: torch.Tensor, soft: torch.Tensor, temperature: float) -> torch.Tensor:
        told.append(soft)
        return real(logits, soft, temperature)

    def see(x: torch.Tensor, side: int | None) -> torch.Tensor:
        seen.append((x * learner.std + learner.mean).mean(dim=(1, 2, 3)))
        return smaller(x, side)

    seen: list[torch.Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner_module, "distillation_loss", note)
        patch.setattr(learner_module, "smaller", see)
        learner.loss(next(iter(material.batches(recipe, 0, "cpu"))), 0)
    return seen[0], told[0]


PLAIN = ["augment.rotation=0", "augment.erasing=0", "augment.flip=0", "augment.shift=0"]
PLAIN += ["augment.scale=0", "augment.brightness=0", "augment.contrast=0", "progressive=[]"]


def test_clean_answers_are_mixed_as_the_images_are() -> None:
    shades = np.linspace(0, 255, len(DATA)).astype(np.uint8)
    data = dataclasses.replace(DATA, images=np.broadcast_to(shades[:, None, None], (84, 48, 48)))
    recipe = student(*PLAIN, "distill.clean=true", "loss.mixup=1", "loss.cutmix=0")
    seen, told = answers_of(recipe, data)
    assert torch.allclose(seen, told[:, 0], atol=2e-3)


def test_sources_count_however_the_teachers_are_asked() -> None:
    ids = np.array([f"{'ab'[i % 2]}:{i}" for i in range(84)])
    data = dataclasses.replace(DATA, ids=ids)
    for clean in ("true", "false"):
        recipe = student(*PLAIN, "distill.sources=a", f"distill.clean={clean}", "loss.mixup=0")
        _, told = answers_of(recipe, data)
        assert set(told.sum(1).round().tolist()) == {0.0, 1.0}
    for wrong in ("nonsense", "a,b", "A"):
        with pytest.raises(RecipeError, match=r"distill\.sources: no image is of"):
            answers_of(student(f"distill.sources={wrong}"), data)
    with pytest.raises(RecipeError, match="one answer an image and epoch"):
        answers_of(student("distill.variants=2", "draws.a:=2", "distill.clean=false"), data)


def test_fewer_epochs_than_clean_ones(teachers: list[Path], tmp_path: Path) -> None:
    recipe = student("epochs=1", "clean_epochs=6", "distill.variants=12", "loss.mixup=0")
    done = fit(
        *(recipe, DATA, drawn_splits(DATA), tmp_path / "run"),
        **{"device": "cpu", "quiet": True, "teachers": load_teachers(teachers[:1])},
    )
    assert (done.folder / "best.ckpt").is_file()
