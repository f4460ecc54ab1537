"""The page in a real browser: Debian's Chromium by Playwright, with a video as its webcam."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("fastapi", reason="the extra [web] is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from helpers_web import Running, serving, serving_app

from mien.images import read_image
from mien.pipeline import Analyzer
from mien.results import Box, Result
from mien.sinks import columns
from mien.track import iou
from mien.web.app import create_app
from mien.web.settings import Limits, Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make browser` installs it"),
    pytest.mark.timeout(240),
]
PATIENCE = 60_000  # ms: the machine may be busy with other things

#: Where the video shows the portrait: the face is still, so a box that comes late fits too.
VIDEO = (640, 480)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, _portrait: NDArray[np.uint8]) -> Path:
    """A motion JPEG of the portrait, a little lighter and darker by turns."""
    path = tmp_path_factory.mktemp("film") / "webcam.mjpeg"
    with path.open("wb") as stream:
        for number in range(10):
            light = 1 + 0.02 * np.sin(number / 10 * 2 * np.pi)
            data = cv2.imencode(".jpg", cv2.convertScaleAbs(scene(_portrait), alpha=light))[1]
            stream.write(data.tobytes())
    return path


def scene(portrait: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame of the video: the portrait, left of the middle, on grey."""
    image = np.full((VIDEO[1], VIDEO[0], 3), 90, np.uint8)
    image[40:440, 60:460] = portrait[:400, 40:440]
    return image


@pytest.fixture(scope="module")
def server(shipped_model: Path) -> Iterator[Running]:
    with serving(shipped_model, limits=Limits(body_bytes=3_000_000)) as running:
        yield running


@pytest.fixture(scope="module")
def browser(video: Path) -> Iterator[Browser]:
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={video}",
    ]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Browser, server: Running) -> Iterator[Callable[..., Page]]:
    """Opens the page; afterwards it must have asked nobody else and complained of nothing."""
    contexts = []
    asked: list[str] = []
    complaints: list[str] = []

    def opener(
        query: str = "", running: Running = server, script: str | None = None, **options: Any
    ) -> Page:
        context = browser.new_context(**options)
        if script is not None:  # runs before any of the page's
            context.add_init_script(script)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda r: asked.append(r.url))
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.goto(running.url + query)
        return page

    yield opener
    for context in contexts:
        context.close()
    assert [u for u in asked if not u.startswith(("http://127.0.0.1:", "blob:", "data:"))] == []
    # A refused upload is the server's answer, which the browser notes too.
    assert [c for c in complaints if "Failed to load resource" not in c] == []


def jpeg(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()


def upload(page: Page, *files: tuple[str, bytes]) -> None:
    payload = [
        {"name": name, "mimeType": "application/octet-stream", "buffer": data}
        for name, data in files
    ]
    page.locator("#files").set_input_files(payload)


def drawn_box(page: Page) -> Box:
    """The one box on the page, in pixels of the image, by where it is on the screen."""
    box = page.locator("#overlay rect.box")
    playwright.expect(box).to_have_count(1, timeout=PATIENCE)
    return Box(*(float(box.get_attribute(k) or "nan") for k in ("x", "y", "width", "height")))


def test_a_photo_is_boxed_named_and_described(
    open_page: Callable[..., Page], portrait: NDArray[np.uint8]
) -> None:
    page = open_page()
    data = jpeg(portrait)
    (wanted,) = Analyzer().analyze(data).faces
    upload(page, ("portrait.jpg", data))
    assert iou(drawn_box(page), wanted.box) > 0.99
    playwright.expect(page.locator("#overlay text.word")).to_have_text("happy")
    assert page.locator("#overlay rect.box").get_attribute("stroke") == "#F0E442"
    # On the screen the drawing lies where the photo lies.
    photo = page.locator("#photo").bounding_box()
    box = page.locator("#overlay rect.box").bounding_box()
    assert photo
    assert box
    scale = photo["width"] / 512
    assert abs((box["x"] - photo["x"]) / scale - wanted.box.x) < 6
    assert abs((box["y"] - photo["y"]) / scale - wanted.box.y) < 6
    # Seven bars with numbers, and the same in words for who cannot see them.
    bars = page.locator("#faces dl > div")
    playwright.expect(bars).to_have_count(7)
    sure = f"{100 * wanted.confidence:.0f}"
    assert page.locator("#faces .bars > div.best").inner_text().split() == ["happy", f"{sure}%"]
    told = f"portrait.jpg: one face: face 1 happy, {sure} percent."
    playwright.expect(page.locator("#announce")).to_have_text(told)
    assert page.locator("#photo").get_attribute("alt") == told


def test_bad_uploads_get_their_sentence_and_the_page_goes_on(
    open_page: Callable[..., Page], portrait: NDArray[np.uint8]
) -> None:
    page = open_page()
    bad = {
        "notes.jpg": (b"no picture at all", "notes.jpg is not an image that mien reads"),
        "cut.jpg": (jpeg(portrait)[:5000], "cut.jpg is a truncated or damaged JPEG file"),
        "large.png": (bytes(4_000_000), "The request is larger than"),
    }
    trouble = page.locator("#trouble")
    for name, (data, sentence) in bad.items():
        upload(page, (name, data))
        playwright.expect(trouble).to_contain_text(sentence, timeout=PATIENCE)
        assert page.locator("#overlay rect").count() == 0
    assert trouble.get_attribute("role") == "alert"
    upload(page, ("good.jpg", jpeg(portrait)))
    drawn_box(page)
    playwright.expect(trouble).to_be_hidden()
    playwright.expect(page.locator("#strip .failed")).to_have_count(3)
    playwright.expect(page.locator("#save-json")).to_be_enabled()


def test_many_photos_by_keyboard(
    open_page: Callable[..., Page], portrait: NDArray[np.uint8]
) -> None:
    page = open_page()
    upload(page, ("one.jpg", jpeg(portrait)), ("none.png", jpeg(portrait[300:])))
    drawn_box(page)
    strip = page.locator("#strip button")
    playwright.expect(strip.nth(1)).to_have_attribute("aria-label", "none.png, 0 faces")
    strip.nth(0).focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(strip.nth(1)).to_be_focused()
    playwright.expect(page.locator("#none")).to_have_text("No face was found.")
    assert page.locator("#overlay rect").count() == 0
    page.keyboard.press("ArrowLeft")
    drawn_box(page)
    # Everything can be reached with Tab, starting with the way past the header.
    reached = []
    page.locator("body").evaluate("document.activeElement.blur()")
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.className")
        )
    assert {"skip", "choose", "camera", "save-json", "save-csv", "save-png", "clear"} <= set(
        reached
    )


def test_drop_and_paste(open_page: Callable[..., Page], portrait: NDArray[np.uint8]) -> None:
    page = open_page()
    for kind in ("drop", "paste"):
        event = page.evaluate_handle(
            """([text, kind]) => {
                const data = new DataTransfer();
                const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
                data.items.add(new File([bytes], `${kind}.jpg`));
                const options = { bubbles: true, cancelable: true };
                return kind === "drop"
                    ? new DragEvent("drop", { ...options, dataTransfer: data })
                    : new ClipboardEvent("paste", { ...options, clipboardData: data });
            }""",
            [base64.b64encode(jpeg(portrait)).decode(), kind],
        )
        page.evaluate("event => document.body.dispatchEvent(event)", event)
        playwright.expect(page.locator("#announce")).to_contain_text(
            f"{kind}.jpg: one face", timeout=PATIENCE
        )
        drawn_box(page)
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.setData("text/uri-list", "http://127.0.0.1:9/a.jpg");
            document.body.dispatchEvent(
                new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data }));
        }"""
    )
    playwright.expect(page.locator("#trouble")).to_contain_text("Links are never followed")


def saved(page: Page, button: str) -> bytes:
    with page.expect_download() as download:
        page.locator(button).click()
    return Path(download.value.path()).read_bytes()


def test_downloads_hold_what_is_shown(
    open_page: Callable[..., Page], portrait: NDArray[np.uint8]
) -> None:
    page = open_page(accept_downloads=True)
    data = jpeg(portrait)
    wanted = Analyzer().analyze(data, source="=1+1.jpg")
    upload(page, ("=1+1.jpg", data))
    drawn_box(page)
    (record,) = json.loads(saved(page, "#save-json"))
    assert Result.from_dict(record).to_dict() == wanted.to_dict()
    header, row = csv.reader(io.StringIO(saved(page, "#save-csv").decode()))
    assert header == list(columns())
    cells = dict(zip(header, row, strict=True))
    assert cells["emotion"] == "happy"
    assert cells["source"] == "'=1+1.jpg"  # a spreadsheet must not run a file's name
    assert float(cells["p_happy"]) == pytest.approx(wanted.faces[0].confidence, abs=1e-6)
    assert cells["unsure"] == "False"
    parts = wanted.to_dict()["faces"][0]["quality_parts"]
    assert {name: float(cells[f"quality_{name}"]) for name in parts} == pytest.approx(parts)
    assert float(cells["left_eye_x"]) == pytest.approx(wanted.faces[0].landmarks[1][0], abs=0.01)
    painted = read_image(saved(page, "#save-png"))
    assert painted.shape == portrait.shape
    changed = np.abs(painted.astype(int) - read_image(data)).max(axis=2) > 60
    rows, cols = np.nonzero(changed)
    box = wanted.faces[0].box
    assert abs(cols.min() - box.x) < 8
    assert abs(rows.max() - (box.y + box.height)) < 8
    yellow = np.all(np.abs(painted.astype(int) - (0x42, 0xE4, 0xF0)) < 12, axis=2)
    assert yellow.sum() > 500


def test_the_camera_plays_and_the_face_is_boxed_and_named(
    open_page: Callable[..., Page], portrait: NDArray[np.uint8], server: Running
) -> None:
    page = open_page("?camera", accept_downloads=True)
    (wanted,) = Analyzer().analyze(scene(portrait), color="bgr").faces
    box = drawn_box(page)
    mirrored = Box(VIDEO[0] - wanted.box.x - wanted.box.width, *_rest(wanted.box))
    assert iou(box, mirrored) > 0.8
    playwright.expect(page.locator("#overlay text.word")).to_have_text("happy")
    playwright.expect(page.locator("#faces .word")).to_have_text("happy")
    playwright.expect(page.locator("#rate")).to_contain_text(".", timeout=PATIENCE)
    assert float(page.locator("#rate").inner_text()) > 1
    assert page.locator("#latency").inner_text().endswith(" ms")
    label = page.locator("#history")
    playwright.expect(label).to_have_attribute(
        "aria-label", re.compile("happy [89]"), timeout=PATIENCE
    )
    page.locator("#mirror").uncheck()
    playwright.expect(page.locator("#media")).to_have_class("media live")
    page.wait_for_timeout(300)
    assert iou(drawn_box(page), wanted.box) > 0.8
    records = json.loads(saved(page, "#save-json"))
    assert len(records) > 3
    assert {r["faces"][0]["track"] for r in records} == {1}
    times = [r["time"] for r in records]
    assert times == sorted(times)
    header, first, *_ = csv.reader(io.StringIO(saved(page, "#save-csv").decode()))
    assert header == list(columns(video=True))  # those of `mien video`
    cells = dict(zip(header, first, strict=True))
    assert (cells["source"], cells["frame"]) == ("camera", str(records[0]["frame"]))
    seen = records[0]["faces"][0]
    assert cells["track"] == str(seen["track"])
    assert cells["steady"] == seen["steady"] == "happy"
    for kind, column in (("probabilities", "p_"), ("smoothed", "s_")):
        got = {name: float(cells[column + name]) for name in seen[kind]}
        assert got == pytest.approx(seen[kind])
    painted = read_image(saved(page, "#save-png"))
    assert painted.shape[:2] == (VIDEO[1], VIDEO[0])
    page.keyboard.press("Escape")
    playwright.expect(page.locator("body")).to_have_attribute("data-camera", "off")
    assert page.locator("#overlay rect").count() == 0


def _rest(box: Box) -> tuple[float, float, float]:
    return box.y, box.width, box.height


HIDE = """hidden => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_capturing_stops_while_the_tab_is_hidden(
    open_page: Callable[..., Page], server: Running
) -> None:
    page = open_page("?camera")
    drawn_box(page)
    track = page.evaluate_handle("() => document.getElementById('video').srcObject.getTracks()[0]")
    page.evaluate(HIDE, True)
    playwright.expect(page.locator("body")).to_have_attribute("data-camera", "hidden")
    assert track.evaluate("t => t.readyState") == "ended"  # the camera's light goes out
    metrics = server.app.state.metrics
    page.wait_for_timeout(500)
    before = metrics.value("mien_frames_total", outcome="read")
    page.wait_for_timeout(700)
    assert metrics.value("mien_frames_total", outcome="read") == before > 0
    assert metrics.streams == 0
    page.evaluate(HIDE, False)
    drawn_box(page)


COUNT_CAMERAS = """
    window.opened = 0;
    const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = (wanted) => {
        window.opened += 1;
        if (window.unplugged) throw new DOMException("", "NotFoundError");
        return real(wanted);
    };
"""
HIDDEN = 'Object.defineProperty(document, "hidden", { configurable: true, get: () => true });'


def test_what_the_camera_saw_can_be_saved_after_a_photo_and_a_hidden_tab(
    open_page: Callable[..., Page], portrait: NDArray[np.uint8]
) -> None:
    page = open_page(accept_downloads=True)
    upload(page, ("one.jpg", jpeg(portrait)))
    drawn_box(page)
    page.locator("#camera").click()
    playwright.expect(page.locator("#save-png")).to_be_enabled()
    page.evaluate(HIDE, True)
    playwright.expect(page.locator("body")).to_have_attribute("data-camera", "hidden")
    playwright.expect(page.locator("#save-png")).to_be_disabled()
    page.evaluate(HIDE, False)
    playwright.expect(page.locator("#save-png")).to_be_enabled()
    page.locator("#camera").click()
    playwright.expect(page.locator("body")).to_have_attribute("data-camera", "off")
    with page.expect_download() as download:
        page.locator("#save-csv").click()
    assert download.value.suggested_filename == "mien-camera.csv"


def test_a_page_in_a_background_tab_opens_no_camera(open_page: Callable[..., Page]) -> None:
    page = open_page("?camera", script=COUNT_CAMERAS + HIDDEN)
    playwright.expect(page.locator("body")).to_have_attribute("data-camera", "hidden")
    page.wait_for_timeout(500)
    assert page.evaluate("opened") == 0
    page.evaluate(HIDE, False)
    drawn_box(page)
    assert page.evaluate("opened") == 1


def test_a_camera_that_is_waited_for_is_not_opened_while_nobody_looks(
    open_page: Callable[..., Page],
) -> None:
    page = open_page("?camera&wait", script=COUNT_CAMERAS + "window.unplugged = true;")
    body = page.locator("body")
    playwright.expect(body).to_have_attribute("data-camera", "waiting")
    page.evaluate(HIDE, True)
    playwright.expect(body).to_have_attribute("data-camera", "hidden")
    before = page.evaluate("opened")
    page.evaluate("unplugged = false")
    page.evaluate("navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")
    page.wait_for_timeout(2500)  # longer than it waits between two tries
    assert page.evaluate("opened") == before
    page.evaluate(HIDE, False)
    drawn_box(page)
    playwright.expect(page.locator("#trouble")).to_be_hidden()


def test_after_a_broken_stream_nothing_old_is_left_and_no_number_comes_twice(
    open_page: Callable[..., Page],
) -> None:
    keep = """
        const Real = WebSocket;
        window.sockets = [];
        window.WebSocket = class extends Real {
            constructor(...words) { super(...words); window.sockets.push(this); }
        };
    """
    page = open_page("?camera", script=keep, accept_downloads=True)
    drawn_box(page)
    playwright.expect(page.locator("#save-json")).to_be_enabled()
    page.evaluate("sockets.at(-1).close()")
    trouble = page.locator("#trouble")
    playwright.expect(trouble).to_have_text("The stream broke off. Trying again.")
    assert page.locator("#overlay rect").count() == 0
    assert page.locator("#faces li").count() == 0
    drawn_box(page)
    playwright.expect(trouble).to_be_hidden()
    playwright.expect(page.locator("#faces .number")).to_have_text("face 2")
    assert page.locator("#faces .who").get_attribute("aria-pressed") == "true"
    records = json.loads(saved(page, "#save-json"))
    frames = [r["frame"] for r in records]
    assert frames == sorted(set(frames))
    tracks = [face["track"] for r in records for face in r["faces"]]
    assert set(tracks) == {1, 2}
    assert tracks == sorted(tracks)


def test_a_lost_camera_is_told_and_waited_for(open_page: Callable[..., Page]) -> None:
    page = open_page("?camera")
    drawn_box(page)
    unplug = """() => {
        const track = document.getElementById("video").srcObject.getTracks()[0];
        track.stop();
        track.dispatchEvent(new Event("ended"));
    }"""
    page.evaluate(unplug)
    playwright.expect(page.locator("#trouble")).to_have_text(
        "The camera was unplugged or taken away."
    )
    playwright.expect(page.locator("body")).to_have_attribute("data-camera", "off")
    page.locator("#camera").click()
    drawn_box(page)
    page.locator("#wait").check()
    page.evaluate(unplug)
    playwright.expect(page.locator("#trouble")).to_contain_text("Waiting for it to come back.")
    playwright.expect(page.locator("body")).to_have_attribute("data-camera", "on", timeout=PATIENCE)
    drawn_box(page)


def test_a_camera_that_is_not_there(open_page: Callable[..., Page]) -> None:
    page = open_page("?camera=7")
    playwright.expect(page.locator("#trouble")).to_contain_text(
        "Camera 7 is not there: this machine has 1", timeout=PATIENCE
    )


def test_the_token_travels_behind_the_hash(
    open_page: Callable[..., Page], shipped_model: Path, portrait: NDArray[np.uint8]
) -> None:
    token = "a-token-of-enough-length"
    with serving(shipped_model, token=token) as running:
        page = open_page("", running)
        upload(page, ("a.jpg", jpeg(portrait)))
        playwright.expect(page.locator("#trouble")).to_contain_text("wants a token")
        page.locator("#token").fill(token)
        page.keyboard.press("Enter")
        drawn_box(page)
        playwright.expect(page.locator("#token-form")).to_be_hidden()
        page = open_page(f"?camera#token={token}", running)
        drawn_box(page)
        assert "token" not in page.url
        page.context.close()


def test_phone_width_and_both_themes(
    open_page: Callable[..., Page], portrait: NDArray[np.uint8]
) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        page = open_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        upload(page, ("portrait.jpg", jpeg(portrait)))
        drawn_box(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_faces_are_numbered_and_card_and_box_mark_each_other(
    open_page: Callable[..., Page], portrait: NDArray[np.uint8]
) -> None:
    page = open_page()
    upload(page, ("two.jpg", jpeg(np.concatenate([portrait, portrait[:, ::-1]], axis=1))))
    boxes, cards = page.locator("#overlay rect.box"), page.locator("#faces li")
    playwright.expect(boxes).to_have_count(2, timeout=PATIENCE)
    names = page.locator("#overlay text.word").all_text_contents()
    assert [name.split()[0] for name in names] == ["1", "2"]
    assert "face 2" in cards.nth(1).inner_text()
    cards.nth(1).hover()
    playwright.expect(boxes.nth(1)).to_have_class(re.compile("marked"))
    playwright.expect(boxes.nth(0)).not_to_have_class(re.compile("marked"))
    boxes.nth(0).hover()
    playwright.expect(cards.nth(0)).to_have_class(re.compile("marked"))


def test_many_faces_keep_save_in_reach(
    open_page: Callable[..., Page], portrait: NDArray[np.uint8]
) -> None:
    page = open_page(viewport={"width": 1280, "height": 800})
    small = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    upload(page, ("many.jpg", jpeg(np.tile(small, (3, 4, 1)))))
    playwright.expect(page.locator("#faces li")).to_have_count(12, timeout=PATIENCE)
    save = page.locator("#save-json").bounding_box()
    assert save is not None
    assert save["y"] < 1.5 * 800


def test_the_empty_stage_opens_the_chooser(open_page: Callable[..., Page]) -> None:
    page = open_page()
    with page.expect_file_chooser() as chosen:
        page.get_by_text("Drop photos here").click()
    assert chosen.value.is_multiple()


def test_the_page_works_under_a_prefix(
    open_page: Callable[..., Page], shipped_model: Path, portrait: NDArray[np.uint8]
) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    settings = Settings(port=0, workers=1)
    inner = create_app(settings, model=shipped_model)
    outer = Starlette(routes=[Mount("/faces", inner)])
    with serving_app(outer, settings) as running:
        page = open_page("faces/", running=running)
        upload(page, ("photo.jpg", jpeg(portrait)))
        assert drawn_box(page).width > 50
        page.locator("#camera").click()
        playwright.expect(page.locator("body")).to_have_attribute("data-camera", "on")
        assert drawn_box(page).width > 50


def test_labels_of_many_faces_on_a_phone_cover_no_other_face(
    open_page: Callable[..., Page], portrait: NDArray[np.uint8]
) -> None:
    page = open_page(viewport={"width": 390, "height": 844})
    face = cv2.resize(portrait[20:300, 110:330], (110, 140), interpolation=cv2.INTER_AREA)
    upload(page, ("many.jpg", jpeg(np.tile(face, (3, 6, 1)))))
    playwright.expect(page.locator("#faces li")).to_have_count(18, timeout=PATIENCE)
    read = "all => all.map(r => ['x', 'y', 'width', 'height'].map(k => +r.getAttribute(k)))"
    boxes = page.locator("#overlay rect.box").evaluate_all(read)
    labels = page.locator("#overlay g rect").evaluate_all(read)
    assert len(boxes) == len(labels) == 18
    for i, (x, y, w, h) in enumerate(labels):
        for a, b, c, d in labels[:i] + boxes[:i] + boxes[i + 1 :]:
            assert not (x < a + c and a < x + w and y < b + d and b < y + h), i
