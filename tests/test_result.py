"""A Result at a prompt, in a notebook, in a web application; priors and devices of an Analyzer."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers_onnx import make_onnx
from PIL import Image

import mien
from mien._system import file_sha256
from mien.cli import main
from mien.emotions import CKPLUS, FER2013_PRIOR, Emotion
from mien.errors import ImageError, MissingExtraError, ModelError, OutputError
from mien.modelinfo import ModelInfo, prior_weights
from mien.onnxfile import runtime
from mien.pipeline import Analyzer
from mien.results import Box, Face, Result
from mien.sinks import columns

PHOTO = Path(mien.__file__).parent / "assets" / "astronaut.jpg"
FACES = np.random.default_rng(0).integers(0, 256, (5, 48, 48), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("result")
    return make_onnx(folder / "tiny.onnx", training_data="fer2013", protocol="fer2013")


@pytest.fixture(scope="module")
def analyzer(model):
    return Analyzer(model)


@pytest.fixture(scope="module")
def result(analyzer):
    return analyzer.analyze(PHOTO)


def test_repr_is_one_line_and_short(result):
    assert repr(result).startswith("<Result ")
    assert "astronaut.jpg 512×512, 1 face: " in repr(result)
    assert f"{result.faces[0].emotion} {result.faces[0].confidence:.2f}" in repr(result)
    many = dataclasses.replace(result, faces=result.faces * 400, source="a\nb\x1b[2J")
    assert "\n" not in repr(many)
    assert "\x1b" not in repr(many)
    assert "400 faces" in repr(many)
    assert len(repr(many)) < 250
    assert "\n" not in repr(result.faces[0])


def test_every_machine_readable_output_names_model_hash_and_version(model, result, capsys):
    digest = file_sha256(model)
    record = result.to_dict()
    assert (record["model"], record["model_sha256"]) == ("tiny", digest)
    assert record["mien_version"] == mien.__version__
    assert Result.from_dict(record).to_dict() == record
    older = {k: v for k, v in record.items() if k not in ("model_sha256", "mien_version")}
    assert Result.from_dict(older).model_sha256 == ""
    assert main(["predict", str(PHOTO), "--model", str(model), "--csv", "-"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    cells = dict(zip(head.split(","), row.split(","), strict=True))
    assert cells["model_sha256"] == digest
    assert cells["mien_version"] == mien.__version__
    assert main(["predict", str(PHOTO), "--model", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model_sha256"] == digest


def test_save_by_suffix(result, tmp_path):
    result.save(tmp_path / "r.json")
    assert Result.from_dict(json.loads((tmp_path / "r.json").read_text())).faces == tuple(
        Result.from_dict(result.to_dict()).faces
    )
    result.save(tmp_path / "r.csv")
    result.to_csv(tmp_path / "again.csv")
    assert (tmp_path / "r.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()
    plain = cv2.imread(str(PHOTO))
    for name in ("r.png", "r.JPG", "r.webp"):
        result.save(tmp_path / name)
        drawn = cv2.imread(str(tmp_path / name))
        assert drawn.shape == plain.shape
        assert (np.abs(drawn.astype(int) - plain) > 60).any(axis=2).mean() > 0.005
    with pytest.raises(OutputError, match=r"r\.gif ends in none of"):
        result.save(tmp_path / "r.gif")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "again.csv",
        "r.JPG",
        "r.csv",
        "r.json",
        "r.png",
        "r.webp",
    ]


def test_the_image_is_found_again_without_being_held(analyzer, tmp_path):
    array = cv2.imread(str(PHOTO))
    result = analyzer.analyze(array, color="bgr")
    assert result._repr_png_()[:4] == b"\x89PNG"
    assert "data:image/jpeg" in result._repr_html_()
    kept = array.copy()
    del array
    gc.collect()
    assert result._repr_png_() is None
    assert "<img" not in result._repr_html_()
    assert f"<td>{result.faces[0].emotion}</td>" in result._repr_html_()
    with pytest.raises(OutputError, match="is gone; give it"):
        result.save(tmp_path / "r.png")
    result.save(tmp_path / "r.png", kept, color="bgr")
    result.save(tmp_path / "path.png", PHOTO)
    with pytest.raises(OutputError, match="not the image of this result"):
        result.save(tmp_path / "no.png", kept[:100], color="bgr")
    from_bytes = analyzer.analyze(PHOTO.read_bytes(), source=str(PHOTO))
    assert from_bytes._repr_png_() is None  # a name that a client gave is no path to read
    again = pickle.loads(pickle.dumps(analyzer.analyze(PHOTO)))
    assert again == analyzer.analyze(PHOTO)
    assert again._repr_png_() is None


def test_nothing_is_written_over_the_image_itself(analyzer, tmp_path):
    path, link, odd = tmp_path / "own.jpg", tmp_path / "link.png", tmp_path / "photo.orig"
    shutil.copy(PHOTO, path)
    shutil.copy(PHOTO, odd)
    link.symlink_to(path)
    opened = Image.open(path)
    results = analyzer.analyze(path), analyzer.analyze(str(link)), analyzer.analyze(opened)
    for result in results:
        for target in (path, link):
            with pytest.raises(OutputError, match="is the image that was read"):
                result.save(target)
    with pytest.raises(OutputError, match="is the image that was read"):
        analyzer.analyze(path.read_bytes()).save(path, path)
    with pytest.raises(OutputError, match="is the image that was read"):
        analyzer.analyze(odd).to_csv(odd)
    with path.open("rb") as file:
        result = analyzer.analyze(file)
        named = result, pickle.loads(pickle.dumps(analyzer.analyze(path)))
        file.seek(0)
        for result, image in itertools.product(named, (file, Image.open(PHOTO))):
            with pytest.raises(OutputError, match="is the image that was read"):
                result.save(path, image)
    assert path.read_bytes() == odd.read_bytes() == PHOTO.read_bytes()


def test_an_image_too_long_for_its_format_says_so(analyzer, tmp_path, capfd):
    image = np.full((20, 66_000, 3), 90, np.uint8)
    result = analyzer.analyze(image, color="bgr")
    with pytest.raises(OutputError, match=r"66,000×20 is more than \.webp holds \(16,383 a side\)"):
        result.save(tmp_path / "x.webp")
    with pytest.raises(OutputError, match=r"more than \.jpg holds .*save it as \.png"):
        result.save(tmp_path / "x.JPG")
    assert "<img" not in result._repr_html_()
    result.save(tmp_path / "x.png")
    assert capfd.readouterr().err == ""


def test_an_image_that_is_given_may_have_a_range(analyzer, tmp_path):
    array = cv2.imread(str(PHOTO)) / 255
    result = analyzer.analyze(array, color="bgr", value_range=(0, 1))
    result.save(tmp_path / "a.png", array, color="bgr", value_range=(0, 1))
    with pytest.raises(ImageError, match=r"value_range=\(0, 1\)"):
        result.save(tmp_path / "b.png", array, color="bgr")


def test_a_result_without_a_face_has_the_columns_of_its_model(tmp_path):
    analyzer = Analyzer(make_onnx(tmp_path / "ck.onnx", CKPLUS))
    frames = [Image.new("RGB", (512, 512)), Image.open(PHOTO)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    results = analyzer.analyze(tmp_path / "a.gif"), analyzer.analyze(FACES[0])
    assert [(r.frame, len(r.faces)) for r in results] == [(1, 1), (None, 0)]
    for result in results:
        result.to_csv(tmp_path / "t.csv")
        head = (tmp_path / "t.csv").read_text().splitlines()[0]
        assert head.split(",") == list(columns(CKPLUS))


def test_another_file_of_that_name_is_not_drawn_on(analyzer, tmp_path):
    path = tmp_path / "p.jpg"
    shutil.copy(PHOTO, path)
    result = analyzer.analyze(path)
    assert result._repr_png_() is not None
    for size in (40, 512):
        cv2.imwrite(str(path), np.zeros((size, size, 3), np.uint8))
        assert result._repr_png_() is None
    path.unlink()
    assert result._repr_png_() is None


def test_a_path_in_bytes_and_a_pipe(analyzer, tmp_path):
    shutil.copy(PHOTO, tmp_path / "p.jpg")
    (entry,) = os.scandir(os.fsencode(tmp_path))
    assert analyzer.analyze(entry)._repr_png_() is not None
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(pipe.write_bytes, PHOTO.read_bytes())
        result = analyzer.analyze(pipe)
    with pytest.raises(OutputError, match="is gone; give it"):
        result.save(tmp_path / "a.png")


def test_a_pickled_analyzer_has_the_prior_of_the_model_it_loads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = make_onnx(Path("m.onnx"), training_data="fer2013", protocol="fer2013")
    pickled = pickle.dumps(Analyzer(path, prior="balanced"))
    prior = dict.fromkeys(CKPLUS, 0.02) | {Emotion.HAPPY: 1.02 - 0.02 * len(CKPLUS)}
    make_onnx(Path("m.onnx"), CKPLUS, prior=prior)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir("sub")
    again, anew = pickle.loads(pickled), Analyzer(tmp_path / "m.onnx", prior="balanced")
    assert again.analyze(PHOTO) == anew.analyze(PHOTO)


def test_html_is_escaped():
    face = Face(Box(1, 1, 5, 5), {Emotion.HAPPY: 0.9, Emotion.SAD: 0.1})
    text = Result((face,), 9, 9, "<script>alert(1)</script>.jpg")._repr_html_()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_to_df_has_the_columns_of_the_csv(result, tmp_path):
    pd = pytest.importorskip("pandas")
    frame = result.to_df()
    result.to_csv(tmp_path / "t.csv")
    assert list(frame.columns) == list(pd.read_csv(tmp_path / "t.csv").columns)
    assert frame.loc[0, "emotion"] == result.faces[0].emotion.value
    empty = dataclasses.replace(result, faces=())
    assert len(empty.to_df()) == 1


def test_without_pandas_one_sentence(result, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="pip install pandas"):
        result.to_df()


def test_a_web_application_keeps_emotion_and_confidence(result):
    fastapi = pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    app = fastapi.FastAPI()
    app.get("/plain")(lambda: result)
    app.get("/list", response_model=list[mien.Result])(lambda: [result])
    app.get("/typed", response_model=mien.Result)(lambda: result)
    client = TestClient(app)
    answers = [client.get(place).json() for place in ("/plain", "/list", "/typed")]
    assert "emotion" in client.get("/openapi.json").text
    for answer in (answers[0], answers[1][0], answers[2]):
        (face,) = answer["faces"]
        assert face["emotion"] == result.faces[0].emotion.value
        assert face["confidence"] == pytest.approx(result.faces[0].confidence)
        assert face["probabilities"].keys() == {e.value for e in result.faces[0].probabilities}


def test_faces_and_results_are_keys(result):
    again = Result.from_dict(result.to_dict())
    same = pickle.loads(pickle.dumps(result))
    assert same == result
    assert hash(same) == hash(result)
    assert hash(same.faces[0]) == hash(result.faces[0])
    face = result.faces[0]
    other = dataclasses.replace(face, probabilities=dict(reversed(face.probabilities.items())))
    assert (other, hash(other)) == (face, hash(face))
    unsure = dataclasses.replace(face, unsure=not face.unsure)
    assert set(result.faces) | set(same.faces) | {other} == {face}
    assert len({face, unsure, dataclasses.replace(face, track=1)}) == 3
    assert {result: 1}[same] == 1
    assert Result.from_dict(result.to_dict()) in {again}


def test_a_replaced_face_is_named_anew():
    face = Face(Box(0, 0, 1, 1), {Emotion.HAPPY: 0.9, Emotion.SAD: 0.1})
    other = dataclasses.replace(face, probabilities={Emotion.HAPPY: 0.2, Emotion.SAD: 0.8})
    assert (other.emotion, other.confidence) == (Emotion.SAD, 0.8)


def test_prior_is_undone_by_arithmetic(model):
    plain, balanced = Analyzer(model), Analyzer(model, prior="balanced", flip=False)
    shares = np.array(list(FER2013_PRIOR.values()))
    assert shares.sum() == pytest.approx(1)
    assert FER2013_PRIOR[Emotion.DISGUST] == pytest.approx(436 / 28709)
    for face in FACES:
        p = np.array(list(plain.analyze(face, faces=True).faces[0].probabilities.values()))
        got = balanced.analyze(face, faces=True).faces[0].probabilities
        want = p / shares
        np.testing.assert_allclose(list(got.values()), want / want.sum(), atol=1e-6)
        same = mien.predict(face, faces=True, model=model, prior="fer2013").faces[0].probabilities
        np.testing.assert_allclose(list(same.values()), p, atol=1e-6)


def test_a_record_may_state_its_prior(tmp_path):
    prior = {Emotion.HAPPY: 0.75, Emotion.SAD: 0.25}
    labels = (Emotion.HAPPY, Emotion.SAD)
    info = ModelInfo("two", labels, prior=prior)
    assert ModelInfo.from_metadata(info.to_metadata()).prior == prior
    assert prior_weights(info, "balanced") == pytest.approx((0.5 / 0.75, 2.0))
    with pytest.raises(ModelError, match="prior is 'fer2013'"):
        prior_weights(info, "fer2013")
    with pytest.raises(ModelError, match="does not state the prior"):
        prior_weights(ModelInfo("two", labels), "balanced")
    path = make_onnx(tmp_path / "ck.onnx", CKPLUS)
    with pytest.raises(ModelError, match="leave prior out"):
        Analyzer(path, prior="balanced")


def test_prior_and_device_on_the_command_line(model, capsys):
    words = ["predict", str(PHOTO), "--model", str(model), "--json"]
    assert main([*words, "--prior", "balanced", "--device", "auto"]) == 0
    balanced = json.loads(capsys.readouterr().out)["faces"][0]["probabilities"]
    want = Analyzer(model, prior="balanced").analyze(PHOTO).faces[0].to_dict()["probabilities"]
    assert balanced == want
    assert main([*words, "--prior", "world"]) == 2
    assert "prior is 'world'; expected balanced" in capsys.readouterr().err
    assert main([*words, "--device", "gpu"]) == 2
    assert "Unknown device 'gpu'; known: auto, cuda" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_one_sentence(model):
    there = runtime.onnxruntime().get_available_providers()
    absent = [name for name, provider in runtime.DEVICES.items() if provider not in there]
    assert absent, "this onnxruntime has every provider"
    for name in absent:
        with pytest.raises(ModelError, match=f"has no {runtime.DEVICES[name]}"):
            Analyzer(model, providers=name)
    with pytest.raises(ModelError, match="providers is empty"):
        Analyzer(model, providers=())
    options = {"arena_extend_strategy": "kSameAsRequested"}
    given = Analyzer(model, providers=[("CPUExecutionProvider", options)])
    assert given.analyze(FACES[0], faces=True).faces
    for providers in (["CPUExecutionProvider"], [("CPUExecutionProvider", options)]):
        assert mien.predict(FACES[0], faces=True, model=model, providers=providers)
