"""What ``mien_photo`` is trained with: its data, draws, prior, teachers, standardised faces."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from helpers_train import drawn_faces, drawn_splits, small_recipe

from mien.data.photo_set import build_photo, held_out_subject
from mien.data.photos import PhotoDataset
from mien.detect.base import Detection
from mien.errors import DataError, ModelError, RecipeError
from mien.modelinfo import spread_prior
from mien.models import create_model
from mien.models.weights import WeightsError, initial_weights
from mien.results import Box
from mien.train.batches import EpochBatches
from mien.train.checkpoint import load_checkpoint
from mien.train.fit import fit
from mien.train.recipe import DistillConfig, LossConfig, override
from mien.train.recipes import get_recipe
from mien.train.selection import draws_of, log_prior, select

DATA = drawn_faces(140)


def test_an_epoch_draws_what_the_recipe_says() -> None:
    draws = np.where(np.arange(140) % 7 == 0, 2.5, 0.4)
    batches = EpochBatches(DATA, 10, shuffle=True, draws=draws)
    counts = np.zeros(140)
    for batches.epoch in range(40):
        rows = np.concatenate([b.index.numpy() for b in batches])
        assert len(rows) == 90  # of 20 * 2.5 + 120 * .4 = 98, in tens
        assert np.bincount(rows, minlength=140).max() <= 3
        counts += np.bincount(rows, minlength=140)
    often, seldom = counts[::7].mean() / 40, np.delete(counts, np.s_[::7]).mean() / 40
    assert often == pytest.approx(2.5 * 90 / 98, rel=0.05)
    assert seldom == pytest.approx(0.4 * 90 / 98, rel=0.1)


def test_draws_and_priors_go_by_source_and_class() -> None:
    ids = np.array([f"{'a' if i < 70 else 'b'}:{i}" for i in range(140)])
    data = dataclasses.replace(DATA, ids=ids)
    recipe = dataclasses.replace(small_recipe(), draws={"b:": 2, "b:angry": 0, "a:happy": 4})
    draws = draws_of(recipe, data)
    names = np.array([c.value for c in data.classes])[data.labels]
    assert set(draws[:70][names[:70] == "happy"]) == {4}
    assert set(draws[:70][names[:70] != "happy"]) == {1}
    assert set(draws[70:]) == {0, 2}
    prior = np.exp(log_prior(data, draws))
    happy = data.classes.index("happy")
    assert prior[0, happy] == pytest.approx(4 / 10, abs=0.01)
    assert prior[-1, 0] == pytest.approx(0.01, abs=0.002)  # angry: none is drawn
    assert prior[-1, 1] == pytest.approx(0.99 / 6, abs=0.002)
    splits = drawn_splits(data)
    wrong = dataclasses.replace(recipe, draws={"c:": 2})
    with pytest.raises(RecipeError, match=r"draws.c:.*no such training images"):
        select(wrong, data, splits)
    with pytest.raises(RecipeError, match="a number from 0 to 100"):
        select(dataclasses.replace(recipe, draws={"a:": "often"}), data, splits)


def test_an_adjusted_network_answers_without_its_data_s_shares(tmp_path: Path) -> None:
    """Images that say nothing, two in three of them angry: there is but the shares to learn."""
    grey = np.full((160, 48, 48), 120, np.uint8)
    labels = np.where(np.arange(160) % 3 == 2, np.arange(160) // 3 % 7, 0)
    data = dataclasses.replace(drawn_faces(160), images=grey, labels=labels)
    found = {}
    for adjustment in (0.0, 1.0):
        loss = LossConfig(logit_adjustment=adjustment)
        recipe = small_recipe(epochs=12, ema=0.0, clean_epochs=0, pixels="unit", loss=loss)
        folder = tmp_path / str(adjustment)
        fit(recipe, data, drawn_splits(data), folder, device="cpu", quiet=True)
        classifier = load_checkpoint(folder / "last.ckpt")
        found[adjustment] = classifier.predict_proba(grey[:1])[0, 0]
        assert bool(classifier.info.prior) == bool(adjustment)
    assert found[0.0] > 0.5 > 0.4 > found[1.0]


def test_a_stated_prior_is_what_the_network_answers_for() -> None:
    recipe = small_recipe(loss=LossConfig(logit_adjustment=1, prior={"happy": 0.4}))
    learner = select(recipe, DATA, drawn_splits(DATA)).learner(recipe, 0, "cpu")
    even = torch.full((1, 7), 1 / 7).log()
    free = torch.zeros(1, 7)
    shares = learner._adjusted(free, even).softmax(1)[0]
    happy = DATA.classes.index("happy")
    assert float(shares[happy] / shares[0]) == pytest.approx(0.1 / 0.4)
    for wrong in ({"merry": 0.4}, {"happy": 1.0}):
        with pytest.raises(ModelError, match="prior is"):
            spread_prior(wrong, DATA.classes)


def test_teachers_answer_what_the_face_was_and_only_their_sources() -> None:
    ids = np.array([f"{'a' if i % 2 else 'b'}:{i}" for i in range(140)])
    data = dataclasses.replace(DATA, ids=ids)
    recipe = override(get_recipe("mien_photo"), ["batch_size=16", "epochs=2", "precision=32"])
    distill = DistillConfig(weight=1, clean=True, sources="a")
    recipe = dataclasses.replace(recipe, distill=distill, draws={}, weights=type(recipe.weights)())
    splits = drawn_splits(data)
    material = select(dataclasses.replace(recipe, distill=DistillConfig()), data, splits)
    learner = material.learner(recipe, 0, "cpu")
    seen = []

    def teacher(x: torch.Tensor, temperature: float) -> torch.Tensor:
        seen.append((x[:, 0] * 255).round().to(torch.uint8).numpy())
        return torch.full((len(x), 7), 1 / 7)

    learner.teacher = teacher
    batches = material.batches(recipe, 0, "cpu")
    for epoch in range(2):
        learner.begin(epoch)
        batches.epoch = epoch
        for number, batch in enumerate(batches):
            assert torch.isfinite(learner.loss(batch, number))
    asked = {face.tobytes() for face in np.concatenate(seen)}
    ours = material.chosen
    taught = {image.tobytes() for image in ours.images[ours.sources == "a"]}
    assert asked <= taught
    assert len(asked) > len(taught) / 2
    assert sum(map(len, seen)) == len(asked)  # each once
    assert learner.augmentation().degraded == pytest.approx(0.6)  # epoch 2 of 2: half is done


@pytest.mark.parametrize("light", [(0.2, 0.0), (0.5, 0.4)])
def test_a_standardised_net_does_not_see_the_light(light: tuple[float, float]) -> None:
    torch.manual_seed(0)
    net = create_model("mien_small", standardise=True).eval()
    plain = create_model("mien_small").eval()
    plain.load_state_dict(net.state_dict())
    x = (torch.rand(4, 1, 48, 48) - 0.5) / 0.25
    gain, offset = light
    with torch.no_grad():
        change = (net(x) - net(gain * x + offset)).abs().max()
        assert change < 0.1 * (plain(x) - plain(gain * x + offset)).abs().max()


def test_a_run_can_start_from_another_s_weights(tmp_path: Path) -> None:
    splits = drawn_splits(DATA)
    first = small_recipe(epochs=2, ema=0.9, model_args={})
    fit(first, DATA, splits, tmp_path / "a", device="cpu", quiet=True)
    kept = tmp_path / "a" / "best.ckpt"
    start = initial_weights(first.model, str(kept))
    net = create_model(first.model)
    start.load_into(net)
    state = torch.load(kept, weights_only=True)["state_dict"]
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[f"averaged.{name}"])
    with pytest.raises(WeightsError, match="does not fit mien_base"):
        initial_weights("mien_base", str(kept))
    with pytest.raises(WeightsError, match="No weights at"):
        initial_weights("mien_base", str(tmp_path / "none.ckpt"))


def test_another_number_of_classes_keeps_its_own_classifier(tmp_path: Path) -> None:
    seven = create_model("mien_small")
    torch.save(seven.state_dict(), tmp_path / "seven.pth")
    eight = create_model("mien_small", num_classes=8)
    torch.save(eight.state_dict(), tmp_path / "eight.pth")
    for file, kept in (("seven.pth", False), ("eight.pth", True)):
        start = initial_weights("mien_small", str(tmp_path / file))
        net = create_model("mien_small", num_classes=8)
        own = list(net.state_dict().items())[-1][1].clone()
        start.load_into(net)
        theirs = torch.load(tmp_path / file, weights_only=True)
        names = list(theirs)
        for name, value in net.state_dict().items():
            if name not in names[-2:]:
                assert torch.equal(value, theirs[name])
        last = net.state_dict()[names[-1]]
        assert torch.equal(last, theirs[names[-1]] if kept else own)


def test_the_set_leaves_the_panel_s_people_out() -> None:
    fer = dataclasses.replace(drawn_faces(84), name="fer2013")
    fer = dataclasses.replace(fer, ids=np.array([f"fer2013:{i:05d}" for i in range(84)]))
    ck = drawn_faces(84)
    people = np.array([f"S{i % 12:03d}" for i in range(84)])
    ids = np.array([f"ckplus:{i}" for i in range(84)])
    ck = dataclasses.replace(ck, name="ckplus", ids=ids, groups=people, votes=None)
    png = cv2.imencode(".png", np.full((90, 90, 3), 90, np.uint8))[1].tobytes()
    photos = PhotoDataset(
        ids=("muxspace:a", "muxspace:b", "muxspace:c", "muxspace:d"),
        labels=("happiness", "happiness", "contempt", "neutral"),
        users=("dwdii", "jhamski", "dwdii", "302"),
        blobs=(png, png, png, b"no image"),
        name="muxspace",
        source="drawn",
    )

    class Middle:
        name = "middle"

        def detect(self, image: np.ndarray) -> list[Detection]:
            return [Detection(Box(30, 30, 30, 30), 0.9)]

    found = build_photo(fer, photos, ck, Middle())
    assert found.ids[found.sources == "muxspace"].tolist() == ["muxspace:a"]
    subjects = set(found.groups[found.sources == "ckplus"])
    assert subjects == {p for p in people if not held_out_subject(p)} != set(people)
    assert set(found.splits[found.sources != "fer2013"]) == {"Training"}
    assert found.images.shape == (len(found), 48, 48)
    assert not found.votes[84:].any()
    assert (found.votes[:84] == fer.votes).all()
    with pytest.raises(DataError, match="expected ckplus"):
        build_photo(fer, photos, fer, Middle())
