"""What a video's tables say: who is in them, and which name is shown."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers_video import FPS, draw_frame, ffmpeg, walking, write_video
from numpy.typing import NDArray

from mien.cli import main
from mien.draw import draw
from mien.emotions import Emotion
from mien.errors import VideoError
from mien.pipeline import Analyzer
from mien.results import Box, Face, Result
from mien.track import Smoother
from mien.video import analyze_video
from mien.video.options import Options, Outputs
from mien.video.passers import Passers
from mien.video.run import VideoRun

P = {Emotion.HAPPY: 0.6, Emotion.SAD: 0.4}


def frame(n: int, *tracks: int, side: float = 20) -> Result:
    faces = tuple(Face(Box(0, 0, side, side), P, track=t) for t in tracks)
    return Result(faces, 100, 80, frame=n, time=n / 10)


def run(passers: Passers, results: list[Result], cut: int = -1, stop: int = -1) -> list[list[int]]:
    """The tracks of each result; through a saved state at ``stop``."""
    out: list[Result] = []
    for n, result in enumerate(results):
        if n == stop:
            state = json.loads(json.dumps(passers.state()))
            passers = Passers(1.0, 0.1, 0.3, 0.1)
            passers.restore(state)
        if n == cut:
            passers.cut()
        out += passers.update(result)
        assert [r.frame for r in out] == list(range(len(out)))
        assert n + 1 - len(out) <= 14  # a second and the gap
    out += passers.finish()
    assert len(out) == len(results)
    return [[f.track or 0 for f in r.faces] for r in out]


def test_those_who_are_seen_for_less_time_pass_by() -> None:
    """Track 1 stays; 2 is there for .8 s, 3 for 1 s, 4 comes when it ends."""
    seen = [
        [1, *([2] if 5 <= n < 13 else []), *([3] if 20 <= n < 30 else []), *([4] if n > 46 else [])]
        for n in range(50)
    ]
    wanted = [[t for t in tracks if t != 2] for tracks in seen]
    for stop in (-1, 0, 8, 14, 25, 48):
        results = [frame(n, *tracks) for n, tracks in enumerate(seen)]
        assert run(Passers(1.0, 0.1, 0.3, 0.1), results, stop=stop) == wanted, stop


def test_those_who_are_never_large_pass_by() -> None:
    results = [
        Result(frame(n, 1).faces + frame(n, 2, side=9.9).faces, 100, 80, frame=n, time=n / 10)
        for n in range(40)
    ]
    assert run(Passers(1.0, 0.1, 0.3, 0.1), results) == [[1]] * 40
    grown = results[:30] + [frame(n, 1, 2) for n in range(30, 40)]
    kept = run(Passers(1.0, 0.1, 0.3, 0.1), grown)
    assert kept[0] == [1]
    assert kept[30:] == [[1, 2]] * 10


def test_a_cut_tells_nothing_of_those_it_interrupts() -> None:
    results = [frame(n, 1 if n < 5 else 2) for n in range(20)]
    assert run(Passers(1.0, 0.1, 0.3, 0.1), results, cut=5) == [[1]] * 5 + [[2]] * 15
    assert run(Passers(1.0, 0.1, 0.3, 0.1), results) == [[]] * 5 + [[2]] * 15


#: Times at which a frame comes: seldom from the second on; after pauses; every minute.
SELDOM = {
    "seldom": "if(lt(N,2),N/25,3*(N-1))",
    "pauses": "N/25+4*floor(N/8)",
    "lapse": "60*N",
}


@pytest.mark.parametrize("times", SELDOM.values(), ids=SELDOM)
def test_a_face_stays_while_no_frame_comes(
    portrait: NDArray[np.uint8], shipped_model: Path, tmp_path: Path, times: str
) -> None:
    """Of recordings of a screen, time lapses and cameras that see no motion Matroska keeps the
    usual rate."""
    film = write_video(tmp_path / "f.avi", walking(portrait, 24))
    path, analyzer = tmp_path / "f.mkv", Analyzer(shipped_model)
    ffmpeg("-i", str(film), "-vf", f"settb=1/1000,setpts='1000*({times})'",
           "-fps_mode", "passthrough", "-c:v", "mpeg4", str(path))  # fmt: skip
    for every in (1, 3):
        (summary,) = VideoRun([path], analyzer, Options(every=every), Outputs()).run()
        assert not summary.cut_short
        assert summary.timeline.passers == 0
        (track,) = summary.timeline.ranked()
        assert track.frames == 24 // every
        assert track.seconds == pytest.approx(track.last - track.first, rel=0.1)


def passing(portrait: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The walker, and for half a second somebody else at the edge."""
    for n in range(75):
        image = cv2.copyMakeBorder(draw_frame(portrait, n), 0, 0, 0, 320, cv2.BORDER_REPLICATE)
        if 30 <= n < 42:
            image[:, 320:] = draw_frame(portrait, 0)
        yield np.asarray(image, np.uint8)


def test_passers_by_are_in_no_table_and_on_no_page(
    portrait: NDArray[np.uint8],
    shipped_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    video = write_video(tmp_path / "f.avi", passing(portrait))
    table, page = tmp_path / "t.csv", tmp_path / "t.html"
    words = ["video", str(video), "--model", str(shipped_model), "--no-cuts"]
    words += ["--csv", str(table), "--plot", str(page)]

    def tracks() -> set[str]:
        with table.open(encoding="utf-8", newline="") as stream:
            return {row["track"] for row in csv.DictReader(stream)}

    assert main(words) == 0
    assert "1 passing by" in capsys.readouterr().out
    assert tracks() == {"1"}
    assert "Face 2" not in page.read_text(encoding="utf-8")
    assert "1 person passing by left out" in page.read_text(encoding="utf-8")
    for more in (["--everyone"], ["--min-track", "0.3"]):
        assert main([*words, *more]) == 0
        assert tracks() == {"1", "2"}
        assert "Face 2" in page.read_text(encoding="utf-8")
        assert "passing by" not in capsys.readouterr().out
    with pytest.raises(VideoError, match="min_track"):
        Options(min_track=-1)


def test_min_face_is_a_promise_in_videos(
    portrait: NDArray[np.uint8], shipped_model: Path, tmp_path: Path
) -> None:
    """A detector may find smaller faces than it is asked for; a video's tables leave them out."""
    video = write_video(tmp_path / "f.avi", walking(portrait, 30))
    found = [f for r in analyze_video(video, Analyzer(shipped_model)) for f in r.faces]
    share = max(max(f.box.width, f.box.height) for f in found) / 320
    analyzer = Analyzer(shipped_model, min_face=0.05)
    for asked, faces in ((share - 0.01, len(found)), (share + 0.01, 0)):
        analyzer.detector.min_face = asked  # type: ignore[attr-defined]  # what it finds stays
        assert sum(len(r.faces) for r in analyze_video(video, analyzer)) == faces
    assert sum(len(r.faces) for r in analyze_video(video, analyzer, everyone=True)) == len(found)


def test_min_confidence_takes_the_name_and_leaves_box_and_track(
    portrait: NDArray[np.uint8], shipped_model: Path, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "f.avi", walking(portrait, 30))
    plain = list(analyze_video(video, Analyzer(shipped_model)))
    blanked = list(analyze_video(video, Analyzer(shipped_model, min_confidence=1.0)))
    assert {f.steady for r in plain for f in r.faces} == {Emotion.HAPPY}
    for one, other in zip(plain, blanked, strict=True):
        assert [(f.box, f.track, f.smoothed) for f in one.faces] == [
            (f.box, f.track, f.smoothed) for f in other.faces
        ]
        assert [f.steady for f in other.faces] == [None]
        assert other.to_dict()["faces"][0]["steady"] is None
        assert Result.from_dict(other.to_dict()).faces[0].steady is None
    table = tmp_path / "t.csv"
    words = ["video", str(video), "--model", str(shipped_model), "--csv", str(table)]
    assert main([*words, "--min-confidence", "1"]) == 0
    with table.open(encoding="utf-8", newline="") as stream:
        assert {(row["track"], row["steady"]) for row in csv.DictReader(stream)} == {
            ("1", "unsure")
        }


def test_the_name_is_the_largest_bar_or_unsure() -> None:
    """Over a random walk of three expressions, with a margin and without."""
    rng = np.random.default_rng(5)
    walk = np.abs(np.cumsum(rng.normal(0, 0.03, (2000, 3)), axis=0)) + 0.2
    values = walk / walk.sum(axis=1, keepdims=True)
    labels = (Emotion.HAPPY, Emotion.SAD, Emotion.ANGRY)
    names = {}
    for margin in (0.0, 0.1):
        smoother = Smoother(0.4, margin)
        out = []
        for n, row in enumerate(values.tolist()):
            seen = Face(Box(0, 0, 9, 9), dict(zip(labels, row, strict=True)), track=1)
            (face,) = smoother.update([seen], n / FPS)
            assert face.smoothed is not None
            assert face.steady in (max(labels, key=face.smoothed.__getitem__), None)
            out.append(face.steady)
        names[margin] = out
    assert None not in names[0.0]
    unsure = names[0.1].count(None)
    assert 0 < unsure < 1000
    assert set(names[0.1]) - {None} == set(names[0.0])


def test_an_unsure_face_is_painted_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    import mien.draw as module

    said: list[str] = []
    real = module._tag

    def tag(name: str, *rest: object) -> object:
        said.append(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_tag", tag)
    face = Face(Box(200, 200, 120, 120), P, track=3, smoothed=P, steady=None)
    draw(np.full((500, 600, 3), 90, np.uint8), Result((face,), 600, 500))
    assert said == ["3  unsure"]


@pytest.mark.parametrize("width", [30, 80, 200])
def test_the_table_keeps_a_videos_name_whole(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mien.cli.video import print_video
    from mien.video.timeline import Timeline

    monkeypatch.setenv("COLUMNS", str(width))
    timeline = Timeline((Emotion.HAPPY, Emotion.SAD))
    timeline.add(frame(0, 1), 0.1)
    name = "folder/" * 20 + "a video.mp4"
    print_video(timeline, name)
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == name
    assert all(len(line) <= width for line in rest)


def test_frames_of_too_little_quality_name_nothing(
    portrait: NDArray[np.uint8], shipped_model: Path, tmp_path: Path
) -> None:
    """Sharp, then blurred for long: the name stays for a moment and then goes."""
    sharp = list(walking(portrait, 50))
    blurred = [np.asarray(cv2.GaussianBlur(f, (0, 0), 5), np.uint8) for f in walking(portrait, 25)]
    video = write_video(tmp_path / "f.avi", [*sharp[:25], *blurred])
    results = list(analyze_video(video, Analyzer(shipped_model, min_quality=0.9), cuts=False))
    (sure,), (later,) = results[24].faces, results[-1].faces
    assert (sure.track, sure.unsure, sure.steady) == (1, False, Emotion.HAPPY)
    assert (later.track, later.unsure, later.steady) == (1, True, None)
    assert later.smoothed == sure.smoothed
    table, page = tmp_path / "t.csv", tmp_path / "t.html"
    words = ["video", str(video), "--model", str(shipped_model), "--no-cuts"]
    words += ["--min-quality", "0.9", "--csv", str(table), "--plot", str(page)]
    assert main(words) == 0
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert (rows[24]["steady"], rows[-1]["steady"]) == ("happy", "unsure")
    assert float(rows[24]["quality"]) > 0.9 > float(rows[-1]["quality"])
    assert re.search(r"happy 100%; unsure \d\d% of the time", page.read_text(encoding="utf-8"))
