"""Classes of one's own: every way in, what hostile folders do, and the file that comes out."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

import mien
from mien.classify import load_classifier
from mien.cli import main
from mien.data import read_dataset
from mien.data.crop import crop_photos
from mien.data.own import list_photos
from mien.data.splits import make_splits
from mien.errors import DataError, MienError, ModelError, OutputError
from mien.evaluate.samples import read_photos
from mien.onnxfile.head import find_head, with_head, with_record, without_head
from mien.own.calibrate import _threshold as threshold
from mien.own.divide import _part as part
from mien.own.divide import folds
from mien.own.linear import choose, fit, temperature_of
from mien.own.page import found_lines
from mien.pipeline import Analyzer
from mien.preprocess import softmax
from mien.zoo import model_path

ROOT = Path(__file__).resolve().parent.parent


def drawn(folder: Path, count: int = 12) -> Path:
    """The example's images: one person, three things drawn on the face."""
    spec = importlib.util.spec_from_file_location("own", ROOT / "examples" / "own_classes.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.draw_images(folder, count)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("photos") / "mine")


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> mien.FinetuneResult:
    folder = tmp_path_factory.mktemp("made")
    return mien.finetune(
        photos, out=folder / "mine.onnx", method="linear", report=folder / "report"
    )


def crops(folder: Path, classes: dict[str, int], seed: int = 0) -> Path:
    """Crops whose class can be told by where they are dark; a name may hold any character."""
    rng = np.random.default_rng(seed)
    for k, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            face = rng.integers(90, 160, (48, 48)).astype(np.uint8)
            face[8 * k : 8 * k + 14, 6:42] //= 4
            cv2.imwrite(str(folder / name / f"{i}.png"), face)
    return folder


def test_it_learns_what_was_drawn(made: mien.FinetuneResult, photos: Path) -> None:
    assert made.accuracy >= 0.7
    assert made.findings.photos == 36
    assert made.findings.faces >= 34
    assert made.info.labels == ("bar", "glasses", "plain")
    assert set(made.info.scores) == {"mine: test"}
    seen = mien.predict(photos / "glasses" / "00.jpg", model=made.path)
    assert seen.faces[0].emotion == "glasses"
    again = mien.Result.from_dict(json.loads(json.dumps(seen.to_dict())))
    assert again.faces[0].probabilities == pytest.approx(seen.faces[0].probabilities, abs=1e-5)
    assert again.faces[0].emotion == "glasses"


def test_the_file_is_a_sound_onnx(made: mien.FinetuneResult) -> None:
    model = onnx.load(made.path)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 3


def test_a_head_put_back_changes_nothing() -> None:
    data = model_path("mien_photo").read_bytes()
    head, info = find_head(data, "x"), load_classifier("mien_photo").info
    tensors = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(model_path()).graph.initializer
    }
    again = onnx.load_from_string(
        with_head(data, head, tensors[head.weight], tensors[head.bias], info)
    )
    before = onnx.load_from_string(data)
    assert {t.name: t for t in again.graph.initializer} == {
        t.name: t for t in before.graph.initializer
    }
    assert list(again.graph.node) == list(before.graph.node)
    bare = onnx.load_from_string(without_head(data, head, info))
    assert bare.graph.output[0].name == head.features
    assert len(bare.graph.node) == len(before.graph.node) - 1


def test_evaluate_repeats_the_figures(
    made: mien.FinetuneResult, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(made.path), "--data", str(photos), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["accuracy"], found["n"]) == (
        pytest.approx(made.accuracy, abs=1e-6),
        made.report.n,
    )
    assert found["confusion"] == made.report.scores.confusion.tolist()


def test_same_seed_same_file(photos: Path, made: mien.FinetuneResult, tmp_path: Path) -> None:
    again = mien.finetune(photos, out=tmp_path / "mine.onnx", method="linear")
    assert again.path.read_bytes() == made.path.read_bytes()


def test_without_torch_and_onnx(photos: Path, tmp_path: Path) -> None:
    script = """
        import sys
        for name in ("torch", "onnx", "scipy", "sklearn", "pyarrow"):
            sys.modules[name] = None
        from mien.cli import main
        sys.exit(main(sys.argv[1:]))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), "finetune", str(photos)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "x.onnx"), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"] >= 0.7


HOSTILE = ("<script>alert(1)</script>", "=1+1", "x..%2Fx", "😀", "ж" * 100, "__proto__")


def test_hostile_class_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [name.replace("/", "∕") for name in HOSTILE]
    data = crops(tmp_path / "photos", dict.fromkeys(names[:4], 8))
    made = mien.finetune(
        data, out=tmp_path / "m.onnx", faces=True, method="linear", report=tmp_path / "r"
    )
    assert {label.value for label in made.info.labels} == set(names[:4])
    page = made.pages["html"].read_text(encoding="utf-8")
    assert "<script" not in page
    crop = str(data / names[1] / "0.png")
    csv = tmp_path / "a.csv"
    assert main(["predict", crop, "--faces", "--model", str(made.path), "--csv", str(csv)]) == 0
    assert "\n=" not in csv.read_text()
    assert ",=" not in csv.read_text()
    assert (
        main(
            [
                "predict",
                crop,
                "--faces",
                "--model",
                str(made.path),
                "--annotate",
                str(tmp_path / "a"),
            ]
        )
        == 0
    )
    capsys.readouterr()


def test_a_label_of_300_characters_in_a_table(tmp_path: Path) -> None:
    data = crops(tmp_path / "photos", {"a": 8, "b": 8})
    rows = [{"path": f"photos/{c}/{i}.png", "label": c * 300} for c in "ab" for i in range(8)]
    rows += [{"path": "photos/none.png", "label": "a"}, {"path": "photos/a/0.png", "label": ""}]
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = mien.finetune(table, out=tmp_path / "m.onnx", faces=True, method="linear")
    assert [len(label) for label in made.info.labels] == [300, 300]
    assert sum(map(len, made.findings.left_out.values())) == 2
    assert data.is_dir()


@pytest.mark.parametrize(
    ("classes", "said"),
    [({"alone": 8}, "one class alone"), ({}, "no labelled photos"), ({"a": 8, "b": 0}, "alone")],
)
def test_too_few_classes(tmp_path: Path, classes: dict[str, int], said: str) -> None:
    (tmp_path / "photos").mkdir()
    data = crops(tmp_path / "photos", classes)
    with pytest.raises(DataError, match=said):
        mien.finetune(data, out=tmp_path / "m.onnx", faces=True)
    assert not (tmp_path / "m.onnx").exists()


def test_names_that_no_file_can_have() -> None:
    long = "x" * 300
    for photos, out in ((long, "m.onnx"), (".", f"{long}.onnx")):
        with pytest.raises(MienError, match="File name too long"):
            mien.finetune(photos, out=out)


def test_an_empty_class_is_named_and_left_out(tmp_path: Path) -> None:
    data = crops(tmp_path / "photos", {"a": 10, "b": 10, "nobody": 0, "..x": 3})
    made = mien.finetune(data, out=tmp_path / "m.onnx", faces=True, method="linear")
    assert made.findings.empty == ("nobody",)
    assert made.findings.left_out == {"is hidden: its name begins with a dot": ("..x/",)}
    assert made.info.labels == ("a", "b")


def test_images_that_are_passed_over_are_unread_as_for_predict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = crops(tmp_path / "photos", {"a": 10, "b": 10})
    for name in ("notes.txt", "._0.png", "clip.mp4"):
        (data / "a" / name).write_bytes(b"")
    command = ["finetune", str(data), "--faces", "--method", "linear", "--out"]
    assert main([*command, str(tmp_path / "m.onnx")]) == 0
    for name in ("IMG_1.CR2", ".hid.png"):
        (data / "a" / name).write_bytes(b"")
    capsys.readouterr()
    assert main([*command, str(tmp_path / "n.onnx")]) == 1
    assert "left out, CR2 is not read: 1 (a/IMG_1.CR2)" in capsys.readouterr().err
    assert list_photos(data).unread == 2


def test_two_classes_with_the_same_photos(tmp_path: Path) -> None:
    data = crops(tmp_path / "photos", {"a": 12})
    (data / "b").mkdir()
    for file in sorted((data / "a").iterdir()):
        (data / "b" / file.name).write_bytes(file.read_bytes())
    made = mien.finetune(data, out=tmp_path / "m.onnx", faces=True, method="linear")
    assert len(made.findings.conflicts) == 12
    assert made.accuracy == pytest.approx(0.5)  # never both sides of a copy in two splits
    assert any("two classes" in warning for warning in made.warnings)


def test_no_face_in_half_the_photos(photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "photos"
    for name in ("glasses", "bar"):
        (data / name).mkdir(parents=True)
        for i, file in enumerate(sorted((photos / name).iterdir())):
            blank = np.full((200, 200, 3), 127, np.uint8)
            cv2.imwrite(str(data / name / f"blank{i}.png"), blank)
            (data / name / file.name).write_bytes(file.read_bytes())
    made = mien.finetune(data, out=tmp_path / "m.onnx", method="linear")
    assert len(made.findings.left_out["no face found"]) >= 24
    assert made.findings.unread == 0


def test_given_splits_are_kept(tmp_path: Path) -> None:
    crops(tmp_path / "d" / "train", {"a": 12, "b": 12})
    crops(tmp_path / "d" / "val", {"a": 5, "b": 5}, seed=1)
    made = mien.finetune(tmp_path / "d", out=tmp_path / "m.onnx", faces=True, method="linear")
    assert made.report.split == "val"
    assert made.report.n == 10
    assert made.info.scores.keys() == {"d: val"}


def test_a_class_that_is_never_learned(tmp_path: Path) -> None:
    """A folder misspelt in test/ made a class of its own; where the photos allow no other split
    than one that keeps a class away, it is said."""
    out = tmp_path / "m.onnx"
    crops(tmp_path / "d" / "train", {"a": 12, "b": 12})
    crops(tmp_path / "d" / "test", {"a": 5, "b": 5, "bb": 5}, seed=1)
    with pytest.raises(DataError, match=r"d has no face to learn 'bb' from"):
        mien.finetune(tmp_path / "d", out=out, faces=True)
    data = crops(tmp_path / "five", dict.fromkeys("abcde", 12))
    made = mien.finetune(data, out=out, faces=True, method="linear", group_by="^[^/]+")
    assert any("was learned from" in warning for warning in made.warnings)


def test_outputs_are_looked_at_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder.onnx").mkdir()
    data = tmp_path / "no photos"
    with pytest.raises(OutputError, match="it is a file"):
        mien.finetune(data, out=tmp_path / "m.onnx", report=tmp_path / "file")
    with pytest.raises(OutputError, match="is a folder"):
        mien.finetune(data, out=tmp_path / "folder.onnx")
    with pytest.raises(OutputError, match="is a folder"):
        mien.calibrate("mien_photo", data, out=tmp_path / "folder.onnx")


def test_groups_are_never_torn_apart() -> None:
    rng = np.random.default_rng(0)
    labels, together = rng.integers(0, 3, 300), rng.integers(0, 40, 300)
    found = folds(labels, together, 5, 0)
    assert all(len(set(found[together == g])) == 1 for g in range(40))
    counts = np.array([np.bincount(labels[found == k], minlength=3) for k in range(5)])
    assert counts.min() >= 8


def test_the_fit_is_at_the_minimum() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 10)).astype(np.float32)
    y = (x[:, 0] + 0.5 * rng.normal(size=200) > 0).astype(np.int64) + (x[:, 1] > 1)
    head = fit(x, y, 3, 0.01)
    z = head.logits(x)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    p[np.arange(200), y] -= 1
    p /= np.bincount(y)[y][:, None] * 3
    assert np.abs(p.T @ x + 0.01 * head.weight).max() < 2e-3


def test_group_by_and_tables(tmp_path: Path) -> None:
    data = crops(tmp_path / "p", {"a": 3, "b": 3})
    listing = list_photos(data, r"(\d)\.png")
    assert {photo.group for photo in listing.photos} == {"0", "1", "2"}
    with pytest.raises(DataError, match="regular expression"):
        list_photos(data, "(")
    table = tmp_path / "t.csv"
    table.write_text(
        "Path,Label,subject,Usage,box\np/a/0.png,x,s1,Training,1 2 30 40\np/b/0.png,y,,,\n"
    )
    one, two = list_photos(table).photos
    assert (one.group, one.split, one.box) == ("s1", "train", mien.Box(1, 2, 30, 40))
    assert (two.group, two.split, two.box) == ("", "", None)
    semicolons = "path;label;box\np/a/0.png;x;1,2,30,40\np/b/0.png;y;\n"
    table.write_text(semicolons)  # of a European spreadsheet
    assert list_photos(table).photos[0].box == one.box
    table.write_text("name,label\nx,y\n")
    with pytest.raises(DataError, match="no column 'path'"):
        list_photos(table)


def test_photos_without_a_group_are_counted_and_the_warning_stays(tmp_path: Path) -> None:
    data = crops(tmp_path / "p", {"a": 12, "b": 12})
    for file in [*data.glob("*/1*.png")]:
        file.rename(file.with_suffix(".jpg"))
    by = r"(\d+)\.png"
    made = mien.finetune(data, out=tmp_path / "m.onnx", faces=True, method="linear", group_by=by)
    found = made.findings
    assert (found.groups, len(found.ungrouped)) == (9, 6)
    said = "6 of 24 faces have no person or video (first: a/1.jpg)"
    assert found_lines(found)[-1] == f"persons or videos: 9, each in one split; {said}"
    assert any(warning.startswith(f"{said}, so nothing says") for warning in made.warnings)


def test_a_group_is_one_however_its_letters_are_composed(tmp_path: Path) -> None:
    data = crops(tmp_path / "p", {"a": 1, "b": 1})
    names = ("a/Ren\u00e9_1.png", "b/Rene\u0301_2.png")
    for name in names:
        (data / name[0] / "0.png").rename(data / name)
    assert {p.group for p in list_photos(data, "/([^_]+)").photos} == {"Ren\u00e9"}
    table = tmp_path / "t.csv"
    rows = [f"p/{name},{name[0]},{name[2:-6]}\n" for name in names]
    table.write_text("".join(["path,label,group\n", *rows]), encoding="utf-8")
    assert {p.group for p in list_photos(table).photos} == {"Ren\u00e9"}


def test_an_empty_label_is_not_taken_from_another_column(tmp_path: Path) -> None:
    """`mien predict --csv` writes `emotion`: the model's answer is nobody's label."""
    crops(tmp_path / "p", {"a": 3})
    table = tmp_path / "t.csv"
    rows = ("p/a/0.png,bored,happy", "p/a/1.png,keen,happy", "p/a/2.png,,happy")
    table.write_text("\n".join(("path,label,emotion", *rows)))
    listing = list_photos(table)
    assert [photo.label for photo in listing.photos] == ["bored", "keen"]
    assert len(listing.left_out) == 1


def test_a_model_without_a_dense_layer_is_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(ModelError, match="shipped model"):
        mien.finetune(photos, out=tmp_path / "m.onnx", start="nothing")
    with pytest.raises(MienError, match=r"name it \.onnx"):
        mien.finetune(photos, out=tmp_path / "m.txt")


@pytest.mark.parametrize("words", [{"seed": -1}, {"seed": 1.5}, {"epochs": 0}])
def test_numbers_out_of_range(photos: Path, tmp_path: Path, words: dict[str, Any]) -> None:
    for call in (mien.finetune, partial(mien.calibrate, "mien_photo")):
        if "epochs" not in words or call is mien.finetune:
            with pytest.raises(MienError, match="expected a whole number"):
                call(photos, out=tmp_path / "m.onnx", **words)
    with pytest.raises(MienError, match=r"accuracy is '0\.9'"):
        mien.calibrate("mien_photo", photos, out=tmp_path / "m.onnx", accuracy="0.9")  # type: ignore[arg-type]


def test_crops_keep_names_and_folders(photos: Path, tmp_path: Path) -> None:
    two = tmp_path / "in" / "pair"
    two.mkdir(parents=True)
    face = cv2.imread(str(photos / "plain" / "00.jpg"))
    cv2.imwrite(str(two / "both.jpg"), np.hstack([face, face[:, ::-1]]))
    cv2.imwrite(str(two / "nobody.png"), np.full((90, 90, 3), 127, np.uint8))
    (two / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "out"
    assert main(["data", "crop", str(tmp_path / "in"), str(out), "--size", "64"]) == 1
    assert sorted(p.name for p in (out / "pair").iterdir()) == ["both-2.png", "both.png"]
    crop = cv2.imread(str(out / "pair" / "both.png"), cv2.IMREAD_UNCHANGED)
    assert crop.shape == (64, 64)
    with (out / "faces.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["source"], row["faces"]) for row in rows] == [
        ("pair/both.png", "pair/both.jpg", "2"),
        ("pair/both-2.png", "pair/both.jpg", "2"),
    ]
    assert [row["label"] for row in rows] == ["pair", "pair"]
    assert main(["data", "crop", str(tmp_path / "in"), str(tmp_path / "in" / "out")]) == 2


def test_crops_of_odd_names_stay_in_their_classes(photos: Path, tmp_path: Path) -> None:
    """Escapes of what is no text were taken for folders: two classes became one."""
    face = (photos / "plain" / "00.jpg").read_bytes()
    odd = [os.fsdecode(name) for name in (b"caf\xe9", b"caf\xe8", b"a\nb", b"c\\d")]
    for name in odd:
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "1.jpg").write_bytes(face)
    crop_photos(tmp_path / "in", tmp_path / "out")
    labels = [photo.label for photo in list_photos(tmp_path / "in").photos]
    assert labels == ["a\\x0ab", "c\\d", "caf\\udce8", "caf\\udce9"]
    for place in (tmp_path / "out", tmp_path / "out" / "faces.csv"):
        assert sorted(photo.label for photo in list_photos(place).photos) == labels
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = pa.table({"path": ["x\\1.jpg"], "image": [face], "label": ["x"]})
    pq.write_table(rows, tmp_path / "t.parquet")
    crop_photos(tmp_path / "t.parquet", tmp_path / "table")
    assert (tmp_path / "table" / "x" / "1.png").is_file()


def test_a_crops_table_has_the_classes_and_splits_of_its_folders(
    photos: Path, tmp_path: Path
) -> None:
    face = (photos / "plain" / "00.jpg").read_bytes()
    for place in ("train/bored/anna/1.jpg", "val/keen/2.jpg"):
        (tmp_path / "in" / place).parent.mkdir(parents=True)
        (tmp_path / "in" / place).write_bytes(face)
    (tmp_path / "in" / "notes.txt").write_text("no photo")
    assert main(["data", "crop", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    listing = list_photos(tmp_path / "out" / "faces.csv")
    assert [(p.label, p.split) for p in listing.photos] == [("bored", "train"), ("keen", "val")]


def test_finetune_removes_no_folder_but_its_own(photos: Path, tmp_path: Path) -> None:
    """A user's own ``mine-run`` beside ``mine.onnx`` was deleted."""
    (tmp_path / "mine-run").mkdir()
    (tmp_path / "mine-run" / "best.ckpt").write_bytes(b"dear")
    mien.finetune(photos, out=tmp_path / "mine.onnx", method="linear")
    assert (tmp_path / "mine-run" / "best.ckpt").read_bytes() == b"dear"
    if importlib.util.find_spec("torch") is not None:
        with pytest.raises(OutputError, match=r"mine-run is no finetuning's folder"):
            mien.finetune(photos, out=tmp_path / "mine.onnx", method="network", epochs=1)
    (tmp_path / "mine-run" / "head.onnx").write_bytes(b"of a killed run")
    mien.finetune(photos, out=tmp_path / "mine.onnx", method="linear")
    assert not (tmp_path / "mine-run").exists()


def test_hostile_tables(photos: Path, tmp_path: Path) -> None:
    """A name that is no name raised, as did a box of a thousand digits; crops stay in the folder,
    which is there whole or not at all."""
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    png = cv2.imencode(".png", cv2.imread(str(photos / "plain" / "00.jpg")))[1].tobytes()
    names = ["..", "../../up.png", "/etc/abs.png", "a\\..\\..\\b.png", "", "x\x00y.png", "//"]
    table = pa.table({"path": names, "image": [png] * 7, "label": ["a"] * 7})
    pq.write_table(table, tmp_path / "t.parquet")
    out = tmp_path / "deep" / "out"
    report = crop_photos(tmp_path / "t.parquet", out)
    assert report.faces == 7
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "t.parquet"]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]
    rows = [{"path": "a.jpg", "label": "a", "box": [10**400, 1, 1, 1]}]
    (tmp_path / "a.jpg").write_bytes(png)
    (tmp_path / "t.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(DataError, match="is not x, y, width, height"):
        list_photos(tmp_path / "t.jsonl")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_table_in_another_encoding_is_told_what_to_do(tmp_path: Path, encoding: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,label\na.png,Ärger\n", encoding=encoding)
    with pytest.raises(DataError, match=r"t\.csv is not UTF-8; save it anew as CSV UTF-8\."):
        list_photos(table)


def test_a_folder_of_other_names_is_sent_to_finetune(tmp_path: Path) -> None:
    crops(tmp_path / "p", {"bored": 2, "keen": 2})
    with pytest.raises(DataError, match="mien finetune"):
        read_dataset(tmp_path / "p")


#: Runs that are killed behind their checkpoint of a number; 0: never. Forks, since importing torch
#: takes as long as the training.
NETWORK = """
    import os, signal, sys, traceback
    import mien, mien.own.network, mien.own.run, mien.train.checkpoint as checkpoint, torch._dynamo
    write = checkpoint.write_weights
    train = mien.own.run.train_network
    def taken(*given, **more):
        return train(*given, **more)[0], 2.0  # better than any head
    mien.own.run.train_network = taken
    def run(out, stop):
        def killed(path, found):
            nonlocal stop
            write(path, found)
            stop -= 1
            if stop == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        checkpoint.write_weights = killed
        mien.finetune(sys.argv[1], out=out, faces=True, method="network", epochs=3)
    for word in sys.argv[2:]:
        out, stop = word.rsplit("=", 1)
        pid = os.fork()
        if pid == 0:
            try:
                run(out, int(stop))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.path.exists(out), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_killed_network_goes_on_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    data = crops(tmp_path / "photos", {"a": 24, "b": 24})
    # Stopped behind a checkpoint of the first epoch, and behind one after it.
    runs = [f"{tmp_path}/{run}" for run in ("whole.onnx=0", "m.onnx=2", "m.onnx=1", "m.onnx=0")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(NETWORK), str(data), *runs],
        capture_output=True,
        text=True,
        check=False,
    )
    wanted = ["0 True", "-9 False", "-9 False", "0 True"]
    assert done.stdout.splitlines() == wanted, done.stderr
    one, two = (onnx.load(tmp_path / name) for name in ("whole.onnx", "m.onnx"))
    assert "whole network" in load_classifier(tmp_path / "m.onnx").info.recipe
    del one.metadata_props[:], two.metadata_props[:]  # the record names the file
    assert one == two
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["photos"]


def test_a_network_that_is_as_good_as_the_head_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the head has every choosing face right, its standard error is 0."""
    monkeypatch.setattr("mien.own.run.require_extra", lambda *needed: None)
    monkeypatch.setattr("mien.own.run.train_network", lambda start, *given, **more: (start, 1.0))
    data = crops(tmp_path / "photos", {"a": 24, "b": 24})
    made = mien.finetune(data, out=tmp_path / "m.onnx", faces=True, method="network")
    assert made.method == "linear"


def test_weights_are_read_back_from_int8() -> None:
    torch = pytest.importorskip("torch")
    from mien.models import create_model
    from mien.preprocess import normalize

    shipped = load_classifier("mien_photo")
    network = create_model(str(model_path("mien_photo")), num_classes=7).eval()
    network.standardise = False
    faces = np.random.default_rng(0).integers(0, 255, (64, 12, 12)).astype(np.uint8)
    faces = np.stack([cv2.resize(f, (48, 48), interpolation=cv2.INTER_CUBIC) for f in faces])
    with torch.inference_mode():
        logits = network(torch.from_numpy(normalize(faces, shipped.info))).numpy()
    told = shipped.logits(faces)
    assert (logits.argmax(1) == told.argmax(1)).mean() >= 0.9
    assert np.corrcoef(logits.ravel(), told.ravel())[0, 1] > 0.98


def confident(folder: Path, made: mien.FinetuneResult, temperature: float) -> Path:
    """The model, its confidences sharpened: as often right, and too sure."""
    info = dataclasses.replace(made.info, temperature=temperature, learned=())
    path = folder / "sure.onnx"
    path.write_bytes(with_record(made.path.read_bytes(), info))
    return path


def test_faces_are_cut_as_predict_cuts_them(photos: Path, tmp_path: Path) -> None:
    """Also where the photo lies on its side."""
    for name in ("plain", "other"):
        (tmp_path / name).mkdir()
        for i, file in enumerate(sorted((photos / "plain").iterdir())[:2]):
            turned = cv2.rotate(cv2.imread(str(file)), cv2.ROTATE_90_CLOCKWISE)
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), turned)
    classifier = load_classifier("mien_photo")
    own = read_photos(classifier, tmp_path)
    for path, face in zip(own.dataset.ids, own.dataset.images, strict=True):
        (crop,) = Analyzer("mien_photo").find(tmp_path / path).crops
        assert np.array_equal(face, crop)


def test_few_people_leave_no_part_empty() -> None:
    labels = np.tile(np.arange(2), 120)
    for people in (3, 4, 5):
        together = np.arange(240) % people
        mask = part(labels, together, 6, 0)
        assert 0 < mask.sum() < 240


def test_a_second_finetuning_knows_what_the_first_one_saw(
    made: mien.FinetuneResult, photos: Path, tmp_path: Path
) -> None:
    again = mien.finetune(photos, out=tmp_path / "b.onnx", start=made.path, method="linear", seed=1)
    assert set(made.info.learned) < set(again.info.learned)


def test_calibrate_mends_a_model_that_is_too_sure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = noisy(tmp_path / "photos", 60)
    made = mien.finetune(data, out=tmp_path / "m.onnx", faces=True, method="linear")
    sure = confident(tmp_path, made, 0.1)
    found = mien.calibrate(sure, data, out=tmp_path / "c.onnx", faces=True, accuracy=0.9)
    assert (found.faces, found.before.temperature) == (120, 0.1)
    assert found.after.ece < found.before.ece - 0.1
    assert found.after.nll < found.before.nll
    assert found.after.accuracy > found.overall
    assert 0.3 < found.after.coverage < 1
    again = load_classifier(tmp_path / "c.onnx")
    assert again.info.temperature == found.after.temperature
    assert again.info.unsure_below == pytest.approx(found.after.below, abs=1e-6)
    seen = [mien.predict(p, model=tmp_path / "c.onnx", faces=True) for p in data.rglob("*.png")]
    unsure = np.mean([result.faces[0].unsure for result in seen])
    assert 1 - unsure == pytest.approx(found.after.coverage, abs=0.15)
    assert not any(
        mien.predict(p, model=sure, faces=True).faces[0].unsure for p in data.glob("*/0.png")
    )
    # Fitted already: nothing better is to be had, and nothing is changed.
    kept = mien.calibrate(again.path, data, out=tmp_path / "d.onnx", faces=True, accuracy=0.9)
    assert kept.after.temperature == pytest.approx(found.after.temperature, rel=0.1)
    command = ["calibrate", str(sure), "--data", str(data), "--out", str(tmp_path / "e.onnx")]
    assert main([*command, "--faces"]) == 0
    assert "temperature        0.100 -> " in capsys.readouterr().out


def test_the_threshold_is_the_lowest_that_reaches_the_accuracy() -> None:
    trust = np.array([5.0, 4.0, 3.0, 3.0, 1.0])
    right = np.array([True, True, False, True, True])
    assert threshold(trust, right, 1.0) == 4
    assert threshold(trust, right, 0.75) == 1
    assert threshold(-trust, right, 1.0) == -1
    assert threshold(trust, ~right, 0.5) == np.inf
    assert threshold(trust, right, None) == 1


def noisy(folder: Path, count: int) -> Path:
    """Crops of two classes; a fifth of them lies in the wrong one."""
    crops(folder, {"a": count, "b": count})
    for i in range(count // 5):
        one, two = folder / "a" / f"{i}.png", folder / "b" / f"{i}.png"
        data = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(data)
    return folder


def test_calibrate_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    few = crops(tmp_path / "few", {"happiness": 2, "sadness": 2})
    with pytest.raises(DataError, match="too few to calibrate"):
        mien.calibrate("mien_photo", few, out=tmp_path / "c.onnx", faces=True)
    other = crops(tmp_path / "other", {"happiness": 6, "bored": 6})
    with pytest.raises(DataError, match="class 'bored'"):
        mien.calibrate("mien_photo", other, out=tmp_path / "c.onnx", faces=True)
    with pytest.raises(MienError, match=r"name it \.onnx"):
        mien.calibrate("mien_photo", few, out=tmp_path / "c.txt")
    model, rng = load_classifier("mien_photo"), np.random.default_rng(0)
    noise = rng.integers(0, 255, (24, 48, 48)).astype(np.uint8)
    named = set(model.predict_proba(noise).argmax(1).tolist())
    never = [label.value for k, label in enumerate(model.info.labels) if k not in named][:2]
    for i, face in enumerate(noise):
        (tmp_path / "wrong" / never[i % 2]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "wrong" / never[i % 2] / f"{i}.png"), face)
    with pytest.raises(DataError, match="None of these answers is right"):
        mien.calibrate("mien_photo", tmp_path / "wrong", out=tmp_path / "c.onnx", faces=True)
    assert not list(tmp_path.glob("c.*"))


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["evaluate", *arguments, "--format", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_split_all_scores_a_plain_folder(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "team"
    for name, source in (("Happiness", "plain"), ("angry", "bar")):
        (data / name).mkdir(parents=True)
        for file in sorted((photos / source).iterdir()):
            (data / name / file.name).write_bytes(file.read_bytes())
    found = evaluated(capsys, "mien_photo", "--data", str(data), "--split", "all")
    assert (found["data"]["name"], found["split"], found["protocol"]) == ("team", "all", "")
    assert found["n"] >= 22
    assert main(["data", "crop", str(data), str(tmp_path / "crops"), "--size", "64"]) == 0
    capsys.readouterr()
    command = ["evaluate", "mien_photo", "--data", str(tmp_path / "crops"), "--split", "all"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "mien_photo on crops, all" in out
    assert "faces of 64×64 pixels are brought to the model's 48×48" in err
    assert main(["evaluate", "mien_photo", "--data", str(tmp_path / "crops")]) == 2
    assert "--split all" in capsys.readouterr().err


def test_photos_of_one_class_are_scored(
    made: mien.FinetuneResult, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    happy = tmp_path / "team" / "happy"
    happy.mkdir(parents=True)
    for k, file in enumerate(sorted((photos / "plain").iterdir())[:4]):
        image = cv2.GaussianBlur(cv2.imread(str(file)), (0, 0), 1.5)  # which `made` did not see
        cv2.imwrite(str(happy / file.name), image[: image.shape[0] - k])  # of several sizes
    found = evaluated(capsys, "mien_photo", "--data", str(tmp_path / "team"), "--split", "all")
    assert found["n"] == 4
    happy.rename(happy.with_name("plain"))
    assert evaluated(capsys, str(made.path), "--data", str(tmp_path / "team"))["n"] == 4
    for k, file in enumerate(happy.with_name("plain").iterdir()):
        cv2.imwrite(str(file), np.full((200, 200 + k, 3), 127, np.uint8))
    happy.with_name("plain").rename(happy)
    command = ["--data", str(tmp_path / "team"), "--split", "all"]
    for model in ("mien_photo", str(made.path)):
        assert main(["evaluate", model, *command]) == 2
        said = "0 class has a face (4 photos left out, most: no face found); one is needed."
        assert said in capsys.readouterr().err
    crops(tmp_path / "crops", {"sad": 4})
    found = evaluated(capsys, "mien_photo", "--data", str(tmp_path / "crops"), "--split", "all")
    assert found["n"] == 4


def test_split_all_leaves_out_what_was_learned(
    made: mien.FinetuneResult, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(capsys, str(made.path), "--data", str(photos), "--split", "all")
    assert (found["n"], found["split"]) == (made.report.n, "all")
    assert main(["evaluate", str(made.path), "--data", str(photos), "--split", "all"]) == 0
    assert "faces that the model learned from" in capsys.readouterr().err


def test_evaluate_names_the_photos_that_it_does_not_score(
    made: mien.FinetuneResult, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, source in (("happy", "plain"), ("angry", "bar")):
        (tmp_path / "team" / name).mkdir(parents=True)
        for file in sorted((photos / source).iterdir())[:4]:
            (tmp_path / "team" / name / file.name).write_bytes(file.read_bytes())
    happy = tmp_path / "team" / "happy"
    cv2.imwrite(str(happy / "blank.png"), np.full((200, 200, 3), 127, np.uint8))
    command = ["evaluate", "mien_photo", "--data", str(tmp_path / "team"), "--split", "all"]
    assert main([*command, "--format", "json"]) == 0
    told = capsys.readouterr()
    assert "left out, no face found: 1 (happy/blank.png)" in told.err
    notes = json.loads(told.out)["notes"]
    assert "Photos left out, no face found: 1 (happy/blank.png)." in notes
    (happy / "bad.png").write_bytes(b"no image")
    assert main(command) == 1
    told = capsys.readouterr()
    assert "happy/bad.png" in told.err
    assert "happy/bad.png" in told.out
    happy.rename(happy.with_name("plain"))
    happy.with_name("angry").rename(happy.with_name("bar"))
    for file in happy.with_name("plain").glob("*.jpg"):
        cv2.imwrite(str(file), cv2.GaussianBlur(cv2.imread(str(file)), (0, 0), 1.5))
    assert main(["evaluate", str(made.path), "--data", str(tmp_path / "team")]) == 1
    assert "plain/bad.png" in capsys.readouterr().err


def test_train_and_val_are_enough_and_keep_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        crops(tmp_path / "team" / split, {"happy": 6, "sad": 6}, seed=len(split))
    dataset = read_dataset(tmp_path / "team")
    assert dataset.name == "team"
    for protocol in ("fer2013", "fer2013-folder", "val-from-train", "random-80-20"):
        splits = make_splits(dataset, protocol)
        assert not {"PublicTest", "PrivateTest", "Training"} & set(splits.aliases)
        assert len(splits.ids["train"])
    found = evaluated(capsys, "mien_photo", "--data", str(tmp_path / "team"))
    assert (found["data"]["name"], found["split"], found["n"]) == ("team", "val", 12)
    model = tmp_path / "m.onnx"
    model.write_bytes(model_path("mien_photo").read_bytes())
    command = ["evaluate", str(model), "--data", str(tmp_path / "team"), "--record"]
    assert main(command) == 0
    assert main([*command, "--split", "all"]) == 0
    assert set(load_classifier(model).info.scores) - set(load_classifier().info.scores) == {
        "team: val",
        "team: all",
    }


def test_many_classes_are_as_sure_as_they_are_right() -> None:
    rng = np.random.default_rng(0)
    classes = 500
    y = np.repeat(np.arange(classes), 3)
    x = (rng.normal(size=(classes, 16))[y] + 0.3 * rng.normal(size=(len(y), 16))).astype(np.float32)
    chosen = choose(x, x, y, classes, np.arange(len(y)), 0)
    p = softmax(chosen.logits, temperature_of(chosen.logits, y))
    assert p.max(1).mean() == pytest.approx(chosen.accuracy, abs=0.1)


def test_every_verb_with_a_split_takes_all_and_names_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(crops(tmp_path / "team", {"happy": 4, "sad": 4}))
    command = ["robustness", "mien_photo", "--data", data, "--split", "all"]
    assert main([*command, "--corruption", "jpeg", "--severity", "1"]) == 0
    assert "mien_photo on team-C, all" in capsys.readouterr().out
    assert main(["blend", "mien_photo", "--data", data, "--split", "all"]) == 2
    assert "team has no FER+ votes" in capsys.readouterr().err
    own = str(tmp_path / "own.onnx")
    assert main(["finetune", data, "--faces", "--method", "linear", "--out", own]) == 0
    assert main(["blend", own, "--data", data, "--split", "all"]) == 2
    assert "own has classes of its own" in capsys.readouterr().err
