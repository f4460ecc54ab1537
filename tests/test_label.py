"""``mien label``: what is answered is in the table, whatever happens; and the page by keyboard."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra [web] is not installed")

from helpers_web import TOKEN, Running, eventually, serving_app

from mien.cli import main
from mien.data.own import list_photos
from mien.errors import DataError, MienError, OutputError
from mien.pipeline import Analyzer
from mien.results import Box
from mien.web.label import COLUMNS, Labelling, create_label_app
from mien.web.settings import Settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NAMES = ("<script>alert(1)</script>", "=1+1", "😀", "ж" * 300, "عربي", "a,b\n'c")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve crops, each another face to the model."""
    folder = tmp_path / "people"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(12):
        face = cv2.resize(rng.integers(0, 255, (6, 6)).astype(np.uint8), (48, 48))
        cv2.imwrite(str(folder / f"{k:02d}.png"), face)
    return folder


@contextmanager
def labelling(
    photos: Path, table: Path, model: Path, classes: tuple[str, ...] = ("calm", "happy")
) -> Iterator[tuple[Labelling, Running]]:
    work = Labelling(photos, table, classes)
    work.look(Analyzer(model, turns=False), faces=True)
    settings = Settings(port=0, token=TOKEN)
    with serving_app(create_label_app(work, settings, "a model"), settings) as running:
        yield work, running


def client(running: Running, token: str = TOKEN) -> httpx.Client:
    return running.client(headers={"authorization": f"Bearer {token}"})


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_answers_are_written_and_gone_on_with(
    photos: Path, tmp_path: Path, shipped_model: Path
) -> None:
    table = tmp_path / "people.csv"
    with labelling(photos, table, shipped_model) as (work, running), client(running) as ask:
        state = ask.get("/v1/label").json()
        assert (state["photos"], state["waiting"], state["labelled"]) == (12, 12, 0)
        doubts = []
        for name in NAMES:
            face = state["face"]
            doubts.append(work.faces[face["number"]].doubt)
            image = ask.get(f"/v1/label/{face['number']}")
            assert image.headers["content-type"] == "image/jpeg"
            assert image.content[:2] == b"\xff\xd8"
            answer = {"face": face["number"], "label": name}
            state = ask.post("/v1/label", json=answer).json()
            assert len(rows(table)) == state["labelled"]
            again = ask.post("/v1/label", json=answer).json()  # its answer was lost on the way
            assert again["labelled"] == state["labelled"]
        assert doubts == sorted(doubts, reverse=True)
        assert state["face"]["guess"] in ("happy", None)
        state = ask.post("/v1/label", json={"face": state["face"]["number"], "label": ""}).json()
        assert (state["labelled"], state["skipped"], state["waiting"]) == (6, 1, 5)
        skipped = rows(table)[-1]["path"]
        state = ask.post("/v1/label", json={"undo": True}).json()
        assert (state["skipped"], state["face"]["photo"]) == (0, skipped)
        ask.post("/v1/label", json={"face": state["face"]["number"], "label": "calm"})
    listing = list_photos(table)
    assert [photo.label for photo in listing.photos[:5]] == list(NAMES[:5])
    assert listing.photos[5].label == r"a,b\x0a'c"
    assert listing.left_out == ()
    assert all(photo.box for photo in listing.photos)
    with labelling(photos, table, shipped_model, ()) as (work, running), client(running) as ask:
        state = ask.get("/v1/label").json()
        assert (state["labelled"], state["waiting"]) == (7, 5)
        assert {found["name"] for found in state["classes"]} == {p.label for p in listing.photos}
        state = ask.post("/v1/label", json={"undo": True}).json()  # of the run before
        assert (state["labelled"], state["face"]["photo"]) == (6, skipped)


def test_rows_without_a_label_do_not_stop_finetune(tmp_path: Path, photos: Path) -> None:
    lines = [f"people/{k:02d}.png,{'ab'[k % 2] if k < 10 else ''}" for k in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *lines]))
    out = str(tmp_path / "m.onnx")
    command = ["finetune", str(tmp_path / "t.csv"), "--faces", "--out", out, "--method", "linear"]
    assert main(command) == 0


def test_the_door_and_what_is_refused(photos: Path, tmp_path: Path, shipped_model: Path) -> None:
    table = tmp_path / "t.csv"
    with labelling(photos, table, shipped_model) as (_, running):
        with client(running, "x" * 20) as stranger:
            assert stranger.get("/v1/label").status_code == 401
            assert stranger.get("/v1/label/0").status_code == 401
            assert stranger.post("/v1/label", json={"undo": True}).status_code == 401
            assert stranger.get("/").status_code == 200
        with client(running) as ask:
            assert ask.get("/v1/label", headers={"host": "evil.example"}).status_code == 421
            assert ask.get("/v1/label", headers={"origin": "http://e.example"}).status_code == 403
            assert "default-src 'none'" in ask.get("/").headers["content-security-policy"]
            for bad in ("", "[", "[]", '{"face": true, "label": "x"}', '{"face": 0}', "[" * 9999):
                assert ask.post("/v1/label", content=bad).status_code == 422, bad
            for answer in ({"face": 99, "label": "x"}, {"face": 0, "label": "x" * 1001}):
                assert ask.post("/v1/label", json=answer).status_code == 422
            found = ask.post("/v1/label", json={"undo": True})
            assert (found.status_code, "no answer" in found.json()["detail"]) == (422, True)
            assert ask.get("/v1/label/99").status_code == 422
            assert ask.get("/v1/nothing").status_code == 404
            assert not table.exists()
            table.mkdir()  # nothing can be written there
            found = ask.post("/v1/label", json={"face": 0, "label": "x"})
            assert found.status_code == 507
            assert ask.get("/v1/label").json()["labelled"] == 0


def test_other_tables_are_not_overwritten_and_their_columns_are_kept(
    photos: Path, tmp_path: Path, shipped_model: Path
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("name,age\nx,3\n")
    with pytest.raises(DataError, match="another table"):
        Labelling(photos, table)
    table.write_text(
        "path,label,box_x,box_y,box_width,box_height,group\nelsewhere.jpg,calm,1,2,3,4,anna\n"
    )
    with labelling(photos, table, shipped_model) as (work, _):
        work.answer(0, "happy")
    found = rows(table)
    assert (found[0]["path"], found[0]["group"]) == ("elsewhere.jpg", "anna")
    assert (found[1]["label"], found[1]["group"]) == ("happy", "")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MienError, match="empty"):
        Labelling(tmp_path / "empty", tmp_path / "u.csv")


def test_a_table_in_a_linked_folder_and_photos_under_another_name(
    photos: Path, tmp_path: Path, shipped_model: Path
) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "real" / "deep")
    (tmp_path / "link").symlink_to(photos)
    table = tmp_path / "out" / "t.csv"
    with labelling(photos, table, shipped_model) as (work, _):
        work.answer(0, "happy")
    (row,) = list_photos_of(table)
    assert row.source.samefile(work.faces[0].path)
    with labelling(tmp_path / "link", table, shipped_model) as (work, _):
        assert [face.number for face in work.faces if face.row is not None] == [0]


def test_tables_that_spreadsheets_and_names_make_odd(
    photos: Path, tmp_path: Path, shipped_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = photos / "t.csv"
    columns = ",".join(COLUMNS)
    table.write_text(f"{columns},note,note\n")
    with pytest.raises(DataError, match=r"t\.csv has two columns 'note'"):
        Labelling(photos, table)
    table.write_text(f"{columns}\nx.png,Ärger,1,2,3,4\n", encoding="cp1252")
    with pytest.raises(DataError, match=r"t\.csv is not UTF-8; save it anew"):
        Labelling(photos, table)
    table.write_text(f"{columns.title()},Age\nx.png,calm,1,2,3,4,30\n")
    kept = Labelling(photos, table)
    assert (kept.columns, kept.rows[0]["label"]) == ((*COLUMNS, "Age"), "calm")
    line = f"{columns}\nx.png,calm,'-0.31,2,3,4\n"
    table.write_text(line.replace(",", ";"))  # as European spreadsheets save it
    (photos / "00.png").rename(photos / " c.png")
    with labelling(photos, table, shipped_model) as (work, _):
        assert work.rows[0]["box_x"] == "-0.31"
        work.faces[1].box = Box(-0.5, -2, 48, 48)
        for face in work.faces[:2]:
            work.answer(face.number, "calm")
    found = {row["path"]: row for row in rows(table)}
    assert found["x.png"]["box_x"] == "-0.31"  # no text to a spreadsheet
    assert found[work.faces[1].path.name]["box_x"] == "-0.5"
    assert list_photos_of(table)[0].source == photos / " c.png"
    assert main(["label", "/"]) == 2
    assert "--out" in capsys.readouterr().err


def test_another_programs_change_is_not_overwritten(
    photos: Path, tmp_path: Path, shipped_model: Path
) -> None:
    table = tmp_path / "t.csv"
    with labelling(photos, table, shipped_model) as (work, _):
        work.answer(0, "calm")
        table.write_text(table.read_text().replace("calm", "angry"))
        with pytest.raises(OutputError, match="was changed by another program"):
            work.answer(1, "happy")
    assert [row["label"] for row in rows(table)] == ["angry"]


def test_undo_keeps_columns_and_two_pages_do_not_override_each_other(
    photos: Path, tmp_path: Path, shipped_model: Path
) -> None:
    table = tmp_path / "t.csv"
    with labelling(photos, table, shipped_model) as (work, _):
        work.answer(0, "calm")
    text = table.read_text().splitlines()
    table.write_text(f"{text[0]},group\n{text[1]},anna\n")
    with labelling(photos, table, shipped_model) as (work, _):
        work.undo()
        work.answer(0, "happy")
        work.answer(0, "happy")
        with pytest.raises(DataError, match="called 'happy' meanwhile"):
            work.answer(0, "calm")
    assert [(row["label"], row["group"]) for row in rows(table)] == [("happy", "anna")]
    with labelling(photos, table, shipped_model) as (work, _):
        work.faces[0].path.unlink()
    with labelling(photos, table, shipped_model) as (work, _):
        assert not work.state()["undo"]
        with pytest.raises(DataError, match="has no such face here"):
            work.undo()


def test_the_face_on_the_page_stays_until_it_is_answered(
    photos: Path, tmp_path: Path, shipped_model: Path
) -> None:
    work = Labelling(photos, tmp_path / "t.csv", ("calm", "happy"))
    seen = set()
    for result in Analyzer(shipped_model, turns=False).analyze_many(work.paths, faces=True):
        work._add(result)
        seen.add(work.state()["face"]["number"])
    assert seen == {0}  # though later ones are less sure
    work.answer(5, "calm")  # on another page
    assert work.state()["face"]["number"] == 0
    work.answer(0, "happy")
    left = [face for face in work.faces if face.row is None]
    assert work.state()["face"]["number"] == max(left, key=lambda f: f.doubt).number


@contextmanager
def started(photos: Path, model: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The verb itself, in a process of its own."""
    command = [sys.executable, "-m", "mien", "label", str(photos), "--faces", "--no-browser"]
    command += ["--classes", "a,b", "--model", str(model)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = ""
        while "#token=" not in said:
            assert process.poll() is None, said
            said += process.stderr.readline()
        found = re.search(r"(http://\S+)#token=(\S+)", said)
        assert found is not None
        headers = {"authorization": f"Bearer {found[2]}"}
        with httpx.Client(base_url=found[1], trust_env=False, headers=headers) as ask:
            assert eventually(lambda: ask.get("/v1/label").json()["done"], 60)
            yield process, ask
    finally:
        process.kill()
        process.wait()


def test_a_kill_loses_no_answer(photos: Path, shipped_model: Path) -> None:
    table, given = photos.with_name("people.csv"), 0
    for _ in range(2):
        with started(photos, shipped_model) as (process, ask):
            state = ask.get("/v1/label").json()
            assert state["labelled"] == given
            for _ in range(3):
                answer = {"face": state["face"]["number"], "label": "a"}
                state = ask.post("/v1/label", json=answer).json()
                given += 1
            os.kill(process.pid, signal.SIGKILL)
        assert len(list_photos_of(table)) == given


def list_photos_of(table: Path) -> list[Any]:
    from mien.data.own import list_table

    return list(list_table(table).photos)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make browser` installs it")
@pytest.mark.timeout(240)
def test_the_page_by_keyboard(photos: Path, tmp_path: Path, shipped_model: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    table = tmp_path / "people.csv"
    with (
        labelling(photos, table, shipped_model, (NAMES[0], *NAMES[2:4])) as (work, running),
        sync_api.sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.set_default_timeout(60_000)
        complaints: list[str] = []
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("dialog", lambda d: complaints.append(d.message))

        def counts(text: str) -> None:
            sync_api.expect(page.locator("#counts")).to_have_text(re.compile(text), timeout=60_000)
            page.wait_for_selector("#stage[aria-busy=false]")

        page.goto(f"{running.url}#token={TOKEN}")
        counts("0 labelled, 12 to go")
        assert page.locator("#classes .name").all_inner_texts()[0] == NAMES[0]
        page.keyboard.press("1")
        counts("1 labelled, 11 to go")
        page.keyboard.press("3")
        counts("2 labelled, 10 to go")
        page.keyboard.press("/")
        page.keyboard.type("new 1")  # digits in a name are no answers
        page.keyboard.press("Enter")
        counts("3 labelled, 9 to go")
        page.keyboard.press("Space")
        counts("3 labelled, 1 skipped, 8 to go")
        page.keyboard.press("Backspace")
        counts("3 labelled, 9 to go")
        page.reload()
        counts("3 labelled, 9 to go")
        work.classes += list(work.faces[0].probabilities)
        page.reload()
        guess = page.locator("#guess .name")
        sync_api.expect(guess).not_to_have_text("", timeout=60_000)
        counts("3 labelled, 9 to go")
        # A face that cannot be shown is given no class.
        shown = Path(page.locator("#photo").inner_text()).name
        (photos / shown).rename(photos / "away.txt")
        page.reload()
        sync_api.expect(page.locator("#trouble")).to_be_visible(timeout=60_000)
        page.keyboard.press("1")
        page.wait_for_timeout(1500)
        assert page.locator("#face").is_hidden()
        assert len(rows(table)) == 3
        (photos / "away.txt").rename(photos / shown)
        sync_api.expect(page.locator("#face")).to_be_visible(timeout=60_000)
        complaints.clear()  # the answer 422 stands in the console
        said = guess.inner_text()
        page.keyboard.press("Enter")
        counts("4 labelled, 8 to go")
        assert [row["label"] for row in rows(table)] == [NAMES[0], NAMES[3], "new 1", said]
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        browser.close()
    assert complaints == []
