"""Figures against scikit-learn, joins by id, reports, and the command on real faces."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("sklearn")
from helpers_onnx import make_onnx
from sklearn import metrics as sk

from mien.classify import load_classifier
from mien.cli import main
from mien.data import make_splits, read_dataset
from mien.data.dataset import FaceDataset, Splits, sha256_of_ids
from mien.data.duplicates import without_twins
from mien.data.photo_set import held_out_subject
from mien.data.splits import refuse_trained_on, splits_beside
from mien.emotions import ALL, CKPLUS, FER2013, Emotion
from mien.errors import DataError, ModelError
from mien.evaluate import (
    Predictions,
    evaluate,
    metrics,
    score,
    to_markdown,
    write_report,
)
from mien.evaluate.metrics import reliability, roc_curve, suspicions
from mien.evaluate.predictions import PredictionCache
from mien.evaluate.samples import samples_of
from mien.modelinfo import ModelInfo
from mien.report.plots import training_curves
from mien.robustness import robustness
from mien.train.folder import read_curves


def outcome(n: int = 700, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of an imperfect classifier over seven classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 7, n)
    logits = rng.normal(size=(n, 7)) + 1.5 * np.eye(7)[labels]
    p = np.exp(logits)
    return labels.astype(np.int64), p / p.sum(1, keepdims=True)


def faces(labels: np.ndarray, classes: tuple[Emotion, ...] = FER2013) -> FaceDataset:
    n = len(labels)
    images = np.random.default_rng(1).integers(0, 255, (n, 12, 12), dtype=np.uint8)
    blank = np.full(n, "", dtype=np.str_)
    ids = np.array([f"t:{i:05d}" for i in range(n)])
    return FaceDataset(images, labels, ids, classes, "drawn", blank, blank)


def lookup(data: FaceDataset, p: np.ndarray) -> object:
    """A predict callable that knows each image: its answer depends on the pixels alone."""
    table = {image.tobytes(): row for image, row in zip(data.images, p, strict=True)}
    return lambda batch: np.array([table[image.tobytes()] for image in batch])


def test_figures_agree_with_scikit_learn() -> None:
    labels, p = outcome()
    s = score(labels, p, FER2013)
    guess = p.argmax(1)
    expected = {
        "accuracy": sk.accuracy_score(labels, guess),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, guess),
        "macro_f1": sk.f1_score(labels, guess, average="macro"),
        "weighted_f1": sk.f1_score(labels, guess, average="weighted"),
        "macro_precision": sk.precision_score(labels, guess, average="macro"),
        "weighted_recall": sk.recall_score(labels, guess, average="weighted"),
        "cohen_kappa": sk.cohen_kappa_score(labels, guess),
        "top2_accuracy": sk.top_k_accuracy_score(labels, p, k=2),
        "nll": sk.log_loss(labels, p),
        "macro_roc_auc": sk.roc_auc_score(labels, p, multi_class="ovr"),
    }
    for name, value in expected.items():
        assert s.summary[name] == pytest.approx(value, abs=1e-9), name
    assert np.array_equal(s.confusion, sk.confusion_matrix(labels, guess))
    happy = s.per_class[Emotion.HAPPY]
    assert happy.average_precision == pytest.approx(
        sk.average_precision_score(labels == 3, p[:, 3])
    )
    curve = roc_curve(p[:, 3], labels == 3)
    assert curve is not None
    assert curve.area == pytest.approx(sk.roc_auc_score(labels == 3, p[:, 3]))


def test_interval_covers_the_binomial_error() -> None:
    labels, p = outcome(3589)
    low, high = score(labels, p, FER2013).intervals["accuracy"]
    accuracy = float((p.argmax(1) == labels).mean())
    error = 1.96 * np.sqrt(accuracy * (1 - accuracy) / len(labels))
    assert low == pytest.approx(accuracy - error, abs=0.003)
    assert high == pytest.approx(accuracy + error, abs=0.003)
    again = score(labels, p, FER2013).intervals["accuracy"]
    assert (low, high) == again


def test_calibration_error_of_known_cases() -> None:
    sure = np.full(1000, 0.9)
    right = np.arange(1000) < 900
    assert reliability(sure, right).ece == pytest.approx(0.0, abs=1e-9)
    assert reliability(sure, np.arange(1000) < 600).ece == pytest.approx(0.3)


def test_class_that_does_not_occur() -> None:
    labels, p = outcome()
    keep = labels != 1
    s = score(labels[keep], p[keep], FER2013)
    assert s.per_class[Emotion.DISGUST].support == 0
    assert np.isnan(s.per_class[Emotion.DISGUST].recall)
    assert np.isfinite(s.summary["macro_f1"])
    json.dumps(s.to_dict(), allow_nan=False)


def test_a_shuffled_loader_cannot_change_a_report() -> None:
    labels, p = outcome()
    data = faces(labels)
    predict = lookup(data, p)
    order = np.random.default_rng(5).permutation(len(data))
    one = evaluate(predict, data, classes=FER2013, batch_size=64).to_dict()
    two = evaluate(predict, data.take(order), classes=FER2013, batch_size=100).to_dict()
    for record in (one, two):
        for key in ("seconds", "faces_per_second", "created"):
            record.pop(key)
    assert one == two


def test_predictions_join_by_id_and_class_name() -> None:
    labels, p = outcome(200)
    data = faces(labels)
    order = np.random.default_rng(2).permutation(200)
    other = tuple(reversed(FER2013))  # the same model with its outputs listed otherwise
    shuffled = Predictions(data.ids[order], p[order][:, ::-1], other).join(data)
    accuracy = (shuffled.probabilities.argmax(1) == shuffled.labels).mean()
    assert accuracy == pytest.approx((p.argmax(1) == labels).mean())
    with pytest.raises(DataError, match="predicted twice"):
        Predictions(data.ids[[0, 0]], p[:2], FER2013)
    with pytest.raises(DataError, match="no prediction"):
        Predictions(data.ids[:-1], p[:-1], FER2013).join(data)
    with pytest.raises(DataError, match="has not"):
        Predictions(np.append(data.ids, "t:x"), np.append(p, p[:1], 0), FER2013).join(data)
    with pytest.raises(DataError, match="not probabilities"):
        Predictions(data.ids, p * 3, FER2013)


def test_the_njoku_mistake_is_noticed() -> None:
    """Labels in file order beside predictions in shuffled order: accuracy falls to chance."""
    labels, p = outcome(2000)
    order = np.random.default_rng(3).permutation(2000)
    wrong = metrics.confusion_matrix(labels, p[order].argmax(1), 7)
    assert any("different orders" in note for note in suspicions(wrong, FER2013))
    right = metrics.confusion_matrix(labels, p.argmax(1), 7)
    assert not suspicions(right, FER2013)
    turned = metrics.confusion_matrix((labels + 1) % 7, p.argmax(1), 7)
    assert any("wrong order" in note for note in suspicions(turned, FER2013))


def test_unknown_classes_are_refused_or_counted() -> None:
    labels, p = outcome(210)
    data = faces(labels, CKPLUS)
    predict = lookup(data, p)
    with pytest.raises(DataError, match="contempt"):
        evaluate(predict, data, classes=FER2013)
    report = evaluate(predict, data, classes=FER2013, exclude_unknown=True)
    assert report.n == int((labels != 6).sum())
    assert report.to_dict()["data"]["excluded"] == {"contempt": int((labels == 6).sum())}


def test_flip_averages_and_bad_shapes_are_refused() -> None:
    labels, _ = outcome(50)
    data = faces(labels)

    def left(batch: np.ndarray) -> np.ndarray:
        """Sure of class 0 in the left half's light, of class 1 otherwise: flipping matters."""
        light = batch[:, :, :6].mean((1, 2)) / batch.mean((1, 2)) / 2
        p = np.zeros((len(batch), 7))
        p[:, 0], p[:, 1] = light, 1 - light
        return p

    flipped = evaluate(left, data, classes=FER2013, flip=True)
    assert flipped.tta == "flip"
    assert flipped.scores.summary["mean_confidence"] == pytest.approx(0.5, abs=1e-6)
    with pytest.raises(ModelError):
        evaluate(lambda b: np.ones((len(b), 6)) / 6, data, classes=FER2013)


def test_twin_free_subset() -> None:
    labels, p = outcome(100)
    data = faces(labels)
    images = data.images.copy()
    images[:10] = images[50:60]
    twins = FaceDataset(images, labels, data.ids, FER2013, "drawn", data.splits, data.groups)
    test, train = twins.take(np.arange(50)), twins.take(np.arange(50, 100))
    ids = without_twins(test, train)
    assert ids.tolist() == test.ids[10:].tolist()
    report = evaluate(
        lambda b: np.tile(p[:1], (len(b), 1)), test, classes=FER2013, twin_free_ids=ids
    )
    assert report.to_dict()["twin_free"]["n"] == 40
    assert report.to_dict()["twin_free"]["removed"] == 10


def test_report_files(tmp_path: Path) -> None:
    labels, p = outcome()
    data = faces(labels)
    report = evaluate(
        lookup(data, p), data, classes=FER2013, model={"name": "m<script>"}, split="PublicTest"
    )
    record = report.to_dict()
    wanted = [
        "accuracy",
        "macro_f1",
        "n",
        "accuracy_ci",
        "twin_free",
        "ece",
        "per_class",
        "confusion",
    ]
    assert set(wanted) <= set(record)
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page.replace("m&lt;script&gt;", "")
    assert not re.search(r"(src|href)=[\"']?https?:", page), "the page asks the network"
    assert page.count("data:image/png;base64") > 5, "the mistakes' pictures are missing"
    assert json.loads((tmp_path / "report.json").read_text())["accuracy"] == record["accuracy"]
    assert "| angry |" in to_markdown(report)


def test_command_on_real_faces(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The validation split: tests must not look at PrivateTest more often than people do."""
    arguments = ["evaluate", "mien_distilled", "--data", str(data_dir), "--bootstrap", "100"]
    assert main([*arguments, "--format", "json", "--out", str(tmp_path)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["n"] == 3589
    assert record["split"] == "PublicTest"
    assert record["twin_free"]["n"] == 3589 - 280
    assert record["accuracy"] > 0.69
    assert (tmp_path / "report.html").exists()
    assert main(["evaluate", "mien_distilled", "--data", str(data_dir), "--split", "nowhere"]) == 2
    assert "no split 'nowhere'" in capsys.readouterr().err


def test_a_model_of_other_labels_is_held_to_its_own(
    data_dir: Path, fer2013: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network of FER+'s majority labels is scored on those, without being told."""
    path = make_onnx(tmp_path / "m.onnx", ALL, protocol="ferplus-majority", seed=3)
    data = str(data_dir / "fer2013.parquet")
    arguments = ["evaluate", str(path), "--data", data, "--bootstrap", "10"]
    assert main([*arguments, "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["protocol"], record["n"]) == ("ferplus-majority", 3199)
    assert record["data"]["sha256"] != fer2013.sha256
    info = SimpleNamespace(info=load_classifier(path).info)
    samples = samples_of(info, Path(data), None, "PublicTest")
    assert (samples.splits.protocol, len(samples.chosen)) == ("ferplus-majority", 3199)


def test_curves_of_a_run(tmp_path: Path) -> None:
    log = tmp_path / "curves.csv"
    log.write_text(
        "epoch,train_loss,val_loss,train_accuracy,val_accuracy,learning_rate\n"
        "1,2.0,1.9,0.2,0.25,0.1\n2,1.5,1.4,0.4,0.45,0.05\n3,1.2,1.3,0.6,0.55,0.0\n"
    )
    svg = training_curves(read_curves(log))
    for name in ("train_loss", "val_loss", "val_accuracy", "learning_rate"):
        assert name in svg
    assert training_curves(read_curves(tmp_path / "none.csv")) == ""
    log.write_text("epoch,train_loss\none,2.0\n")
    with pytest.raises(DataError, match=r"curves\.csv is damaged"):
        read_curves(log)


@pytest.mark.parametrize(
    ("trained", "protocol", "seed", "refused"),
    [
        (("fer2013", "fer2013", 3), "fer2013", 0, False),
        (("fer2013", "fer2013", 0), "fer2013-folder", 0, False),
        (("fer2013", "random-80-20", 0), "fer2013", 0, True),
        (("fer2013", "random-80-20", 1), "random-80-20", 0, True),
        (("fer2013", "random-80-20", 0), "random-80-20", 0, False),
        (("fergit", "fergit-90-5-5", 0), "fer2013", 0, True),
        (("ckplus", "ckplus-random", 0), "fer2013", 0, False),
        (("photo", "fer2013", 0), "fer2013", 0, False),
        (("photo", "fer2013", 0), "random-80-20", 0, True),
        (("fer2013", "fer2013", 0), "random-80-20", 0, True),
        (("ferplus-majority", "ferplus-majority", 0), "random-80-20", 0, True),
        (("", "", None), "fer2013", 0, False),
    ],
)
def test_a_file_is_not_scored_on_what_it_may_have_learned(
    trained: tuple[str, str, int | None], protocol: str, seed: int, refused: bool
) -> None:
    data = faces(np.arange(42) % 7)
    names = np.repeat(["Training", "PublicTest", "PrivateTest"], 14)
    images = np.zeros((42, 48, 48), np.uint8)
    data = dataclasses.replace(data, name="fer2013", splits=names, images=images)
    name, its_protocol, its_seed = trained
    info = SimpleNamespace(
        name="m",
        training_data=name,
        protocol=its_protocol,
        seed=its_seed,
        input_size=48,
        data_sha256="",
        train_ids_sha256="",
    )
    info.labels = FER2013
    model = SimpleNamespace(info=info, predict_proba=lambda x: np.full((len(x), 7), 1 / 7))
    splits = make_splits(data, protocol, seed=seed)
    test = splits.select(data, "test")
    for call in (
        lambda **more: evaluate(model, test, bootstrap=1, **more),
        lambda **more: robustness(model, test, corruptions=["jpeg"], severities=[1], **more),
    ):
        if refused:
            with pytest.raises(DataError, match="may be among those it learned from"):
                call(splits=splits)
        else:
            call(splits=splits)
        call(splits=splits, allow_trained=True)


@pytest.mark.parametrize("name", ["fergit", "photo", "fer2013"])
@pytest.mark.parametrize("model", ["mien_photo", "mien_distilled", "mien_ferplus"])
def test_a_shipped_model_is_not_scored_on_its_training_images(model: str, name: str) -> None:
    """In whatever set they come."""
    classifier = load_classifier(model)
    data = faces(np.arange(42) % 7)
    names = np.repeat(["Training", "PublicTest", "PrivateTest"], 14)
    data = dataclasses.replace(data, name=name, splits=names)
    with pytest.raises(DataError, match="may be among those it learned from"):
        refuse_trained_on(classifier, data)
    refuse_trained_on(classifier, data.take(np.arange(28, 42)))


def test_a_draw_follows_the_rows_and_a_checkpoint_knows_its_ids(tmp_path: Path) -> None:
    data = dataclasses.replace(faces(np.arange(42) % 7), name="team", splits=np.repeat("", 42))
    other = data.take(np.random.default_rng(0).permutation(42))  # the same, read from another form
    splits, drawn = (make_splits(d, "random-80-20") for d in (data, other))
    info = ModelInfo("m", FER2013, training_data="team", protocol="random-80-20", seed=0)
    info = dataclasses.replace(info, train_ids_sha256=sha256_of_ids(splits.ids["train"]))
    model = SimpleNamespace(info=info)
    refuse_trained_on(model, splits.select(data, "test"), splits)
    with pytest.raises(DataError, match="the form of the training"):
        refuse_trained_on(model, drawn.select(other, "test"), drawn)
    model.path = tmp_path / "best.ckpt"
    (tmp_path / "splits.json").write_text(splits.to_json())
    refuse_trained_on(model, splits.select(data, "test"), drawn)
    with pytest.raises(DataError, match=r"split is protocol random-80-20, seed 0 \(.*splits.json"):
        refuse_trained_on(model, drawn.select(other, "test"), drawn)
    renamed = dataclasses.replace(other, ids=np.char.add("x", other.ids))
    drawn = make_splits(renamed, "random-80-20")
    with pytest.raises(DataError, match="may be among those it learned from"):
        refuse_trained_on(model, drawn.select(renamed, "test"), drawn)
    # A run of before the ids were recorded, beside which the images have other names.
    model.info = dataclasses.replace(info, train_ids_sha256="")
    with pytest.raises(DataError, match="may be among those it learned from"):
        refuse_trained_on(model, drawn.select(renamed, "test"), drawn)
    (tmp_path / "splits.json").unlink()
    refuse_trained_on(model, splits.select(data, "test"), splits)


def test_one_command_reads_a_saved_split_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataclasses.replace(faces(np.arange(42) % 7), name="team", splits=np.repeat("", 42))
    (tmp_path / "splits.json").write_text(make_splits(data, "random-80-20").to_json())
    read: list[Path] = []
    load = Splits.load
    monkeypatch.setattr(Splits, "load", lambda path: (read.append(path), load(path))[1])
    seeds = [getattr(splits_beside(tmp_path / "best.ckpt"), "seed", None) for _ in range(3)]
    assert seeds == [0, 0, 0]
    other = make_splits(data, "random-80-20", seed=12)
    (tmp_path / "splits.json").write_text(other.to_json())
    assert getattr(splits_beside(tmp_path / "best.ckpt"), "seed", None) == 12
    assert len(read) == 2


def test_an_ensembles_member_is_held_to_its_recorded_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Members share one draw, of seed 0 or of ``--seed``, whatever the seed of their training."""
    for emotion in FER2013:
        (tmp_path / "team" / emotion.value).mkdir(parents=True)
        for number in range(6):
            face = np.full((48, 48), 30 * FER2013.index(emotion) + number, np.uint8)
            cv2.imwrite(str(tmp_path / "team" / emotion.value / f"{number}.png"), face)
    data = read_dataset(tmp_path / "team")
    for seed in (0, 5):
        learned = sha256_of_ids(make_splits(data, "random-80-20", seed=seed).ids["train"])
        record = {"training_data": data.name, "protocol": "random-80-20", "seed": 1}
        path = make_onnx(tmp_path / "m.onnx", train_ids_sha256=learned, **record)
        arguments = ["evaluate", str(path), "--data", str(tmp_path / "team"), "--split", "test"]
        arguments += ["--bootstrap", "10", "--format", "json"]
        assert main([*arguments, "--seed", str(seed)]) == 0
        assert json.loads(capsys.readouterr().out)["n"] == 9
        assert main(arguments) == (0 if seed == 0 else 2)
        capsys.readouterr()
        assert main([*arguments, "--seed", "1"]) == 2
        assert "may be among those it learned from" in capsys.readouterr().err


def test_mien_photo_is_not_scored_on_ck_plus_subjects_that_it_knows() -> None:
    data = dataclasses.replace(faces(np.arange(42) % 7), name="ckplus")
    people = np.array([f"S{i:03d}" for i in range(42)])
    data = dataclasses.replace(data, groups=people, splits=np.array([""] * 42))
    new = np.flatnonzero([held_out_subject(person) for person in people])
    assert 0 < len(new) < 42
    with pytest.raises(DataError, match="may be among those it learned from"):
        refuse_trained_on(load_classifier("mien_photo"), data)
    refuse_trained_on(load_classifier("mien_photo"), data.take(new))
    refuse_trained_on(load_classifier("mien_distilled"), data)


def test_a_folder_called_as_half_a_dataset_is_one_s_own() -> None:
    data = dataclasses.replace(faces(np.arange(42) % 7), splits=np.repeat("train", 42))
    for name in ("fer", "f", "ph"):
        for model in ("mien_distilled", "mien_photo"):
            refuse_trained_on(load_classifier(model), dataclasses.replace(data, name=name))


def test_a_bound_method_is_known_by_its_model() -> None:
    class Model:
        info = SimpleNamespace(
            name="m",
            training_data="fer2013",
            protocol="fer2013",
            seed=0,
            input_size=48,
            data_sha256="",
        )

        def predict_proba(self, images: np.ndarray) -> np.ndarray:
            return np.full((len(images), 7), 1 / 7)

    data = dataclasses.replace(faces(np.arange(14) % 7), name="fer2013")
    training = dataclasses.replace(data, splits=np.repeat(["Training", "PublicTest"], 7))
    with pytest.raises(DataError, match="learned from"):
        evaluate(Model().predict_proba, training, classes=FER2013)
    unseen = dataclasses.replace(data, splits=np.repeat("PublicTest", 14))
    assert evaluate(Model().predict_proba, unseen, classes=FER2013, bootstrap=1).n == 14


def test_kept_predictions_are_of_one_model_and_one_set_of_images(tmp_path: Path) -> None:
    labels, p = outcome(20)
    data = faces(labels)
    cache = PredictionCache(tmp_path / "kept")
    asked = []

    def compute() -> tuple[Predictions, float]:
        asked.append(1)
        return Predictions(data.ids, p, FER2013), 1.5

    first, seconds = cache.get("sha", data, compute)
    again, then = cache.get("sha", data.take(np.arange(20)[::-1]), compute)
    assert np.array_equal(first.probabilities, again.probabilities)
    assert seconds == then == 1.5
    assert len(asked) == 1
    changed = data.images.copy()
    changed[3, 0, 0] ^= 1
    cache.get("other", data, compute)
    cache.get("sha", data, compute, tta="flip")
    cache.get("sha", dataclasses.replace(data, images=changed), compute)
    assert len(asked) == 4
    cache.path("sha", data).write_bytes(b"PK")
    with pytest.raises(DataError, match="is damaged"):
        cache.get("sha", data, compute)


def test_damaged_predictions_are_named(tmp_path: Path) -> None:
    labels, p = outcome(20)
    path = tmp_path / "p.npz"
    Predictions(faces(labels).ids, p, FER2013).save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="is damaged"):
        Predictions.load(path)


def test_intervals_of_many_classes_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.evaluate import metrics

    confusion = np.random.default_rng(0).integers(0, 9, (7, 7)) * np.tri(7, dtype=np.int64)
    whole = metrics.bootstrap_intervals(confusion, resamples=50)
    monkeypatch.setattr(metrics, "_CELLS", 100)  # two matrices at a time
    assert metrics.bootstrap_intervals(confusion, resamples=50) == whole
