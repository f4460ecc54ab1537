"""``--resume`` of predict and video: stopped runs go on, grown folders add what is new."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers_video import walking, write_video
from numpy.typing import NDArray

from mien.cli import main
from mien.errors import VideoError
from mien.pipeline import Analyzer
from mien.video.options import Outputs
from mien.video.run import VideoRun

pytest.importorskip("pyarrow")


@pytest.fixture
def photos(tmp_path: Path, portrait: NDArray[np.uint8]) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        cv2.imwrite(str(folder / f"{number:02d}.jpg"), np.roll(portrait, number, axis=1))
    return folder


def predict(photos: Path, out: Path, model: Path, *more: str) -> list[str]:
    tables = ["--csv", str(out / "t.csv"), "--parquet", str(out / "t.parquet")]
    return ["predict", str(photos), "--model", str(model), "-q", *tables, *more]


def test_predict_goes_on_and_grows(photos: Path, model: Path, tmp_path: Path) -> None:
    for folder in ("whole", "out"):
        (tmp_path / folder).mkdir()
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert main(predict(photos, whole, model)) == 0
    journal = out / "t.csv.resume"
    command = [sys.executable, "-m", "mien", *predict(photos, out, model, "--resume")]
    process = subprocess.Popen(command)
    while not (journal.exists() and journal.read_bytes().count(b"\n")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = journal.read_bytes()
    assert not (out / "t.csv").exists()
    journal.write_bytes(written[:-9])  # a line that was cut
    assert main(predict(photos, out, model, "--resume")) == 0
    for name in ("t.csv", "t.parquet"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert not journal.exists()
    # As if it was killed between the two tables: the first one holds all, the second one nothing.
    lines = [
        r.to_dict() for r in map(Analyzer(str(model)).analyze, map(str, sorted(photos.iterdir())))
    ]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (out / "t.parquet").unlink()
    assert main(predict(photos, out, model, "--resume")) == 0
    assert (out / "t.csv").read_bytes() == (whole / "t.csv").read_bytes()
    assert (out / "t.parquet").read_bytes() == (whole / "t.parquet").read_bytes()
    (photos / "=new.jpg").write_bytes((photos / "03.jpg").read_bytes())
    for _ in range(2):
        assert main(predict(photos, out, model, "--resume")) == 0
    old, new = ((folder / "t.csv").read_text().splitlines() for folder in (whole, out))
    assert new[: len(old)] == old
    assert [line.split(",")[0] for line in new[len(old) :]] == [str(photos / "=new.jpg")]


def test_quoted_names_and_a_printed_table(
    photos: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["predict", ".", "--no-recursive", "--model", str(model), "-o", "t.jsonl", "--resume"]
    done = []
    for name in ("'=x.jpg", "=x.jpg", "=x.jpg"):
        (tmp_path / name).write_bytes((photos / "03.jpg").read_bytes())
        assert main([*words, "--csv", "-"]) == 0
        lines = Path("t.jsonl").read_text().splitlines()
        done.append(sorted(json.loads(line)["source"] for line in lines))
        assert len(capsys.readouterr().out.splitlines()) in (1, 2)
    assert done == [["'=x.jpg"], ["'=x.jpg", "=x.jpg"], ["'=x.jpg", "=x.jpg"]]


def test_predict_adds_to_nothing_else(
    photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text("name,age\nAda,36\n")
    assert main(predict(photos, tmp_path, model, "--resume")) == 2
    assert "t.csv is no table of this run (its columns are others)" in capsys.readouterr().err
    assert main(["predict", str(photos), "--model", str(model), "--resume"]) == 2
    assert "--resume needs a table" in capsys.readouterr().err
    (tmp_path / "t.csv").unlink()
    assert main(predict(photos, tmp_path, model)) == 0
    assert main([*predict(photos, tmp_path, Path("mien_distilled")), "--resume"]) == 2
    assert "holds rows of another model" in capsys.readouterr().err


def test_what_cannot_be_gone_on_with_and_names_that_are_taken(
    model: Path, tmp_path: Path, portrait: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    assert main(predict(Path("-"), tmp_path, model, "--resume")) == 2
    assert "standard input cannot be gone on with" in capsys.readouterr().err
    cv2.imwrite(str(photos / "x.webp"), portrait)
    annotate = ["--annotate", str(tmp_path / "copies"), "--resume"]
    assert main(predict(photos, tmp_path, model, *annotate)) == 0
    first = (tmp_path / "copies" / "x-mien.png").read_bytes()
    cv2.imwrite(str(photos / "x.png"), portrait[::2, ::2])
    assert main(predict(photos, tmp_path, model, *annotate)) == 0
    assert sorted(p.name for p in (tmp_path / "copies").iterdir()) == ["x-mien-2.png", "x-mien.png"]
    assert (tmp_path / "copies" / "x-mien.png").read_bytes() == first


def test_a_table_without_its_last_line_break(photos: Path, model: Path, tmp_path: Path) -> None:
    assert main(predict(photos, tmp_path, model)) == 0
    table = tmp_path / "t.csv"
    table.write_bytes(table.read_bytes().rstrip(b"\r\n"))
    cv2.imwrite(str(photos / "zz.png"), cv2.imread(str(next(photos.glob("*.jpg")))))
    assert main(predict(photos, tmp_path, model, "--resume")) == 0
    lines = table.read_text().splitlines()
    assert {line.count(",") for line in lines} == {lines[0].count(",")}


def test_an_output_that_a_done_video_lacks_is_named(
    portrait: NDArray[np.uint8], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / "a.avi", walking(portrait, 10))
    command = ["video", str(video), "--model", str(model), "--csv", str(tmp_path / "t.csv")]
    assert main(command) == 0
    assert main([*command, "--plot", str(tmp_path / "p.html"), "--resume"]) == 0
    assert "p.html is not made: its video is in the table already" in capsys.readouterr().err


def test_annotated_videos_go_on_in_a_folder_still_to_be_made(
    portrait: NDArray[np.uint8], model: Path, tmp_path: Path
) -> None:
    videos = [write_video(tmp_path / f"{name}.avi", walking(portrait, 20)) for name in "ab"]
    analyzer = Analyzer(str(model), turns=False)
    for outputs in (Outputs(video=tmp_path / "out"), Outputs(plot=tmp_path / "pages")):
        summaries = VideoRun(videos, analyzer, outputs=outputs).run()
        assert next(summaries).source.name == "a.avi"
        summaries.close()
        run = VideoRun(videos, analyzer, outputs=outputs, go_on=True)
        assert run.stopped is not None
        assert [summary.source.name for summary in run.run()] == ["b.avi"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.avi", "b.avi", "out", "pages"]
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_videos_of_one_name_without_a_table(
    portrait: NDArray[np.uint8], model: Path, tmp_path: Path
) -> None:
    videos = []
    for camera in "ab":
        (tmp_path / camera).mkdir()
        videos.append(write_video(tmp_path / camera / "1.avi", walking(portrait, 20)))
    analyzer, outputs = Analyzer(str(model), turns=False), Outputs(video=tmp_path / "out")
    summaries = VideoRun(videos, analyzer, outputs=outputs, go_on=True).run()
    next(summaries)
    summaries.close()
    # Stopped: which was done is known.
    assert len(list(VideoRun(videos, analyzer, outputs=outputs, go_on=True).run())) == 1
    with pytest.raises(VideoError, match="Several videos are called 1"):
        VideoRun(videos, analyzer, outputs=outputs, go_on=True)


def test_video_goes_on_and_grows(portrait: NDArray[np.uint8], model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    videos = [folder / f"{name}.avi" for name in "bd"]
    for video in videos:
        write_video(video, walking(portrait, 20))
    analyzer = Analyzer(str(model), turns=False)
    outputs = Outputs(csv=str(tmp_path / "t.csv"), parquet=str(tmp_path / "t.parquet"))
    list(VideoRun(videos, analyzer, outputs=outputs).run())
    first = (tmp_path / "t.csv").read_text()
    again = VideoRun(videos, analyzer, outputs=outputs, go_on=True)
    assert (again.done, list(again.run())) == (2, [])
    # Two more come, the run stops after one of them, and a third one comes.
    for name in "ac":
        videos.append(write_video(folder / f"{name}.avi", walking(portrait, 20)))
    run = VideoRun(sorted(videos), analyzer, outputs=outputs, go_on=True)
    assert run.done == 2
    summaries = run.run()
    assert next(summaries).source.name == "a.avi"
    summaries.close()
    videos.append(write_video(folder / "0.avi", walking(portrait, 20)))
    last = VideoRun(sorted(videos), analyzer, outputs=outputs, go_on=True)
    assert [summary.source.name for summary in last.run()] == ["c.avi", "0.avi"]
    text = (tmp_path / "t.csv").read_text()
    assert text.startswith(first)
    rows = [line.split(",")[:2] for line in text.splitlines()[1:]]
    frames = [(str(folder / f"{name}.avi"), str(n)) for name in "bdac0" for n in range(20)]
    assert sorted(map(tuple, rows)) == sorted(frames)
    assert sorted(tmp_path.iterdir()) == [folder, tmp_path / "t.csv", tmp_path / "t.parquet"]
    pq = pytest.importorskip("pyarrow.parquet")
    assert pq.read_table(tmp_path / "t.parquet")["source"].to_pylist() == [s for s, _ in rows]
    # A run that is to replace the tables does so, also when it is gone on with.
    run = VideoRun(sorted(videos), analyzer, outputs=outputs)
    summaries = run.run()
    next(summaries)
    summaries.close()
    assert len(list(VideoRun(sorted(videos), analyzer, outputs=outputs, go_on=True).run())) == 4
    assert (tmp_path / "t.csv").read_text().count("\n") == 101
