"""From a photo to a Result: crops, batches, arrays, streams and errors."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from helpers_onnx import make_onnx

import mien
from mien.detect import Detection, load_detector
from mien.detect.haar import Haar
from mien.detect.views import View
from mien.emotions import FER2013
from mien.errors import ImageError, ModelError
from mien.modelinfo import ModelInfo
from mien.preprocess import crop_face, face_square, smoothed, softmax, whole_face
from mien.results import Box, Result
from mien.results.pose import roll_of
from mien.sources import find_images

INFO = ModelInfo(name="x", labels=FER2013)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_onnx(tmp_path_factory.mktemp("onnx") / "tiny.onnx")


@pytest.fixture(scope="module")
def analyzer(model):
    return mien.Analyzer(model)


@pytest.fixture
def photo(portrait, tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), portrait)
    return path


def test_every_form_of_a_photo_gives_the_same(analyzer, portrait, photo):
    want = analyzer.analyze(photo)
    assert want.source == str(photo)
    assert (want.width, want.height, want.detector, want.model) == (512, 512, "yunet", "tiny")
    (face,) = want.faces
    assert len(face.landmarks) == 5
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)
    rgb = np.ascontiguousarray(portrait[:, :, ::-1])
    with photo.open("rb") as stream:
        others = [
            analyzer.analyze(str(photo)),
            analyzer.analyze(photo.read_bytes()),
            analyzer.analyze(stream),
            analyzer.analyze(portrait, color="bgr"),
            analyzer.analyze(rgb, color="rgb"),
        ]
    assert [other.faces for other in others] == [want.faces] * 5


def test_results_go_to_json_and_back(analyzer, photo):
    result = analyzer.analyze(photo)
    back = Result.from_dict(json.loads(json.dumps(result.to_dict())))
    assert back.to_dict() == result.to_dict()


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_a_detector_may_give_numbers_of_numpy(model, photo, kind):
    class Own:
        name = "own"

        def detect(self, image):
            box = Box(*np.array([170, 60, 100, 110], kind))
            points = np.array([[200, 100], [240, 100], [220, 120], [205, 140], [235, 140]], kind)
            given = points if kind is np.int32 else tuple(map(tuple, points))
            return (Detection(box, np.float32(0.9), given),)

    record = mien.Analyzer(model, detector=Own()).analyze(photo).to_dict()
    assert json.loads(json.dumps(record)) == record


def test_no_face_is_an_answer(analyzer):
    grey = np.full((200, 300), 90, np.uint8)
    assert analyzer.analyze(grey).faces == ()


def test_declared_faces_are_not_detected(analyzer):
    face = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    result = analyzer.analyze(face, faces=True)
    want = analyzer.classifier.predict_proba(face[None])[0]
    assert result.detector == "none"
    assert result.faces[0].detection_score is None
    assert result.faces[0].box == Box(0, 0, 48, 48)
    np.testing.assert_allclose(list(result.faces[0].probabilities.values()), want, atol=1e-6)


def test_many_equals_one_by_one_and_uses_one_call(analyzer, portrait, monkeypatch):
    blank = np.full((100, 100, 3), 9, np.uint8)
    images = [portrait, blank, np.ascontiguousarray(portrait[:, ::-1]), portrait]
    want = [analyzer.analyze(p, color="bgr") for p in images]
    calls = []
    real = analyzer.classifier.predict_proba

    def counted(faces, **options):
        calls.append(len(faces))
        return real(faces, **options)

    monkeypatch.setattr(analyzer.classifier, "predict_proba", counted)
    got = list(analyzer.analyze_many(images, color="bgr"))
    assert calls == [3]
    assert [len(r.faces) for r in got] == [1, 0, 1, 1]
    for a, b in zip(got, want, strict=True):
        assert [f.box for f in a.faces] == [f.box for f in b.faces]
        for x, y in zip(a.faces, b.faces, strict=True):
            assert x.emotion == y.emotion
            assert x.confidence == pytest.approx(y.confidence, abs=1e-5)


def test_a_stream_is_taken_lazily(analyzer, portrait):
    taken = []

    def images():
        for i in range(100):
            taken.append(i)
            yield portrait

    stream = analyzer.analyze_many(images(), color="bgr", chunk=2)
    next(stream)
    assert len(taken) <= 3


def test_a_bad_image_is_reported_and_the_rest_goes_on(analyzer, photo, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no")
    problems = []
    got = list(
        analyzer.analyze_many(
            [bad, photo, tmp_path / "none.png", b""],
            on_error=lambda name, error: problems.append((name, str(error))),
        )
    )
    assert [r.source for r in got] == [str(photo)]
    assert [name for name, _ in problems] == [str(bad), str(tmp_path / "none.png"), "image 3"]
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        list(analyzer.analyze_many([bad]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"detector": None}, "detector is None; expected 'yunet', 'haar' or an object with"),
        ({"detector": 3}, "detector is 3"),
        ({"detector": Haar}, r"detector is <class .*Haar'>"),
        ({"threads": 1.5}, "threads is 1.5; expected a whole number, 1 or more"),
        ({"threads": "2"}, "threads is '2'; expected a whole"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_built(model, photo, options, words):
    for build in (mien.Analyzer, lambda model, **o: mien.predict(photo, model=model, **o)):
        with pytest.raises(ModelError, match=words):
            build(model, **options)
    assert mien.Analyzer(model, threads=np.int64(1)).analyze(photo).faces


def test_min_confidence_leaves_faces_out(model, portrait):
    sure = mien.Analyzer(model).analyze(portrait, color="bgr").faces[0].confidence
    assert mien.Analyzer(model, min_confidence=sure - 0.01).analyze(portrait, color="bgr").faces
    above = mien.Analyzer(model, min_confidence=sure + 0.01).analyze(portrait, color="bgr")
    assert above.faces == ()
    with pytest.raises(ModelError, match="min_confidence is 3"):
        mien.Analyzer(model, min_confidence=3)


def test_colour_order_must_be_said(analyzer, portrait):
    with pytest.raises(ImageError, match="say color='bgr'"):
        analyzer.analyze(portrait)


def test_threads_share_an_analyzer(analyzer, portrait):
    want = analyzer.analyze(portrait, color="bgr")
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(lambda _: analyzer.analyze(portrait, color="bgr"), range(8))
        assert all(run == want for run in runs)


def test_predict_takes_one_or_a_list(model, photo):
    one = mien.predict(photo, model=model)
    assert isinstance(one, Result)
    assert [r.faces for r in mien.predict([photo, str(photo)], model=model)] == [one.faces] * 2
    assert mien.predict([], model=model) == []
    haar = mien.predict(photo, model=model, detector="haar")
    assert haar.faces[0].landmarks == ()
    assert haar.detector == "haar"


def test_a_model_file_written_anew_is_loaded_anew(tmp_path, photo):
    path = make_onnx(tmp_path / "m.onnx", seed=1)
    first = mien.predict(photo, model=path)
    make_onnx(path, seed=2)
    os.utime(path, ns=(1, 1))  # whatever the clock's steps
    assert mien.predict(photo, model=path).faces[0] != first.faces[0]


def test_one_image_is_no_list(analyzer, photo):
    with pytest.raises(ModelError, match="for one there is analyze"):
        analyzer.analyze_many(str(photo))
    for counts in ({"chunk": 1.5}, {"workers": "2"}, {"workers": 0}):
        with pytest.raises(ModelError, match="expected a whole number, 1 or more"):
            analyzer.analyze_many([photo], **counts)


def test_a_turned_face_is_levelled(portrait):
    (upright,) = load_detector().detect(portrait)
    expected = crop_face(portrait, upright, INFO).astype(int)
    for angle in (30, 90, 180, 250):
        view = View.whole(portrait, *portrait.shape[:2]).turned(-angle)
        points = np.array(upright.landmarks) @ view.matrix[:, :2].T + view.matrix[:, 2]
        x, y = view.matrix[:, :2] @ upright.box.center + view.matrix[:, 2]
        w, h = upright.box.width, upright.box.height
        turned = Detection(Box(x - w / 2, y - h / 2, w, h), 0.9, tuple(map(tuple, points)))
        level = crop_face(view.image, turned, INFO).astype(int)
        leaning = math.radians(roll_of(upright.landmarks))
        matrix = cv2.getRotationMatrix2D((23.5, 23.5), math.degrees(leaning), 1)
        wanted = cv2.warpAffine(expected.astype(np.uint8), matrix, (48, 48)).astype(int)
        assert np.abs(level - wanted)[8:40, 8:40].mean() < 12, angle


@pytest.mark.parametrize(("gain", "offset"), [(0.06, 0), (0.12, 0), (0.2, 150)])
def test_dark_and_pale_faces_are_spread(portrait, gain, offset):
    (face,) = load_detector().detect(portrait)
    plain = crop_face(portrait, face, INFO)
    poor = (portrait * gain + offset).round().astype(np.uint8)
    spread = crop_face(poor, face, INFO)
    assert np.percentile(spread, 99) - np.percentile(spread, 1) > 180
    assert np.corrcoef(spread.ravel(), plain.ravel())[0, 1] > 0.97
    whole = whole_face(poor, INFO)
    assert whole.max() - whole.min() > 180
    flat = np.full((60, 60, 3), 90, np.uint8)
    assert set(whole_face(flat, INFO).ravel()) == {90}


def test_usual_faces_are_not_spread(portrait):
    (face,) = load_detector().detect(portrait)
    dimmer = (portrait * 0.8).astype(np.uint8)
    assert crop_face(dimmer, face, INFO).max() <= 0.8 * 255


def test_crop_places_the_square_exactly(monkeypatch):
    monkeypatch.setattr("mien.images.pixels.LEAST_RANGE", 0)  # else the ramp would be spread
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    same = crop_face(ramp, Box(100, 50, 48, 48), INFO)
    assert np.array_equal(same[0], np.arange(100, 148))
    double = crop_face(ramp, Box(100, 50, 96, 96), INFO)
    assert np.abs(double[0].astype(int) - (100.5 + 2 * np.arange(48))).max() <= 1
    outside = crop_face(ramp, Box(-24, -24, 48, 48), INFO)
    assert (outside[:, :24] == 0).all()  # the edge is repeated
    assert outside[0, -1] == 23
    assert crop_face(ramp, Box(900, 900, 48, 48), INFO).max() == 255  # wholly outside
    wider = ModelInfo(name="x", labels=FER2013, crop_scale=2.0)
    assert np.array_equal(crop_face(ramp, Box(100, 50, 48, 48), wider)[0], double[0] - 24)


def test_frame_follows_the_landmarks():
    points = tuple(
        (float(x), float(y)) for x, y in [(40, 40), (60, 40), (50, 50), (42, 60), (58, 60)]
    )
    level = face_square(Detection(Box(30, 20, 40, 50), 0.9, points))
    moved = face_square(
        Detection(Box(130, 70, 40, 50), 0.9, tuple((x + 100, y + 50) for x, y in points))
    )
    assert level.width == level.height == pytest.approx(1.11 * (40 * 50) ** 0.5)
    assert (moved.x - level.x, moved.y - level.y) == pytest.approx((100, 50))


def test_whole_face_keeps_native_pixels():
    face = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    assert np.array_equal(whole_face(face, INFO), face)
    assert np.array_equal(whole_face(np.repeat(face[..., None], 3, 2), INFO), face)
    assert whole_face(np.repeat(face, 3, 0), INFO).shape == (48, 48)


@pytest.mark.data
def test_yunet_crops_are_framed_as_fer2013(fer2013):
    """Faces pasted into a canvas come back within 6 % (median) of their own frame."""
    from mien.detect import load_detector

    faces = fer2013.images[:2800:28]
    detector, errors = load_detector(), []
    for face in faces:
        canvas = cv2.copyMakeBorder(
            cv2.resize(face, (192, 192), interpolation=cv2.INTER_CUBIC),
            *(100, 188, 120, 168),
            borderType=cv2.BORDER_REPLICATE,
        )
        found = detector.detect(cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR))
        if found:
            square = face_square(found[0])
            got = [square.x, square.y, square.x + square.width, square.y + square.height]
            errors.append(np.abs(np.array(got) - [120, 100, 312, 292]) / 192)
    assert len(errors) > 80
    assert np.median(errors) < 0.06


def test_sources(tmp_path, photo):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "sub/c.webp"):
        (folder / name).write_bytes(b"x")
    names = [p.relative_to(folder).as_posix() for p in find_images([folder])]
    assert names == ["a.JPG", "b.png", "sub/c.webp"]
    flat = list(find_images([folder], recursive=False))
    assert len(flat) == 2
    assert list(find_images([str(folder / "*.png"), "-"])) == [folder / "b.png", "-"]
    problems = []
    inputs = [tmp_path / "none.png", tmp_path / "*.gif", folder]
    got = list(find_images(inputs, on_error=lambda name, error: problems.append(str(error))))
    assert len(got) == 3
    assert "does not exist" in problems[0]
    assert "No file matches" in problems[1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="holds no images"):
        list(find_images([tmp_path / "empty"]))


def test_importing_mien_is_light_and_names_resolve():
    code = (
        "import sys, mien; heavy = {'numpy', 'cv2', 'onnxruntime', 'torch'} & set(sys.modules);"
        "assert not heavy, heavy; [getattr(mien, n) for n in mien.__all__];"
        "assert 'torch' not in sys.modules and 'PIL' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError):
        mien.nonesuch  # noqa: B018


def test_dots_of_black_and_white_alone_are_averaged() -> None:
    rng = np.random.default_rng(0)
    dots = np.repeat(rng.choice([0, 255], (32, 32, 1)).astype(np.uint8), 3, axis=2)
    assert (smoothed(dots) == cv2.GaussianBlur(dots, (0, 0), 1)).all()
    for row in (2, 20):  # one grey pixel, near the top or below
        grey = dots.copy()
        grey[row, 3] = 90
        assert smoothed(grey) is grey


def test_softmax_is_that_of_the_logits_unless_a_temperature_is_given() -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.2]]))
    np.testing.assert_allclose(softmax(logits), [[0.5, 0.3, 0.2]], rtol=1e-6)
    np.testing.assert_allclose(
        softmax(logits, 2), np.sqrt([[5, 3, 2]]) / np.sqrt([5, 3, 2]).sum(), rtol=1e-6
    )
