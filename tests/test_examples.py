"""Every script of examples/ does what its first line says."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "mien" / "assets" / "astronaut.jpg"
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def run(name: str, *arguments: str | Path) -> str:
    """The standard output of one example."""
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def one_photo(folder: Path) -> None:
    assert ": happy 0." in run("one_photo.py", PHOTO, folder / "copy.png")
    assert cv2.imread(str(folder / "copy.png")).shape[2] == 3


def folder_to_csv(folder: Path) -> None:
    (folder / "photos").mkdir()
    shutil.copy(PHOTO, folder / "photos")
    run("folder_to_csv.py", folder / "photos", folder / "faces.csv")
    rows = list(csv.DictReader((folder / "faces.csv").open(encoding="utf-8")))
    assert [row["emotion"] for row in rows] == ["happy"]


def stream(folder: Path) -> None:
    video = folder / "video.avi"
    image = cv2.imread(str(PHOTO))
    size = (image.shape[1], image.shape[0])
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, size)
    for _ in range(3):
        writer.write(image)
    writer.release()
    lines = run("stream.py", video).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("face 1: happy 0.") for line in lines)


def own_detector(folder: Path) -> None:
    assert "happy 0." in run("own_detector.py", PHOTO)


def panel_of_another(folder: Path) -> None:
    (folder / "photos" / "happy").mkdir(parents=True)
    shutil.copy(PHOTO, folder / "photos" / "happy")
    report = run("panel_of_another.py", folder / "photos", "clean", "turned 15°")
    assert "| turned 15° |" in report
    assert "100.0" in report


def own_classes(folder: Path) -> None:
    said = run("own_classes.py", folder).splitlines()
    assert int(said[0].split("%")[0]) >= 70
    assert said[1].startswith("glasses ")
    assert (folder / "mine.onnx").is_file()


TESTS: list[Callable[[Path], None]] = [
    folder_to_csv,
    one_photo,
    own_classes,
    own_detector,
    panel_of_another,
    stream,
]


def test_every_example_is_run() -> None:
    assert [f"{test.__name__}.py" for test in TESTS] == EXAMPLES


@pytest.mark.parametrize("test", TESTS, ids=lambda test: str(test.__name__))
def test_example(test: Callable[[Path], None], tmp_path: Path) -> None:
    test(tmp_path)
