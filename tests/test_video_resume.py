"""A run killed in the middle goes on, and the annotated video keeps images and sound together."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers_video import FPS, SIZE, draw_frame, ffmpeg, probe, walking, write_video
from numpy.typing import NDArray

from mien.cli import main
from mien.errors import OutputError, VideoError
from mien.pipeline import Analyzer
from mien.video import encode, writer
from mien.video.options import Options, Outputs
from mien.video.reader import Frame, Video
from mien.video.run import VideoRun
from mien.video.tables import open_part
from mien.video.writer import VideoWriter

FRAMES = 150
EVERY = ("--every", "10")
NAMES = {"csv": "f.csv", "jsonl": "f.jsonl", "parquet": "f.pq", "plot": "f.html", "out": "f.mp4"}


@pytest.fixture(scope="session")
def video(_portrait: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return write_video(path, walking(_portrait, FRAMES, range(60, 70)))


@pytest.fixture(scope="session")
def analyzer(shipped_model: Path) -> Analyzer:
    return Analyzer(shipped_model)


def command(video: Path, model: Path, folder: Path, *kinds: str, checkpoint: int = 0) -> list[str]:
    """``mien video`` with these outputs, its state saved after every frame or so many seconds."""
    words = ["video", str(video), "--model", str(model), "--checkpoint", str(checkpoint)]
    for kind in kinds:
        words += [f"--{kind}", str(folder / NAMES[kind])]
    return words


def kill_at(words: list[str], state: Path, frame: int) -> int:
    """Run the program, kill it without warning once ``frame`` is saved; the frame saved last."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mien", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    reached = -1
    try:
        while process.poll() is None and reached < frame:
            time.sleep(0.01)
            if state.exists():
                inside = json.loads(state.read_text(encoding="utf-8")).get("inside") or {}
                reached = inside.get("frame", -1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it was done before it could be killed"
    return int(json.loads(state.read_text(encoding="utf-8"))["inside"]["frame"])


def test_killed_twice_and_gone_on_with_it_gives_the_same_tables(
    video: Path, shipped_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    kinds = ("csv", "jsonl", "parquet", "plot")
    assert main(command(video, shipped_model, whole, *kinds)) == 0
    words, state = command(video, shipped_model, broken, *kinds), broken / "f.csv.resume"
    first = kill_at(words, state, 25)
    assert not {p.name for p in broken.iterdir()} & set(NAMES.values())  # nothing half-made
    second = kill_at([*words, "--resume"], state, first + 25)
    assert first < second < FRAMES - 1
    capsys.readouterr()
    assert main([*words, "--resume"]) == 0
    assert f"went on at frame {second + 1:,}" in capsys.readouterr().err
    for kind in ("csv", "jsonl", "plot"):  # the page holds the timeline's data
        assert (broken / NAMES[kind]).read_bytes() == (whole / NAMES[kind]).read_bytes(), kind
    tables = [pq.read_table(folder / NAMES["parquet"]).to_pylist() for folder in (whole, broken)]
    assert tables[0] == tables[1]
    assert [row["frame"] for row in tables[1]] == list(range(FRAMES))
    assert {row["track"] for row in tables[1]} == {1, None}
    assert {p.name for p in broken.iterdir()} == {NAMES[kind] for kind in kinds}


def test_a_run_into_the_folder_of_its_videos_goes_on(
    video: Path, shipped_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(video.read_bytes())
    words = [*command(folder, shipped_model, tmp_path, "csv"), "--out", str(folder), *EVERY]
    kill_at(words, folder / "mien-video.resume", 60)
    assert len(list(folder.glob("a-mien.mp4.*.part/*.mp4"))) > 2
    assert main([*words, "--resume"]) == 0
    assert {path.name for path in folder.iterdir()} == {"a.mp4", "a-mien.mp4"}


def test_the_annotated_video_of_a_killed_run_has_every_frame_once(
    video: Path, shipped_model: Path, tmp_path: Path
) -> None:
    """Its images are those of a run that was not stopped; joining encodes them once more."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    kinds = ("out", "csv")
    assert main([*command(video, shipped_model, whole, *kinds, checkpoint=3600), *EVERY]) == 0
    words = [*command(video, shipped_model, broken, *kinds), *EVERY]
    reached = kill_at(words, broken / "f.mp4.resume", 40)
    assert reached < FRAMES - 10
    assert not (broken / "f.mp4").exists()
    assert main([*words, "--resume"]) == 0
    frames = [list(Video(folder / "f.mp4").frames()) for folder in (whole, broken)]
    for told in frames:
        assert [f.time for f in told] == pytest.approx([n / 2.5 for n in range(15)], abs=1e-3)
    for one, other, n in zip(*frames, range(0, FRAMES, 10), strict=True):
        assert np.abs(one.image.astype(int) - other.image).mean() < 4, n
        # Where nothing is painted it shows the video's own frame.
        plain = cv2.resize(next(Video(video).frames(after=n - 1)).image, one.image.shape[1::-1])
        corner = np.abs(one.image[-90:, :120].astype(int) - plain[-90:, :120])
        assert corner.mean() < 6, n
    assert {p.name for p in broken.iterdir()} == {"f.mp4", "f.csv"}


def test_every_image_of_a_video_in_segments_is_in_its_place(
    video: Path, tmp_path: Path, portrait: NDArray[np.uint8]
) -> None:
    """Segments of odd lengths, joined: frame n still shows what frame n should."""
    out, state = tmp_path / "o.mp4", None
    shades = [(n * 37) % 200 + 20 for n in range(60)]
    images = [np.full((120, 160, 3), shade, np.uint8) for shade in shades]
    for begin, end in ((0, 7), (7, 8), (8, 41), (41, 60)):
        one = VideoWriter(out, FPS, None, state)
        for n in range(begin, end):
            one.write(images[n], n / FPS)
        state = json.loads(json.dumps(one.checkpoint()))
    last = VideoWriter(out, FPS, None, state)
    assert last.finish()
    last.clean()
    whole = VideoWriter(tmp_path / "whole.mp4", FPS, None)
    for n, image in enumerate(images):
        whole.write(image, n / FPS)
    assert whole.finish()
    whole.clean()
    # OpenCV's encoder takes up to 3 shades of 256 on some processors, and joining encodes twice.
    got, once = [
        [float(f.image.mean()) for f in Video(path).frames()] for path in (out, whole.target)
    ]
    assert once == pytest.approx(shades, abs=4)
    assert got == pytest.approx(once, abs=4)
    assert {p.name for p in tmp_path.iterdir()} == {out.name, whole.target.name}


def test_a_slow_stretch_repeats_images_and_a_fast_one_leaves_some_out(tmp_path: Path) -> None:
    out = tmp_path / "o.mp4"
    one = VideoWriter(out, 10.0, None)
    for time_, shade in ((0, 20), (0.1, 60), (0.5, 100), (0.52, 140), (0.6, 180)):
        one.write(np.full((120, 160, 3), shade, np.uint8), 5 + time_)
    assert one.finish()
    got = [float(f.image.mean()) for f in Video(out).frames()]
    assert got == pytest.approx([20, 60, 60, 60, 60, 100, 180], abs=4)


def test_a_gap_that_is_too_long_is_cut_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream whose clock jumps by an hour; the state is saved in the middle of it."""
    monkeypatch.setattr(writer, "LONGEST_GAP", 1.0)
    out = tmp_path / "o.mp4"
    one = VideoWriter(out, 10.0, None)
    image = np.full((120, 160, 3), 90, np.uint8)
    for time_ in (0.0, 0.1, 3600.0, 3600.1):
        one.write(image, time_)
    two = VideoWriter(out, 10.0, None, json.loads(json.dumps(one.checkpoint())))
    for time_ in (3600.2, 3600.3, 7200.0, 7200.1):
        two.write(image, time_)
    assert two.finish()
    # Two, a gap of ten, four, a gap of ten, two.
    assert len(list(Video(out).frames())) == 28


def test_a_gap_behind_a_checkpoint_repeats_the_image_before_it(tmp_path: Path) -> None:
    def shades(stop: bool) -> list[float]:
        out = tmp_path / f"{stop}.mp4"
        one = VideoWriter(out, 5.0, None)
        one.write(np.full((120, 160, 3), 50, np.uint8), 0.0)
        if stop:
            one = VideoWriter(out, 5.0, None, json.loads(json.dumps(one.checkpoint())))
        one.write(np.full((120, 160, 3), 200, np.uint8), 2.0)
        assert one.finish()
        return [round(float(f.image.mean()), -1) for f in Video(out).frames()]

    assert shades(True) == shades(False) == [50] * 10 + [200]


def test_segments_of_another_encoder_are_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that began without ffmpeg, gone on with after ffmpeg was installed."""
    if encode.ffmpeg_path() is None:
        pytest.skip("this test needs ffmpeg")
    out = tmp_path / "o.mp4"
    with monkeypatch.context() as without:
        without.setattr(encode, "ffmpeg_path", lambda: None)
        one = VideoWriter(out, FPS)
        empty = one.checkpoint()
        one.write(np.zeros((120, 160, 3), np.uint8), 0.0)
        state = one.checkpoint()
    with pytest.raises(VideoError, match="was written by OpenCV") as caught:
        VideoWriter(out, FPS, None, state)
    assert str(caught.value).count("\n") == 0
    VideoWriter(out, FPS, None, empty)  # nothing was written yet


def test_ffmpeg_may_say_what_is_no_utf8(tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    program.write_bytes(
        b"#!/bin/sh\nprintf 'V libx264 \\351\\n'; printf 'caf\\351\\n' >&2; exit 1\n"
    )
    program.chmod(0o755)
    assert encode.run_ffmpeg(str(program), []) == "caf\ufffd"
    codec = encode.ffmpeg_codec(str(program), ".mp4")
    assert codec is not None
    assert codec[1] == "libx264"


def test_without_ffmpeg_segments_are_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "ffmpeg_path", lambda: None)
    for suffix in (".mp4", ".mkv", ".webm", ".avi"):
        out, state = tmp_path / f"o{suffix}", None
        for begin, end in ((0, 9), (9, 20)):
            one = VideoWriter(out, FPS, None, state)
            assert "without sound" in one.codec
            for n in range(begin, end):
                one.write(np.full((120, 160, 3), 40 + 8 * n, np.uint8), n / FPS)
            state = one.checkpoint()
        last = VideoWriter(out, FPS, None, state)
        assert last.finish()
        got = [float(f.image.mean()) for f in Video(out).frames()]
        assert got == pytest.approx([40 + 8 * n for n in range(20)], abs=7), suffix


def with_sound(video: Path, path: Path, *options: str) -> Path:
    """``video`` with a tone that is silent in its first second."""
    tone = "aevalsrc='if(gte(t,1),sin(2*PI*440*t),0)':d=6"
    ffmpeg("-i", str(video), "-f", "lavfi", "-i", tone, "-c:v", "copy", *options, str(path))
    return path


def loud_from(path: Path) -> float:
    """Second at which the video's sound begins to be loud."""
    program = shutil.which("ffmpeg")
    assert program is not None
    raw = subprocess.run(
        [program, "-v", "error", "-i", str(path), "-f", "s16le", "-ac", "1", "-ar", "8000", "-"],
        capture_output=True,
        check=True,
    ).stdout
    sound = np.abs(np.frombuffer(raw, np.int16).astype(int))
    return float(np.argmax(sound > 8000)) / 8000


@pytest.mark.parametrize(("start", "suffix"), [(0.0, ".mp4"), (0.48, ".mp4"), (0.0, ".webm")])
def test_sound_is_kept_and_stays_in_time(
    video: Path, analyzer: Analyzer, tmp_path: Path, start: float, suffix: str
) -> None:
    source = with_sound(video, tmp_path / "sound.mp4", "-c:a", "aac")
    out = tmp_path / f"out{suffix}"
    options = Options(start=start, end=2.0, every=2, bars=False)
    (summary,) = VideoRun([source], analyzer, options, Outputs(video=out)).run()
    assert summary.video == out
    codecs = {".mp4": ("h264", "aac"), ".webm": ("vp9", "opus")}[suffix]
    assert tuple(probe(out, "v", "stream=codec_name") + probe(out, "a", "stream=codec_name")) == (
        codecs
    )
    assert loud_from(out) == pytest.approx(1.0 - start, abs=0.06)
    seconds = float(probe(out, "a", "format=duration")[0])
    assert seconds == pytest.approx(2.0 - start, abs=0.15)


def test_sound_that_the_container_refuses_is_encoded_anew(
    video: Path, analyzer: Analyzer, tmp_path: Path
) -> None:
    source = with_sound(video, tmp_path / "pcm.mkv", "-c:a", "pcm_s16le")
    out = tmp_path / "out.mp4"
    list(VideoRun([source], analyzer, Options(end=1.0, every=5), Outputs(video=out)).run())
    assert probe(out, "a", "stream=codec_name") == ["aac"]


def test_a_video_of_odd_size_can_be_painted(
    portrait: NDArray[np.uint8], analyzer: Analyzer, tmp_path: Path
) -> None:
    frames = (draw_frame(portrait, n, (641, 481)) for n in range(6))
    source = write_video(tmp_path / "odd.avi", frames)
    out = tmp_path / "odd.mp4"
    list(VideoRun([source], analyzer, Options(), Outputs(video=out)).run())
    assert len(list(Video(out).frames())) == 6


def stop_after(run: VideoRun, frames: int) -> None:
    """Break the run off from inside, as an error in a caller would."""
    left = iter(range(frames))

    def on_frame(*_: object) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run.run(on_frame))


def test_a_stopped_run_is_only_gone_on_with_where_it_fits(
    video: Path, analyzer: Analyzer, tmp_path: Path
) -> None:
    target = tmp_path / "a.csv"
    to = Outputs(csv=str(target))
    options = Options(checkpoint=0, every=3)
    stop_after(VideoRun([video], analyzer, options, to), 10)
    state = tmp_path / "a.csv.resume"
    assert state.exists()
    assert not target.exists()
    for other, word in (
        (lambda: VideoRun([video], analyzer, Options(every=2), to, go_on=True), "options"),
        (
            lambda: VideoRun(
                [video], Analyzer(analyzer.classifier.path, "haar"), options, to, go_on=True
            ),
            "detector",
        ),
    ):
        with pytest.raises(VideoError, match=f"other {word}"):
            other()
    # Another batch size changes nothing in the results, so it fits.
    run = VideoRun([video], analyzer, Options(every=3, batch=3), to, go_on=True)
    (part,) = tmp_path.glob("a.csv.*.part")
    part.unlink()
    with pytest.raises(VideoError, match="is missing or shorter"):
        list(run.run())
    state.write_text("{")
    with pytest.raises(VideoError, match="is damaged"):
        VideoRun([video], analyzer, options, to, go_on=True)


def three(video: Path, folder: Path) -> list[Path]:
    paths = [folder / f"{name}.mp4" for name in "abc"]
    for path in paths:
        path.write_bytes(video.read_bytes())
    return paths


def rows_of(table: Path) -> list[tuple[str, str]]:
    with table.open(encoding="utf-8", newline="") as stream:
        return [(Path(row["source"]).name, row["frame"]) for row in csv.DictReader(stream)]


AC = [(f"{name}.mp4", str(n)) for name in "ac" for n in range(0, FRAMES, 10)]


@pytest.mark.parametrize("stop", [False, True])
def test_a_video_that_breaks_off_is_left_out_and_the_next_one_read(
    video: Path, analyzer: Analyzer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: bool
) -> None:
    paths, frames = three(video, tmp_path), Video.frames

    def breaking(self: Video, **options: Any) -> Iterator[Frame]:
        for frame in frames(self, **options):
            if self.path.name == "b.mp4" and frame.number == 120:
                raise VideoError("b breaks off.")
            yield frame

    monkeypatch.setattr(Video, "frames", breaking)
    to = Outputs(csv=str(tmp_path / "t.csv"), video=tmp_path / "out")
    options = Options(every=10, batch=1, workers=1, min_track=0, checkpoint=0)
    if stop:  # within b
        stop_after(VideoRun(paths, analyzer, options, to), 20)
    told = list(VideoRun(paths, analyzer, options, to, go_on=stop).run())
    failed = {s.source.name: s.failed for s in told}
    assert failed == ({} if stop else {"a.mp4": None}) | {"b.mp4": "b breaks off.", "c.mp4": None}
    assert rows_of(tmp_path / "t.csv") == AC
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a-mien.mp4", "c-mien.mp4"]
    with pytest.raises(VideoError, match="b breaks off"):
        list(VideoRun(paths[1:2], analyzer, options, Outputs()).run())


@pytest.mark.parametrize("stop", [3, 20])
def test_a_video_that_goes_away_is_passed_over(
    video: Path, analyzer: Analyzer, tmp_path: Path, stop: int
) -> None:
    paths, to = three(video, tmp_path), Outputs(csv=str(tmp_path / "t.csv"))
    options = Options(every=10, batch=1, workers=1, min_track=0, checkpoint=0)
    stop_after(VideoRun(paths, analyzer, options, to), stop)
    paths[1].unlink()
    list(VideoRun([paths[0], paths[2]], analyzer, options, to, go_on=True).run())
    assert rows_of(tmp_path / "t.csv") == AC
    run, (a, b, c) = VideoRun(three(video, tmp_path), analyzer, options, to), paths
    told = list(run.run(lambda *_: b.unlink(missing_ok=True)))
    assert [(s.source, s.failed) for s in told] == [
        (a, None), (b, f"{b} does not exist."), (c, None)
    ]  # fmt: skip
    assert rows_of(tmp_path / "t.csv") == AC


def test_a_video_too_small_for_a_face_is_named_and_the_rest_done(
    video: Path, shipped_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, table = three(video, tmp_path), tmp_path / "t.csv"
    write_video(paths[1], (np.zeros((6, 640, 3), np.uint8) for _ in range(9)))
    words = ["video", *map(str, paths), "--model", str(shipped_model), *EVERY]
    assert main([*words, "--csv", str(table)]) == 1
    assert "b.mp4 is 640×6 pixels: too small" in capsys.readouterr().err
    assert rows_of(table) == AC


def test_starting_over_forgets_the_stopped_run(
    video: Path, shipped_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a.csv"
    options, to = Options(checkpoint=0, every=5), Outputs(csv=str(target))
    stop_after(VideoRun([video], Analyzer(shipped_model), options, to), 10)
    words = ["video", str(video), "--model", str(shipped_model), "--csv", str(target)]
    assert main([*words, "--every", "5"]) == 0
    assert "A stopped run was found; starting over" in capsys.readouterr().err
    frames = [line.split(",")[1] for line in target.read_text(encoding="utf-8").splitlines()[1:]]
    assert frames == [str(n) for n in range(0, FRAMES, 5)]
    assert list(tmp_path.iterdir()) == [target]
    # A finished table keeps what it holds; where there is none, --resume is an ordinary run.
    assert main([*words, "--every", "5", "--resume"]) == 0
    assert "1 video had been done before." in capsys.readouterr().err
    assert len(target.read_text(encoding="utf-8").splitlines()) == 31
    target.unlink()
    assert main([*words, "--every", "50", "--resume"]) == 0
    assert len(target.read_text(encoding="utf-8").splitlines()) == 4


def test_a_run_killed_while_it_names_its_files_is_finished(
    video: Path, analyzer: Analyzer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first and the second table: one has its name already, one has not."""
    from mien.video import tables

    to = Outputs(csv=str(tmp_path / "a.csv"), jsonl=str(tmp_path / "a.jsonl"))
    options = Options(every=10)

    def killed(stream: object, after: Path | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "JsonLinesSink", killed)
    with pytest.raises(KeyboardInterrupt):
        list(VideoRun([video], analyzer, options, to).run())
    (part,) = tmp_path.glob("a.csv.*.part")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.csv", part, tmp_path / "a.csv.resume"]
    monkeypatch.undo()
    assert list(VideoRun([video], analyzer, options, to, go_on=True).run()) == []
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a.csv", "a.jsonl"]


@pytest.mark.parametrize("videos", [1, 2])
def test_the_segments_of_a_video_that_was_done_are_removed(
    video: Path, analyzer: Analyzer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, videos: int
) -> None:
    """A kill between the saving that a video is done and the removal of its segments."""
    other = tmp_path / "other.mp4"
    other.write_bytes(video.read_bytes())
    folder = tmp_path / "out"
    folder.mkdir()
    to, options = Outputs(csv=str(tmp_path / "a.csv"), video=folder), Options(every=30)
    sources = [video, other][:videos]

    def killed(self: VideoWriter) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoWriter, "clean", killed)
    with pytest.raises(KeyboardInterrupt):
        list(VideoRun(sources, analyzer, options, to).run())
    (part,) = folder.glob("long-mien.mp4.*.part")
    assert part.is_dir()
    monkeypatch.undo()
    list(VideoRun(sources, analyzer, options, to, go_on=True).run())
    made = {"long-mien.mp4", "other-mien.mp4"} if videos == 2 else {"long-mien.mp4"}
    assert {p.name for p in folder.iterdir()} == made


def test_a_part_is_cut_back_to_its_known_length(tmp_path: Path) -> None:
    path = tmp_path / "t.part"
    with open_part(path) as one:
        length = one.write(b"first\n")
        one.write(b"half a li")
    with open_part(path, length) as again:
        again.write(b"whole\n")
    assert path.read_bytes() == b"first\nwhole\n"
    with pytest.raises(FileExistsError):
        open_part(path)


def outsider(folder: Path) -> Path:
    """A folder of somebody's own, with something in it."""
    other = folder.parent / f"{folder.name}-outside"
    other.mkdir()
    (other / "keep.txt").write_text("keep")
    return other


def test_nobody_elses_part_is_touched(video: Path, analyzer: Analyzer, tmp_path: Path) -> None:
    """A link to a folder, a folder and a link to a file, called as parts used to be."""
    other = outsider(tmp_path)
    (tmp_path / "a.mp4.part").symlink_to(other)
    (tmp_path / "b.mp4.part").mkdir()
    (tmp_path / "b.mp4.part" / "mine.txt").write_text("mine")
    (tmp_path / "t.csv.part").symlink_to(other / "keep.txt")
    before = {p.name for p in tmp_path.iterdir()}
    for name in ("a.mp4", "b.mp4"):
        to = Outputs(csv=str(tmp_path / "t.csv"), video=tmp_path / name)
        list(VideoRun([video], analyzer, Options(every=50), to).run())
    assert (other / "keep.txt").read_text() == "keep"
    assert (tmp_path / "b.mp4.part" / "mine.txt").read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} == before | {"a.mp4", "b.mp4", "t.csv"}


def test_parts_that_became_links_are_not_followed(
    video: Path, analyzer: Analyzer, tmp_path: Path
) -> None:
    """Somebody who may write into the folder cannot make a resumed run write elsewhere."""
    other = outsider(tmp_path)
    to = Outputs(csv=str(tmp_path / "t.csv"), video=tmp_path / "a.mp4")
    options = Options(checkpoint=0, every=5)
    for what in ("t.csv", "a.mp4"):
        stop_after(VideoRun([video], analyzer, options, to), 5)
        (part,) = tmp_path.glob(f"{what}.*.part")
        moved = part.rename(other / "moved")
        part.symlink_to(moved)
        size = moved.stat().st_size
        with pytest.raises(VideoError):
            list(VideoRun([video], analyzer, options, to, go_on=True).run())
        assert moved.stat().st_size == size
        # starting over removes the link only
        list(VideoRun([video], analyzer, Options(every=50), to).run())
        assert moved.exists()
        shutil.rmtree(moved, ignore_errors=True)
        moved.unlink(missing_ok=True)
        assert {p.name for p in tmp_path.iterdir()} == {"t.csv", "a.mp4"}
    assert (other / "keep.txt").read_text() == "keep"


@pytest.mark.parametrize("token", ["../../x", "", 7, "0123456789AB"])
def test_a_state_cannot_name_other_files(
    video: Path, analyzer: Analyzer, tmp_path: Path, token: object
) -> None:
    to, options = Outputs(csv=str(tmp_path / "t.csv")), Options(checkpoint=0, every=5)
    stop_after(VideoRun([video], analyzer, options, to), 5)
    state = tmp_path / "t.csv.resume"
    record = json.loads(state.read_text(encoding="utf-8")) | {"token": token}
    state.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(VideoError, match="is damaged"):
        VideoRun([video], analyzer, options, to, go_on=True)


def test_a_run_killed_before_it_saved_leaves_nothing_for_long(
    video: Path, shipped_model: Path, tmp_path: Path
) -> None:
    words = command(video, shipped_model, tmp_path, "csv", "out", "plot", checkpoint=3600)
    process = subprocess.Popen(
        [sys.executable, "-m", "mien", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(tmp_path.glob("f.mp4.*.part/*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert len(list(tmp_path.iterdir())) > 3
    assert main([*words, *EVERY]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"f.csv", "f.mp4", "f.html"}


def test_the_second_of_two_runs_says_who_is_first(
    video: Path,
    analyzer: Analyzer,
    shipped_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    to = Outputs(video=tmp_path / "a.mp4", csv=str(tmp_path / "t.csv"))
    first = VideoRun([video], analyzer, Options(every=10), to)

    def second(*_: object) -> None:
        for words in (["--out", str(tmp_path / "a.mp4")], ["--csv", str(tmp_path / "t.csv")]):
            assert main(["video", str(video), "--model", str(shipped_model), *words]) == 2
            told = capsys.readouterr().err
            assert f"is being written by another run of mien (process {os.getpid()} on " in told

    list(first.run(second))
    assert {p.name for p in tmp_path.iterdir()} == {"a.mp4", "t.csv"}
    assert len((tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()) == 1 + FRAMES // 10


def write_all(encoder: encode.Encoder, image: NDArray[np.uint8]) -> None:
    for _ in range(50):
        encoder.write(image)
    encoder.close()


def test_an_encoder_that_dies_is_reported(tmp_path: Path) -> None:
    program = encode.ffmpeg_path()
    if program is None:
        pytest.skip("this test needs ffmpeg")
    image = np.zeros((480, 640, 3), np.uint8)
    bad = encode.FfmpegEncoder(program, tmp_path / "a.mp4", (640, 480), 25.0, ("-c:v", "nonsense"))
    with pytest.raises(OutputError, match="ffmpeg"):
        write_all(bad, image)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_memory_does_not_grow_with_the_video(
    shipped_model: Path, portrait: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Resident memory after 200 and after 800 frames, all outputs on, in a process of its own."""
    frames = (draw_frame(portrait, n, (160, 120)) for n in range(800))
    source = write_video(tmp_path / "long.mp4", frames)
    script = """
import sys
from pathlib import Path
import cv2
cv2.setNumThreads(1)
from mien.pipeline import Analyzer
from mien.video.options import Options, Outputs
from mien.video.run import VideoRun
video, model, folder = map(Path, sys.argv[1:])
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
def on_frame(video, result):
    if result.frame in (200, 799):
        print(result.frame, resident(), len(result.faces), flush=True)
outputs = Outputs(str(folder / "a.csv"), str(folder / "a.jsonl"), video=folder / "a.mp4",
                  plot=folder / "a.html")
list(VideoRun([video], Analyzer(model), Options(checkpoint=2), outputs).run(on_frame))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(source), str(shipped_model), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    (_, early, faces), (_, late, _) = (line.split() for line in done.stdout.splitlines())
    assert faces == "1"
    assert float(late) < 400
    assert float(late) - float(early) < 12


def test_the_helpers_draw_what_they_say(portrait: NDArray[np.uint8]) -> None:
    frame = draw_frame(portrait, 0)
    assert frame.shape == (SIZE[1], SIZE[0], 3)
    assert not np.array_equal(frame, draw_frame(portrait, 20))
    assert cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).std() > 20
