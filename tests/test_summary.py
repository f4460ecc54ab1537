"""``mien summary``: tables that mien did not write, and names that are not plain text."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mien.cli import main
from mien.errors import MienError
from mien.summary import summarize
from mien.summary.spans import FORMATS, export, spans_of

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

HOSTILE = "happy\n\n00:00 --> 01:00\x1b[31m\u202e"


def faces(path: Path, **columns: Any) -> Path:
    """A video of four frames, one face each, with these columns in place of the usual ones."""
    rows = {
        "source": ["/v/a.mp4"] * 4,
        "time": [0.0, 0.5, 1.0, 1.5],
        "track": [1, 1, 1, 1],
        "face": [1, 1, 1, 1],
        "emotion": ["happy", "happy", "sad", "sad"],
        "steady": ["happy", "happy", "sad", "sad"],
        "unsure": [False] * 4,
        "quality": [0.9] * 4,
        "p_happy": [0.9, 0.9, 0.2, 0.2],
        "p_sad": [0.1, 0.1, 0.8, 0.8],
    }
    rows = {name: value for name, value in (rows | columns).items() if value is not None}
    pq.write_table(pa.table(rows), path)
    return path


def test_shares_and_changes(tmp_path: Path) -> None:
    found = summarize(faces(tmp_path / "t.parquet"), by=())
    (row,) = found.rows
    assert (row.faces, row.transitions, row.shares.tolist()) == (4, 1, [0.5, 0.5])
    assert dict(found.changes) == {("happy", "sad"): 1}


@pytest.mark.parametrize("every", [0.1, 0.2, 0.3, 0.7])
def test_windows_hold_alike_many_frames(tmp_path: Path, every: float) -> None:
    """0.6 // 0.2 is 2 in floating point: a frame at an edge begins a window all the same."""
    count = 10 * round(every * 10)
    one = {"source": "/v/a.mp4", "track": 1, "face": 1, "emotion": "sad", "steady": "sad"}
    one |= {"unsure": False, "quality": 0.9, "p_happy": 0.2, "p_sad": 0.8}
    columns = {name: [value] * count for name, value in one.items()}
    columns["time"] = [n / 10 for n in range(count)]
    rows = summarize(faces(tmp_path / "t.parquet", **columns), every=every, block=every).rows
    assert [row.faces for row in rows] == [count // 10] * 10
    edges = [round(n * every, 1) for n in range(11)]
    assert [(row.start, row.end) for row in rows] == list(pairwise(edges))


@pytest.mark.parametrize(
    "columns",
    [
        {"p_happy": None, "p_sad": None},
        {"p_happy": ["a", "b", "c", "d"]},
        {"track": [2**40] * 4},
        {"emotion": [["happy"]] * 4, "steady": [["happy"]] * 4},
        {"source": [b"\xff"] * 4},
        {"time": [[0.0]] * 4},
        {"quality": None},
    ],
)
def test_a_table_of_other_columns_is_refused(tmp_path: Path, columns: dict[str, Any]) -> None:
    path = faces(tmp_path / "t.parquet", **columns)
    with pytest.raises(MienError, match=r"t\.parquet cannot be read"):
        summarize(path)
    with pytest.raises(MienError, match=r"t\.parquet cannot be read"):
        export(path, tmp_path, ".vtt")


def test_values_that_are_none(tmp_path: Path) -> None:
    """NaN and infinite times, nameless sources: left out, and no traceback."""
    odd = [float("nan"), float("inf"), 1e300, 1.0]
    path = faces(tmp_path / "t.parquet", time=odd, source=["a.mp4", None, "a.mp4", "a.mp4"])
    assert sum(row.faces for row in summarize(path, every=1.0).rows) == 3
    assert len(export(path, tmp_path, ".eaf")) == 1


def test_hostile_names_stay_in_their_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [HOSTILE] * 4
    path = faces(tmp_path / "t.parquet", steady=names, source=[f"/v/{HOSTILE}.mp4"] * 4)
    for suffix in FORMATS:
        (written,) = export(path, tmp_path / "out", suffix)
        text = written.read_text(encoding="utf-8")
        assert not {"\x1b", "\u202e"} & set(text + written.name)
        assert "\\x0a\\x0a00:00 --" in text
        if suffix == ".eaf":
            ET.fromstring(text)
        if suffix == ".vtt":
            assert text.count("-->") == 1
    assert main(["summary", str(path)]) == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\u202e"} & set(out)
    assert len(out.splitlines()) == 2


def test_spans_never_replace_an_annotators_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = faces(tmp_path / "t.parquet")
    assert main(["summary", str(table), "--spans", "eaf"]) == 2
    assert "--spans needs --output" in capsys.readouterr().err
    for suffix in FORMATS:
        theirs = tmp_path / f"a{suffix}"
        theirs.write_text("hours of work by hand")
        with pytest.raises(MienError, match="exists and is not as mien wrote it"):
            export(table, tmp_path, suffix)
        assert theirs.read_text() == "hours of work by hand"
        for quality in (1.0, 0.0, 0.0):  # ours, with and without a span, is replaced
            (path,) = export(table, tmp_path / "own", suffix, quality)
        assert "happy" in path.read_text()


@pytest.mark.parametrize("suffix", FORMATS)
def test_spans_never_replace_what_an_annotator_added(tmp_path: Path, suffix: str) -> None:
    """Names corrected, or a tier of their own: ELAN saves it under mien's author and tiers."""
    table = faces(tmp_path / "t.parquet")
    (path,) = export(table, tmp_path, suffix)
    ours = path.read_text(encoding="utf-8")
    tier = '<TIER LINGUISTIC_TYPE_REF="expression" TIER_ID="my coding"></TIER>\n'
    for theirs in (
        ours.replace("happy", "amused"),
        ours.replace("<LINGUISTIC_TYPE ", f"{tier}<LINGUISTIC_TYPE "),
        f"{ours}\n00:00:01.000 --> 00:00:02.000\nmy coding\n",
    ):
        path.write_text(theirs, encoding="utf-8")
        if theirs != ours:
            with pytest.raises(MienError, match="not as mien wrote it"):
                export(table, tmp_path, suffix)
            assert path.read_text(encoding="utf-8") == theirs
    path.write_bytes(ours.replace("\n", "\r\n").encode())  # a version control's, say
    assert export(table, tmp_path, suffix) == [path]


def test_spans_of_frames_seconds_apart(tmp_path: Path) -> None:
    table = faces(tmp_path / "t.parquet", time=[0.0, 1.2, 2.4, 9.0])
    ((_, spans),) = spans_of(table)
    assert [(s.name, s.start, s.end) for s in spans] == [
        ("happy", 0.0, 2.4),
        ("sad", 2.4, 2.4),
        ("sad", 9.0, 9.0),
    ]


def test_the_faces_of_one_photo_are_no_sample_of_moments(tmp_path: Path) -> None:
    names = ["happy", "sad"] * 7
    one = {"time": [None] * 14, "track": [None] * 14, "steady": None, "unsure": [False] * 14}
    more = {"emotion": names, "face": range(1, 15), "quality": [0.9] * 14}
    more |= {"p_happy": [0.5] * 14, "p_sad": [0.5] * 14}
    times = {
        "time": pa.array(one["time"], pa.float64()),
        "track": pa.array([None] * 14, pa.int32()),
    }
    table = faces(tmp_path / "t.parquet", **(one | more | times), source=["/p/a.jpg"] * 14)
    (row,) = summarize(table, by=["source"]).rows
    assert (row.faces, row.share_intervals) == (14, None)
    table = faces(
        tmp_path / "t.parquet",
        **(one | more | times),
        source=[f"/p/{i // 2}.jpg" for i in range(14)],
    )
    (row,) = summarize(table, by=()).rows
    assert row.share_intervals is not None
    assert row.share_intervals[:, 0].tolist() == [0.5, 0.5]  # each photo has one of either


def test_videos_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    sources = ["/v/a b/x.mp4", "/v/a-b/x.mp4", "/v/a/b/X.mp4", "/w/x.mp4"]
    tables = [
        faces(tmp_path / f"{n}.parquet", source=[source] * 4) for n, source in enumerate(sources)
    ]
    whole = pa.concat_tables([pq.read_table(table) for table in tables])
    pq.write_table(whole, tmp_path / "all.parquet")
    written = export(tmp_path / "all.parquet", tmp_path / "out", ".TextGrid")
    assert len({path.name.lower() for path in written}) == 4


def test_a_track_is_one_of_its_video(tmp_path: Path) -> None:
    table = faces(tmp_path / "t.parquet", source=["/v/a.mp4"] * 2 + ["/v/b.mp4"] * 2)
    found = summarize(table, by=["folder", "track"])
    assert found.keys == ("folder", "source", "track")
    assert [row.group for row in found.rows] == [("/v", "/v/a.mp4", 1), ("/v", "/v/b.mp4", 1)]


def test_an_archive_is_the_folder_of_its_members(tmp_path: Path) -> None:
    names = ["/p/a.zip::x.png", "/p/a.zip::in/y.png", "/p/b.TAR.gz::x::z.png", "/p/c::x.png"]
    found = summarize(faces(tmp_path / "t.parquet", source=names), by=["folder"])
    folders = {"/p/a.zip", "/p/a.zip::in", "/p/b.TAR.gz", "/p"}
    assert {row.group[0] for row in found.rows} == folders


def test_parts_that_were_never_finished_do_not_count(tmp_path: Path) -> None:
    for folder in ("faces", "sources"):
        (tmp_path / folder).mkdir()
    for name in ("0.parquet", "1.parquet"):
        faces(tmp_path / "faces" / name)
    (tmp_path / "sources" / "0.parquet").write_bytes(b"")
    assert [row.faces for row in summarize(tmp_path).rows] == [4]


def test_what_is_read_is_not_replaced(tmp_path: Path) -> None:
    path = faces(tmp_path / "t.parquet")
    before = path.read_bytes()
    assert main(["summary", str(path), "-o", str(path)]) == 2
    (tmp_path / "faces").mkdir()
    batch = faces(tmp_path / "faces" / "part-0.parquet")
    assert main(["summary", str(tmp_path), "-o", str(batch.with_name("new.parquet"))]) == 2
    assert path.read_bytes() == before
    assert list(batch.parent.iterdir()) == [batch]


@pytest.mark.parametrize("words", [{"min_quality": 50}, {"min_quality": -3}, {"seed": -1}])
def test_values_out_of_range(tmp_path: Path, words: dict[str, int]) -> None:
    with pytest.raises(MienError, match="expected 0"):
        summarize(faces(tmp_path / "t.parquet"), **words)  # type: ignore[arg-type]
