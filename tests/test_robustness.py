"""FER2013-C: its bytes, what each corruption does, the grid, resuming, and the command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from helpers_onnx import make_onnx
from numpy.typing import NDArray

from mien.cli import main
from mien.data.dataset import FaceDataset
from mien.emotions import FER2013
from mien.errors import DataError, ModelError
from mien.modelinfo import ModelInfo
from mien.preprocess import crop_face
from mien.results import Box
from mien.robustness import (
    CORRUPTIONS,
    FRAMING,
    SEVERITIES,
    VERSION,
    corrupt,
    corruption_error,
    read_report,
    robustness,
    to_markdown,
    write_report,
)
from mien.robustness import corruptions as module
from mien.robustness.runner import subset

Faces = NDArray[np.uint8]


def faces(n: int = 24, seed: int = 0) -> FaceDataset:
    """Drawn images whose class is the place of a bright bar; smooth, so that blur keeps them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 7
    images = rng.integers(40, 60, (n, 48, 48), dtype=np.uint8)
    for i, k in enumerate(labels):
        images[i, 3 + 6 * k : 8 + 6 * k, 6:42] = 200
    blank = np.full(n, "", dtype=np.str_)
    ids = np.array([f"t:{i:05d}" for i in range(n)])
    return FaceDataset(
        images, labels.astype(np.int64), ids, FER2013, "drawn", blank, blank, sha256="abc"
    )


def bars(images: Faces) -> NDArray[np.float64]:
    """A real classifier of these images: the brightest of seven bands."""
    bands = np.stack([images[:, 3 + 6 * k : 8 + 6 * k].mean(axis=(1, 2)) for k in range(7)], 1)
    p = np.exp((bands - bands.max(axis=1, keepdims=True)) / 10)
    return p / p.sum(axis=1, keepdims=True)


def test_the_bytes_are_those_of_the_version() -> None:
    """Changing one pixel of any cell means a new version, new checksums and new results."""
    assert VERSION == "fer2013-c/1"
    expected = module.published_checksums()
    assert len(expected) == len(CORRUPTIONS) * len(SEVERITIES) == 65
    assert module.checksums() == expected
    record = module.generator_record()
    assert record["differs"] == []
    assert record["sha256"].startswith("4b1b66af6b956e23d4b0de83df0c0e58")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_neither_order_nor_batch_nor_neighbours_matter(name: str) -> None:
    data = faces(7)
    ids = data.ids.tolist()
    before = data.images.copy()
    whole = corrupt(data.images, ids, name, 3)
    assert whole.shape == data.images.shape
    assert whole.dtype == np.uint8
    assert (data.images == before).all(), "the source must be left alone"
    order = [4, 0, 6, 2, 1, 5, 3]
    mixed = corrupt(data.images[order], [ids[i] for i in order], name, 3)
    assert (mixed == whole[order]).all()
    for i in range(7):
        assert (corrupt(data.images[i : i + 1], ids[i : i + 1], name, 3)[0] == whole[i]).all()
    assert corrupt(data.images[:0], [], name, 3).shape == (0, 48, 48)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_grows(name: str, portrait: Faces) -> None:
    import cv2

    face = cv2.resize(cv2.cvtColor(portrait, cv2.COLOR_BGR2GRAY)[60:170, 168:279], (48, 48))
    for variant in CORRUPTIONS[name].variants:
        distances = [
            np.abs(corrupt(face[None], ["p"], name, s, variant)[0] - face.astype(float)).mean()
            for s in SEVERITIES
        ]
        assert distances == sorted(distances), (name, variant)
        assert distances[0] > 0.5


def test_noise_is_drawn_from_the_id_and_scaled_by_the_severity() -> None:
    flat = np.full((2, 48, 48), 128, np.uint8)
    out = {s: corrupt(flat, ["a", "b"], "gaussian_noise", s).astype(float) - 128 for s in (1, 3)}
    assert out[1].std() == pytest.approx(8, rel=0.05)
    assert out[3].std() == pytest.approx(20, rel=0.05)
    assert np.corrcoef(out[1][0].ravel(), out[3][0].ravel())[0, 1] > 0.99
    assert abs(np.corrcoef(out[1][0].ravel(), out[1][1].ravel())[0, 1]) < 0.1
    shot = corrupt(flat, ["a", "b"], "shot_noise", 3).astype(float)
    assert shot.std() == pytest.approx(np.sqrt(128 / 255 * 100) * 2.55, rel=0.06)


def test_flat_images_stay_flat_where_nothing_is_added() -> None:
    flat = np.full((1, 48, 48), 77, np.uint8)
    names = set(CORRUPTIONS) - {"gaussian_noise", "shot_noise", "brightness", "eyes_hidden", "jpeg"}
    for name in sorted(names - {"mouth_hidden"}):
        for severity in SEVERITIES:
            assert (corrupt(flat, ["x"], name, severity) == 77).all(), (name, severity)


def test_light_and_contrast_are_what_they_say() -> None:
    image = faces(1).images
    half = corrupt(image, ["x"], "contrast", 2).astype(float)
    assert half.std() == pytest.approx(0.4 * image.std(), rel=0.02)
    assert half.mean() == pytest.approx(image.mean(), abs=0.6)
    dark = corrupt(image, ["x"], "brightness", 3, "darker")
    assert dark.mean() == pytest.approx(image.mean() * 2 ** (-1.2 / 2.2), rel=0.02)
    bright = corrupt(image, ["x"], "brightness", 5, "brighter")
    assert bright.max() == 255


def test_low_resolution_averages_areas() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 48, 48), dtype=np.uint8)
    small = module.fixed.low_resolution(image, 24)
    inner = image[0].reshape(24, 2, 24, 2).mean(axis=(1, 3))
    # A corner pixel of the enlarged image is the corner of the small one.
    assert abs(int(small[0, 0, 0]) - inner[0, 0]) <= 0.5
    assert small.mean() == pytest.approx(image.mean(), abs=2)


@pytest.mark.parametrize(("variant", "box"), [("tighter", (3.6, 40.8)), ("looser", (-3.6, 55.2))])
def test_a_tighter_or_looser_crop_is_what_the_pipeline_would_cut(
    variant: str, box: tuple[float, float]
) -> None:
    face = module.fixed.gaussian_blur(faces(3).images, 1.5)
    ours = corrupt(face, ["a", "b", "c"], "scale", 3, variant).astype(int)
    info = ModelInfo("m", FER2013)
    square = Box(box[0], box[0], box[1], box[1])
    theirs = np.stack([crop_face(f, square, info) for f in face]).astype(int)
    assert np.abs(ours - theirs).max() <= 3
    assert np.abs(ours - theirs).mean() < 0.5
    assert np.abs(face - theirs).mean() > 2, "the crop must differ from the whole"


def test_a_shifted_crop_shows_the_face_on_the_other_side() -> None:
    image = np.zeros((1, 48, 48), np.uint8)
    image[:, :, 24] = 255
    right = corrupt(image, ["x"], "translation", 3, "right")[0].astype(float)
    assert (right.sum(axis=0) @ np.arange(48)) / right.sum() == pytest.approx(24 - 4.8, abs=0.05)
    turned = corrupt(image, ["x"], "rotation", 5, "clockwise")[0].astype(float)
    top = (turned[5] @ np.arange(48)) / turned[5].sum()
    assert top > 30, "clockwise: the upper end goes to the right"


def test_eyes_and_mouth_are_covered_where_they_are() -> None:
    grey = np.full((1, 48, 48), 128, np.uint8)
    eyes = corrupt(grey, ["x"], "eyes_hidden", 3)[0] != 128
    mouth = corrupt(grey, ["x"], "mouth_hidden", 3)[0] != 128
    assert eyes[18, 15]
    assert eyes[18, 33]
    assert not eyes[28:].any()
    assert mouth[37, 17:32].all()
    assert not mouth[:26].any()


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda x: corrupt(x, ["a"], "jpg", 1), "'jpeg'"),
        (lambda x: corrupt(x, ["a"], "jpeg", 6), "severity"),
        (lambda x: corrupt(x, ["a"], "scale", 1, "wider"), "tighter, looser"),
        (lambda x: corrupt(x, ["a", "b"], "jpeg", 1), "2 ids"),
        (lambda x: corrupt(x[:, :40], ["a"], "jpeg", 1), "48"),
        (lambda x: corrupt(x.astype(float), ["a"], "jpeg", 1), "float64"),
    ],
)
def test_wrong_calls_are_told(call: object, word: str) -> None:
    with pytest.raises(DataError, match=word):
        call(np.zeros((1, 48, 48), np.uint8))  # type: ignore[operator]


def run(data: FaceDataset, **options: object) -> object:
    return robustness(bars, data, classes=FER2013, **options)  # type: ignore[arg-type]


def test_the_grid_and_its_means() -> None:
    data = faces(21)
    report = robustness(bars, data, classes=FER2013, model={"name": "bars"}, split="PublicTest")
    assert report.corruptions == tuple(CORRUPTIONS)
    assert len(report.cells) == 1 + 5 * sum(len(c.variants) for c in CORRUPTIONS.values())
    assert report.clean.accuracy == 1.0
    for name in ("scale", "translation"):
        for severity in (1, 5):
            parts = []
            for variant in CORRUPTIONS[name].variants:
                spoiled = corrupt(data.images, data.ids.tolist(), name, severity, variant)
                parts.append((bars(spoiled).argmax(1) == data.labels).mean())
            assert report.cell(name, severity).accuracy == pytest.approx(np.mean(parts))
    means = [report.corruption(n).accuracy for n in CORRUPTIONS]
    assert report.mean.accuracy == pytest.approx(np.mean(means))
    assert report.retained == pytest.approx(report.mean.accuracy / report.clean.accuracy)
    assert report.mean.loss == pytest.approx(report.clean.accuracy - report.mean.accuracy)
    up = report.cell("translation", 5, "up")
    assert up.accuracy < 0.5, "a bar shifted by 20 % lies in another band"
    wrong = 1 - up.accuracy  # paired: every face was right before
    assert up.error == pytest.approx(np.sqrt(wrong * (1 - wrong) / 20), rel=1e-6)


def test_the_framing_table_is_the_named_six_crops() -> None:
    assert [(k.corruption, k.variant) for k in FRAMING] == [
        ("scale", "tighter"),
        ("scale", "looser"),
        *(("translation", way) for way in ("left", "right", "up", "down")),
    ]
    strengths = {CORRUPTIONS[k.corruption].strengths[k.severity - 1] for k in FRAMING}
    assert strengths == {15, 10}
    report = robustness(
        bars, faces(), classes=FER2013, corruptions=["scale", "translation"], severities=[3]
    )
    rows = report.framing
    four = [rows[f"shifted by 10 % {way}"].accuracy for way in ("left", "right", "up", "down")]
    assert rows["shifted by 10 %, mean of 4"].accuracy == pytest.approx(np.mean(four))
    assert run(faces(), corruptions=["jpeg"], severities=[1]).framing == {}  # type: ignore[attr-defined]


def test_order_and_batch_change_no_answer() -> None:
    data = faces(20)
    shuffled = data.take(np.random.default_rng(3).permutation(20))
    part = {"corruptions": ["gaussian_noise", "motion_blur"], "severities": [4]}
    one = run(data, **part)
    other = run(shuffled, batch_size=3, **part)
    for a, b in zip(one.cells, other.cells, strict=True):  # type: ignore[attr-defined]
        assert (a.correct == b.correct).all()


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data, calls = faces(), []

    def counted(images: Faces) -> NDArray[np.float64]:
        calls.append(len(images))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return bars(images)

    options = {"classes": FER2013, "corruptions": ["jpeg"], "out": tmp_path, "model": {"name": "b"}}
    with pytest.raises(KeyboardInterrupt):
        robustness(counted, data, **options)  # type: ignore[arg-type]
    assert len(list((tmp_path / "predictions").iterdir())) == 4  # clean, and three severities
    seen: list[tuple[str, int, bool]] = []
    report = robustness(
        counted,
        data,
        on_cell=lambda name, severity, accuracy, again: seen.append((name, severity, again)),
        **options,  # type: ignore[arg-type]
    )
    assert [again for *_, again in seen] == [True, True, True, True, False, False]
    assert len(calls) == 7
    whole = run(data, corruptions=["jpeg"])
    for a, b in zip(report.cells, whole.cells, strict=True):  # type: ignore[attr-defined]
        assert (a.correct == b.correct).all()
        assert a.confidence == pytest.approx(b.confidence, abs=1e-5)


def test_kept_predictions_of_another_run_are_never_taken(tmp_path: Path) -> None:
    part = {"corruptions": ["jpeg"], "severities": [1], "out": tmp_path}
    first = run(faces(), model={"name": "a"}, **part)

    def angry(images: Faces) -> NDArray[np.float64]:
        return np.eye(7)[np.zeros(len(images), np.int64)]

    other = robustness(angry, faces(), classes=FER2013, model={"name": "b"}, **part)  # type: ignore[arg-type]
    assert other.clean.accuracy != first.clean.accuracy  # type: ignore[attr-defined]
    assert run(faces(), model={"name": "a"}, limit=9, **part).n == 9  # type: ignore[attr-defined]
    for path in (tmp_path / "predictions").iterdir():
        path.write_bytes(b"PK")
    with pytest.raises(DataError, match="is damaged"):
        run(faces(), model={"name": "a"}, **part)


def test_a_limit_takes_the_same_faces_for_everyone() -> None:
    data = faces(50)
    few, more = subset(data, 10), subset(data.take(np.arange(50)[::-1]), 20)
    assert len(few) == 10
    assert set(few.ids.tolist()) < set(more.ids.tolist())
    with pytest.raises(DataError, match="at least 1"):
        subset(data, 0)
    with pytest.raises(DataError, match="48×48"):
        subset(dataclasses.replace(data, images=data.images[:, ::2, ::2]), None)
    with pytest.raises(DataError, match="no samples"):
        subset(data.take(np.arange(0)), None)


def test_a_callable_of_another_shape_is_told() -> None:
    with pytest.raises(ModelError, match=r"\(24, 3\)"):
        robustness(lambda x: np.full((len(x), 3), 1 / 3), faces(), classes=FER2013)


def test_reports_and_the_corruption_error(tmp_path: Path) -> None:
    part = {"corruptions": ["jpeg", "translation"], "severities": [3, 5]}
    good = run(faces(), model={"name": "good"}, **part)

    def worse(images: Faces) -> NDArray[np.float64]:
        p = bars(images)
        p[:, 0] += 3  # says "angry" to all
        return p / p.sum(axis=1, keepdims=True)

    bad = robustness(worse, faces(), classes=FER2013, model={"name": "bad"}, **part)  # type: ignore[arg-type]
    paths = write_report(bad, tmp_path / "bad")
    assert sorted(p.name for p in paths.values()) == [
        "curves.svg",
        "robustness.html",
        "robustness.json",
        "robustness.md",
    ]
    record = read_report(paths["json"])
    assert record["fer2013c"] == record["run"]["version"] == VERSION
    assert record["corruptions"]["translation"]["severities"]["5"]["variants"].keys() == {
        "left",
        "right",
        "up",
        "down",
    }
    against = corruption_error(good, record)  # type: ignore[arg-type]
    errors = {
        name: sum(1 - good.cell(name, s).accuracy for s in (3, 5))  # type: ignore[attr-defined]
        / sum(1 - bad.cell(name, s).accuracy for s in (3, 5))
        for name in ("jpeg", "translation")
    }
    assert against["by_corruption"] == pytest.approx(errors, abs=1e-5)
    assert against["mce"] == pytest.approx(np.mean(list(errors.values())), abs=1e-5)
    assert against["baseline"] == "bad"
    assert corruption_error(bad, record)["mce"] == 1.0
    text = to_markdown(good, against)  # type: ignore[arg-type]
    assert "| JPEG |" in text
    assert "relative to bad" in text
    with pytest.raises(DataError, match="same samples"):
        corruption_error(run(faces(), limit=8, **part), record)  # type: ignore[arg-type]
    page = paths["html"].read_text(encoding="utf-8")
    assert "<script" not in page
    assert "src=" not in page


def test_private_test_carries_its_note() -> None:
    part = {"corruptions": ["jpeg"], "severities": [1]}
    assert "once" in run(faces(), split="PrivateTest", **part).notes[0]  # type: ignore[attr-defined]
    assert run(faces(), split="PublicTest", **part).notes == ()  # type: ignore[attr-defined]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """Drawn images as FER2013's CSV with all three splits."""
    data = faces(42, seed=5)
    usage = ["Training", "PublicTest", "PrivateTest"]
    lines = ["emotion,pixels,Usage"]
    for i in range(42):
        pixels = " ".join(map(str, data.images[i].ravel().tolist()))
        lines.append(f"{data.labels[i]},{pixels},{usage[i // 7 % 3]}")
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_command(tmp_path: Path, csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_onnx(tmp_path / "m.onnx", size=64)  # not 48: the faces are enlarged
    out = tmp_path / "out"
    arguments = ["robustness", str(model), "--data", str(csv), "--corruption", "scale"]
    arguments += ["--corruption", "translation", "--severity", "3", "--out", str(out), "--json"]
    assert main(arguments) == 0
    first = capsys.readouterr()
    record = json.loads(first.out)
    assert record["run"]["n"] == 14
    assert len(record["framing"]) == 7
    assert "kept from an earlier run" not in first.err
    again = [*arguments[:-1], "--baseline", str(out / "robustness.json")]
    assert main(again) == 0
    second = capsys.readouterr()
    assert second.err.count("kept from an earlier run") == 3
    assert "mean 1.000" in second.out
    assert "15 % tighter" in second.out
    # A baseline that does not fit is said before anything is scored.
    assert main([*again, "--limit", "7", "--out", str(tmp_path / "new")]) == 2
    assert "The baseline has another n (14 and not 7)" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert main([*again, "--flip", "--out", str(tmp_path / "new")]) == 2
    assert "another tta ('none' and not 'flip')" in capsys.readouterr().err


def test_the_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    assert main(["robustness", "--sheet", str(tmp_path / "sheet.png")]) == 0
    sheet = cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_GRAYSCALE)
    assert sheet.shape[1] > 1000
    assert sheet.std() > 30


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "MODEL"),
        (["mien_distilled", "--corruption", "noise"], "Unknown corruption"),
        (["mien_distilled", "--split", "nowhere"], "no split"),
        (["mien_distilled", "--baseline", "none.json"], "none.json"),
        (["--sheet", "sheet.txt"], "name it .png"),
        (["mien_distilled", "--photo", "x.jpg"], "--sheet"),
    ],
)
def test_wrong_options_are_one_sentence(
    arguments: list[str], word: str, csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["robustness", *arguments, "--data", str(csv)]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert error.count("\n") == 1
