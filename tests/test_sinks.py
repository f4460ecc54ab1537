"""JSON lines, CSV, Parquet and painted images."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.atomic import lock
from mien.emotions import CKPLUS, FER2013, Emotion
from mien.errors import OutputError
from mien.results import Box, Face, Result
from mien.sinks import AnnotatedSink, CsvSink, JsonLinesSink, ParquetSink, columns
from mien.sinks.grown import GrowingSink

P = dict(zip(FER2013, (0.05, 0.01, 0.04, 0.7, 0.1, 0.06, 0.04), strict=True))
POINTS = ((3.0, 4.0), (9.0, 4.0), (6.0, 7.0), (4.0, 10.0), (8.0, 10.0))
FACE = Face(Box(1.5, 2.25, 10, 12), P, 0.9, POINTS)
BARE = Face(Box(20, 2, 10, 12), P)
TWO = Result((FACE, BARE), 64, 48, "a,b.jpg", "tiny", "yunet")
NONE = Result((), 64, 48, "empty.jpg", "tiny", "yunet")


def test_json_lines_go_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with JsonLinesSink(path, top=2) as sink:
        sink.write(TWO)
        sink.write(NONE)
        assert not path.exists()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [Result.from_dict(line) for line in lines] == [TWO, NONE]
    assert lines[0]["faces"][0]["top"] == [["happy", 0.7], ["sad", 0.1]]


def test_csv_has_one_row_a_face() -> None:
    stream = io.StringIO()
    with CsvSink(stream) as sink:
        sink.write(TWO)
        sink.write(NONE)
    rows = list(csv.DictReader(io.StringIO(stream.getvalue())))
    assert tuple(rows[0]) == columns()
    assert [(r["source"], r["faces"], r["face"]) for r in rows] == [
        ("a,b.jpg", "2", "1"),
        ("a,b.jpg", "2", "2"),
        ("empty.jpg", "0", ""),
    ]
    assert float(rows[0]["box_y"]) == 2.25
    assert float(rows[0]["nose_tip_y"]) == 7
    assert rows[1]["nose_tip_y"] == rows[1]["detection_score"] == ""
    assert sum(float(rows[0][f"p_{e.value}"]) for e in FER2013) == pytest.approx(1)
    assert rows[2]["p_happy"] == rows[2]["emotion"] == ""


def test_parquet_has_the_same_rows(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
    path = tmp_path / "a.parquet"
    with ParquetSink(path) as sink:
        sink.write(TWO)
        sink.write(NONE)
    table = pq.read_table(path)
    assert tuple(table.column_names) == columns()
    rows = table.to_pylist()
    assert [r["emotion"] for r in rows] == ["happy", "happy", None]
    assert rows[0]["p_happy"] == pytest.approx(0.7)
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize("kind", [JsonLinesSink, CsvSink, ParquetSink])
def test_a_failure_leaves_no_file(
    tmp_path: Path, kind: type[JsonLinesSink | CsvSink | ParquetSink]
) -> None:
    if kind is ParquetSink:
        pytest.importorskip("pyarrow")

    def fail() -> None:
        with kind(tmp_path / "a") as sink:
            sink.write(TWO)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_sentence() -> None:
    with pytest.raises(OutputError, match="disk is full"), CsvSink("/dev/full") as sink:
        sink.write(TWO)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_sentence_where_the_block_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("mien.sinks.is_stream", lambda target: False)  # a full disk, no device
    full = ParquetSink("/dev/full")  # pyarrow writes the file's first bytes as it opens it
    with pytest.raises(OutputError, match="disk is full"):
        full.__enter__()
    here = tmp_path / "a.parquet"
    monkeypatch.setattr(
        "pyarrow.parquet.ParquetWriter", lambda *_: Path("/dev/full").write_bytes(b"PAR1")
    )
    for _ in range(2):  # neither lock nor work file is left
        with pytest.raises(OutputError, match="disk is full"):
            ParquetSink(here).__enter__()
        assert list(tmp_path.iterdir()) == []


def test_a_growing_table_that_cannot_begin_leaves_no_lock(tmp_path: Path) -> None:
    sink = GrowingSink({"csv": str(tmp_path / "a.csv"), "jsonl": str(tmp_path / "b.jsonl")})
    with lock(tmp_path / "b.jsonl"), pytest.raises(OutputError, match="another run"):
        sink.__enter__()
    assert list(tmp_path.iterdir()) == []


def test_painted_copies_overwrite_nothing(tmp_path: Path) -> None:
    image: NDArray[np.uint8] = np.full((48, 64, 3), 128, np.uint8)
    sources = []
    for name in ("a/x.jpg", "b/x.jpg", "b/x.png", "x-mien.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image)
        sources.append(path)
    before = [path.read_bytes() for path in sources]
    with AnnotatedSink(tmp_path, sources=sources) as sink:
        for path in sources:
            sink.write(Result((BARE,), 64, 48, str(path)), image)
    assert [path.read_bytes() for path in sources] == before
    made = sorted(p.name for p in tmp_path.iterdir() if p.is_file() and p not in sources)
    assert made == ["x-mien-2.jpg", "x-mien-2.png", "x-mien-mien.png", "x-mien.jpg"]
    for name in made:
        painted = cv2.imread(str(tmp_path / name))
        assert painted is not None
        assert max(painted.shape) == 480


def test_painted_copies_keep_their_sub_folder(tmp_path: Path) -> None:
    sink = AnnotatedSink(tmp_path / "out", roots=[tmp_path / "in"])
    assert sink.name_for(str(tmp_path / "in/s/a.jpg")) == tmp_path / "out/s/a-mien.jpg"
    assert sink.name_for("standard input") == tmp_path / "out/image-mien.png"


def test_no_row_and_no_class_is_lost(tmp_path: Path) -> None:
    other = Result((Face(Box(1, 1, 9, 9), dict.fromkeys(CKPLUS, 0.125)),), 64, 48, "a", "tiny")
    for kind in (CsvSink, ParquetSink):
        sink = kind(tmp_path / "t")
        with pytest.raises(OutputError, match="inside its `with` block"):
            sink.write(TWO)
        with sink:
            sink.write(TWO)
            with pytest.raises(OutputError, match="no column for contempt"):
                sink.write(other)
        with pytest.raises((OutputError, ValueError)):
            sink.write(TWO)


def test_a_file_name_that_is_no_utf8() -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    stream = io.StringIO()
    with JsonLinesSink(stream) as sink:
        sink.write(Result((), 1, 1, name))
    stream.getvalue().encode("utf-8")


def test_a_file_name_is_no_formula() -> None:
    text = io.StringIO()
    with CsvSink(text) as sink:
        sink.write(Result((), 1, 1, "=HYPERLINK(1).jpg"))
        sink.write(Result((), 1, 1, "plain.jpg"))
    rows = [line.split(",")[0] for line in text.getvalue().splitlines()[1:]]
    assert rows == ["./=HYPERLINK(1).jpg", "plain.jpg"]


def test_videos_have_their_columns_and_say_unsure() -> None:
    doubted = Face(Box(1, 2, 10, 12), P, track=3, smoothed=P)
    named = Face(Box(1, 2, 10, 12), P, track=4, smoothed=P, steady=Emotion.HAPPY)
    stream = io.StringIO()
    with CsvSink(stream, video=True) as sink:
        sink.write(Result((doubted, named), 64, 48, "a.mp4", "tiny", "yunet", frame=7, time=0.28))
    rows = list(csv.DictReader(io.StringIO(stream.getvalue())))
    assert tuple(rows[0])[:4] == ("source", "frame", "time", "skipped")
    assert [(r["source"], r["frame"], r["time"], r["track"], r["steady"]) for r in rows] == [
        ("a.mp4", "7", "0.28", "3", "unsure"),
        ("a.mp4", "7", "0.28", "4", "happy"),
    ]
    assert float(rows[0]["s_happy"]) == 0.7
