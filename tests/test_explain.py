"""Occlusion maps, Grad-CAM and mean maps: that they point where the answer comes from."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers_onnx import make_onnx
from numpy.typing import NDArray
from PIL import Image
from test_robustness import bars, faces

from mien.classify import load_classifier
from mien.cli import main
from mien.emotions import FER2013, Emotion
from mien.errors import DataError, ModelError
from mien.explain import explain_photo, mean_maps, occlusion_maps
from mien.explain.paint import is_pale, overlay, paint, paint_mean


def soft(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """`bars`, less sure of itself, so that covering a part of the bar shows."""
    p = bars(images) ** (1 / 6)
    return p / p.sum(axis=1, keepdims=True)


def place(values: NDArray[np.float32]) -> tuple[int, int]:
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return int(row), int(column)


@pytest.mark.parametrize(("patch", "stride"), [(9, 3), (15, 3), (7, 7), (5, 2)])
def test_the_map_points_at_what_the_answer_rests_on(patch: int, stride: int) -> None:
    data = faces(7)
    rows, maps = occlusion_maps(soft, data.images, patch=patch, stride=stride)
    assert rows == pytest.approx(soft(data.images), abs=1e-6)
    assert maps.shape == (7, 7, 48, 48)
    for i, k in enumerate(data.labels.tolist()):
        row, column = place(maps[i, k])
        assert 3 + 6 * k - patch < row < 8 + 6 * k + patch, "the bar decides, nothing else"
        assert 0 <= column < 48
        # What one class loses the others gain: the losses of a face sum to nothing.
        assert np.abs(maps[i].sum(axis=0)).max() < 1e-5
        assert maps[i, k].max() > 0.01
        far = np.ones((48, 48), bool)
        far[max(0, 3 + 6 * k - patch) : 8 + 6 * k + patch] = False
        assert np.abs(maps[i, k][far]).max() < 0.2 * maps[i, k].max()


def test_one_patch_by_hand() -> None:
    """A classifier of a single pixel: the map is the loss, averaged over the patches there."""
    face = np.full((1, 12, 12), 100, np.uint8)
    face[0, 5, 7] = 255

    def pixel(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        p = images[:, 5, 7] / 255
        return np.stack([p, 1 - p], 1)

    _, maps = occlusion_maps(pixel, face, patch=3, stride=1)
    loss = 1 - np.rint(face.mean()) / 255
    share = np.zeros((12, 12))
    for y in range(12):
        for x in range(12):
            # Of the nine patches over (y, x), those that also cover (5, 7).
            share[y, x] = max(0, 3 - abs(y - 5)) * max(0, 3 - abs(x - 7)) / 9
    assert maps[0, 0] == pytest.approx(loss * share, abs=1e-6)


@pytest.mark.parametrize(("patch", "stride"), [(15, 3), (9, 3), (8, 2), (9, 9), (10, 10)])
def test_a_mirrored_face_has_the_mirrored_map(tmp_path: Path, patch: int, stride: int) -> None:
    model = load_classifier(make_onnx(tmp_path / "m.onnx"))

    def even(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return model.predict_proba(images, flip=True)

    face = np.random.default_rng(0).integers(0, 255, (1, 48, 48), dtype=np.uint8)
    options = {"patch": patch, "stride": stride}
    _, maps = occlusion_maps(even, face, **options)
    _, other = occlusion_maps(even, np.ascontiguousarray(face[:, :, ::-1]), **options)
    assert other[0] == pytest.approx(maps[0][:, :, ::-1], abs=1e-6)


@pytest.mark.parametrize(("patch", "stride"), [(0, 1), (49, 3), (9, 0), (9, 10)])
def test_patches_out_of_range_are_told(patch: int, stride: int) -> None:
    with pytest.raises(DataError, match="must be 1 to"):
        occlusion_maps(bars, faces(1).images, patch=patch, stride=stride)


def test_gradcam_is_cam_where_a_mean_and_a_linear_layer_follow() -> None:
    """Selvaraju et al. 2017, section 3: for such a network Grad-CAM equals CAM (over the area)."""
    torch = pytest.importorskip("torch")
    from mien.explain.gradcam import gradcam_maps, last_layer
    from mien.modelinfo import ModelInfo
    from mien.models import create_model
    from mien.preprocess import normalize
    from mien.train.checkpoint import TorchClassifier

    torch.manual_seed(0)
    model = create_model("mien_small").eval()
    info = ModelInfo("m", FER2013, mean=0.5, std=0.25)
    classifier = TorchClassifier(model, info)
    assert last_layer(classifier) == "body"
    images = faces(3).images
    rows, maps = gradcam_maps(classifier, images)
    assert rows == pytest.approx(classifier.predict_proba(images), abs=1e-6)
    with torch.no_grad():
        features = model.body(torch.from_numpy(normalize(images, info)))
        cam = torch.relu(torch.einsum("kc,nchw->nkhw", model.head.weight, features)) / 36
        large = torch.nn.functional.interpolate(cam, size=(48, 48), mode="bilinear")
    assert maps == pytest.approx(large.numpy(), abs=1e-5)
    assert maps.max() > 0
    assert all(p.grad is None for p in model.parameters()), "no gradient is left behind"
    with pytest.raises(ModelError, match="no layer 'nowhere'"):
        gradcam_maps(classifier, images, layer="nowhere")
    with pytest.raises(ModelError, match="feature maps"):
        gradcam_maps(classifier, images, layer="head")


@pytest.mark.parametrize("name", ["njoku_cnn", "mondal_shallow"])
def test_gradcam_finds_the_maps_of_networks_that_flatten(name: str) -> None:
    pytest.importorskip("torch")
    from mien.explain.gradcam import MIN_SIDE, gradcam_maps, last_layer
    from mien.modelinfo import ModelInfo
    from mien.models import create_model
    from mien.train.checkpoint import TorchClassifier

    classifier = TorchClassifier(create_model(name).eval(), ModelInfo("m", FER2013))
    sides = []
    layer = dict(classifier.model.named_modules())[last_layer(classifier)]
    layer.register_forward_hook(lambda m, i, output: sides.append(output.shape[-1]))
    _, maps = gradcam_maps(classifier, faces(1).images)
    assert min(sides) >= MIN_SIDE
    assert maps.shape == (1, 7, 48, 48)
    assert np.isfinite(maps).all()
    assert (maps >= 0).all()
    assert maps.max() > 0


def test_mean_maps_average_right_answers_only() -> None:
    data = faces(126)
    found = mean_maps(soft, data, FER2013, per_class=4, patch=9)
    assert found.counts == dict.fromkeys(FER2013, 4)
    for k, emotion in enumerate(FER2013):
        assert 3 + 6 * k - 9 < place(found.maps[emotion])[0] < 8 + 6 * k + 9
    assert found.averaged == 126
    assert (found.face == np.rint(data.images.mean(axis=0))).all()

    def angry(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        p = np.full((len(images), 7), 0.1)
        p[:, 0] = 0.4
        return p

    some = mean_maps(angry, data, FER2013, per_class=3)
    assert set(some.maps) == {Emotion.ANGRY}
    assert some.counts[Emotion.HAPPY] == 0
    assert paint_mean(some).ndim == 3
    with pytest.raises(DataError, match="shows no one"):
        mean_maps(bars, data.take(np.arange(99)), FER2013)


def test_colours_say_for_and_against() -> None:
    face = np.full((48, 48), 128, np.uint8)
    values = np.zeros((48, 48), np.float32)
    values[:16], values[32:] = 1, -1
    painted = overlay(face, values, 1.0, 96).astype(int)
    blue, _, red = painted[10, 48]
    assert red > blue + 80, "for: orange"
    blue, _, red = painted[85, 48]
    assert blue > red + 80, "against: blue"
    assert painted[48, 48].tolist() == [128, 128, 128], "neither: the face itself"


def test_a_photo_is_explained(portrait: NDArray[np.uint8]) -> None:
    from mien.detect import load_detector

    model = load_classifier("mien_distilled")
    (found,) = explain_photo(portrait, model, load_detector("yunet"), patch=21, stride=5)
    assert next(iter(found.maps)) is Emotion.HAPPY
    values = found.maps[Emotion.HAPPY]
    # The smile is what makes this face happy: the mouth's part outweighs the forehead's.
    assert values[30:44, 12:36].mean() > values[:12].mean() + 0.01
    image = paint(portrait, [found])
    assert image.dtype == np.uint8
    assert image.shape[1] > 700
    (small,) = explain_photo(portrait, model, load_detector("yunet"), patch=5, stride=5)
    assert [is_pale(e) for e in (found, small)] == [False, True]
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert np.array(record["maps"]["happy"]).shape == (48, 48)
    assert record["unit"].startswith("loss")
    assert explain_photo(np.zeros((90, 90, 3), np.uint8), model, load_detector("yunet")) == ()
    assert len(explain_photo(portrait, model, None, patch=20, stride=20)) == 1


@pytest.mark.parametrize("angle", [60, 180])
def test_a_leaning_face_stands_level_beside_its_maps(
    portrait: NDArray[np.uint8], angle: int
) -> None:
    """The face in colour is the square that the maps are of."""
    from mien.detect import load_detector
    from mien.explain.paint import _cut

    height, width = portrait.shape[:2]
    turn = cv2.getRotationMatrix2D((224, 118), angle, 1)
    leaning = np.asarray(
        cv2.warpAffine(portrait, turn, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
    model = load_classifier("mien_distilled")
    (found,) = explain_photo(leaning, model, load_detector("yunet"), patch=20, stride=20)
    assert abs(abs(found.turn) - angle) < 20
    grey = cv2.cvtColor(_cut(leaning, found), cv2.COLOR_BGR2GRAY)
    shown = cv2.resize(grey, found.crop.shape, interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shown.ravel(), found.crop.ravel())[0, 1] > 0.98
    assert found.to_dict()["turn"] == round(found.turn, 1)


@pytest.mark.parametrize("kind", ["one bit", "animation", "wide", "wide face", "tall face"])
def test_what_is_predicted_is_explained(
    tmp_path: Path,
    portrait: NDArray[np.uint8],
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wide = np.full((512, 40000, 3), 120, np.uint8)
    wide[:, 36000:36512] = portrait
    image = {"wide": wide, "wide face": wide, "tall face": wide.transpose(1, 0, 2)}.get(kind)
    frames = [Image.new("RGB", (512, 512)), Image.fromarray(portrait[..., ::-1])]
    path = str(tmp_path / "a.png")
    if kind == "animation":
        frames[0].save(path, save_all=True, append_images=frames[1:])
    elif kind == "one bit":
        frames[1].convert("1").save(path)
    else:
        cv2.imwrite(path, np.ascontiguousarray(image))
    words = [path, "--model", str(make_onnx(tmp_path / "m.onnx")), "--json"]
    words += ["--faces"] if kind.endswith("face") else []
    assert main(["predict", *words]) == 0
    (face,) = json.loads(capsys.readouterr().out)["faces"]
    assert main(["explain", *words, "--stride", "15", "-o", str(tmp_path / "x.png")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["faces"][0]["probabilities"] == pytest.approx(face["probabilities"], abs=1e-5)
    assert record.get("frame") == (1 if kind == "animation" else None)
    shown = cv2.imread(str(tmp_path / "x.png"))[34:254, 16:236]
    assert shown.std() > 5


def test_the_command(
    tmp_path: Path,
    portrait: NDArray[np.uint8],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import cv2

    model = make_onnx(tmp_path / "m.onnx")
    photo, blank = tmp_path / "two.png", tmp_path / "blank.png"
    cv2.imwrite(str(photo), np.hstack([portrait, portrait[:, ::-1]]))
    cv2.imwrite(str(blank), np.zeros((90, 90, 3), np.uint8))
    arguments = ["explain", str(photo), "--model", str(model), "--stride", "9", "--json"]
    assert main([*arguments, "-o", str(tmp_path / "x.png")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["faces"]) == 2
    assert main([*arguments, "--patch", "2", "--stride", "2"]) == 0
    assert "2 pixels changes the answers by 0.05 at most" in capsys.readouterr().err
    assert cv2.imread(str(tmp_path / "x.png")).shape[0] > 500
    monkeypatch.chdir(tmp_path)
    for name in ("two-explained.png", "two-explained-2.png"):
        assert main(arguments[:-1]) == 0
        assert f"wrote {name}\n" in capsys.readouterr().err
        assert (tmp_path / name).is_file()
    for wrong, word in (
        ([str(blank), "--model", str(model), "--json"], "no face"),
        ([str(photo), "--model", str(model), "-o", str(photo)], "is the image to be read"),
        ([str(photo), "--model", str(model), "--json", "--method", "gradcam"], "checkpoint"),
        ([str(photo), "--model", str(model), "--json", "--method", "lime"], "occlusion, gradcam"),
        ([str(photo), "--model", str(model), "-o", "x.gif"], ".png"),
        (["--json"], "PHOTO"),
        ([str(tmp_path / "none.jpg"), "--json", "--model", str(model)], "none.jpg"),
    ):
        assert main(["explain", *wrong]) == 2, wrong
        error = capsys.readouterr().err
        assert word in error
        assert error.count("\n") == 1
