"""The flagship's parts: nets, Muon, losses, mixing, weights, TTA, FER+ majority, speed run."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from helpers_train import drawn_faces, drawn_splits

from mien.data.ferplus import majority_labels, majority_view
from mien.data.splits import make_splits
from mien.emotions import ALL, FERPLUS_COLUMNS, Emotion
from mien.errors import DataError, ModelError, RecipeError
from mien.evaluate.runner import augmented, predict
from mien.models import count_multiply_adds, count_parameters, create_model
from mien.models.blocks import DropPath, RepConv, fuse
from mien.train.batches import alternating_mirror, augment, mix
from mien.train.checkpoint import load_checkpoint, read_checkpoint
from mien.train.fit import fit
from mien.train.learner import Learner
from mien.train.losses import distillation_loss, label_loss
from mien.train.optimizers import Muon, orthogonalise
from mien.train.recipe import AugmentConfig, LossConfig, Recipe, WeightConfig, override
from mien.train.recipes import get_recipe
from mien.train.selection import rule_masks, sample_weights, training_set

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks" / "flagship"))
from timed_run import timed_run
from timing import FILE, add_test, claim, save_network, sentence, speedrun

sys.path.pop(0)

TINY = ["precision=32", "batch_size=16", "model_args.widths=[16,16,32]"]


def tiny(*settings: str, epochs: int = 2) -> Recipe:
    return override(get_recipe("mien_fast"), [*TINY, f"epochs={epochs}", *settings])


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("mien_small", 1_755_863, 111_809_856),
        ("mien_distilled", 1_716_503, 95_221_056),
        ("mien_base", 3_115_223, 196_744_960),
        ("mien_wide", 7_979_655, 932_957_248),
        ("mien_fast", 1_049_737, 64_573_248),
    ],
)
def test_sizes(name: str, parameters: int, multiply_adds: int) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert (count_parameters(model), count_multiply_adds(model, (1, 48, 48))) == (
        parameters,
        multiply_adds,
    )
    if name == "mien_distilled":
        assert parameters <= 3_000_000
        assert multiply_adds <= 100_000_000
    assert parameters <= 12_000_000


def test_a_rep_net_is_the_same_net_when_fused() -> None:
    torch.manual_seed(0)
    model = create_model("mien_small", block="rep", widths=[16, 16, 32])
    model.train()
    for _ in range(3):  # statistics that are not the initial ones
        model(torch.randn(8, 1, 48, 48) * 2 + 1)
    model.eval()
    deployed = fuse(model)
    x = torch.randn(4, 1, 48, 48)
    assert torch.allclose(model(x), deployed(x), atol=1e-4)
    assert not any(isinstance(m, RepConv) for m in deployed.modules())
    assert any(isinstance(m, RepConv) for m in model.modules())
    assert count_parameters(deployed) < count_parameters(model)
    plain = create_model("mien_small", widths=[16, 16, 32])
    assert fuse(plain) is plain


def test_options_of_the_nets() -> None:
    x = torch.randn(3, 1, 36, 36)
    assert create_model("mien_base", widths=[16, 16, 32], se=8, drop_path=0.2)(x).shape == (3, 7)
    with pytest.raises(ModelError, match="no option 'sse'"):
        create_model("mien_base", sse=8)
    with pytest.raises(ModelError, match="block must be one of"):
        create_model("mien_base", block="dense")
    with pytest.raises(ModelError, match="stages"):
        create_model("mien_base", widths=[16, 16])
    drop = DropPath(0.5)
    torch.manual_seed(0)
    out = drop(torch.ones(400, 2, 3, 3))
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < float((out[:, 0, 0, 0] == 0).float().mean()) < 0.6
    assert torch.equal(drop.eval()(x), x)


def test_whitening_gives_uncorrelated_patches() -> None:
    torch.manual_seed(0)
    images = F.avg_pool2d(torch.randn(64, 1, 60, 60), 5, stride=1)  # neighbours are alike
    model = create_model("mien_fast")
    model.whiten_(images)
    found = F.conv2d(images, model.body[0].conv.weight)[:, :9]
    rows = found.permute(1, 0, 2, 3).flatten(1)
    covariance = torch.cov(rows)
    off = covariance - torch.diag(covariance.diagonal())
    assert float(off.abs().max()) < 0.05
    assert 0.5 < float(covariance.diagonal().max()) < 1.1
    assert not model.body[0].conv.weight.requires_grad


def test_orthogonalising_by_the_gram_matrix_is_the_published_iteration() -> None:
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, 24))[0] for n in (24, 90))
    matrix = (left * torch.logspace(0, -4, 24) @ right.T)[None]
    for given in (matrix, matrix.mT):
        fast = orthogonalise(given)
        torch.set_float32_matmul_precision("high")  # takes the published rounds
        try:
            slow = orthogonalise(given)
        finally:
            torch.set_float32_matmul_precision("highest")
        assert fast.shape == given.shape
        assert float((fast - slow).norm() / slow.norm()) < 1e-3
        assert not torch.equal(fast, slow)


def test_muon_turns_to_orthogonal_and_learns() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, 20, 50)))
    assert 0.5 < float(values.min()) <= float(values.max()) < 1.4
    tall = torch.linalg.svdvals(orthogonalise(torch.randn(1, 50, 20)))
    assert 0.5 < float(tall.min()) <= float(tall.max()) < 1.4
    weight = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    bias = torch.nn.Parameter(torch.zeros(8))
    norm = float(weight.detach().norm())
    groups = [{"params": [weight], "muon": True}, {"params": [bias]}]
    optimizer = Muon(groups, lr=0.05, momentum=0.9, renormalise=True)
    x, y = torch.randn(64, 4, 3, 3), torch.randn(64, 8)
    losses = []
    for _ in range(30):
        loss = (F.conv2d(x, weight, bias).flatten(1) / norm - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert float(weight.norm()) == pytest.approx(norm, rel=1e-4)
    assert float(bias.abs().max()) > 0


def test_robust_losses_and_weights() -> None:
    logits = torch.tensor([[4.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    wrong = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    right = wrong[:, [1, 0, 2]]
    p = logits.softmax(1)[0]
    gce = label_loss(logits, wrong, LossConfig(name="gce", gce_q=0.7))
    assert float(gce) == pytest.approx((1 - float(p[1]) ** 0.7) / 0.7, rel=1e-5)
    small = label_loss(logits, wrong, LossConfig(name="gce", gce_q=1e-4))
    ce = label_loss(logits, wrong, LossConfig())
    assert float(small) == pytest.approx(float(ce), rel=1e-2)  # q -> 0 is cross-entropy
    sce = label_loss(logits, wrong, LossConfig(name="sce", sce_reverse=0.5))
    assert float(sce) == pytest.approx(float(ce) + 0.5 * 4 * (1 - float(p[1])), rel=1e-4)
    both = torch.cat([wrong[:1], right[:1]])
    for name in ("ce", "gce", "sce"):
        config = LossConfig(name=name, label_smoothing=0.1)
        alone = label_loss(logits[:1], wrong[:1], config)
        masked = label_loss(logits, both, config, sample_weights=torch.tensor([1.0, 0.0]))
        assert float(masked) == pytest.approx(float(alone), rel=1e-5)
    same = distillation_loss(logits, (logits / 2).softmax(1), 2.0)
    assert float(same) == pytest.approx(0, abs=1e-6)
    assert float(distillation_loss(logits, wrong, 2.0)) > 1


def test_mix_and_cut() -> None:
    torch.manual_seed(1)
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 48, 48).contiguous()
    for _ in range(20):
        mixed, order, lam = mix(x, 0.0, 1.0)
        own = (mixed == x).float().mean((1, 2, 3))
        moved = order != torch.arange(6)
        assert torch.allclose(own[moved], torch.tensor(lam), atol=1e-6)
        assert torch.equal(own[~moved], torch.ones(int((~moved).sum())))
    blended, order, lam = mix(x, 0.4, 0.0)
    assert torch.allclose(blended, lam * x + (1 - lam) * x[order])
    kinds = {float(mix(x, 0.4, 1.0)[0].std((1, 2, 3)).max()) > 0 for _ in range(30)}
    assert kinds == {True, False}  # a coin decides between pasting and blending


def test_resized_crop_sizes_and_alternating_flip() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 48).view(1, 1, 1, 48).expand(200, 1, 48, 48)
    cropped = augment(ramp, AugmentConfig(resized_crop=0.5))
    width = cropped[:, 0, 0, -1] - cropped[:, 0, 0, 0]
    assert 0.5 < float(width.min()) < 0.75 < float(width.max()) <= 1.0  # inside, never beyond
    assert augment(ramp, AugmentConfig(), side=24).shape == (200, 1, 24, 24)
    halved = augment(ramp, AugmentConfig(), side=24)
    assert torch.allclose(halved, F.avg_pool2d(ramp, 2), atol=1e-5)
    index = torch.arange(4000)
    first, second = alternating_mirror(index, 0, 3), alternating_mirror(index, 1, 3)
    assert torch.equal(first, ~second)
    assert torch.equal(first, alternating_mirror(index, 2, 3))
    assert 0.45 < float(first.float().mean()) < 0.55
    assert not torch.equal(first, alternating_mirror(index, 0, 4))
    assert torch.equal(alternating_mirror(index, 0, 2**63), ~alternating_mirror(index, 1, 2**63))
    config = AugmentConfig(alternating=True)
    flipped = augment(ramp, config, mirrored=first[:200])
    assert torch.allclose(flipped[first[:200]], ramp[first[:200]].flip(3), atol=1e-5)
    assert torch.allclose(flipped[~first[:200]], ramp[~first[:200]], atol=1e-5)


def test_last_epochs_without_dropout() -> None:
    recipe = tiny("model_args.dropout=0.5", "dropout_off=2", epochs=4)
    module = Learner(recipe, drawn_faces(7).classes, 0.5, 0.2).train()
    rates = []
    for epoch in range(4):
        module.begin(epoch)
        rates.append({m.p for m in module.model.modules() if isinstance(m, torch.nn.Dropout)})
    assert rates == [{0.5}, {0.5}, {0.0}, {0.0}]
    with pytest.raises(RecipeError, match="at least 0"):
        tiny("dropout_off=-1")


def test_progressive_sides_and_frozen_scales() -> None:
    recipe = tiny("progressive=[[0,24],[0.5,36],[0.75,48]]", "frozen_scale=true", epochs=4)
    module = Learner(recipe, drawn_faces(7).classes, 0.5, 0.2)
    sides = []
    for epoch in range(4):
        module.epoch = epoch
        sides.append(module.prepare(torch.zeros(2, 1, 48, 48, dtype=torch.uint8), True).shape[-1])
    assert sides == [24, 24, 36, 48]
    short = Learner(tiny("progressive=[[0,24],[0.75,48]]", epochs=2), module.classes, 0.5, 0.2)
    assert [short.side() for short.epoch in range(2)] == [24, None]  # whatever epochs says
    assert module.prepare(torch.zeros(2, 1, 48, 48, dtype=torch.uint8), False).shape[-1] == 48
    norms = [m for m in module.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(not m.weight.requires_grad and m.bias.requires_grad for m in norms)
    assert all(torch.equal(m.weight, torch.ones_like(m.weight)) for m in norms)
    for bad in ("[[0.2,24]]", "[[0,24],[0,48]]", "[[0,2]]", "[3]", "7"):
        with pytest.raises(RecipeError, match="progressive"):
            tiny(f"progressive={bad}")
    with pytest.raises(RecipeError, match=r"loss\.name"):
        tiny("loss.name=huber")
    with pytest.raises(RecipeError, match=r"weights\.copies"):
        tiny("weights.copies=2")


def test_doubtful_images_count_less() -> None:
    data = drawn_faces(28)
    images = data.images.copy()
    images[14] = images[0]  # the same class: a copy
    images[8] = images[2]  # classes 1 and 2: a conflict
    images[20] = 77
    votes = np.zeros((28, 10), np.float32)
    votes[:, FERPLUS_COLUMNS.index("anger")] = 10  # only class 0 is seen by the raters
    votes[5] = 0
    votes[5, FERPLUS_COLUMNS.index("NF")] = 10
    data = dataclasses.replace(data, images=images, votes=votes)
    rules = ("not_a_face", "constant", "conflicting", "copies", "unsupported")
    found = {k: np.flatnonzero(v).tolist() for k, v in rule_masks(data, rules).items()}
    assert found["not_a_face"] == [5]
    assert found["constant"] == [20]
    assert found["conflicting"] == [2, 8]
    assert found["copies"] == [14]
    assert found["unsupported"] == [i for i in range(28) if i % 7]
    config = WeightConfig(constant=0.0, conflicting=0.5, not_a_face=0.0)
    weights = sample_weights(data, config)
    assert weights is not None
    assert weights[[2, 5, 8, 20, 21]].tolist() == [0.5, 0, 0.5, 0, 1]
    assert sample_weights(data, WeightConfig()) is None
    recipe = dataclasses.replace(tiny(), weights=config)
    kept, shares = training_set(recipe, data)
    assert len(kept) == 26
    assert shares is not None
    assert sorted(set(shares.tolist())) == [0.5, 1.0]
    with pytest.raises(DataError, match="FER\\+ votes"):
        sample_weights(dataclasses.replace(data, votes=None), config)


def test_majority_is_the_authors_rule() -> None:
    def row(**votes: int) -> list[int]:
        return [votes.get(c, 0) for c in FERPLUS_COLUMNS]

    rows = [
        (row(anger=6, neutral=4), Emotion.ANGRY),
        (row(anger=5, neutral=5), None),  # half is no majority
        (row(fear=4, sadness=3, disgust=1, anger=1, contempt=1), Emotion.FEAR),  # outliers go
        (row(contempt=7, neutral=3), Emotion.CONTEMPT),
        (row(NF=9, neutral=1), None),
        (row(unknown=6, happiness=4), None),
        (row(neutral=1, fear=1, sadness=1), None),  # nothing but outliers
        (row(), None),
    ]
    votes = np.array([r for r, _ in rows], np.float32)
    expected = [-1 if e is None else ALL.index(e) for _, e in rows]
    assert majority_labels(votes).tolist() == expected
    data = dataclasses.replace(drawn_faces(8), votes=votes, name="fer2013")
    parts = np.array(["Training", "PublicTest", "PrivateTest", "Training"] * 2)
    view = majority_view(dataclasses.replace(data, splits=parts))
    assert (len(view), view.classes, view.name) == (3, ALL, "ferplus-majority")
    assert view.ids.tolist() == data.ids[[0, 2, 3]].tolist()
    with pytest.raises(DataError, match="majority view"):
        make_splits(data, "ferplus-majority")
    with pytest.raises(DataError, match="has none"):
        majority_view(dataclasses.replace(data, votes=None))


@pytest.mark.data
def test_majority_of_fer2013(data_dir: Path) -> None:
    """The counts that work on FER+ reports: 25,060 / 3,199 / 3,153."""
    pyarrow = pytest.importorskip("pyarrow.parquet")
    columns = [f"ferplus_{c.lower()}" for c in ("neutral",)]
    schema = pyarrow.read_schema(data_dir / "fer2013.parquet").names
    columns = [c for c in schema if c.startswith("ferplus_")]
    table = pyarrow.read_table(data_dir / "fer2013.parquet", columns=["usage", *columns])
    votes = np.stack([table[c].to_numpy() for c in columns], axis=1).astype(np.float32)
    kept = majority_labels(votes) >= 0
    usage = np.array(table["usage"].to_pylist())
    counts = [int(kept[usage == s].sum()) for s in ("Training", "PublicTest", "PrivateTest")]
    assert counts == [25_060, 3_199, 3_153]


def test_views_are_what_their_names_say() -> None:
    data = drawn_faces(14)
    assert [len(list(augmented(data.images, v))) for v in ("none", "flip", "ten")] == [1, 2, 10]
    ten = list(augmented(data.images, "ten"))
    assert np.array_equal(ten[1], data.images[:, :, ::-1])
    assert np.array_equal(ten[2][:, 2:, 2:], data.images[:, :-2, :-2])
    assert np.array_equal(ten[2][:, 0], ten[2][:, 1])  # the edge is repeated
    with pytest.raises(DataError, match="augmentation must be"):
        list(augmented(data.images, "five"))

    def by_corner(faces: np.ndarray) -> np.ndarray:
        p = np.full((len(faces), 7), 0.0)
        p[:, 0] = faces[:, 0, 0] / 255
        p[:, 1] = 1 - p[:, 0]
        return p

    flip, _ = predict(by_corner, data, data.classes, tta="flip")
    order = np.argsort(data.ids)
    corners = (data.images[order, 0, 0] / 255 + data.images[order, 0, -1] / 255) / 2
    assert np.allclose(flip.probabilities[:, 0], corners)


@pytest.mark.parametrize(
    "settings",
    [
        ["optimizer.name=muon", "optimizer.lr=0.02", "optimizer.renormalise=true", "ema=0.9"],
        ["loss.cutmix=1", "loss.mixup=0.2", "model_args.drop_path=0.2", "model_args.se=4"],
        ["loss.name=gce", "weights.unsupported=0.5", "model_args.block=rep"],
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, settings: list[str]) -> None:
    """Every new part draws from (seed, epoch) and keeps its state in the checkpoint."""
    fitting = sys.modules["mien.train.fit"]
    data = drawn_faces(56)
    recipe = tiny(*settings, epochs=3)
    arguments = {"seed": 5, "device": "cpu", "quiet": True, "resume": True}
    fit(recipe, data, drawn_splits(data), tmp_path / "whole", **arguments)

    class StopError(Exception):
        pass

    real = fitting.save_checkpoint

    def stop(path: Path, *given: Any) -> None:
        real(path, *given)
        if path.name == "last.ckpt":
            raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "save_checkpoint", stop)
        with pytest.raises(StopError):
            fit(recipe, data, drawn_splits(data), tmp_path / "broken", **arguments)
    fit(recipe, data, drawn_splits(data), tmp_path / "broken", **arguments)
    ours, theirs = (read_checkpoint(tmp_path / n / "last.ckpt")[1] for n in ("whole", "broken"))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key
    classifier = load_checkpoint(tmp_path / "broken" / "best.ckpt")
    assert not any(isinstance(m, RepConv) for m in classifier.model.modules())
    assert classifier.predict_proba(data.images).shape == (56, 7)


def test_the_speed_run_learns_and_equals_fit(tmp_path: Path) -> None:
    """The bare loop and the trainer end with the same weights: it is the same training."""
    data = drawn_faces(56)
    splits = drawn_splits(data)
    recipe = tiny("loss.ferplus_auxiliary=0.5", epochs=3)
    recipe = dataclasses.replace(recipe, claim="1 s on an earlier machine")
    classifier, seconds = timed_run(recipe, data, splits, seed=2)
    assert seconds > 0
    fit(recipe, data, splits, tmp_path / "run", seed=2, device="cpu", quiet=True)
    trained = load_checkpoint(tmp_path / "run" / "last.ckpt").model.state_dict()
    for key, value in classifier.model.state_dict().items():
        assert torch.equal(value, trained[key]), key
    written: list[int] = []
    record = speedrun(recipe, data, splits, seeds=(0, 1), write=lambda r: written.append(r["runs"]))
    assert written == [1, 2]
    assert record["accuracy_sd"] is not None
    assert "test" not in record["each"][0]
    assert record["recipe"] == {**recipe.to_dict(), "claim": ""}
    assert 0 <= record["each"][0]["others"] <= 1
    json.dumps(record)
    kept: dict[int, Any] = {}
    open_ = dataclasses.replace(splits, ids={**splits.ids, "test": splits.ids["val"][:5]})
    whole = speedrun(recipe, data, open_, seeds=(0,), test=True, keep=kept.__setitem__)
    path = tmp_path / "speed-seed0.ckpt"
    save_network(kept[0], recipe, data, splits, path)
    first = {**record, "each": record["each"][:1]}
    later = add_test(first, lambda seed: load_checkpoint(path), data, open_)
    assert later["each"][0]["test"] == whole["each"][0]["test"] == later["accuracy"]
    assert later["split"] == whole["split"] != record["split"]
    with pytest.raises(RecipeError, match="no validation split"):
        speedrun(
            recipe, data, dataclasses.replace(splits, ids={**splits.ids, "val": splits.ids["test"]})
        )
    with pytest.raises(RecipeError, match="plateau"):
        timed_run(override(recipe, ["schedule.name=plateau"]), data, splits)


def test_claims_say_what_was_measured() -> None:
    record = {
        "hardware": "2 cores",
        "split": "PublicTest",
        "runs": 3,
        "seconds": 12.34,
        "accuracy": 0.7012,
        "accuracy_sd": 0.0021,
    }
    assert sentence(record) == (
        "12.3 s on 2 cores: 70.12 % on PublicTest (3 runs, standard deviation 0.21)"
    )
    how = sentence({**record, "precision": "bf16", "tta": "ten"})
    assert how.startswith("12.3 s on 2 cores, bfloat16: 70.12 % on PublicTest, averaged over ten")
    measured = json.loads(FILE.read_text(encoding="utf-8"))
    for name in ("mien_fast", "mien_fast_folder"):
        assert bool(get_recipe(name).claim) == (name in measured)
        assert get_recipe(name).claim == claim(name)
