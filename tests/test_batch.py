"""``mien batch``: every source once, whatever happens, with the rows of predict and video."""

from __future__ import annotations

import csv
import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers_video import damage, draw_frame, ffmpeg, walking, write_video
from numpy.typing import NDArray

import mien
from mien.batch import Options, Summary, batch, estimate, join
from mien.batch.engine import _held
from mien.batch.fetch import fetched
from mien.batch.plan import Item, _entry, find_items
from mien.batch.run import _tasks
from mien.batch.worker import read
from mien.cli import main
from mien.errors import ImageError, MienError, OutputError
from mien.pipeline import Analyzer
from mien.sinks import face_rows
from mien.video import analyze_video
from mien.video.options import Options as VideoOptions

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Image = NDArray[np.uint8]


@pytest.fixture
def options(model: Path) -> Options:
    return Options(model=str(model))


@pytest.fixture
def photos(tmp_path: Path, portrait: Image) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(20):
        cv2.imwrite(str(folder / f"{number:02d}.jpg"), np.roll(portrait, 3 * number, axis=1))
    cv2.imwrite(str(folder / "sub" / "none.png"), portrait[300:])
    (folder / "bad.jpg").write_bytes(b"no picture")
    (folder / "notes.md").write_text("no picture by its ending")
    os.mkfifo(folder / "pipe.png")
    return folder


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    """A table's rows, without what differs from run to run."""
    rows = pq.read_table(folder / name).to_pylist()
    for row in rows:
        row.pop("seconds", None)
    return sorted(rows, key=lambda r: (r["source"], r.get("frame") or 0, r.get("face") or 0))


def tables(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: table(folder, name) for name in ("sources", "frames", "faces")}


def as_written(results: Any) -> list[dict[str, Any]]:
    """The rows of results as a table of floats of four bytes gives them back."""
    floats = [row for result in results for row in face_rows(result) if row.get("face")]
    return [
        {
            k: float(np.float32(v)) if isinstance(v, float) and k != "time" else v
            for k, v in row.items()
            if v is not None
        }
        for row in floats
    ]


def known(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if v is not None} for row in rows]


def test_the_rows_are_those_of_predict(
    photos: Path, options: Options, tmp_path: Path, model: Path
) -> None:
    out = tmp_path / "out"
    done = mien.batch(photos, out, options=options, workers=2)
    assert (done.photos, done.failed, done.before) == (21, 2, 0)
    sources = {Path(row["source"]).name: row for row in table(out, "sources")}
    assert len(sources) == 23
    assert (
        sources["bad.jpg"]["error"].endswith("bad.jpg is not an image.")
        or sources["bad.jpg"]["error"]
    )
    assert "no regular file" in sources["pipe.png"]["error"]
    assert sources["00.jpg"]["size"] == (photos / "00.jpg").stat().st_size
    analyzer = Analyzer(str(model), threads=1)
    good = [
        path for path in sorted(photos.rglob("*.*g")) if path.name not in ("bad.jpg", "pipe.png")
    ]
    expected = as_written(map(analyzer.analyze, map(str, good)))
    assert known(table(out, "faces")) == expected
    assert len(expected) > 15
    frames = table(out, "frames")
    assert sum(row["faces"] for row in frames) == len(expected)
    assert {row["source"] for row in frames} == {str(path) for path in good}
    metadata = pq.ParquetFile(next((out / "faces").iterdir())).schema_arrow.metadata
    assert metadata[b"mien.model_sha256"].decode() == analyzer.classifier.sha256
    assert metadata[b"mien.format"] == b"1"


def test_what_is_done_is_not_done_again(photos: Path, options: Options, tmp_path: Path) -> None:
    out = tmp_path / "out"
    batch(photos, out, options=options, workers=1)
    before = tables(out)
    again = batch([photos, photos / "00.jpg"], out, options=options, workers=1)
    assert (again.done, again.before) == (0, 23)
    (photos / "bad.jpg").write_bytes((photos / "00.jpg").read_bytes())
    (photos / "new.jpg").write_bytes((photos / "01.jpg").read_bytes())
    grown = batch(photos, out, options=options, workers=1)
    assert (grown.photos, grown.failed) == (1, 0)
    assert (grown.before_failed, grown.exit_code) == (2, 1)  # what failed before stands in there
    mended = batch(photos, out, options=options, workers=1, retry=True)
    assert (mended.photos, mended.failed) == (1, 1)
    after = tables(out)
    assert len(after["sources"]) == len({row["source"] for row in after["sources"]}) == 24
    assert all(row in after["faces"] for row in before["faces"])
    assert len(after["faces"]) == len(before["faces"]) + 2
    with pytest.raises(OutputError, match="begun with other faces"):
        batch(photos, out, options=Options(options.model, faces=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="is not empty and no batch's"):
        batch(photos, tmp_path / "mine", options=options)


@pytest.fixture(scope="module")
def long_video(_portrait: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 seconds with B frames and few key frames; its rate is the same throughout."""
    folder = tmp_path_factory.mktemp("long")
    frames = (draw_frame(_portrait, 2 * n % 300) for n in range(350))
    plain, path = write_video(folder / "plain.mp4", frames, 5), folder / "long.mp4"
    coding = ("-c:v", "libx264", "-bf", "3", "-g", "45", "-preset", "veryfast")
    ffmpeg("-i", str(plain), *coding, str(path))
    return path


@pytest.fixture
def video(long_video: Path, tmp_path: Path) -> Path:
    """A copy of ``long_video``, alone in its folder."""
    (tmp_path / "films").mkdir()
    return Path(shutil.copy(long_video, tmp_path / "films"))


@pytest.mark.parametrize("every", [1, 2])
def test_a_video_in_parts_is_the_video(
    video: Path, options: Options, tmp_path: Path, model: Path, every: int
) -> None:
    out = tmp_path / "out"
    options = Options(options.model, video=VideoOptions(every=every))
    done = batch(video, out, options=options, workers=2)
    assert (done.videos, done.failed) == (1, 0)
    analyzer = Analyzer(str(model), min_face=options.video_min_face, turns=False, threads=1)
    results = list(analyze_video(video, analyzer, every=every))
    assert known(table(out, "faces")) == as_written(results)
    frames = table(out, "frames")
    assert [row["frame"] for row in frames] == [result.frame for result in results]
    [source] = table(out, "sources")
    assert (source["frames"], source["error"]) == (len(results), None)
    assert max(row["track"] for row in table(out, "faces")) >= 2


@pytest.mark.parametrize("every", [1, 3])
def test_a_damaged_video_in_parts_says_so_once(
    portrait: Image, options: Options, tmp_path: Path, model: Path, every: int
) -> None:
    """Damage at its beginning, where two parts meet, and at its end; and one that is cut short."""
    path = write_video(tmp_path / "a.avi", (draw_frame(portrait, n % 300) for n in range(350)), 5)
    damage(path, 0, 148, 149, 348, 349)
    cut, out = tmp_path / "cut.avi", tmp_path / "out"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    options = Options(options.model, video=VideoOptions(every=every))
    counted: list[int] = []
    done = batch(
        [path, cut],
        out,
        options=options,
        workers=2,
        on_progress=lambda summary: counted.append(summary.damaged),
    )
    assert counted[-1] == 2  # by the pass itself
    assert (done.videos, done.failed, done.damaged, done.exit_code) == (2, 0, 2, 1)
    whole, part = table(out, "sources")
    assert (whole["skipped"], "5 damaged frames" in whole["error"]) == (5, True)
    assert "it ends at 0:2" in part["error"]
    analyzer = Analyzer(str(model), min_face=options.video_min_face, turns=False, threads=1)
    results = [(r.frame, r.skipped) for r in analyze_video(path, analyzer, every=every)]
    rows = [row for row in table(out, "frames") if row["source"] == str(path)]
    assert [(row["frame"], row["skipped"]) for row in rows] == results
    again = batch([path, cut], out, options=options, workers=1, retry=True)
    assert (again.done, again.before, again.damaged, again.exit_code) == (0, 2, 2, 1)
    joined = [join(tmp_path / "joined", [out]) for _ in range(2)]
    assert [(one.damaged, one.exit_code) for one in joined] == [(2, 1), (2, 1)]


@pytest.mark.parametrize("grows", [True, False])
def test_a_video_that_changes_under_the_run(
    video: Path, options: Options, tmp_path: Path, grows: bool
) -> None:
    """One that grows is what it was when it was opened; one that disappears has no rows."""
    out, size = tmp_path / "out", video.stat().st_size

    def change(summary: Summary) -> None:
        if grows and video.stat().st_size == size:
            with video.open("ab") as file:
                file.write(bytes(100_000))
        elif not grows:
            video.unlink(missing_ok=True)

    done = batch(video, out, options=options, workers=1, on_progress=change)
    [source] = table(out, "sources")
    assert (source["kind"], source["size"]) == ("video", size)
    assert (done.videos, done.failed) == ((1, 0) if grows else (0, 1))
    assert len(table(out, "frames")) == source["frames"] == (350 if grows else 0)


@pytest.mark.parametrize("every", [1, 2])
def test_a_video_whose_rate_varies(
    video: Path, options: Options, tmp_path: Path, model: Path, every: int
) -> None:
    """The number of a frame in the middle cannot be told from its time."""
    varying = video.with_name("varying.mp4")
    drop = "select='not(between(t,5,40)*mod(n,3))'"
    coding = ("-c:v", "libx264", "-preset", "veryfast")
    ffmpeg("-i", str(video), "-vf", drop, "-vsync", "vfr", *coding, str(varying))
    out = tmp_path / "out"
    batch(varying, out, options=Options(options.model, video=VideoOptions(every=every)), workers=2)
    analyzer = Analyzer(str(model), min_face=options.video_min_face, turns=False, threads=1)
    results = list(analyze_video(varying, analyzer, every=every))
    assert known(table(out, "faces")) == as_written(results)
    assert 100 < len(results) < 300


@pytest.fixture
def archive(photos: Path, tmp_path: Path, portrait: Image) -> Path:
    """Two shards and a zip, each with 00.jpg, 01.jpg and a video; and what is no archive."""
    folder = tmp_path / "archive"
    folder.mkdir()
    short = write_video(tmp_path / "short.avi", walking(portrait, 30))
    for name, mode in (("a.tar", "w"), ("b.tar.gz", "w:gz")):
        with tarfile.open(folder / name, mode) as tar:
            for file in ("00.jpg", "01.jpg", "notes.md"):
                tar.add(photos / file, f"deep/{file}")
            tar.add(short, "short.avi")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        for file in ("00.jpg", "01.jpg"):
            archive.write(photos / file, file)
        archive.write(short, "short.avi")
    (folder / "d.tar").write_bytes(b"no archive")
    return folder


def test_archives(archive: Path, photos: Path, options: Options, tmp_path: Path) -> None:
    out, plain = tmp_path / "out", tmp_path / "plain"
    done = batch(archive, out, options=options, workers=2)
    assert (done.photos, done.videos, done.failed) == (6, 3, 1)
    batch([photos / "00.jpg", photos / "01.jpg", tmp_path / "short.avi"], plain, options=options)
    found = tables(out)
    for row in found["faces"]:
        row["source"] = row["source"].rpartition("::")[2].removeprefix("deep/")
    wanted = table(plain, "faces")
    for row in wanted:
        row["source"] = Path(row["source"]).name
    for row in wanted:
        assert found["faces"].count(row) == 3
    assert len(found["faces"]) == 3 * len(wanted) > 60
    hashes = {row["sha256"] for row in table(plain, "sources")}
    assert {row["sha256"] for row in found["sources"]} == {*hashes, None}
    [bad] = [row for row in found["sources"] if row["error"]]
    assert bad["source"] == str(archive / "d.tar")
    with zipfile.ZipFile(archive / "e.zip", "w") as more:
        more.writestr("bad.mp4", "no video")
    batch(archive, out, options=options, workers=1)
    [bad] = [row for row in table(out, "sources") if "e.zip" in row["source"]]
    assert bad["error"].startswith(
        f"{archive}/e.zip::bad.mp4 cannot be read"
    )  # not the copy's name


def test_lists_and_addresses(photos: Path, archive: Path, options: Options, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    names = [f"{n:02d}.jpg" for n in range(8)]
    (photos / "list.txt").write_text("\n".join(names[:2]) + "\n\ngone.jpg\n")
    with (photos / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "Path"], *([1, name] for name in names[2:4])])
    pq.write_table(pa.table({"where": names[4:6]}), photos / "list.parquet")
    done = batch([photos / "list.txt", photos / "list.csv"], tmp_path / "out", options=options)
    assert (done.photos, done.failed) == (4, 1)
    assert done.error == f"{photos / 'gone.jpg'} does not exist."
    with pytest.raises(ImageError, match=r"has no column path or .* it has where"):
        batch(photos / "list.parquet", tmp_path / "out", options=options)
    done = batch(photos / "list.parquet", tmp_path / "out", options=options, column="where")
    assert done.photos == 2
    address = archive.as_uri()
    there = batch(address, tmp_path / "there", options=options, workers=2)
    assert (there.photos, there.videos, there.failed) == (6, 3, 1)


def test_a_web_server(photos: Path, options: Options, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    handler = partial(SimpleHTTPRequestHandler, directory=str(photos))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        root = f"http://user:secret@127.0.0.1:{server.server_port}"
        done = batch([f"{root}/00.jpg", f"{root}/no.jpg"], tmp_path / "out", options=options)
    finally:
        server.shutdown()
    assert (done.photos, done.failed) == (1, 1)
    assert "secret" not in repr(table(tmp_path / "out", "sources"))


def test_shards_are_joined(photos: Path, options: Options, tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    batch(photos, whole, options=options)
    for n in (1, 3):
        batch(photos, out, options=options, shard=f"{n}/3", workers=1)
    with pytest.raises(MienError, match=r"holds 2 of 3 shards; number 2 is missing"):
        join(out)
    batch(photos, out, options=options, shard="2/3", workers=1)
    assert main(["batch", "--merge", "--out", str(out)]) == 1  # two sources could not be read
    assert tables(out) == tables(whole)
    assert len(list((out / "faces").iterdir())) <= 3
    again = join(out)
    assert (again.done, again.before) == (0, 23)
    twice = join(tmp_path / "both", [out, whole])
    assert (twice.photos, twice.failed) == (21, 2)
    assert tables(tmp_path / "both") == tables(whole)


def test_a_model_is_known_by_its_content(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file on another mount, or named from another folder, is the same model."""
    copy = tmp_path / "elsewhere.onnx"
    copy.write_bytes(model.read_bytes())
    out = tmp_path / "out"
    batch(photos, out, options=Options(model), shard="1/2", workers=1)
    batch(photos, out, options=Options(str(copy)), shard="2/2", workers=1)
    assert join(out).done == 23
    monkeypatch.chdir(tmp_path)
    assert batch(photos, out, options=Options("./elsewhere.onnx"), workers=1).before == 23
    with pytest.raises(OutputError, match="begun with other min_quality:"):
        batch(photos, out, options=Options(str(copy), min_quality=0.5))


def errors(folder: Path) -> dict[str, str | None]:
    return {Path(r["source"]).name: r["error"] for r in table(folder, "sources")}


def test_retry_keeps_the_rows_of_other_sources(
    photos: Path, options: Options, tmp_path: Path
) -> None:
    """Errors were forgotten before the sources were looked at."""
    out, bad = tmp_path / "out", photos / "bad.jpg"
    batch([bad, photos / "00.jpg"], out, options=options, workers=1)
    (first,) = (out / "sources").iterdir()
    old = first.read_bytes()
    other = batch(photos / "01.jpg", out, options=options, workers=1, retry=True)
    assert (other.photos, other.before, other.before_failed, other.exit_code) == (1, 2, 1, 1)
    assert errors(out)["bad.jpg"]
    bad.write_bytes((photos / "02.jpg").read_bytes())
    assert estimate(bad, out, options=options, retry=True).photos == 1
    done = batch(bad, out, options=options, workers=1, retry=True)
    assert (done.photos, done.before, done.exit_code) == (1, 2, 0)
    whole = tables(out)
    assert errors(out) == dict.fromkeys(("00.jpg", "01.jpg", "bad.jpg"))
    with tarfile.open(tmp_path / "good.tar", "w") as tar:
        tar.add(photos / "00.jpg", "00.jpg")
    archive = tmp_path / "late.tar"
    archive.write_bytes(b"")
    late = tmp_path / "late"
    assert batch(archive, late, options=options, workers=1).failed == 1
    archive.write_bytes((tmp_path / "good.tar").read_bytes())
    assert batch(archive, late, options=options, workers=1, retry=True).exit_code == 0
    assert errors(late) == {"late.tar::00.jpg": None}  # an archive has no row of its own
    first.write_bytes(old)  # as a run leaves it that is killed between the part and the old row
    assert len(table(out, "sources")) == 4
    assert batch(bad, out, options=options, workers=1).exit_code == 0
    assert tables(out) == whole


def test_what_a_shard_mended_is_joined(
    photos: Path, options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, some = tmp_path / "out", tmp_path / "some"
    some.mkdir()
    for name in ("00.jpg", "01.jpg", "bad.jpg"):
        (some / name).write_bytes((photos / name).read_bytes())
    shards = ("1/2", "2/2")
    for shard in shards:
        batch(some, out, options=options, shard=shard, workers=1)
    first = join(out)
    assert (first.photos, first.failed) == (2, 1)
    (some / "bad.jpg").write_bytes((photos / "02.jpg").read_bytes())
    counts = [estimate(some, out, options=options, shard=s, retry=True).photos for s in shards]
    assert sum(counts) == 1
    for shard in shards:
        command = ["batch", str(some), "--out", str(out), "--shard", shard, "--retry"]
        assert main([*command, "--workers", "1", "--model", str(options.model)]) == 0
        assert f"rows in {out}/shard-{shard[0]}-of-2" in capsys.readouterr().err.replace("\n", "")
    again = join(out)
    assert (again.photos, again.failed, again.before, again.exit_code) == (1, 0, 2, 0)
    batch(some, tmp_path / "whole", options=options, workers=1)
    assert tables(out) == tables(tmp_path / "whole")
    (some / "bad.jpg").write_bytes(b"broken again")
    batch(some, tmp_path / "other", options=options, workers=1)
    both = join(tmp_path / "both", [tmp_path / "other", out])  # where one read it, it is read
    assert (both.photos, both.failed, both.exit_code) == (3, 0, 0)
    assert tables(tmp_path / "both") == tables(out)
    for more in ("--dry-run", "--retry"), ("--shard", "1/2"):
        assert main(["batch", "--merge", "--out", str(out), *more]) == 2
        assert "--merge goes with none of" in capsys.readouterr().err


def head(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A member's head in a tar file, with any size."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (size & (1 << 96) - 1 if size < 0 else 1 << 95 | size).to_bytes(12, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_archives_that_lie(tmp_path: Path) -> None:
    """Each took memory, a disk or time without end."""
    tar, bomb = tmp_path / "a.tar", tmp_path / "b.zip"
    for member in (head("a.jpg", -512), head("x", 1 << 40, tarfile.GNUTYPE_LONGNAME)):
        tar.write_bytes(member + bytes(2048))
        (item,) = find_items([tar], lambda name: True)
        assert item.problem is not None
        assert "it holds a" in item.problem
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("film.mp4", "photo.jpg"):
            with archive.open(name, "w") as member:
                for _ in range(441):
                    member.write(bytes(1 << 20))
    items = list(find_items([bomb], lambda name: True))
    assert ["would take 462 MB" in (item.problem or "") for item in items] == [True, True]


def test_a_member_that_stands_twice(photos: Path, tmp_path: Path) -> None:
    """``tar rf`` puts the new version at the end, and ``tar x`` gives that."""
    old, new = ((photos / name).read_bytes() for name in ("00.jpg", "01.jpg"))
    for name, mode in (("a.tar", "w"), ("a.tgz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as tar:
            for data in (old, new):
                info = tarfile.TarInfo("x.jpg")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (item,) = find_items([tmp_path / "a.tar"], lambda name: True)
    assert read(item)[1] == new
    first, again = find_items([tmp_path / "a.tgz"], lambda name: True)
    assert (first.name, read(first)[1]) == (f"{tmp_path}/a.tgz::x.jpg", old)
    assert "its first version was read" in (again.problem or "")
    assert again.name != first.name
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.jpg", old)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.jpg", new)
    (item,) = find_items([tmp_path / "a.zip"], lambda name: True)
    assert read(item)[1] == new


def test_a_hard_link_is_what_it_points_to(photos: Path, tmp_path: Path) -> None:
    """``tar c`` makes one of a file's second name; only what stands before it counts."""
    old, new = ((photos / name).read_bytes() for name in ("00.jpg", "01.jpg"))
    (tmp_path / "outside.jpg").write_bytes(old)

    def add(tar: tarfile.TarFile, name: str, content: bytes | str, kind: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.type = kind
        if isinstance(content, str):
            info.linkname = content
            return tar.addfile(info)
        info.size = len(content)
        return tar.addfile(info, io.BytesIO(content))

    for name, mode in (("a.tar", "w"), ("a.tgz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as tar:
            add(tar, "early.jpg", "x.jpg", tarfile.LNKTYPE)
            add(tar, "./x.jpg", old, tarfile.REGTYPE)
            add(tar, "one.jpg", "x.jpg", tarfile.LNKTYPE)
            add(tar, "two.jpg", "one.jpg", tarfile.LNKTYPE)
            add(tar, "./x.jpg", new, tarfile.REGTYPE)
            add(tar, "three.jpg", "x.jpg", tarfile.LNKTYPE)
            add(tar, "soft.jpg", "x.jpg", tarfile.SYMTYPE)
            add(tar, "self.jpg", "self.jpg", tarfile.LNKTYPE)
            for n, outside in enumerate((tmp_path / "outside.jpg", "../outside.jpg")):
                add(tar, f"out{n}.jpg", str(outside), tarfile.LNKTYPE)
    items = list(find_items([tmp_path / "a.tar"], lambda name: True))
    found = {item.name.rpartition("::")[2]: read(item) for item in items}
    held = {"one.jpg": old, "two.jpg": old, "./x.jpg": new, "three.jpg": new}
    assert {name: data for name, (_, data) in found.items() if data} == held
    refused = {"early.jpg", "soft.jpg", "self.jpg", "out0.jpg", "out1.jpg"}
    assert {name for name, (_, data) in found.items() if not data} == refused
    assert "is left out: a link to x.jpg" in (found["early.jpg"][0].error or "")
    # In passing only what lies there can be read.
    items = list(find_items([tmp_path / "a.tgz"], lambda name: True))
    assert [item.name.rpartition("::")[2] for item in items if item.data] == ["./x.jpg"]


def test_compressed_archives_are_not_held_whole() -> None:
    """Sixteen photos of 400 MB a task, eight tasks at once: 56 GB of a file of 128 kB."""
    held = [Item(f"{n}.jpg", "a.tar.gz", data=bytes(30 << 20)) for n in range(7)]
    assert [len(task.items) for task in _tasks(iter(held))] == [3, 3, 1]
    assert [_held(task) for task in _tasks(iter(held))] == [90 << 20, 90 << 20, 30 << 20]


def test_an_address_in_an_address_is_not_opened(tmp_path: Path) -> None:
    """fsspec would read what ``reference://`` names as a template, which is a program."""
    chain = "reference://a.jpg::http://127.0.0.1:9/x.json"
    (tmp_path / "list.txt").write_text(chain + "\n")
    (item,) = find_items([tmp_path / "list.txt"], lambda name: True)
    assert "(::) is not opened" in (read(item)[0].error or "")
    with pytest.raises(ImageError, match=r"\(::\) is not opened"):
        list(find_items(["reference://a::http://127.0.0.1:9/x.json"], lambda name: True))


def test_a_list_of_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"path": pa.array([b"\xff"]).cast(pa.binary())}), path)
    assert len(list(find_items([path], lambda name: True))) == 1
    path.write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    with pytest.raises(ImageError, match="cannot be read as a list"):
        list(find_items([path], lambda name: True))
    path = tmp_path / "list.csv"
    path.write_text("label;path\nx;a, b.jpg\n", encoding="utf-8-sig")
    (item,) = find_items([path], lambda name: True)
    assert item.name.endswith("a, b.jpg")


def test_folders_of_others_are_joined_with_care(
    photos: Path, options: Options, tmp_path: Path
) -> None:
    """A link in a folder from elsewhere led to a user's own tables, which were removed."""
    given, own = tmp_path / "given", tmp_path / "own"
    batch(photos / "00.jpg", given, options=options, workers=1)
    own.mkdir()
    (own / "mine.parquet").write_bytes(b"dear")
    (given / "faces").rename(tmp_path / "faces")
    (given / "faces").symlink_to(own)
    with pytest.raises(OutputError, match="faces is a link"):
        join(tmp_path / "out", [given])
    assert (own / "mine.parquet").read_bytes() == b"dear"
    (given / "faces").unlink()
    (tmp_path / "faces").rename(given / "faces")
    (name,) = [path.name for path in (given / "sources").iterdir()]
    pq.write_table(pa.table({"source": ["a"], "face": ["text"]}), given / "faces" / name)
    with pytest.raises(OutputError, match=r"faces/.* is damaged"):
        join(tmp_path / "out", [given])
    pq.write_table(pa.table({"source": pa.array([None], pa.string())}), given / "sources" / name)
    with pytest.raises(OutputError, match=r"sources/.* is damaged"):
        join(tmp_path / "out", [given])


def test_videos_of_archives_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed worker fetched is removed by the next one, and nobody else can read it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / ".mien-0123456789ab-film.mp4").write_bytes(b"a killed worker's")
    with fetched(Item("a.tar.gz::film.mp4", "a.tar.gz", True, data=b"film")) as path:
        assert path.read_bytes() == b"film"
        assert path.stat().st_mode & 0o77 == 0
        assert list(tmp_path.iterdir()) == [path]
    assert not list(tmp_path.iterdir())


def start(sources: list[Path], out: Path, model: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mien", "batch", *map(str, sources), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--model", str(model), "--workers", "2", "--checkpoint", "0", *more],
        stderr=subprocess.DEVNULL,
    )


def committed(out: Path) -> int:
    return sum(pq.ParquetFile(p).metadata.num_rows for p in (out / "sources").glob("[!.]*.parquet"))


def test_killed_anywhere(photos: Path, video: Path, model: Path, tmp_path: Path) -> None:
    for number in range(20, 90):
        data = (photos / f"{number % 20:02d}.jpg").read_bytes()
        (photos / f"{number}.jpg").write_bytes(data)
    sources, out, whole = [photos, video], tmp_path / "out", tmp_path / "whole"
    assert start(sources, whole, model).wait() == 1
    kills = 0
    for delay in (0.7, 1.0, 1.2, 1.5, 2.0, 2.3, 2.6, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0):
        process = start(sources, out, model)
        time.sleep(delay)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 2
    assert start(sources, out, model).wait() == 1  # also where the bad photo was done before a kill
    assert tables(out) == tables(whole)
    assert not list(out.rglob(".*"))


def test_workers_that_die(photos: Path, options: Options, tmp_path: Path) -> None:
    """Killed from outside: the photo is tried again. One that always kills has an error."""
    out, whole, killed = tmp_path / "out", tmp_path / "whole", []
    batch(photos, whole, options=options)
    me = str(os.getpid())

    def kill(summary: Summary) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                line = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == me and b"mien.batch.worker" in line and len(killed) < 2:
                killed.append(int(process.name))
                os.kill(int(process.name), signal.SIGKILL)

    batch(photos, out, options=options, workers=2, on_progress=kill)
    assert len(killed) == 2
    assert tables(out) == tables(whole)


def test_a_worker_killed_as_it_starts(
    photos: Path, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel short of memory, say: another is started, and the run goes on."""
    real, started = subprocess.Popen, []

    def start(*args: Any, **kwargs: Any) -> Any:
        process = real(*args, **kwargs)
        if not started:
            process.kill()
        started.append(process)
        return process

    monkeypatch.setattr("mien.batch.engine.subprocess.Popen", start)
    summary = batch(photos, tmp_path / "out", options=options, workers=1)
    assert len(started) == 2
    assert summary.photos == 21


def test_archives_of_other_kinds_and_damaged_ones(
    photos: Path, options: Options, tmp_path: Path, portrait: Image
) -> None:
    """Each is one sentence in the table, and the others are done."""
    good = (photos / "00.jpg").read_bytes()
    video = write_video(tmp_path / "film.avi", walking(portrait, 20)).read_bytes()
    data = tmp_path / "data"
    data.mkdir()
    (data / "ok.jpg").write_bytes(good)
    for name, members in (("newer", {"a.jpg": good}), ("damaged", {"film.avi": video})):
        with zipfile.ZipFile(data / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
    blob = bytearray((data / "newer.zip").read_bytes())
    head = blob.rindex(b"PK\x01\x02")
    blob[head + 6 : head + 8] = (99).to_bytes(2, "little")  # version needed to extract
    (data / "newer.zip").write_bytes(blob)
    blob = bytearray((data / "damaged.zip").read_bytes())
    blob[200:400] = bytes(200)
    (data / "damaged.zip").write_bytes(blob)
    done = batch(data, tmp_path / "out", options=options, workers=1)
    assert done.photos == 1
    wrong = {Path(r["source"]).name: r["error"] for r in table(tmp_path / "out", "sources")}
    assert wrong.pop("ok.jpg") is None
    assert sorted(wrong) == ["damaged.zip::film.avi", "newer.zip"]
    for error in wrong.values():
        assert "cannot be read" in error
        assert "the process died" not in error


def test_members_of_archives_that_are_not_read_have_a_row(photos: Path, tmp_path: Path) -> None:
    """Links, raw photos, hidden ones and archives in archives were left out without a word."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "one.jpg").write_bytes((photos / "00.jpg").read_bytes())
    (data / "two.jpg").hardlink_to(data / "one.jpg")
    (data / "four.jpg").symlink_to("one.jpg")
    for name in ("raw.nef", ".hid.jpg", "._one.jpg", "notes.txt", "inner.zip"):
        (data / name).write_bytes(b"something")
    for name, mode in (("a.tar", "w"), ("a.tgz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as tar:
            for file in sorted(data.iterdir(), key=lambda p: ("one" not in p.name, p.name)):
                tar.add(file, file.name)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.mkdir("folder.jpg")
        for file in data.iterdir():
            archive.write(file, file.name)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.write(data / "notes.txt", "notes.txt")

    def found(name: str) -> dict[str, str | None]:
        items = find_items([tmp_path / name], lambda name: True)
        return {item.name.rpartition("::")[2]: item.problem for item in items}

    left = {".hid.jpg", "inner.zip", "raw.nef"}
    for name in ("a.tar", "a.tgz"):
        rows = found(name)
        linked = {"four.jpg"} if name == "a.tar" else {"two.jpg", "four.jpg"}  # a stream is past
        assert {n for n, problem in rows.items() if problem} == left | linked
        assert rows["one.jpg"] is None
        if name == "a.tgz":
            assert str(rows["two.jpg"]).endswith("a link to one.jpg.")
    rows = found("a.zip")
    assert {n for n, problem in rows.items() if problem} == left
    assert len(rows) == 6
    assert rows["raw.nef"] == f"{tmp_path}/a.zip::raw.nef is left out: NEF is not read."
    none = str(tmp_path / "none.zip")
    assert found("none.zip") == {none: f"{none} holds no images or videos."}
    assert not list(find_items([tmp_path / "a.tar"], lambda name: False))


def test_a_list_names_files_beside_it(photos: Path, tmp_path: Path) -> None:
    """Also of an address, and on standard input names that are not UTF-8."""
    (found,) = _entry("img/a.jpg", "s3://bucket/list.csv", lambda name: True)
    assert found.path == "s3://bucket/img/a.jpg"
    odd = os.fsencode(photos) + b"/\xff.jpg"
    Path(os.fsdecode(odd)).write_bytes((photos / "00.jpg").read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "mien", "batch", "-", "--out", str(tmp_path / "out")],
        input=odd + b"\n" + os.fsencode(photos / "01.jpg") + b"\n",
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, len(table(tmp_path / "out", "sources"))) == (0, 2), done.stderr


def test_a_dry_run_leaves_a_commit_alone(photos: Path, options: Options, tmp_path: Path) -> None:
    """Files whose sources are still to be written are a running batch's."""
    out = tmp_path / "out"
    batch(photos / "00.jpg", out, options=options)
    (out / "frames" / "00000001.parquet").write_bytes(b"under way")
    assert estimate(photos, out, options=options).before == 1
    assert (out / "frames" / "00000001.parquet").exists()


def test_a_full_disk(photos: Path, model: Path, tmp_path: Path) -> None:
    import resource

    command = [sys.executable, "-m", "mien", "batch", str(photos), "--model", str(model)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out"), "--workers", "1"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: Cannot write")
    assert "size limit" in done.stderr
    assert committed(tmp_path / "out") == 0
    assert batch(photos, tmp_path / "out", options=Options(str(model))).photos == 21


def test_a_full_temporary_folder_is_no_fault_of_a_video(
    archive: Path, model: Path, tmp_path: Path
) -> None:
    import resource

    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "mien", "batch", str(archive / "c.zip"), "--model", str(model)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out"), "--workers", "1", "--checkpoint", "0"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert f"error: Cannot write '{tmp_path / 'tmp'}': the file would exceed" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "tmp").iterdir())
    summary = batch(archive / "c.zip", tmp_path / "out", options=Options(model))
    assert (summary.failed, summary.before_failed, summary.videos) == (0, 0, 1)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_worker_whose_driver_was_killed_ends_quietly(options: Options, share: float) -> None:
    data = pickle.dumps(options)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", "from mien.batch.worker import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.write(data[: int(share * len(data))])
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_bad_calls(
    photos: Path, options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: batch(tmp_path / "no", out, options=options), "no does not exist"),
        (lambda: batch(photos, out, options=options, shard="4/3"), "'4/3' is no shard"),
        (lambda: batch(photos, out, options=options, engine="spark"), "Unknown engine 'spark'"),
        (lambda: batch(photos, out, options=options, workers=0), "workers is 0"),
        (lambda: join(out), "holds no shards"),
    ]
    for call, sentence in calls:
        with pytest.raises(MienError, match=sentence):
            call()
    assert main(["batch", str(photos)]) == 2
    assert "--out" in capsys.readouterr().err


def test_dry_run(
    photos: Path, video: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", str(photos), str(video), "--model", str(model), "--dry-run"]) == 0
    assert "23 photos, 1 video (about 1:10)." in capsys.readouterr().out
    found = estimate([photos, video], options=Options(str(model)), workers=2)
    assert (found.photos, found.videos, found.before) == (23, 1, 0)
    assert 0.001 < found.photo_seconds < 5
    assert found.video_seconds == pytest.approx(70, abs=1)
    assert not (tmp_path / "out").exists()


def test_without_pyarrow(photos: Path, model: Path, tmp_path: Path) -> None:
    script = """
import sys
sys.modules["pyarrow"] = None
from mien.cli import main
sys.exit(main(sys.argv[1:]))
"""
    arguments = ["batch", str(photos), "--out", str(tmp_path / "out"), "--model", str(model)]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "mien[scale]" in done.stderr
