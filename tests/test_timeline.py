"""The timeline: exact sums in bounded memory, and a page that works by itself in a browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.emotions import FER2013, PALETTE_ON_LIGHT, Emotion
from mien.results import Box, Face, Result
from mien.text import clock
from mien.video.page import CHARTS, to_html
from mien.video.timeline import BINS, CHANGES, FACES, Timeline

FPS = 25.0


def seen(track: int, emotion: Emotion, sure: float = 0.7, smoothed: bool = True) -> Face:
    rest = (1 - sure) / (len(FER2013) - 1)
    p = {e: sure if e == emotion else rest for e in FER2013}
    steady = emotion if smoothed else None
    return Face(Box(0, 0, 9, 9), p, track=track, smoothed=p if smoothed else None, steady=steady)


def image(shade: int = 128) -> NDArray[np.uint8]:
    return np.full((88, 88, 3), shade, np.uint8)


def fill(frames: int, timeline: Timeline | None = None, begin: int = 0) -> Timeline:
    """Face 1 is happy for three quarters and sad for one; face 2 is there in the first half."""
    timeline = timeline or Timeline(FER2013)
    for n in range(begin, frames):
        faces = [seen(1, Emotion.HAPPY if n % 400 < 300 else Emotion.SAD)]
        if n < frames // 2:
            faces.append(seen(2, Emotion.FEAR))
        result = Result(tuple(faces), 640, 480, frame=n, time=n / FPS)
        timeline.add(result, 1 / FPS, [image(n % 200)] * len(faces))
    return timeline


@pytest.mark.parametrize("frames", [100, 1200, 20_000])
def test_nothing_is_lost_however_often_bins_are_merged(frames: int) -> None:
    timeline = fill(frames)
    one, two = timeline.tracks[1], timeline.tracks[2]
    assert one.counts.sum() == one.frames == frames
    assert two.counts.sum() == two.frames == frames // 2
    happy = sum(n % 400 < 300 for n in range(frames))
    column = FER2013.index(Emotion.HAPPY)
    expected = 0.7 * happy + 0.05 * (frames - happy)
    assert one.sums[:, 0, column].sum() == pytest.approx(expected, rel=1e-4)
    assert one.shares[Emotion.HAPPY] == pytest.approx(happy / FPS, rel=1e-6)
    assert one.seconds == pytest.approx(frames / FPS, rel=1e-6)
    used = np.flatnonzero(one.counts)
    assert used[-1] < BINS
    if frames > 2 * BINS:  # after a merge at least half of the bins are in use
        assert used[-1] >= BINS // 2 - 1
    assert timeline.width * BINS >= frames / FPS


def test_memory_is_bounded_by_the_number_of_faces_and_changes_kept() -> None:
    timeline = Timeline(FER2013)
    for n in range(3000):
        who = 1 + n // 20  # a new face every 20 frames
        mood = FER2013[n % 7]
        faces = (seen(who, mood), seen(10_000, mood))
        timeline.add(Result(faces, 9, 9, time=n / FPS), 1 / FPS, [image()] * 2)
    assert len(timeline.tracks) == FACES
    assert timeline.dropped == 150 + 1 - FACES
    assert timeline.ranked()[0].track == 10_000
    for track in timeline.tracks.values():
        assert len(track.changes) <= CHANGES
        assert all(a.emotion != b.emotion for a, b in pairwise(track.changes))
    assert len(json.dumps(timeline.state())) < 4_000_000


def test_two_crowds_are_counted_once() -> None:
    """A face without a place came back in every frame as a new one, and pushed out another."""
    timeline = Timeline(FER2013, passers=True)
    for n in range(200):
        people = range(40) if n < 75 else range(100, 140)
        result = Result(tuple(seen(k, Emotion.HAPPY) for k in people), 9, 9, time=n / FPS)
        timeline.add(result if n < 75 else timeline.stays(result), 1 / FPS)
    ranked = timeline.ranked()
    assert (timeline.passers, timeline.dropped + len(ranked)) == (40, 40)
    assert {round(face.seconds, 6) for face in ranked} == {5.0}
    assert {face.first for face in ranked} == {3.0}
    again = Timeline(FER2013, passers=True)
    again.restore(json.loads(json.dumps(timeline.state())))
    assert to_html(again, "a.mp4") == to_html(timeline, "a.mp4")


def test_the_shortest_stays_are_left_out_first() -> None:
    timeline, time = Timeline(FER2013), 0.0
    brief, lasting = (Emotion.FEAR, Emotion.ANGRY, Emotion.DISGUST), (Emotion.HAPPY, Emotion.SAD)
    long = []
    for n in range(40):
        mood, length = brief[n % 4 - 1], 2
        if n % 4 == 0:
            mood, length = lasting[n // 4 % 2], 100
            long.append(time)
        for _ in range(length):
            timeline.add(Result((seen(1, mood),), 9, 9, time=time), 1 / FPS, [image()])
            time += 1 / FPS
    kept = [c.time for c in timeline.tracks[1].changes]
    assert len(kept) == CHANGES
    assert set(long) <= set(kept)


@pytest.mark.parametrize(
    ("fps", "every"), [(24.0, 1), (25.0, 1), (29.97, 1), (30.0, 10), (60.0, 7)]
)
def test_regular_frames_leave_no_holes_in_the_chart(fps: float, every: int) -> None:
    timeline = Timeline(FER2013)
    for n in range(0, 2000, every):
        if not 700 <= n < 1000:  # here the face is away
            faces: tuple[Face, ...] = (seen(1, Emotion.HAPPY),)
        else:
            faces = ()
        timeline.add(Result(faces, 9, 9, time=n / fps), every / fps)
    (face,) = page_data(to_html(timeline, "a.mp4"))["faces"]
    values = np.frombuffer(base64.b64decode(face["series"][0]), np.uint8).reshape(-1, 7)
    away = np.flatnonzero(values[:, 0] == 255) * timeline.width
    assert len(away) > 0
    assert away.min() > 700 / fps - 2 * timeline.width
    assert away.max() < 1000 / fps + timeline.width


def page_data(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert match is not None
    data: dict[str, Any] = json.loads(match.group(1))
    return data


def test_the_clearest_image_of_a_stay_is_kept() -> None:
    timeline = Timeline(FER2013)
    for n, (sure, shade) in enumerate([(0.5, 40), (0.9, 200), (0.6, 90)]):
        face = seen(1, Emotion.HAPPY, sure)
        timeline.add(Result((face,), 9, 9, time=n / FPS), 1 / FPS, [image(shade)])
    (change,) = timeline.tracks[1].changes
    assert change.jpeg is not None
    kept = cv2.imdecode(np.frombuffer(change.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert kept is not None
    assert kept.mean() == pytest.approx(200, abs=3)


def test_state_goes_through_json_and_the_page_is_the_same() -> None:
    half = Timeline(FER2013)
    half.restore(json.loads(json.dumps(fill(1000).state())))
    # `fill` decides face 2's end by the total, so both runs are told the same frames.
    whole = fill(1000)
    for timeline in (half, whole):
        for n in range(1000, 1500):
            face = seen(1, Emotion.ANGRY)
            timeline.add(Result((face,), 9, 9, time=n / FPS), 1 / FPS, [image()])
    assert to_html(half, "a.mp4") == to_html(whole, "a.mp4")


class Links(HTMLParser):
    """Everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data") and value:
                self.found.append(value)


def test_the_page_is_self_contained_and_escapes_names() -> None:
    page = to_html(fill(200), '<b>"film" & co</b>.mp4', [("model", "</script><script>x")])
    links = Links()
    links.feed(page)
    assert links.found
    assert all(link.startswith("data:image/jpeg;base64,") for link in links.found)
    assert not re.search(r"https?:|url\(|@import|import\(|fetch\(", page)
    assert "<b>" not in page.replace("<b>Nothing", "")
    assert "</script><script>x" not in page


def test_the_data_in_the_page_are_the_bins() -> None:
    timeline = fill(500)
    page = to_html(timeline, "a.mp4")
    data = page_data(page)
    assert data["labels"] == [e.value for e in FER2013]
    first, second = data["faces"]
    values = np.frombuffer(base64.b64decode(first["series"][1]), np.uint8).reshape(-1, 7) / 200
    counts = timeline.tracks[1].counts[: len(values)]
    means = timeline.tracks[1].sums[: len(values), 1] / counts[:, None]
    assert values == pytest.approx(means, abs=0.003)
    assert second["track"] == 2
    assert [c[1] for c in first["changes"]] == ["happy", "sad", "happy"]
    assert "face 1" in page
    assert "happy 80%" in page  # 300 and 100 of 400 frames, then 100 more


def test_without_faces_and_with_too_many() -> None:
    empty = Timeline(FER2013)
    empty.add(Result((), 9, 9, time=0.0), 1 / FPS)
    page = to_html(empty, "nobody.mp4")
    assert "No face was found" in page
    assert "100% of the frames without one" in page
    crowd = Timeline(FER2013)
    faces = tuple(seen(n + 1, Emotion.NEUTRAL, smoothed=False) for n in range(40))
    crowd.add(Result(faces, 9, 9, time=0.0), 1 / FPS)
    page = to_html(crowd, "crowd.mp4")
    assert page.count("<canvas") == CHARTS
    assert f"{40 - CHARTS} more faces were seen" in page


def test_people_come_first_and_those_seen_briefly_are_folded() -> None:
    timeline = Timeline(FER2013)
    for n in range(500):  # a bystander at the start, then the two the video is about
        faces = [seen(9, Emotion.SAD)] if n < 20 else []
        faces += [seen(1, Emotion.HAPPY)] if n >= 10 else []
        faces += [seen(2, Emotion.FEAR)] if n >= 200 else []
        timeline.add(Result(tuple(faces), 640, 480, frame=n, time=n / FPS), 1 / FPS)
    page = to_html(timeline, "party.mp4")
    shown = [page.index(f'data-track="{track}"') for track in (1, 2, 9)]
    assert shown == sorted(shown)
    assert shown[1] < page.index("1 face seen only briefly") < shown[2]
    assert "seen only briefly" not in to_html(fill(100), "walk.mp4")


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.9, 60, 3599, 3661, -1)] == [
        *("0:00", "0:59", "1:00", "59:59", "1:01:01", "0:00")
    ]


@pytest.fixture
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("this test needs chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


def test_the_page_in_a_browser(browser: Any, tmp_path: Path) -> None:
    """Charts are painted; hovering, keys, zooming and the raw scores answer; nothing is fetched."""
    path = tmp_path / "t.html"
    path.write_text(to_html(fill(1000), "walk.mp4"), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    problems: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_timeout(300)
    canvas = page.locator("canvas").first

    def pixel(x: float, y: float) -> list[int]:
        script = """(canvas, [x, y]) => Array.from(canvas.getContext("2d").getImageData(
            x * canvas.width, y * canvas.height, 1, 1).data)"""
        return list(canvas.evaluate(script, [x, y]))[:3]

    # 1,000 frames are 40 s: happy to 12 s, sad to 16 s. 24 s are at 60 %.
    happy, sad = (
        list(bytes.fromhex(PALETTE_ON_LIGHT[e][1:])) for e in (Emotion.HAPPY, Emotion.SAD)
    )
    assert pixel(0.1, 0.45) == pytest.approx(happy, abs=2)
    assert pixel(0.35, 0.3) == pytest.approx(sad, abs=2)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.353 * box["width"], box["y"] + 50)
    page.wait_for_timeout(200)
    tip = page.locator("output").first
    assert tip.inner_text().split()[:4] == ["0:14.1", "sad", "70", "%"]
    # Dragging zooms to where it is sad all over.
    page.mouse.move(box["x"] + 0.31 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.39 * box["width"], box["y"] + 50, steps=4)
    page.mouse.up()
    page.mouse.move(box["x"] + 10, box["y"] - 40)
    page.wait_for_timeout(300)
    assert pixel(0.1, 0.3) == pytest.approx(sad, abs=2)
    assert pixel(0.9, 0.3) == pytest.approx(sad, abs=2)
    page.get_by_role("button", name="whole video").click()
    page.wait_for_timeout(200)
    assert pixel(0.1, 0.45) == pytest.approx(happy, abs=2)
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    assert "happy" in tip.inner_text()
    page.get_by_role("button", name="raw scores").click()
    assert page.get_by_role("button", name="raw scores").get_attribute("aria-pressed") == "true"
    assert page.locator(".strip figure:visible").count() >= 4
    assert problems == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    # On a phone nothing is wider than the screen.
    page.set_viewport_size({"width": 380, "height": 700})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
