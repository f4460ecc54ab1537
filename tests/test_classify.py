"""The classifier session: what it computes, and which files it refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
from helpers_onnx import make_onnx

from mien.classify import Classifier, load_classifier
from mien.emotions import ALL, CKPLUS, FER2013
from mien.errors import ModelError
from mien.zoo import MODELS, model_path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return make_onnx(tmp_path_factory.mktemp("onnx") / "tiny.onnx", temperature=1.5)


@pytest.fixture(scope="module")
def faces():
    return np.random.default_rng(1).integers(0, 256, (21, 48, 48), dtype=np.uint8)


def test_logits_are_the_sessions_own(path, faces):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = ((faces / 255 - 0.5) / 0.25).astype(np.float32)[:, None]
    (want,) = session.run(None, {"images": x})
    np.testing.assert_allclose(Classifier(path).logits(faces), want, atol=1e-4)


def test_probabilities_use_the_temperature_and_sum_to_one(path, faces):
    classifier = Classifier(path, threads=1)
    p = classifier.predict_proba(faces)
    z = classifier.logits(faces) / 1.5
    want = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    np.testing.assert_allclose(p, want, atol=1e-5)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    assert p.dtype == np.float32


def test_batch_size_changes_nothing(path, faces):
    classifier = Classifier(path)
    want = classifier.predict_proba(faces, batch_size=64)
    for batch in (1, 4, 20):
        np.testing.assert_allclose(classifier.predict_proba(faces, batch), want, atol=1e-5)
    assert classifier.predict_proba(faces[:0]).shape == (0, 7)


def test_flip_averages_with_the_mirror(path, faces):
    classifier = Classifier(path)
    mirror = np.ascontiguousarray(faces[:, :, ::-1])
    want = (classifier.predict_proba(faces) + classifier.predict_proba(mirror)) / 2
    np.testing.assert_allclose(classifier.predict_proba(faces, flip=True), want, atol=1e-6)
    np.testing.assert_allclose(classifier.predict_proba(mirror, flip=True), want, atol=1e-5)


def test_threads_share_a_session(path, faces):
    classifier = Classifier(path)
    want = classifier.predict_proba(faces)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: classifier.predict_proba(faces), range(12)):
            np.testing.assert_array_equal(got, want)


def test_three_channels_and_other_labels(tmp_path, faces):
    path = make_onnx(tmp_path / "rgb.onnx", CKPLUS, channels=3)
    classifier = load_classifier(str(path))
    assert classifier.info.labels == CKPLUS
    assert classifier.predict_proba(faces).shape == (21, 7)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"outputs": 5}, "gives 5 outputs but names 7 labels"),
        ({"labels": CKPLUS[:4], "outputs": 7}, "gives 7 outputs but names 4 labels"),
        ({"metadata": {}}, "is not a mien model"),
        ({"metadata": {"mien": "{broken"}}, "damaged mien record"),
        ({"metadata": {"mien": '{"format_version": 99}'}}, "newer mien"),
        ({"batch": 1}, "fixed batch of 1"),
    ],
)
def test_contradictory_files_are_refused(tmp_path, options, sentence):
    path = make_onnx(tmp_path / "bad.onnx", **options)
    with pytest.raises(ModelError, match=sentence) as caught:
        Classifier(path)
    assert "bad.onnx" in str(caught.value)


def test_record_and_graph_must_agree_on_the_input(tmp_path):
    other = make_onnx(tmp_path / "other.onnx", size=64)
    session = onnxruntime.InferenceSession(str(other), providers=["CPUExecutionProvider"])
    record = session.get_modelmeta().custom_metadata_map
    path = make_onnx(tmp_path / "bad.onnx", size=48, metadata={"mien": record["mien"]})
    with pytest.raises(ModelError, match=r"its record says float32 \(N, 1, 64, 64\)"):
        Classifier(path)


def test_not_onnx(tmp_path, capfd):
    path = tmp_path / "text.onnx"
    for content in (b"hello", b"", bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"text\.onnx is not a m") as caught:
            Classifier(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_missing_names(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        load_classifier(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        load_classifier(tmp_path)
    with pytest.raises(ModelError, match="Unknown model 'nonesuch'"):
        load_classifier("nonesuch")


def test_wrong_faces(path, faces):
    classifier = Classifier(path)
    for bad in (faces[0], faces[:, :40], faces.astype(np.float32)):
        with pytest.raises(ModelError, match="takes uint8"):
            classifier.logits(bad)
    with pytest.raises(ModelError, match="threads is 0"):
        Classifier(path, threads=0)


def test_shipped_models_are_whole(shipped_model):
    for name in MODELS:
        info = load_classifier(name).info
        assert info.labels in (FER2013, ALL)
        assert model_path(name).stat().st_size <= 4_000_000
        assert info.scores
        assert info.licence
