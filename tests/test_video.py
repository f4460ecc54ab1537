"""Videos read, analysed and written; equal results however the work is divided."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers_video import FPS, SIZE, damage, draw_frame, ffmpeg, place, probe, walking, write_video
from numpy.typing import NDArray
from PIL import Image

from mien.cli import main
from mien.emotions import Emotion
from mien.errors import OutputError, VideoError
from mien.pipeline import Analyzer
from mien.results import Result
from mien.video import analyze_video, flow
from mien.video.cuts import CutDetector, glance
from mien.video.flow import analyze_frames, batched, in_order, prefetched
from mien.video.options import Options, Outputs, parse_time
from mien.video.reader import Frame, Video
from mien.video.run import VideoRun

FRAMES = 48
HIDDEN = range(20, 26)


@pytest.fixture(scope="session")
def video(_portrait: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "walk.mp4"
    return write_video(path, walking(_portrait, FRAMES, HIDDEN))


@pytest.fixture(scope="session")
def analyzer(shipped_model: Path) -> Analyzer:
    return Analyzer(shipped_model)


def read_jsonl(path: Path) -> list[Result]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Result.from_dict(json.loads(line)) for line in lines]


def test_a_video_tells_its_size_and_length(video: Path) -> None:
    opened = Video(video)
    assert (opened.width, opened.height) == SIZE
    assert opened.fps == pytest.approx(FPS)
    assert opened.frames_expected == FRAMES
    assert opened.seconds_expected == pytest.approx(FRAMES / FPS)


def test_every_frame_comes_once_with_its_time(video: Path) -> None:
    frames = list(Video(video).frames())
    assert [f.number for f in frames] == list(range(FRAMES))
    assert [f.time for f in frames] == pytest.approx([n / FPS for n in range(FRAMES)])
    assert all(f.image.shape == (SIZE[1], SIZE[0], 3) for f in frames)
    assert all(f.image.dtype == np.uint8 for f in frames)


def test_every_from_and_to_choose_frames(video: Path) -> None:
    def numbers(**options: float) -> list[int]:
        return [f.number for f in Video(video).frames(**options)]  # type: ignore[arg-type]

    assert numbers(every=7) == list(range(0, FRAMES, 7))
    assert numbers(start=0.4, end=0.8) == list(range(10, 20))
    assert numbers(start=0.4, every=4, end=0.8) == [10, 14, 18]
    # Going on after a frame gives the frames that the whole run would have given.
    assert numbers(start=0.4, every=4, end=0.8, after=14) == [18]
    assert numbers(after=FRAMES - 1) == []
    assert numbers(start=1e6) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".ts"])
def test_time_stamps_come_from_the_container(tmp_path: Path, suffix: str) -> None:
    """A video whose rate changes in the middle, against ffprobe's word for every frame."""
    path = tmp_path / f"vfr{suffix}"
    codec = "libvpx" if suffix == ".webm" else "libx264"
    source = "testsrc=size=160x120:rate=30:duration=4"
    keep = "select='lt(n,40)+not(mod(n,3))+not(mod(n,5))'"
    ffmpeg(
        *("-f", "lavfi", "-i", source, "-vf", keep, "-vsync", "vfr", "-enc_time_base", "1:90000"),
        *("-c:v", codec, str(path)),
    )
    stamps = [float(t) for t in probe(path, "v", "frame=best_effort_timestamp_time")]
    assert len(set(np.diff(stamps).round(3))) > 1  # it does vary
    times = [f.time for f in Video(path).frames()]
    assert times == pytest.approx(stamps, abs=1e-5)


def test_a_browsers_recording_has_the_rate_of_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "v.webm"
    source = "testsrc=s=64x64:r=20:d=2,settb=1/1000,setpts=N*N+31*N"
    clock = ("-fps_mode", "vfr", "-enc_time_base", "1:1000")
    ffmpeg("-f", "lavfi", "-i", source, *clock, "-c:v", "libvpx", str(path))
    video = Video(path)
    assert video.fps == pytest.approx(1000 / 71, rel=0.05)
    assert video.seconds_expected == pytest.approx(39 * 70 / 1000, abs=0.1)
    assert (len(list(video.frames())), video.skipped_last) == (40, 0)


def test_pixels_that_are_not_square_are_stretched(video: Path, tmp_path: Path) -> None:
    """As players do: a DVD's 720×576 may mean 1024×576."""
    squeezed = tmp_path / "s.mp4"
    ffmpeg("-i", str(video), "-vf", "scale=160:240,setsar=2/1", str(squeezed))
    other = Video(squeezed)
    assert (other.width, other.height) == SIZE
    frame, wanted = next(other.frames()), next(Video(video).frames())
    assert frame.image.shape == wanted.image.shape
    assert np.abs(frame.image.astype(float) - wanted.image).mean() < 8
    tall = tmp_path / "t.mp4"
    ffmpeg("-i", str(video), "-vf", "scale=320:120,setsar=1/2", str(tall))
    assert (Video(tall).width, Video(tall).height) == SIZE


INTERLACED = [("mp4", "libx264"), ("dv", "dvvideo")]


@pytest.mark.parametrize(("suffix", "codec"), INTERLACED)
def test_an_interlaced_video_has_its_images(
    video: Path, tmp_path: Path, suffix: str, codec: str
) -> None:
    path, scale = tmp_path / f"film.{suffix}", "scale=720:576,setsar=16/15,setfield=tff"
    ffmpeg("-i", str(video), "-vf", scale, "-c:v", codec, "-flags", "+ildct+ilme", str(path))
    opened = Video(path)
    frames = list(opened.frames())
    assert [f.number for f in frames] == [*range(FRAMES)]
    assert opened.skipped_last == 0
    assert opened.frames_expected == FRAMES
    assert [f.time for f in frames] == pytest.approx([n / FPS for n in range(FRAMES)])
    for true, frame in zip(Video(video).frames(), frames, strict=True):
        image = cv2.resize(true.image, (opened.width, opened.height))
        assert frame.image.shape == image.shape
        assert np.abs(frame.image.astype(int) - image).mean() < 5


def test_an_interlaced_video_without_ffmpeg_is_an_error_where_opencv_has_no_images(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "film.mp4"
    ffmpeg("-i", str(video), "-vf", "setfield=tff", "-flags", "+ildct+ilme", str(path))
    monkeypatch.setenv("PATH", "")
    if tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 13):
        assert next(Video(path).frames()).image.std() > 10
    else:
        for _ in range(9):  # images left in memory, each as the others, are none of this video
            left = [np.full((SIZE[1], SIZE[0], 3), 99, np.uint8) for _ in range(20)]
            del left
            with pytest.raises(VideoError, match=r"interlaced.*install ffmpeg"):
                Video(path)


@pytest.mark.parametrize("path", ["", os.environ.get("PATH", "")])
def test_a_still_or_black_beginning_is_not_interlaced(
    tmp_path: Path, portrait: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    face, black = draw_frame(portrait, 0), np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    monkeypatch.setenv("PATH", path)
    for name, images in {"still": [face] * 9, "black": [black] * 60 + [face]}.items():
        film = write_video(tmp_path / f"{name}.mp4", iter(images))
        frames = list(Video(film).frames())
        assert len(frames) == len(images)
        assert frames[-1].image.std() > 10


def test_an_animations_rate_is_its_mean_and_damage_its_end(
    portrait: NDArray[np.uint8], tmp_path: Path
) -> None:
    frames = [Image.fromarray(frame[..., ::-1]) for frame in walking(portrait, 11)]
    path = tmp_path / "a.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[2000] + [40] * 10)
    assert Video(path).fps == pytest.approx(11 / 2.4)
    assert len(list(Video(path).frames())) == 11
    pages = tmp_path / "p.tiff"
    frames[0].save(pages, save_all=True, append_images=frames[1:5], compression="tiff_deflate")
    data = bytearray(pages.read_bytes())
    data[len(data) * 7 // 10 : len(data) * 8 // 10] = bytes(
        len(data) * 8 // 10 - len(data) * 7 // 10
    )
    pages.write_bytes(data)
    video = Video(pages)
    seen = len(list(video.frames()))
    assert 1 <= seen < 5
    assert video.skipped_last == 1


def test_bad_videos_get_one_sentence(tmp_path: Path) -> None:
    text, empty = tmp_path / "text.mp4", tmp_path / "empty.mp4"
    text.write_text("no film")
    empty.touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    for path, words in (
        (tmp_path / "pipe.mp4", "is a pipe; save the video to a file first"),
        (text, "cannot be read as a video"),
        (empty, "it is empty"),
        (tmp_path / "none.mp4", "does not exist"),
        (tmp_path, "is a folder"),
        (Path("http://localhost/film.mp4"), "does not exist"),
    ):
        with pytest.raises(VideoError, match=words):
            Video(path)


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "flac"])
def test_a_cover_is_no_video(video: Path, tmp_path: Path, suffix: str) -> None:
    cover, song = tmp_path / "cover.png", tmp_path / f"song.{suffix}"
    cv2.imwrite(str(cover), next(Video(video).frames()).image)
    sound = ("-f", "lavfi", "-i", "sine=d=2", "-i", str(cover), "-map", "0", "-map", "1")
    ffmpeg(*sound, "-c:v", "copy", "-disposition:v", "attached_pic", str(song))
    with pytest.raises(VideoError, match="holds no images but a cover"):
        Video(song)


def test_outputs_that_pathlib_raises_at_are_one_sentence() -> None:
    name = "x" * 300
    for outputs in (Outputs(video=Path(name)), Outputs(plot=Path(name)), Outputs(jsonl=name)):
        with pytest.raises(OutputError, match="the name is too long; choose a shorter one"):
            outputs.check(several=False)


@pytest.mark.parametrize(
    "options",
    [
        *({"every": 0}, {"every": 1.5}, {"batch": 0}, {"workers": 0}),
        *({"start": -1.0}, {"start": math.nan}, {"start": 2.0, "end": 2.0}, {"end": math.nan}),
    ],
)
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(VideoError):
        Options(**options)  # type: ignore[arg-type]


def test_times_are_read() -> None:
    values = [parse_time(t) for t in ("90", "1:30", "0:01:30", "1:02:03.5", "10s", "1.5m")]
    assert values == [90, 90, 90, 3723.5, 10, 90]
    for bad in ("", "m", "1:30m", "1:2:3:4", "-3", "abc", "1:", "nan"):
        with pytest.raises(VideoError, match="is no time"):
            parse_time(bad)


def test_results_are_the_same_however_the_work_is_divided(video: Path, analyzer: Analyzer) -> None:
    """One frame at a time in one thread, against batches over several; to the last bit."""

    def run(batch: int, workers: int, images: bool, frame_bytes: int = 10**6) -> list[Result]:
        frames = Video(video).frames()
        options = {"batch": batch, "workers": workers, "frame_bytes": frame_bytes}
        return [s.result for s in analyze_frames(analyzer, frames, images=images, **options)]

    one_by_one = [analyzer.analyze(f.image, color="bgr").faces for f in Video(video).frames()]
    single = run(1, 1, False)
    assert [r.faces for r in single] == one_by_one
    assert run(16, 3, False) == single
    assert run(5, 2, True) == single
    assert run(16, 2, True, 10**9) == single  # images so large that none waits


def test_a_face_is_followed_through_an_occlusion(video: Path, analyzer: Analyzer) -> None:
    results = list(analyze_video(video, analyzer))
    assert [r.frame for r in results] == list(range(FRAMES))
    for n, result in enumerate(results):
        assert len(result.faces) == (0 if n in HIDDEN else 1), n
        for face in result.faces:
            assert face.track == 1
            assert face.steady == Emotion.HAPPY
            assert face.smoothed is not None
            assert face.box.center == pytest.approx(place(n), abs=9)


def test_a_cut_gives_new_numbers(
    portrait: NDArray[np.uint8], analyzer: Analyzer, tmp_path: Path
) -> None:
    """Shot and reverse shot: a face in the same place on another background."""

    def shots() -> Iterator[NDArray[np.uint8]]:
        for n in range(40):
            frame = draw_frame(portrait, n % 20)
            if n >= 20:
                frame[:, :90], frame[:, 230:] = (200, 120, 40), (20, 20, 90)
                frame[170:] = (0, 60, 20)
            yield frame

    path = write_video(tmp_path / "shots.avi", shots())
    numbers = [[f.track for f in r.faces] for r in analyze_video(path, analyzer)]
    assert numbers == [[1]] * 20 + [[2]] * 20
    joined = analyze_video(path, analyzer, cuts=False)
    assert all([f.track for f in r.faces] == [1] for r in joined)


def test_what_is_a_cut(portrait: NDArray[np.uint8]) -> None:
    def cuts(
        images: list[NDArray[np.uint8]], through_state: bool = False, step: float = 0.04
    ) -> list[int]:
        detector, found = CutDetector(), []
        for n, image in enumerate(images):
            if through_state:
                state = json.loads(json.dumps(detector.state()))
                detector = CutDetector()
                detector.restore(state)
            if detector.update(glance(image), n * step):
                found.append(n)
        return found

    still = [draw_frame(portrait, n) for n in range(6)]
    mirrored = [cv2.flip(f, 0) for f in still]
    assert cuts(still) == []
    assert cuts(still + mirrored + still) == cuts(still + mirrored + still, True) == [6, 12]
    flash = np.clip(still[3].astype(int) + 90, 0, 255).astype(np.uint8)
    assert cuts([*still[:3], flash, *still[3:]]) == []
    dark = (still[3] // 4).astype(np.uint8)
    assert cuts([*still[:3], dark, dark, *still[3:]]) == []
    covered = [np.full_like(still[0], 60)] * 3
    assert cuts(still + covered + still) == []
    assert cuts(still + covered + mirrored) == [9]
    pan = [np.ascontiguousarray(np.roll(still[0], 14 * n, axis=1)) for n in range(20)]
    assert cuts(pan) == []
    assert cuts(still + mirrored, step=0.6) == []
    assert glance(np.zeros((2160, 3840, 3), np.uint8)).shape == (18, 32, 3)
    assert glance(np.zeros((10, 10, 3), np.uint8)).shape == (18, 32, 3)


def test_few_frames_a_second_do_not_lose_the_face(video: Path, analyzer: Analyzer) -> None:
    """1.6 s from frame to frame: more than a face may be hidden otherwise."""
    results = list(analyze_video(video, analyzer, every=40))
    assert [[f.track for f in r.faces] for r in results] == [[1], [1]]


def test_smoothing_can_be_switched_off(video: Path, analyzer: Analyzer) -> None:
    for result in analyze_video(video, analyzer, smooth=0, end=0.3):
        assert result.faces[0].track == 1
        assert result.faces[0].smoothed is None


def test_an_error_in_the_decoding_thread_arrives(analyzer: Analyzer) -> None:
    def frames() -> Iterator[Frame]:
        yield Frame(0, 0.0, np.zeros((120, 160, 3), np.uint8))
        raise VideoError("the disk went away")

    with pytest.raises(VideoError, match="the disk went away"):
        list(analyze_frames(analyzer, frames()))


def test_stopping_early_leaves_no_thread_behind(video: Path, analyzer: Analyzer) -> None:
    before = set(threading.enumerate())
    stream = analyze_frames(analyzer, Video(video).frames())
    next(stream)
    stream.close()
    left = {t.name for t in set(threading.enumerate()) - before}
    assert not {name for name in left if name.startswith(("mien-decode", "mien-detect"))}


def test_prefetch_never_runs_far_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for n in range(100):
            made.append(n)
            yield n

    with closing(prefetched(items(), 3)) as ahead:
        for n in range(10):
            assert next(ahead) == n
            assert len(made) <= n + 1 + 3 + 2  # taken, queued, in hand and being made
        assert list(ahead) == list(range(10, 100))
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_in_order_keeps_the_order_and_its_bound() -> None:
    from concurrent.futures import ThreadPoolExecutor

    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in range(40):
            taken.append(n)
            yield n

    with ThreadPoolExecutor(3) as pool:
        for n, value in enumerate(in_order(pool, lambda n: n * n, items(), 4)):
            assert value == n * n
            assert len(taken) <= n + 6


def test_the_verb_writes_everything(
    video: Path, shipped_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    names = {k: tmp_path / f"f.{k}" for k in ("csv", "jsonl", "parquet", "html", "mp4")}
    arguments = ["video", str(video), "--model", str(shipped_model), "--every", "2"]
    for kind in ("csv", "jsonl", "parquet"):
        arguments += [f"--{kind}", str(names[kind])]
    assert main([*arguments, "--plot", str(names["html"]), "--out", str(names["mp4"])]) == 0
    results = read_jsonl(names["jsonl"])
    assert [r.frame for r in results] == list(range(0, FRAMES, 2))
    assert [r.time for r in results] == pytest.approx([n / FPS for n in range(0, FRAMES, 2)])
    with names["csv"].open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    typed = pq.read_table(names["parquet"]).to_pylist()
    assert len(rows) == len(typed) == len(results)
    for row, record, result in zip(rows, typed, results, strict=True):
        assert int(row["frame"]) == record["frame"] == result.frame
        assert float(row["time"]) == record["time"] == result.time
        assert int(row["faces"]) == len(result.faces)
        if not result.faces:
            assert row["track"] == row["p_happy"] == row["s_happy"] == ""
            assert record["track"] is record["s_happy"] is None
            continue
        face = result.faces[0]
        assert int(row["track"]) == record["track"] == face.track == 1
        assert row["steady"] == record["steady"] == "happy"
        assert face.smoothed is not None
        assert float(row["p_happy"]) == face.probabilities[Emotion.HAPPY]
        assert float(row["s_happy"]) == face.smoothed[Emotion.HAPPY]
        assert record["s_happy"] == pytest.approx(face.smoothed[Emotion.HAPPY], abs=1e-6)
    # Raw and smoothed scores are both there, and differ.
    assert any(row["p_happy"] != row["s_happy"] for row in rows[1:])
    painted = Video(names["mp4"])
    assert painted.fps == pytest.approx(FPS / 2, rel=0.01)
    assert len(list(painted.frames())) == len(results)
    captured = capsys.readouterr()
    assert "happy" in captured.out
    assert "frames/s" in captured.err
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {p.name for p in names.values()}  # no part, no state


def test_the_annotated_video_shows_the_box(video: Path, analyzer: Analyzer, tmp_path: Path) -> None:
    """The painted video differs from the original around the face and not in the corner."""
    out = tmp_path / "out.mp4"
    list(VideoRun([video], analyzer, Options(bars=False), Outputs(video=out)).run())
    for plain, painted in zip(Video(video).frames(), Video(out).frames(), strict=True):
        scale = painted.image.shape[1] / SIZE[0]  # small videos are enlarged to be legible
        big = cv2.resize(plain.image, (painted.image.shape[1], painted.image.shape[0]))
        change = np.abs(painted.image.astype(int) - big).max(2) > 60
        x, y = (int(v * scale) for v in place(plain.number))
        around = change[max(0, y - 130) : y + 130, max(0, x - 130) : x + 130].sum()
        if plain.number in HIDDEN:
            assert change.sum() < 500
        else:
            assert around > 1000
        assert change[-60:, -60:].sum() < 50


def test_images_too_large_to_wait_are_painted_one_by_one(
    video: Path, analyzer: Analyzer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "IMAGE_BYTES", 1)
    out = tmp_path / "out.mp4"
    list(VideoRun([video], analyzer, Options(every=4), Outputs(video=out)).run())
    assert len(list(Video(out).frames())) == FRAMES // 4


def test_tables_to_standard_output(
    video: Path, shipped_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["video", str(video), "--model", str(shipped_model), "--to", "0.2"]
    assert main([*base, "--jsonl", "-"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert main([*base, "--csv", "-", "--no-smooth"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [int(row["frame"]) for row in rows] == [0, 1, 2, 3, 4]
    assert {row["s_happy"] for row in rows} == {""}


def test_several_videos_share_the_tables_and_fill_folders(
    video: Path, analyzer: Analyzer, tmp_path: Path
) -> None:
    other = tmp_path / "two" / video.name  # the same name in another folder
    other.parent.mkdir()
    other.write_bytes(video.read_bytes())
    outputs = Outputs(jsonl=str(tmp_path / "all.jsonl"), video=tmp_path / "v", plot=tmp_path / "p")
    run = VideoRun([video, other], analyzer, Options(every=12), outputs)
    assert [s.source for s in run.run()] == [video, other]
    results = read_jsonl(tmp_path / "all.jsonl")
    assert [(r.source, r.frame) for r in results] == [
        (str(path), n) for path in (video, other) for n in (0, 12, 24, 36)
    ]
    assert {f.track for r in results for f in r.faces} == {1}  # each video counts from 1
    assert sorted(p.name for p in (tmp_path / "v").iterdir()) == [
        "walk-mien-2.mp4",
        "walk-mien.mp4",
    ]
    assert len(list((tmp_path / "p").glob("*.html"))) == 2


def test_annotated_copies_are_not_analysed_again(
    video: Path, shipped_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(video.read_bytes())
    words = ["video", str(folder), "--model", str(shipped_model), "--every", "20"]
    for out in (folder / "annotated", folder):
        for _ in range(2):
            assert main([*words, "--out", str(out), "--csv", str(tmp_path / "t.csv")]) == 0
    assert "left out: 2 annotated copies of an earlier call" in capsys.readouterr().err
    names = sorted(path.name for path in folder.rglob("*.*"))
    assert names == ["a-mien.mp4", "a-mien.mp4", "a.mp4"]


@pytest.mark.parametrize(
    "name", [b"bad\xff.mp4", b"a[1]*?.mp4", b"two\nlines.mp4", "漢".encode() * 81 + b".mp4"]
)
def test_a_video_of_any_name(
    name: bytes, video: Path, shipped_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenCV crashes at bytes that are no UTF-8; ffmpeg takes a folder's "?" for a query."""
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(video.read_bytes())
    arguments = ["video", "--model", str(shipped_model), "--every", "20", "--csv"]
    arguments += [str(tmp_path / os.fsdecode(name.replace(b"mp4", b"csv")))]
    arguments += ["--out", str(tmp_path / "copies"), "--plot", str(tmp_path / "pages")]
    program = [sys.executable, "-m", "mien", *arguments, str(path)]
    assert subprocess.run(program, check=False).returncode == 0
    told = capfd.readouterr().err.splitlines()
    assert [line.split()[0] for line in told[-2:]] == ["wrote", "wrote"], told
    for folder in ("copies", "pages"):  # a name without an ending is a folder, for one video too
        (copy,) = (tmp_path / folder).iterdir()
        assert copy.stat().st_size > 5000


def test_a_video_that_cannot_be_read_is_named_and_the_rest_done(
    video: Path, shipped_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(video.read_bytes()[:3000])
    base = ["--model", str(shipped_model), "--every", "20"]
    assert main(["video", str(bad), str(video), *base]) == 1
    captured = capsys.readouterr()
    assert "bad.mp4 cannot be read as a video" in captured.err
    assert "walk.mp4" in captured.out
    assert main(["video", str(bad), *base]) == 2
    assert main(["video", str(tmp_path / "*.mkv"), *base]) == 2
    assert main(["video", "-", *base]) == 2
    assert "standard input" in capsys.readouterr().err


def test_a_video_cut_short_is_reported(
    portrait: NDArray[np.uint8],
    shipped_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An AVI says at its head how many frames it has; half of its bytes are gone."""
    path = write_video(tmp_path / "cut.avi", walking(portrait, 120))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    assert main(["video", str(path), "--model", str(shipped_model), "--every", "10"]) == 1
    assert capsys.readouterr().err.count("it may be damaged or cut short") == 1


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--out", "{video}"], "is a video to be read"),
        (["--csv", "{video}"], "would hold csv, not .mp4"),
        (["--csv", "{tmp}/a", "--jsonl", "{tmp}/./a/"], "written to the same file"),
        (["--out", "{tmp}/a.txt"], "does not end like a video"),
        (["--csv", "{tmp}/a.xlsx"], "would hold csv, not .xlsx"),
        (["--parquet", "{tmp}/a.csv"], "would hold parquet"),
        (["--plot", "{tmp}/t.pdf"], "name it .html"),
        (["{video2}", "--out", "{tmp}/a.mp4"], "there are several videos; name a folder"),
        (["{video2}", "--plot", "{tmp}/a.html"], "there are several videos; name a folder"),
        (["--csv", "-", "--jsonl", "-"], "would both print"),
        (["--csv", "{tmp}/a", "--jsonl", "{tmp}/./a"], "written to the same file"),
        (["--from", "3", "--to", "2"], "would end at 2 s"),
        (["--from", "x"], "is no time"),
        (["--every", "0"], "every"),
        (["--resume"], "without an output file"),
        (["--parquet", "-"], "Parquet cannot go to"),
    ],
)
def test_bad_options_get_one_sentence(
    video: Path,
    shipped_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    words: str,
) -> None:
    before = video.read_bytes()
    other = video.parent / "other.mp4"
    other.write_bytes(before)
    extra = [word.format(video=video, video2=other, tmp=tmp_path) for word in extra]
    assert main(["video", str(video), "--model", str(shipped_model), *extra]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("error:") == 1
    assert "Traceback" not in captured.err
    assert video.read_bytes() == before


def test_parquet_without_pyarrow_says_what_to_install(
    video: Path, analyzer: Analyzer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    from mien.errors import MissingExtraError

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "pyarrow" else real(name, *a)
    )
    with pytest.raises(MissingExtraError, match="pip install"):
        VideoRun([video], analyzer, outputs=Outputs(parquet=str(tmp_path / "a.parquet")))


def test_damaged_frames_are_skipped_counted_and_marked(
    portrait: NDArray[np.uint8],
    shipped_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_video(tmp_path / "f.avi", walking(portrait, 40))
    damage(path, 10, 11, 25)
    table = tmp_path / "f.csv"
    words = ["video", str(path), "--model", str(shipped_model), "--csv", str(table)]
    assert main(words) == 1
    assert "3 damaged frames were skipped" in capsys.readouterr().err
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    good = [n for n in range(40) if n not in (10, 11, 25)]
    assert [int(row["frame"]) for row in rows] == good
    assert [float(row["time"]) for row in rows] == pytest.approx([n / FPS for n in good])
    assert {row["frame"]: row["skipped"] for row in rows if row["skipped"] != "0"} == {
        "12": "2",
        "26": "1",
    }
    # Frames that nobody asked for may be damaged without a word; places in the video stay.
    assert main([*words, "--every", "2"]) == 1
    assert main([*words, "--from", "1.1"]) == 0
    marked = [r.skipped for r in analyze_video(path, every=4)]
    assert marked == [0, 0, 0, 2, 0, 0, 0, 1, 0, 0]


#: Container, codec, and where a packet's bytes begin after what ffprobe calls its place.
CODINGS = [
    (".avi", "mjpeg", 0),
    (".mkv", "mjpeg", 4),
    (".mp4", "mpeg4", 0),
    (".webm", "libvpx", 4),
]


@pytest.mark.parametrize(("suffix", "codec", "skip"), CODINGS)
@pytest.mark.parametrize("garble", [False, True])
def test_damage_anywhere_is_counted(
    video: Path, tmp_path: Path, suffix: str, codec: str, skip: int, garble: bool
) -> None:
    """The first, a middle and the last frame; of VP8 the last alone, for others need the first."""
    path = tmp_path / f"f{suffix}"
    coding = ("-t", "2", "-c:v", codec, "-b:v", "1M", "-pix_fmt", "yuvj420p")
    ffmpeg("-i", str(video), *coding, str(path))
    whole = [f.time for f in Video(path).frames()]
    places = zip(probe(path, "v", "packet=pos"), probe(path, "v", "packet=size"), strict=True)
    packets = [(int(at) + skip, int(size)) for at, size in places]
    assert len(whole) == len(packets)
    spoilt = (-1,) if codec == "libvpx" else (0, 20, -1)
    data = bytearray(path.read_bytes())
    for number in spoilt:
        at, size = packets[number]
        data[at : at + size] = np.random.default_rng(0).bytes(size) if garble else bytes(size)
    path.write_bytes(data)
    opened = Video(path)
    frames = list(opened.frames())
    assert sum(f.skipped for f in frames) == len(spoilt) - 1
    assert opened.skipped_last == 1
    kept = [t for n, t in enumerate(whole) if n not in spoilt and n - len(whole) not in spoilt]
    assert [f.time for f in frames] == pytest.approx(kept)


def test_what_the_decoder_passes_over_is_counted(video: Path, tmp_path: Path) -> None:
    """HEVC's goes on after a damaged frame as if there had been none."""
    path = tmp_path / "f.mp4"
    coding = ("-t", "1", "-c:v", "libx265", "-x265-params", "log-level=none", "-an")
    ffmpeg("-i", str(video), *coding, str(path))
    whole = Video(path)
    count = len(list(whole.frames()))
    assert (whole.skipped_last, whole.frames_expected) == (0, count)
    at, size = (int(probe(path, "v", f"packet={what}")[count // 2]) for what in ("pos", "size"))
    data = bytearray(path.read_bytes())
    data[at + 10 : at + size - 10] = bytes(size - 20)
    path.write_bytes(data)
    damaged = Video(path)
    assert len(list(damaged.frames())) + damaged.skipped_last == count
    assert damaged.skipped_last == 1


def test_a_frame_as_before_is_not_damaged(video: Path, tmp_path: Path) -> None:
    """Theora has empty packets for them."""
    path = tmp_path / "f.ogv"
    still = ("-vf", "trim=end_frame=1,loop=30:1", "-t", "1", "-c:v", "libtheora", "-an")
    ffmpeg("-i", str(video), *still, str(path))
    opened = Video(path)
    frames = list(opened.frames())
    assert 0 < len(frames) < 20
    assert opened.skipped_last == sum(f.skipped for f in frames) == 0


def test_a_trimmed_video_is_not_damaged(video: Path, tmp_path: Path) -> None:
    """Cut without encoding anew an MP4 keeps packets that are not to be shown."""
    whole, path = tmp_path / "whole.mp4", tmp_path / "trimmed.mp4"
    ffmpeg("-i", str(video), "-c:v", "mpeg4", "-g", "12", str(whole))
    ffmpeg("-ss", "0.7", "-i", str(whole), "-c", "copy", str(path))
    opened = Video(path)
    frames = list(opened.frames())
    assert opened.frames_expected == len(frames) < FRAMES
    assert opened.skipped_last == sum(f.skipped for f in frames) == 0


def test_a_video_without_a_readable_frame_is_an_error(
    portrait: NDArray[np.uint8],
    video: Path,
    shipped_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = damage(write_video(tmp_path / "f.avi", walking(portrait, 12)), *range(12))
    base = ["--model", str(shipped_model), "--csv", str(tmp_path / "t.csv")]
    assert main(["video", str(path), *base]) == 2
    assert "f.avi has no readable frame" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["f.avi"]
    assert main(["video", str(path), str(video), *base, "--every", "20"]) == 1
    with pytest.raises(VideoError, match="no readable frame"):
        analyze_video(path)


def test_a_damaged_first_frame_is_no_late_start(video: Path, tmp_path: Path) -> None:
    path = damage(write_video(tmp_path / "f.avi", [f.image for f in Video(video).frames()][:20]), 0)
    opened = Video(path)
    assert opened.offset == 0
    assert next(opened.frames()).time == pytest.approx(1 / FPS)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".ts", ".mpg"])
@pytest.mark.parametrize("ffprobe", [True, False])
def test_time_is_on_the_clock_of_the_sound(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, ffprobe: bool
) -> None:
    path = tmp_path / f"late{suffix}"
    tone = ("-f", "lavfi", "-i", "sine=d=4", "-map", "0:v", "-map", "1:a")
    codec = ("-fps_mode", "passthrough", "-c:v", "libvpx" if suffix == ".webm" else "libx264")
    if suffix == ".mpg":
        codec = (*codec[:3], "mpeg2video")
    ffmpeg("-itsoffset", "2.023", "-i", str(video), *tone, *codec, str(path))
    begin = float(probe(path, "v", "stream=start_time")[0])
    mux = {".ts": 1.4, ".mpg": 0.5}.get(suffix, 0.0)  # what ffmpeg adds
    assert begin == pytest.approx(2.023 + mux, abs=0.05)
    if not ffprobe:
        monkeypatch.setenv("PATH", str(tmp_path))
    opened = Video(path)
    times = [f.time for f in opened.frames()]
    assert times[0] == opened.offset == pytest.approx(begin, abs=0.005 if ffprobe else 0.03)
    assert np.diff(times) == pytest.approx(1 / FPS, abs=0.002)
    later = [f.time for f in opened.frames(start=begin + 1)]
    assert later == [t for t in times if t >= begin + 1]
