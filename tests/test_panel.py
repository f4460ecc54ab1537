"""The photo panel: its conditions, its halves, its figures, and the verb."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.cli import main
from mien.emotions import Emotion, Label
from mien.errors import DataError
from mien.evaluate.metrics import wilson
from mien.panel import CONDITIONS, Answer, load_sets, read_class_folders, run_panel, write_panel
from mien.panel.sets import PanelPhoto, PanelSet, held_out_subject

HAPPY, SAD = Emotion.HAPPY, Emotion.SAD
BY_NAME = {c.name: c for c in CONDITIONS}


def square(side: int = 60) -> NDArray[np.uint8]:
    """A white square left of the middle of a grey image, its place known."""
    image = np.full((200, 300, 3), 90, np.uint8)
    image[70 : 70 + side, 50 : 50 + side] = 250
    return image


def test_where_the_face_is_follows_every_turn_and_size() -> None:
    place = (80.0, 100.0, 60.0)
    for name in ("turned 30°", "turned 90°", "turned 180°", "32 pixels", "128 pixels"):
        image, (x, y, side) = BY_NAME[name].change(square(), place, "key")
        bright = np.argwhere(image[:, :, 0] > 200)
        middle = bright.mean(axis=0)
        assert abs(middle[1] - x) < 0.05 * side, name
        assert abs(middle[0] - y) < 0.05 * side, name
        assert image.dtype == np.uint8


def test_every_condition_changes_the_photo_but_clean_and_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 255, (120, 100, 3)).astype(np.uint8)
    for condition in CONDITIONS:
        one, _ = condition.change(photo.copy(), (50.0, 60.0, 40.0), "a")
        again, _ = condition.change(photo.copy(), (50.0, 60.0, 40.0), "a")
        assert np.array_equal(one, again)
        same = one.shape == photo.shape and np.array_equal(one, photo)
        assert same == (condition.name == "clean")


def photos(labels: list[Emotion]) -> list[PanelPhoto]:
    return [
        PanelPhoto(str(k), label, f"person {k}", square, {"gender": "one" if k % 2 else "two"})
        for k, label in enumerate(labels)
    ]


@pytest.mark.parametrize("said", [(HAPPY, SAD), ("happy", "sad")], ids=["own", "strings"])
def test_figures_are_those_of_the_answers(said: tuple[Label, Label]) -> None:
    given = photos([HAPPY] * 6 + [SAD] * 4)
    left = iter(range(10))

    def ask(image: NDArray[np.uint8], crop: bool) -> list[Answer]:
        """Five happy photos right, one not found; the four sad ones wrong, one of them unsure."""
        assert crop
        k = next(left)
        if k == 5:
            return []
        sure = 0.9 if k < 5 else 0.7
        return [Answer(80, 100, dict(zip(said, (sure, 1 - sure), strict=True)), k in (0, 9))]

    report = run_panel(
        ask, [PanelSet("drawn", given, crops=True)], half="all", conditions=["clean"]
    )
    cell = report.cell("drawn")
    assert cell is not None
    assert (cell.n, cell.found, cell.accuracy) == (10, 0.9, 0.5)
    assert cell.named == pytest.approx(5 / 9)
    assert cell.macro_recall == pytest.approx((5 / 6 + 0) / 2)
    assert cell.misleading == pytest.approx(3 / 4)
    assert cell.right_unsure == pytest.approx(1 / 5)
    assert {(g.group, g.label, g.n) for g in report.groups} == {
        ("one", "happy", 3),
        ("two", "happy", 3),
        ("one", "sad", 2),
        ("two", "sad", 2),
    }
    assert sum(g.right for g in report.groups) == 5


def test_a_box_elsewhere_is_no_found_face(portrait: NDArray[np.uint8]) -> None:
    photo = PanelPhoto("astronaut", HAPPY, "astronaut", lambda: portrait)

    def corner(image: NDArray[np.uint8], crop: bool) -> list[Answer]:
        return [Answer(10.0, 500.0, {HAPPY: 1.0})]

    report = run_panel(corner, [PanelSet("one", [photo])], half="all", conditions=["clean"])
    assert report.cells[0].found == 0
    assert report.cells[0].accuracy == 0


def test_halves_divide_people_and_nothing_is_in_both() -> None:
    whole = PanelSet("drawn", photos([HAPPY] * 40))
    one, other = whole.of_half("development").photos, whole.of_half("test").photos
    assert len(one) + len(other) == 40
    assert one
    assert other
    assert {p.person for p in one}.isdisjoint(p.person for p in other)
    with pytest.raises(DataError, match="Unknown half"):
        whole.of_half("both")
    assert 20 < sum(held_out_subject(f"S{k:03d}") for k in range(100)) < 47


def test_interval_of_a_share() -> None:
    low, high = wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert wilson(0, 0) == (0.0, 1.0)


def test_own_folders_and_the_verb(
    tmp_path: Path, portrait: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own" / "Happiness").mkdir(parents=True)
    (tmp_path / "own" / "other").mkdir()
    for k in range(3):
        cv2.imwrite(str(tmp_path / "own" / "Happiness" / f"{k}.png"), portrait)
    (tmp_path / "own" / "Happiness" / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "report" / "deep"
    arguments = ["panel", "--photos", str(tmp_path / "own"), "--half", "all", "-o", str(out)]
    code = main([*arguments, "--condition", "clean", "--condition", "64 pixels", "--json"])
    told = capsys.readouterr()
    assert code == 1, told.err
    assert "1 photo could not be read; the first is own/Happiness/bad.png." in told.err
    report: dict[str, Any] = json.loads(told.out)
    assert report["cells"][0]["accuracy"] == 1
    assert json.loads((out / "panel.json").read_text(encoding="utf-8")) == report
    assert "64 pixels" in (out / "panel.md").read_text(encoding="utf-8")
    assert "<svg" in (out / "panel.html").read_text(encoding="utf-8")
    for bad in (["--half", "x"], ["--condition", "turned"], ["--photos", str(tmp_path)]):
        assert main(["panel", "--photos", str(tmp_path / "own"), *bad]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(DataError, match="named by expression"):
        read_class_folders(tmp_path / "none")


def test_folders_whose_names_are_no_expressions_are_named(
    tmp_path: Path, portrait: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("happy", "suprise", "qqq", ".thumbs"):
        (tmp_path / "own" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "own" / name / "a.png"), portrait)
    (tmp_path / "own" / "texts").mkdir()
    arguments = ["panel", "--photos", str(tmp_path / "own"), "--half", "all", "--json"]
    assert main([*arguments, "--condition", "clean"]) == 0
    told = capsys.readouterr()
    left = "left out, named by no expression: qqq, suprise (did you mean 'surprise'?)"
    assert told.err == f"own: own photos; {left}\n"
    assert json.loads(told.out)["remarks"] == {"own": f"own photos; {left}"}


def test_folders_of_one_name_and_photos_that_cannot_be_read(
    tmp_path: Path, portrait: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["panel", "--half", "all", "--condition", "clean"]
    for name in ("alice", "bob"):
        folder = tmp_path / name / "people"
        (folder / "happy").mkdir(parents=True)
        cv2.imwrite(str(folder / "happy" / "a.png"), portrait)
        (folder / "happy" / "notes.txt").write_text("no photo")
        arguments += ["--photos", str(folder)]
    assert main([*arguments, "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [cell["set"] for cell in cells] == [f"{tmp_path}/{n}/people" for n in ("alice", "bob")]
    assert main([*arguments, "--photos", str(tmp_path / "bob" / "people")]) == 2
    assert "2 sets of the panel are called" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("a file")
    for name in ("alice", "bob"):
        (tmp_path / name / "people" / "happy" / "a.png").write_bytes(b"no photo")
    assert main([*arguments, "-o", str(file)]) == 2  # before all is scored
    assert "it is a file" in capsys.readouterr().err
    assert main(arguments) == 2
    assert "No photo could be read; the first is" in capsys.readouterr().err


@pytest.mark.data
def test_the_panels_sets_are_read(data_dir: Path, tmp_path: Path) -> None:
    sets = {s.name: s for s in load_sets(data_dir)}
    assert set(sets) == {"London", "CK+", "muxspace", "PublicTest, pasted"}
    assert len(sets["London"].photos) == 204
    assert all(p.label is not Emotion.CONTEMPT for s in sets.values() for p in s.photos)
    assert sets["London"].photos[0].image().shape == (640, 640, 3)
    half = {(re.sub(r"_\d+(#\d+)?$", "", p.id), p.half) for p in sets["muxspace"].photos}
    assert len(half) == len({person for person, _ in half}) > 90, "nobody is in both halves"
    smiles = [p for p in sets["London"].photos if p.label is HAPPY]
    ages = Counter(p.tags["age"] for p in smiles)
    assert ages == {"18 to 22": 23, "23 to 28": 40, "29 to 54": 37, "unknown": 2}
    small = [s.first(2) for s in sets.values()]

    def blind(image: NDArray[np.uint8], crop: bool) -> list[Answer]:
        height, width = image.shape[:2]
        return [Answer(width / 2, height / 2, {HAPPY: 1.0})]

    report = run_panel(blind, small, conditions=["clean", "turned 180°"])
    assert all(c.condition == "clean" for c in report.cells if c.set == "CK+")
    assert write_panel(report, tmp_path)["panel.html"].stat().st_size > 1000
