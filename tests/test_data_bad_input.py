"""Bad datasets: one DataError with one sentence that names the file, the row and what to do."""

from __future__ import annotations

import math
import os
import struct
import sys
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mien.data import read_dataset, read_photo_dataset
from mien.data.assemble import decode_face
from mien.data.fercsv import parse_pixels
from mien.data.parquet import VOTE_COLUMNS
from mien.data.photos import find_legend
from mien.errors import DataError, ImageError

GOOD = " ".join(["7"] * 2304)


def _csv(path: Path, *rows: str, header: str = "emotion,pixels,Usage", end: str = "\n") -> Path:
    path.write_text("\n".join([header, *rows]) + end)
    return path


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (f"0,{GOOD} 7,Training", "2,305 pixels, expected 2,304"),
        (f"0,{GOOD[:-2]},Training", "2,303 pixels"),
        ("0,,Training", "0 pixels"),
        (f"0,{GOOD[:-1]}256,Training", "256 is outside 0 to 255"),
        (f"0,-1{GOOD[1:]},Training", "-1 is outside 0 to 255"),
        (f"0,99999999999999999999999{GOOD[1:]},Training", "outside 0 to 255"),
        (f"0,7.5{GOOD[1:]},Training", "'7.5' is not a pixel value"),
        (f"0,x{GOOD[1:]},Training", "'x' is not a pixel value"),
        (f"0,{GOOD.replace(' ', chr(160))},Training", "separated by something else than blanks"),
        (f"7,{GOOD},Training", "Unknown FER2013 emotion code 7"),
        (f"hapy,{GOOD},Training", "did you mean 'happy'"),
        (f",{GOOD},Training", "label is missing"),
        (f"0,{GOOD},Trai", "unknown Usage 'Trai'"),
        (f"0,{GOOD}", "2 fields, expected 3; is it half-written"),
    ],
)
def test_bad_row_names_file_row_and_count(tmp_path: Path, row: str, words: str) -> None:
    path = _csv(tmp_path / "f.csv", f"0,{GOOD},Training", row, row)
    with pytest.raises(DataError) as caught:
        read_dataset(path)
    message = str(caught.value)
    assert "f.csv, row 1: " in message
    assert words in message
    assert "and 1 more bad row" in message
    assert "--skip-bad" in message
    left = read_dataset(path, skip_bad=True)
    assert (left.ids.tolist(), len(left.notes)) == (["fer2013:00000"], 2)


def test_pixels_and_splits_as_tables_save_them(tmp_path: Path) -> None:
    values = GOOD.split()
    forms = (
        f'"[{", ".join(values)}]"',
        f'"{",".join(values)}"',
        " ".join(f"{v}.0" for v in values),
        f"[{' '.join(f'{v}.' for v in values)}]",
    )
    usages = ("train", "Training", "valid", "test")
    path = _csv(tmp_path / "f.csv", *map("0,{},{}".format, forms, usages))
    read = read_dataset(path)
    assert read.splits.tolist() == ["Training", "Training", "PublicTest", "PrivateTest"]
    expected = np.array(values, np.uint8).reshape(48, 48)
    assert all((image == expected).all() for image in read.images)


def test_half_written_last_row(tmp_path: Path) -> None:
    path = _csv(tmp_path / "f.csv", f"0,{GOOD},Training", f"0,{GOOD[:999]}", end="")
    with pytest.raises(DataError, match="row 1: 2 fields, expected 3; is it half-written"):
        read_dataset(path)


@pytest.mark.parametrize(
    ("header", "words"),
    [("emotion,Usage", "no 'pixels' column"), ("pixels,Usage", "no 'emotion' column")],
)
def test_missing_column(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_dataset(_csv(tmp_path / "f.csv", "0,Training", header=header))


def test_no_rows_empty_files_and_strangers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no usable samples"):
        read_dataset(_csv(tmp_path / "f.csv"))
    for name, data, words in [
        ("empty.csv", b"", "is empty"),
        ("bin.csv", b"\0\1\2\3", "no dataset that mien knows"),
        ("bin2.csv", b"\xff\xfe\xfa" * 9, "cannot be read as CSV"),
        ("x.zip", b"PK\3\4", "is an archive"),
        ("cut.parquet", b"PAR1 and no more", "cannot be read as parquet"),
        ("other.csv", b"a,b\n1,2\n", "no dataset that mien knows"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=words):
            read_dataset(tmp_path / name)
    with pytest.raises(DataError, match="does not exist"):
        read_dataset(tmp_path / "none")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="holds no dataset"):
        read_dataset(tmp_path / "nothing")


def test_parquet_without_images_labels_or_with_bad_rows(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "p.parquet"
    good = cv2.imencode(".png", np.zeros((48, 48), np.uint8))[1].tobytes()
    image = {"bytes": good, "path": None}
    for columns, words in [
        ({"label": [1]}, "no image column"),
        ({"image": [image]}, "no label column"),
        ({"image": [image], "emotion": [9]}, "row 0: Unknown FER2013 emotion code 9"),
        ({"image": [image], "label": [4]}, "'label' holds codes .4, ….* does not say what they"),
        ({"image": [image], "emotion": ["²"]}, "row 0: Unknown expression"),
        ({"image": [image], "emotion": ["--3"]}, "row 0: Unknown expression"),
        ({"image": [image, image], "emotion": ["sad", "sda"]}, "row 1: Unknown expression 'sda'"),
        ({"image": [image, {"bytes": b"x", "path": ""}], "emotion": [1, 1]}, "row 1: the image ca"),
        (
            {"image": [image, {"bytes": None, "path": "a"}], "emotion": [1] * 2},
            "row 1: the image is",
        ),
        ({"image": [image], "label": pa.array([None], pa.int64())}, "row 0: the label is missing"),
    ]:
        pq.write_table(pa.table(columns), path)
        with pytest.raises(DataError, match=words):
            read_dataset(path)


def test_bad_folders(tmp_path: Path) -> None:
    image = np.zeros((48, 48), np.uint8)
    for name in ("happy", "sad"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "1.png"), image)
    assert len(read_dataset(tmp_path)) == 2
    (tmp_path / "sad" / "2.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"file sad.2\.png: the image is empty"):
        read_dataset(tmp_path)
    (tmp_path / "sad" / "2.png").unlink()
    (tmp_path / "sleepy").mkdir()
    cv2.imwrite(str(tmp_path / "sleepy" / "1.png"), image)
    with pytest.raises(DataError, match="folder sleepy: Unknown expression"):
        read_dataset(tmp_path)
    cv2.imwrite(str(tmp_path / "sleepy" / "1.png"), image)
    (tmp_path / "sleepy").rename(tmp_path / "fear")
    cv2.imwrite(str(tmp_path / "fear" / "1.png"), np.zeros((50, 48), np.uint8))
    with pytest.raises(DataError, match="images of 2 sizes"):
        read_dataset(tmp_path)
    (tmp_path / "fear" / "1.png").rename(tmp_path / "fear" / "1.jfif")  # an image too
    with pytest.raises(DataError, match="images of 2 sizes"):
        read_dataset(tmp_path)
    (tmp_path / "fear" / "person1").mkdir()
    (tmp_path / "fear" / "1.jfif").rename(tmp_path / "fear" / "person1" / "1.png")
    with pytest.raises(DataError, match="folder fear: no image directly in it, but 1 folders"):
        read_dataset(tmp_path)


def test_class_folders_beside_split_folders_are_not_half_read(tmp_path: Path) -> None:
    for name in ("train/happy", "test/sad", "happy"):
        (tmp_path / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / name / "1.png"), np.zeros((48, 48), np.uint8))
    with pytest.raises(DataError, match=r"class folders \(happy\) beside test/"):
        read_dataset(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir(mode=0)
    with pytest.raises(DataError, match="cannot be read"):
        read_dataset(tmp_path / "x")


def test_votes_that_do_not_fit(tmp_path: Path) -> None:
    path = _csv(tmp_path / "f.csv", f"0,{GOOD},Training")
    names = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    votes = tmp_path / "fer2013new.csv"
    votes.write_text(f"Usage,Image name,{names}\nTraining,a,1,2,3,4,5,6,7,8,9,10\n")
    read = read_dataset(path).votes
    assert read is not None
    assert read.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]
    with pytest.raises(DataError, match=r"FER\+ votes and no images"):
        read_dataset(votes)
    votes.write_text(f"Usage,Image name,{names}\n" + "Training,a,1,2,3,4,5,6,7,8,9,10\n" * 2)
    with pytest.raises(DataError, match="votes for 2 rows"):
        read_dataset(path)
    votes.write_text(f"Usage,Image name,{names}\nPublicTest,a,1,2,3,4,5,6,7,8,9,10\n")
    with pytest.raises(DataError, match=r"row 0 is of PublicTest .* of Training"):
        read_dataset(path)
    for odd in ("x", "nan", "inf", "-1", "1e300"):
        votes.write_text(f"Usage,Image name,{names}\nTraining,a,1,2,3,4,5,6,7,8,9,{odd}\n")
        with pytest.raises(DataError, match="row 0: a vote"):
            read_dataset(path)
    votes.write_text(f"{names},Usage\n1,2,3,4,5,6,7,8,9,10\n")  # cut off before its split
    with pytest.raises(DataError, match="row 0: a vote"):
        read_dataset(path)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({VOTE_COLUMNS[0]: [1.0, None]}, "no number from 0 on"),
        ({VOTE_COLUMNS[0]: [1.0, math.inf]}, "no number from 0 on"),
        ({VOTE_COLUMNS[0]: ["one", "two"]}, "no number from 0 on"),
        ({"usage": [["Training"], ["Training"]]}, "'usage' holds list"),
        ({"emotion": ["9" * 5000, "0"]}, "row 0: "),
        ({"image": [{"bytes": "text"}] * 2}, "no image column"),
        ({"row": [1.5, math.nan]}, None),
        ({"row": ["a", None]}, None),
    ],
)
def test_parquet_columns_of_another_type(tmp_path: Path, columns: Any, said: str | None) -> None:
    """A vote, a split or a row's number that is none, and a label of 5,000 digits: each raised."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    png = cv2.imencode(".png", np.eye(48, dtype=np.uint8))[1].tobytes()
    votes = {name: [1, 2] for name in VOTE_COLUMNS}
    whole = {"image": [{"bytes": png}] * 2, "emotion": ["0", "1"], **votes}
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(whole | columns), path)
    with nullcontext() if said is None else pytest.raises(DataError, match=said):
        assert read_dataset(path).ids.tolist() == ["fer2013:00000", "fer2013:00001"]


def test_legend_with_a_half_written_row(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "legend.csv").write_text("user.id,image,emotion\n1,a.jpg,sad\n1,b.j")
    with pytest.raises(DataError, match="row 1: 2 fields, expected 3"):
        read_photo_dataset(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="0123456789 .-x\t", max_size=60))
def test_short_pixel_texts_are_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="pixel"):
        parse_pixels(text)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.integers(0, 2 * len(GOOD)), junk=st.binary(max_size=12))
def test_damaged_csv_never_raises_anything_else(tmp_path: Path, cut: int, junk: bytes) -> None:
    """Cut anywhere, with junk after it: a dataset or a DataError."""
    whole = f"emotion,pixels,Usage\n0,{GOOD},Training\n3,{GOOD},PrivateTest\n".encode()
    path = tmp_path / "f.csv"
    path.write_bytes(whole[:cut] + junk)
    message = ""
    try:
        data = read_dataset(path)
    except DataError as error:
        message = str(error)
        data = None
    assert "\n" not in message
    assert "f.csv" in message if data is None else 1 <= len(data) <= 2


def test_a_tree_of_photos_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    (tmp_path / "happy").mkdir()
    cv2.imwrite(str(tmp_path / "happy" / "a.png"), np.zeros((1025, 8), np.uint8))
    with pytest.raises(DataError, match="8×1025 pixels, and faces already cut out"):
        read_dataset(tmp_path)


def test_parquet_without_a_good_row_or_with_damaged_pages(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array([], image), "emotion": pa.array([], pa.string())}
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match="no usable samples"):
        read_dataset(path)
    data = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8))[1]
    rows = {"image": [{"bytes": data.tobytes(), "path": ""}] * 9, "emotion": ["happy"] * 9}
    pq.write_table(pa.table(rows), path)
    whole = bytearray(path.read_bytes())
    whole[4:200] = bytes(196)
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"f\.parquet"):
        read_dataset(path)


def test_a_stray_csv_does_not_hide_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "notes.csv").write_text("")
    _csv(tmp_path / "fer2013.csv", f"0,{GOOD},Training")
    assert len(read_dataset(tmp_path / "fer2013.csv")) == 1
    assert find_legend(tmp_path) is None


@pytest.mark.parametrize("column", ["emotion", "usage", "id", "group", "image"])
def test_parquet_text_that_is_no_utf8(tmp_path: Path, column: str) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    png = cv2.imencode(".png", np.zeros((48, 48), np.uint8))[1].tobytes()
    table = {
        "image": pa.array([{"bytes": png, "path": "a.png"}] * 2),
        "emotion": pa.array(["happy", "sad"]),
        "usage": pa.array(["Training", "Training"]),
        "id": pa.array(["x:1", "x:2"]),
        "group": pa.array(["a", "b"]),
    }
    bad = pa.array([b"ok", b"caf\xe9"], pa.binary()).view(pa.string())
    if column == "image":
        bad = pa.StructArray.from_arrays([pa.array([png, png]), bad], ["bytes", "path"])
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table(table | {column: bad}), path)
    with pytest.raises(DataError, match=r"f.parquet is damaged .*UTF"):
        read_dataset(path)


def _png(declared: bytes) -> bytes:
    """A face's PNG of which OpenCV would allocate, and fill, gigabytes."""
    data = bytearray(cv2.imencode(".png", np.zeros((48, 48), np.uint8))[1].tobytes())
    if declared == b"IHDR":  # 60,000×60,000 pixels, checksum and all
        data[16:24] = struct.pack(">II", 60_000, 60_000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    else:  # a chunk of 2 GB
        at = data.find(declared) - 4
        data[at : at + 4] = struct.pack(">I", 2_000_000_000)
    return bytes(data)


@pytest.mark.parametrize("declared", [b"IHDR", b"IDAT"])
@pytest.mark.parametrize("form", ["parquet", "folder", "photos"])
def test_a_face_that_declares_gigabytes_is_refused_before_it_is_decoded(
    tmp_path: Path, form: str, declared: bytes
) -> None:
    resource = pytest.importorskip("resource")
    data = _png(declared)
    if form == "folder":
        (tmp_path / "happy").mkdir()
        (tmp_path / "happy" / "a.png").write_bytes(data)
        path = tmp_path
    else:
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        path = tmp_path / "p.parquet"
        more = {"file": ["a.png"], "user_id": ["1"]} if form == "photos" else {}
        image = [{"bytes": data, "path": "a.png"}]
        pq.write_table(pa.table({"image": image, "emotion": ["happy"], **more}), path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if form == "photos":
        with pytest.raises(ImageError, match=r"declares 60,000×60,000 pixels|damaged PNG"):
            read_photo_dataset(path).image(0)
    else:
        with pytest.raises(DataError, match="the image cannot be decoded"):
            read_dataset(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (200 << 20 if sys.platform == "darwin" else 200 << 10)


def test_faces_of_every_form_give_opencvs_pixels() -> None:
    rng = np.random.default_rng(0)
    face = cv2.resize(rng.integers(0, 256, (6, 6)).astype(np.uint8), (48, 40))
    for ending in (".png", ".jpg", ".webp", ".bmp"):
        data = cv2.imencode(ending, face)[1]
        want = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        assert (decode_face(data.tobytes()) == want).all(), ending
    large = cv2.imencode(".png", np.zeros((4, 1025), np.uint8))[1].tobytes()
    with pytest.raises(ValueError, match="1025×4 pixels, and faces already cut out have at most"):
        decode_face(large)
