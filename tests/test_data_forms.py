"""Every published form, tiny and synthetic: read, told apart by content, converted and back."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.cli import main
from mien.data import (
    FaceDataset,
    Splits,
    make_splits,
    read_dataset,
    read_for_protocol,
    read_photo_dataset,
)
from mien.data.assemble import assemble
from mien.data.audit import audit, split_order
from mien.data.audit_report import render_html
from mien.data.convert import write_dataset
from mien.data.duplicates import twin_free_ids
from mien.data.fergit import build_fergit, crop_square
from mien.detect.base import Detection
from mien.emotions import CKPLUS, FER2013, FERPLUS_EMOTIONS, Emotion
from mien.errors import DataError, OutputError
from mien.results import Box

USAGES = ("Training", "PublicTest", "PrivateTest")


@pytest.fixture
def fer() -> FaceDataset:
    """42 noise faces, every class in every split, FER+ votes."""
    rng = np.random.default_rng(0)
    n = 42
    return assemble(
        images=rng.integers(0, 256, (n, 48, 48), dtype=np.uint8),
        emotions=[FER2013[i % 7] for i in range(n)],
        ids=[f"fer2013:{i:05d}" for i in range(n)],
        splits=[USAGES[i // 14] for i in range(n)],
        votes=rng.integers(0, 10, (n, 10)).astype(np.float32),
        name="fer2013",
        source="synthetic",
    )


@pytest.fixture
def ck() -> FaceDataset:
    """240 noise faces of 24 subjects."""
    rng = np.random.default_rng(1)
    n = 240
    return assemble(
        images=rng.integers(0, 256, (n, 48, 48), dtype=np.uint8),
        emotions=[CKPLUS[i % 7] for i in range(n)],
        ids=[f"ckplus:S{i // 10:03d}_001_{i:08d}" for i in range(n)],
        groups=[f"S{i // 10:03d}" for i in range(n)],
        name="ckplus",
        source="synthetic",
        classes=CKPLUS,
    )


@pytest.mark.parametrize("out", ["fer.csv", "fer", "fer.parquet"])
def test_fer2013_round_trip(fer: FaceDataset, tmp_path: Path, out: str) -> None:
    write_dataset(fer, tmp_path / out)
    for given in (tmp_path / out, tmp_path):  # the thing itself, or the folder that contains it
        again = read_dataset(given)
        assert (again.name, again.sha256, again.classes) == ("fer2013", fer.sha256, FER2013)
        assert (again.splits == fer.splits).all()
    if out != "fer":
        assert again.votes is not None
        np.testing.assert_array_equal(again.votes, fer.votes)


@pytest.mark.parametrize("out", ["x.csv", "x", "x.parquet"])
def test_ckplus_round_trip(ck: FaceDataset, tmp_path: Path, out: str) -> None:
    write_dataset(ck, tmp_path / out)
    again = read_dataset(tmp_path / out)
    assert (again.name, again.sha256, again.classes) == ("ckplus", ck.sha256, CKPLUS)
    assert dict(zip(again.ids, again.groups, strict=True)) == dict(
        zip(ck.ids, ck.groups, strict=True)
    )


def test_changed_pixel_label_or_id_changes_the_hash(fer: FaceDataset) -> None:
    def sha(images, emotions, ids) -> str:
        return assemble(images=images, emotions=emotions, ids=ids, name="x", source="").sha256

    emotions = [fer.classes[k] for k in fer.labels]
    ids = fer.ids.tolist()
    changed = fer.images.copy()
    changed[3, 5, 5] ^= 1
    other = [Emotion.FEAR, *emotions[1:]]
    hashes = {
        sha(fer.images, emotions, ids),
        sha(changed, emotions, ids),
        sha(fer.images, other, ids),
        sha(fer.images, emotions, ["fer2013:99999", *ids[1:]]),
    }
    assert len(hashes) == 4
    order = np.random.default_rng(0).permutation(len(fer))
    shuffled = sha(fer.images[order], [emotions[i] for i in order], [ids[i] for i in order])
    assert shuffled == fer.sha256


def test_csv_columns_in_any_order_and_spelling(fer: FaceDataset, tmp_path: Path) -> None:
    """icml_face_data.csv: blanks in the names, Usage before pixels; the name says nothing."""
    path = tmp_path / "whatever.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", " Usage", " pixels"])
        for s in fer:
            pixels = " ".join(map(str, s.image.ravel().tolist()))
            writer.writerow([FER2013.index(s.emotion), s.split, pixels])
    assert read_dataset(path).sha256 == fer.sha256


def test_kaggle_folder_keeps_the_official_split(fer: FaceDataset, tmp_path: Path) -> None:
    for i, s in enumerate(fer):
        top = "train" if s.split == "Training" else "test"
        folder = tmp_path / top / s.emotion.value
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{s.split}_{i * 7919 + 3908}.jpg"), s.image)
    data = read_dataset(tmp_path)
    assert data.name == "fer2013"
    assert "fer2013:Training_3908" in data.ids
    assert len(make_splits(data, "fer2013").ids["val"]) == 14
    folder = make_splits(data, "fer2013-folder")
    assert {k: len(v) for k, v in folder.ids.items()} == {"train": 14, "val": 0, "test": 28}


def test_plain_class_folders(fer: FaceDataset, tmp_path: Path) -> None:
    for i, s in enumerate(fer):
        folder = tmp_path / {"angry": "Anger"}.get(s.emotion.value, s.emotion.value)
        folder.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"{i}.png"), s.image)
    (tmp_path / "happy" / "Thumbs.db").write_bytes(b"x")
    data = read_dataset(tmp_path)
    assert (data.name, len(data)) == (tmp_path.name, 42)
    assert data[int(np.flatnonzero(data.ids == "faces:Anger/0")[0])].emotion is Emotion.ANGRY


def _hub_parquet(fer: FaceDataset, path: Path, rows: slice, **more: list) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    images = [
        {"bytes": cv2.imencode(".png", im)[1].tobytes(), "path": None} for im in fer.images[rows]
    ]
    table = pa.table({"image": images, "label": fer.labels[rows], **more})
    names = {"info": {"features": {"label": {"names": [c.value for c in FER2013]}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(names)}), path)


def test_hub_parquet_with_integer_labels_and_shards(fer: FaceDataset, tmp_path: Path) -> None:
    _hub_parquet(fer, tmp_path / "train-00000-of-00002.parquet", slice(0, 10))
    _hub_parquet(fer, tmp_path / "train-00001-of-00002.parquet", slice(10, 28))
    _hub_parquet(fer, tmp_path / "test-00000-of-00001.parquet", slice(28, 42))
    data = read_dataset(tmp_path)
    assert (len(data), (data.splits == "train").sum()) == (42, 28)
    test = make_splits(data, "fer2013-folder").select(data, "test")
    np.testing.assert_array_equal(test.images, fer.images[28:])
    np.testing.assert_array_equal(test.labels, fer.labels[28:])


def test_folder_with_several_asks_which(fer: FaceDataset, ck: FaceDataset, tmp_path: Path) -> None:
    write_dataset(fer, tmp_path / "one.parquet")
    write_dataset(ck, tmp_path / "two.csv")
    with pytest.raises(DataError, match="holds 2 datasets"):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path, "two").name == "ckplus"
    with pytest.raises(DataError, match="no single dataset called 'three'"):
        read_dataset(tmp_path, "three")


def test_a_file_at_the_top_does_not_hide_the_folders(
    fer: FaceDataset, ck: FaceDataset, muxspace: Path, tmp_path: Path
) -> None:
    """The layout that `mien reproduce` documents, for every other verb too."""
    data = tmp_path / "data"
    data.mkdir()
    write_dataset(fer, data / "fer2013.csv")
    write_dataset(ck, data / "CK+48")
    shutil.copytree(muxspace, data / "facial_expressions")
    assert read_for_protocol(data, "fer2013").name == "fer2013"
    assert read_for_protocol(data, "ckplus-random").name == "ckplus"
    assert read_dataset(data, "CK+48").name == "ckplus"
    assert len(read_photo_dataset(data)) == len(read_photo_dataset(muxspace))
    (data / "fer2013.csv").rename(data / "facial_expressions" / "fer2013.csv")
    assert read_for_protocol(data, "ckplus-subjects").name == "ckplus"


class _Centre:
    """Finds one face in images that are bright enough."""

    name = "centre"

    def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
        height, width = image.shape[:2]
        return (Detection(Box(0, 0, width, height)),) if image.mean() > 50 else ()


@pytest.fixture
def muxspace(tmp_path: Path) -> Path:
    root = tmp_path / "muxspace"
    (root / "images").mkdir(parents=True)
    (root / "data").mkdir()
    rows = [("a", "HAPPINESS"), ("dark", "neutral"), ("c", "contempt"), ("d", "bored")]
    rows += [("gone", "anger"), ("a", "surprise")]
    for stem, _ in rows:
        if stem != "gone":
            value = 10 if stem == "dark" else 200
            cv2.imwrite(str(root / "images" / f"{stem}.jpg"), np.full((60, 90, 3), value, np.uint8))
    lines = ["user.id,image,emotion", *(f"628,{stem}.jpg,{label}" for stem, label in rows)]
    (root / "data" / "legend.csv").write_text("\n".join(lines))
    return root


def test_fergit_counts_what_it_drops(fer: FaceDataset, muxspace: Path) -> None:
    photos = read_photo_dataset(muxspace)
    assert photos.ids[-1] == "muxspace:a#2"  # listed twice
    with pytest.raises(DataError, match="build-fergit"):
        read_dataset(muxspace)
    data, report = build_fergit(fer, photos, _Centre())
    dropped = {"unknown label": 1, "contempt": 1, "unreadable": 1, "no face found": 1}
    assert report.dropped == dropped
    assert (report.kept, report.total, len(data), data.name) == (2, 44, 44, "fergit")
    assert report.kept_by_class["happy"] == report.kept_by_class["surprise"] == 1
    assert report.fer2013 + report.photos - sum(report.dropped.values()) == report.total
    sizes = {k: len(v) for k, v in make_splits(data, "fergit-90-5-5").ids.items()}
    assert sizes == {"train": 40, "val": 2, "test": 2}


@pytest.mark.parametrize("out", ["g.csv", "g", "g.parquet"])
def test_fergit_round_trip(fer: FaceDataset, muxspace: Path, tmp_path: Path, out: str) -> None:
    data, _ = build_fergit(fer, read_photo_dataset(muxspace), _Centre())
    write_dataset(data, tmp_path / out)
    again = read_dataset(tmp_path / out)
    assert (again.name, again.sha256) == ("fergit", data.sha256)


def test_crop_repeats_the_edge_beyond_the_image() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, :20] = 255
    face = crop_square(image, Box(-20, 0, 40, 40))
    assert face.shape == (48, 48)
    assert (face == 255).all()


def test_validation_out_of_the_training_images(fer: FaceDataset) -> None:
    """For own data without a val/: every class in it, nothing of the test set."""
    own = dataclasses.replace(
        fer, splits=np.where(fer.splits == "PrivateTest", "test", "train"), name="faces"
    )
    with pytest.raises(DataError, match="use 'val-from-train', which takes a tenth"):
        make_splits(own, "fer2013")
    made = make_splits(own, "val-from-train", seed=1)
    parts = {role: made.select(own, role) for role in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [21, 7, 14]
    assert np.bincount(parts["val"].labels).tolist() == [1] * 7
    assert set(parts["test"].splits.tolist()) == {"test"}
    assert not set(made.ids["train"]) & set(made.ids["val"])
    assert made.to_json() == make_splits(own, "val-from-train", seed=1).to_json()
    assert made.to_json() != make_splits(own, "val-from-train", seed=2).to_json()


def test_data_without_splits_are_all_training_images(fer: FaceDataset) -> None:
    """Plain class folders: a message that names what can be done, and it can."""
    own = dataclasses.replace(fer, splits=np.full(len(fer), ""), name="faces")
    with pytest.raises(DataError, match=r"has none; use 'val-from-train'.*--split all"):
        make_splits(own, "fer2013")
    made = make_splits(own, "val-from-train", seed=1)
    assert [len(made.ids[role]) for role in ("train", "val", "test")] == [len(fer) - 7, 7, 0]


@pytest.mark.parametrize("protocol", ["random-80-20", "balanced"])
def test_drawn_protocols(fer: FaceDataset, protocol: str) -> None:
    first, again = make_splits(fer, protocol, seed=3), make_splits(fer, protocol, seed=3)
    assert first.to_json() == again.to_json()
    assert first.to_json() != make_splits(fer, protocol, seed=4).to_json()
    assert len(first.ids["test"]) == 9  # 8.4, rounded up
    assert not set(first.ids["train"]) & set(first.ids["test"])
    assert Splits.from_json(first.to_json()).to_json() == first.to_json()


def test_subject_folds_share_no_subject_and_cover_all(ck: FaceDataset) -> None:
    tested: list[str] = []
    for fold in range(10):
        made = make_splits(ck, "ckplus-subjects", seed=1, fold=fold)
        subjects = [set(made.select(ck, role).groups.tolist()) for role in ("train", "val", "test")]
        assert not (subjects[0] & subjects[1])
        assert not (subjects[0] & subjects[2])
        assert not subjects[1] & subjects[2]
        after = make_splits(ck, "ckplus-subjects", seed=1, fold=(fold + 1) % 10)
        assert made.ids["val"].tolist() == after.ids["test"].tolist()
        tested += made.ids["test"].tolist()
    assert sorted(tested) == sorted(ck.ids.tolist())
    assert len(make_splits(ck, "ckplus-random").ids["test"]) == 99


@pytest.mark.parametrize(
    ("protocol", "seed", "fold", "words"),
    [
        ("fergit-90-5-5", 0, None, "build FERGIT"),
        ("ckplus-random", 0, None, "is for CK"),
        ("fer2013", 0, 2, "has no folds"),
        ("fer2013", -1, None, "seed is -1"),
        ("fer-2013", 0, None, "did you mean 'fer2013'"),
    ],
)
def test_unfit_protocols_say_why(
    fer: FaceDataset, protocol: str, seed: int, fold: int | None, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        make_splits(fer, protocol, seed, fold)


def test_audit_finds_what_was_planted(fer: FaceDataset) -> None:
    rng = np.random.default_rng(5)
    images = np.stack(
        [cv2.GaussianBlur(rng.integers(0, 256, (48, 48), dtype=np.uint8), (0, 0), 4) for _ in fer]
    )
    images = np.stack([cv2.normalize(im, None, 0, 200, cv2.NORM_MINMAX) for im in images])
    images[1] = images[0]  # within Training, another label
    images[30] = images[2]  # PrivateTest has a twin in Training
    images[31] = images[20]  # ... and one in PublicTest
    images[33] = images[5] + 20  # brighter: near, across
    images[40] = 7  # constant
    votes = np.zeros((42, 10), np.float32)
    votes[:, 9] = 1
    votes[:14, 4] = 5  # "anger": right for rows 0 and 7 of Training's 14
    data = FaceDataset(**{**vars(fer), "images": images, "votes": votes})
    found = audit(data)
    assert (found.exact_copies, found.byte_copies) == (3, 3)
    assert found.conflicts[0] == ["fer2013:00000", "fer2013:00001"]
    assert found.twins["PrivateTest"] == {"Training": 1, "PublicTest": 1, "any": 2}
    assert found.twin_free["PrivateTest"] == 12 == len(twin_free_ids(data))
    assert ("fer2013:00005", "fer2013:00033", 1.0) in found.near_pairs
    assert found.near_across == len(found.near_pairs) - found.near_within == 1
    assert found.constant == ["fer2013:00040"]
    assert found.not_a_face is not None
    assert len(found.not_a_face) == 28
    assert found.ferplus_agreement is not None
    assert found.ferplus_agreement["Training"] == {"n": 14, "agree": 2, "rate": 0.1429}
    page = render_html(found, data)
    assert page.count("<img") >= 9
    assert "http://" not in page
    assert "https://" not in page
    assert "prefers-color-scheme" in page


def test_commands(fer: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "fer.parquet", tmp_path / "fer.csv"
    write_dataset(fer, source)
    assert main(["data", "convert", str(source), str(out)]) == 0
    assert fer.sha256 in capsys.readouterr().out
    page = tmp_path / "audit.html"
    assert main(["data", "audit", "--data", str(out), "--json", "--html", str(page)]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 42
    assert page.stat().st_size > 1000
    saved = tmp_path / "splits.json"
    arguments = ["--data", str(source), "--protocol", "fer2013", "--out", str(saved)]
    assert main(["data", "splits", *arguments]) == 0
    assert len(Splits.load(saved).ids["train"]) == 14
    assert main(["data", "audit", "--data", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_convert_refuses_a_folder_in_use(fer: FaceDataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="not empty"):
        write_dataset(fer, tmp_path / "out")
    with pytest.raises(DataError, match="--to"):
        write_dataset(fer, tmp_path / "x.zip")
    assert not list(tmp_path.glob(".*"))


def test_a_published_split_is_known_in_any_capitals(fer: FaceDataset) -> None:
    loud = dataclasses.replace(fer, splits=np.char.upper(fer.splits))
    published, shouted = (make_splits(dataset, "fer2013").ids for dataset in (fer, loud))
    assert all((published[role] == shouted[role]).all() for role in published)


def test_a_tree_keeps_every_sample_and_stays_inside(fer: FaceDataset, tmp_path: Path) -> None:
    hub = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
    named = dataclasses.replace(fer, splits=np.array([hub[s] for s in fer.splits.tolist()]))
    write_dataset(named, tmp_path / "hub")
    assert (read_dataset(tmp_path / "hub").splits == fer.splits).all()
    strange = dataclasses.replace(fer, splits=np.full(len(fer), "../../dev"))
    with pytest.raises(DataError, match="no folder's name stands for"):
        write_dataset(strange, tmp_path / "strange")
    evil = np.array([f"fer2013:../../../evil{i}" for i in range(len(fer))])
    write_dataset(dataclasses.replace(fer, ids=evil), tmp_path / "a" / "b" / "tree")
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["tree"]
    assert {p.name for p in tmp_path.iterdir()} == {"hub", "a"}


def test_the_current_folder_is_not_written_anew(
    fer: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="name a new folder"):
        write_dataset(fer, Path())


def test_twins_point_from_the_later_split_whatever_its_spelling(fer: FaceDataset) -> None:
    assert split_order(fer) == list(USAGES)
    for names in (("Train", "Val", "Test"), ("TRAINING", "publictest", "privatetest")):
        spelt = dict(zip(USAGES, names, strict=True))
        other = np.array([spelt[s] for s in fer.splits.tolist()])
        assert split_order(dataclasses.replace(fer, splits=other)) == list(names)


def test_shards_that_count_from_zero(fer: FaceDataset, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    for name, rows in (("test", range(28, 42)), ("train", range(28))):
        images = [cv2.imencode(".png", fer.images[i])[1].tobytes() for i in rows]
        columns = {
            "image": [{"bytes": data, "path": ""} for data in images],
            "emotion": [fer.classes[fer.labels[i]].value for i in rows],
            "Usage": [str(fer.splits[i]) for i in rows],
        }
        pq.write_table(pa.table(columns), tmp_path / f"{name}-00000-of-00001.parquet")
    again = read_dataset(tmp_path)
    assert len(set(again.ids.tolist())) == 42
    assert sorted(again.splits.tolist()) == sorted(fer.splits.tolist())


def test_no_cell_is_a_formula_and_it_reads_the_same(tmp_path: Path) -> None:
    names = ["=1+1", "-2+3", "@a", "'=x", "plain"]
    dataset = assemble(
        images=[np.full((48, 48), n, np.uint8) for n in range(5)],
        emotions=[Emotion.HAPPY] * 5,
        ids=names,
        name="faces",
        source="here",
        splits=["+train"] * 5,
        groups=names,
    )
    path = tmp_path / "f.csv"
    write_dataset(dataset, path)
    with path.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    again = read_dataset(path)
    assert again.sha256 == dataset.sha256
    assert again.groups.tolist() == names


def test_the_audit_counts_no_votes_as_none(fer: FaceDataset) -> None:
    votes = np.zeros((42, 10), np.float32)
    votes[np.arange(7), [FERPLUS_EMOTIONS.index(fer.classes[k]) for k in fer.labels[:7]]] = 5
    found = audit(FaceDataset(**{**vars(fer), "votes": votes}))
    assert found.ferplus_agreement is not None
    assert found.ferplus_agreement["Training"] == {"n": 7, "agree": 7, "rate": 1.0}


def test_a_hub_s_names_of_splits_are_the_publisher_s_in_a_csv(
    fer: FaceDataset, tmp_path: Path
) -> None:
    names = np.repeat(["train", "validation", "test"], 14)
    write_dataset(FaceDataset(**{**vars(fer), "splits": names}), tmp_path / "fer.csv")
    again = read_dataset(tmp_path / "fer.csv")
    assert again.splits.tolist() == fer.splits.tolist()
    assert again.sha256 == fer.sha256


def test_no_other_dataset_is_taken_for_a_damaged_one(fer: FaceDataset, tmp_path: Path) -> None:
    write_dataset(fer, tmp_path / "other.parquet")
    (tmp_path / "fer2013.parquet").write_bytes((tmp_path / "other.parquet").read_bytes()[:5000])
    for name in (None, "fer2013"):
        with pytest.raises(DataError, match=r"fer2013\.parquet cannot be read as parquet"):
            read_dataset(tmp_path, name)
    assert len(read_dataset(tmp_path, "other")) == 42
