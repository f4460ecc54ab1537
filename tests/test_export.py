"""Export for real: a net trained on drawn faces goes to ONNX and to int8, and must agree."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from helpers_train import drawn_faces, drawn_splits, small_recipe
from onnx import numpy_helper

from mien.classify import Classifier
from mien.cli import main
from mien.emotions import Emotion
from mien.errors import ModelError
from mien.export import (
    ExportResult,
    default_licence,
    export_onnx,
    fit_temperature,
    record_scores,
)
from mien.export.saturation import largest_pair, rounded
from mien.preprocess import softmax
from mien.train.checkpoint import TorchClassifier, load_checkpoint
from mien.train.fit import fit
from mien.train.recipe import AugmentConfig, override
from mien.zoo import model_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TorchClassifier:
    folder = tmp_path_factory.mktemp("run")
    data = drawn_faces()
    recipe = small_recipe(epochs=8, augment=AugmentConfig(), clean_epochs=0, ema=0.9)
    recipe = override(recipe, ["model_args.dropout=0"])
    fit(recipe, data, drawn_splits(data), folder, device="cpu", quiet=True)
    return load_checkpoint(folder / "best.ckpt")


def split(name: str) -> object:
    data = drawn_faces()
    return drawn_splits(data).select(data, name)


@pytest.fixture(scope="module")
def exported(trained: TorchClassifier, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """``trained`` in float32."""
    out, words = tmp_path_factory.mktemp("float") / "m.onnx", {"licence": "test only"}
    return export_onnx(trained, out, split("train"), split("val"), val_name="PublicTest", **words)


def test_float_export_agrees_and_describes_itself(
    trained: TorchClassifier, exported: ExportResult
) -> None:
    val, out = split("val"), exported.path
    assert exported.parity < 1e-3
    model = Classifier(out)
    assert model.info.labels == trained.info.labels
    assert model.info.licence == "test only"
    assert model.info.precision == "float32"
    assert model.info.mean == trained.info.mean
    assert model.info.scores["PublicTest"]["n"] == len(val)
    for n in (1, 5, len(val)):  # the batch is dynamic
        ours = trained.logits(val.images[:n])
        assert np.allclose(model.logits(val.images[:n]), ours, atol=1e-3)
    text = out.read_bytes()
    assert str(Path(__file__).parent.parent).encode() not in text, "the file names a local path"


def test_int8_is_smaller_and_gated(
    trained: TorchClassifier, exported: ExportResult, tmp_path: Path
) -> None:
    train, val = split("train"), split("val")
    small = export_onnx(trained, tmp_path / "q.onnx", train, val, int8=True, calibration=64)
    assert small.size < 0.4 * exported.size
    assert small.info.precision == "int8"
    assert small.accuracy >= small.float_accuracy - 0.005
    with pytest.raises(ModelError, match="int8 falls"):
        export_onnx(trained, tmp_path / "no.onnx", train, val, int8=True, tolerance=-1.0)
    assert not (tmp_path / "no.onnx").exists()
    with pytest.raises(ModelError, match="minmax, entropy, percentile"):
        export_onnx(trained, tmp_path / "no.onnx", train, val, int8=True, method="magic")


def pairs(path: Path) -> list[float]:
    """Of every convolution in an int8 file the largest sum of two neighbouring weights."""
    weights = [numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer]
    return [
        float(largest_pair(w.astype(float)).max())
        for w in weights
        if w.dtype == np.int8 and w.ndim == 4
    ]


def test_no_processor_saturates_in_an_int8_file(trained: TorchClassifier, tmp_path: Path) -> None:
    """Without VNNI two products of uint8 and int8 are added in 16 bits: 255 * 128 fits."""
    train, val = split("train"), split("val")
    out = tmp_path / "small.onnx"
    export_onnx(trained, out, train, val, int8=True, tolerance=1.0)
    for path in (out, model_path("mien_distilled"), model_path("mien_ferplus")):
        found = pairs(path)
        assert len(found) > 3
        assert max(found) <= 128


def test_a_nearly_dead_channel_keeps_its_bias_in_int8(
    trained: TorchClassifier, tmp_path: Path
) -> None:
    """Weights of almost nothing have tiny steps, in which an ordinary bias overflows int32."""
    broken = TorchClassifier(copy.deepcopy(trained.model), trained.info)
    norms = [m for m in broken.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms[:2]:
            norm.weight[:4], norm.bias[:4] = 1e-8, 1.0
    train, val = split("train"), split("val")
    made = export_onnx(broken, tmp_path / "q.onnx", train, val, int8=True, tolerance=1.0)
    before = export_onnx(trained, tmp_path / "p.onnx", train, val, int8=True, tolerance=1.0)
    assert made.parity < 2 * before.parity + 0.05


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_histograms_calibrate_on_any_number_of_images(
    trained: TorchClassifier, tmp_path: Path, method: str
) -> None:
    train, how = drawn_faces(131), {"method": method, "tolerance": 1.0}
    made = export_onnx(trained, tmp_path / "q.onnx", train, split("val"), int8=True, **how)
    assert made.info.precision == "int8"


def test_weights_are_rounded_to_the_nearest_step_that_fits() -> None:
    weight = np.random.default_rng(0).normal(size=(64, 16, 3, 3)).astype(np.float32)
    weight[0] = 1  # neighbours that add up to twice the largest
    weight[1, :, 0, 0], weight[2] = 0, 0
    steps, scale = rounded(weight)
    assert largest_pair(steps.astype(float)).max() <= 128
    error = np.abs(steps * scale.reshape(-1, 1, 1, 1) - weight)
    assert (error <= 0.5001 * scale.reshape(-1, 1, 1, 1)).all()
    alone = np.abs(weight).reshape(64, -1).max(axis=1) / 127
    assert (scale[alone > 0] <= 2.01 * alone[alone > 0]).all()
    assert (scale < 1.02 * alone).any()  # not coarser than it must be


def test_parity_gate_catches_a_wrong_network(trained: TorchClassifier, tmp_path: Path) -> None:
    """A classifier whose logits do not come from its own network must not be exported."""

    class Shifted(TorchClassifier):
        def logits(self, faces: np.ndarray, batch_size: int = 256) -> np.ndarray:
            return super().logits(faces, batch_size) + 0.1

    wrong = Shifted(trained.model, trained.info)
    with pytest.raises(ModelError, match="disagrees with torch"):
        export_onnx(wrong, tmp_path / "no.onnx", split("train"), split("val"))
    assert not (tmp_path / "no.onnx").exists()


def test_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 7)).astype(np.float32)
    labels = np.array([rng.choice(7, p=p / p.sum()) for p in softmax(logits).astype(float)])
    assert fit_temperature(logits, labels) == pytest.approx(1.0, abs=0.1)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3.0, abs=0.3)


def test_scores_travel_with_the_file(exported: ExportResult, tmp_path: Path) -> None:
    out = Path(shutil.copy(exported.path, tmp_path))
    before = Classifier(out)
    record_scores(out, "PrivateTest", {"accuracy": 0.5, "n": 10})
    after = Classifier(out)
    assert after.info.scores["PrivateTest"] == {"accuracy": 0.5, "n": 10}
    assert "PublicTest" in after.info.scores
    faces = split("val").images
    assert np.array_equal(before.logits(faces), after.logits(faces))


def test_the_same_network_exported_again_keeps_its_scores(
    trained: TorchClassifier, tmp_path: Path
) -> None:
    """PrivateTest is scored once; a forgotten licence must not cost its figure."""
    out, train, val = tmp_path / "m.onnx", split("train"), split("val")
    export_onnx(trained, out, train, val, val_name="PublicTest", int8=True, calibration=64)
    record_scores(out, "PrivateTest", {"accuracy": 0.5, "n": 10})
    again = {"val_name": "PublicTest", "int8": True, "licence": "mine"}
    export_onnx(trained, out, train, val, calibration=64, **again)
    info = Classifier(out).info
    assert info.licence == "mine"
    assert info.scores.keys() == {"PublicTest", "PrivateTest"}
    export_onnx(trained, out, train, val, val_name="PublicTest")  # float32: another network
    assert Classifier(out).info.scores.keys() == {"PublicTest"}


def test_every_exported_file_says_what_its_data_permit() -> None:
    assert default_licence("fer2013").startswith("Research use: trained on FER2013")
    assert "trained on holiday, whose terms decide" in default_licence("holiday")


def test_train_and_export_commands_on_real_faces(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    data = str(data_dir / "fer2013.parquet")
    arguments = ["train", "mien_small", "--data", data, "--out", str(run), "--dry-run"]
    narrow = ["--set", "precision=32", "--set", "model_args.widths=[16,32,48]"]
    assert main([*arguments, *narrow]) == 0
    for name in ("report/report.json", "curves.svg", "result.json"):
        assert (run / name).exists(), name
    capsys.readouterr()
    out = tmp_path / "m.onnx"
    command = ["export", str(run / "best.ckpt"), "--data", data, "--out", str(out), "--json"]
    assert main(command) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["parity"] < 1e-3
    assert record["split"] == "PublicTest"
    assert Classifier(out).info.recipe == "mien_small"
    assert main(["export", str(tmp_path / "none.ckpt"), "--data", data]) == 2


def test_labels_are_met_by_name(trained: TorchClassifier, tmp_path: Path) -> None:
    """Data of other classes, or of the same in another order, as one's own folders have it."""
    val = split("val")
    order = tuple(reversed(val.classes))
    turned = dataclasses.replace(val, classes=order, labels=6 - val.labels)
    ours = export_onnx(trained, tmp_path / "a.onnx", split("train"), val)
    theirs = export_onnx(trained, tmp_path / "b.onnx", split("train"), turned)
    assert ours.info.scores == theirs.info.scores
    assert ours.info.temperature == pytest.approx(theirs.info.temperature)
    strange = dataclasses.replace(val, classes=(*val.classes[:6], Emotion.CONTEMPT))
    with pytest.raises(ModelError, match="show contempt, which the model does not know"):
        export_onnx(trained, tmp_path / "c.onnx", split("train"), strange)
