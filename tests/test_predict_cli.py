"""``mien predict`` and ``mien demo`` from end to end, in process and as a program."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers_onnx import make_onnx
from numpy.typing import NDArray
from PIL import Image
from rich.cells import cell_len
from rich.console import Console

import mien
from mien import covered
from mien.cli import main
from mien.cli._table import print_results
from mien.draw import color_of
from mien.emotions import Emotion
from mien.errors import ModelError
from mien.pipeline import Analyzer
from mien.results import Result


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture
def photos(tmp_path: Path, portrait: NDArray[np.uint8]) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    cv2.imwrite(str(folder / "a.jpg"), portrait)
    cv2.imwrite(str(folder / "empty.png"), portrait[300:])
    cv2.imwrite(str(folder / "sub" / "a.jpg"), portrait)
    (folder / "notes.txt").write_text("no picture")
    return folder


def lines(text: str) -> list[Result]:
    return [Result.from_dict(json.loads(line)) for line in text.splitlines()]


def test_json_for_a_folder(photos: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(photos), "--model", model, "--json"]) == 0
    captured = capsys.readouterr()
    results = lines(captured.out)
    assert [Path(r.source or "").name for r in results] == ["a.jpg", "empty.png", "a.jpg"]
    assert [len(r.faces) for r in results] == [1, 0, 1]
    face = results[0].faces[0]
    assert len(face.probabilities) == 7
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert len(face.landmarks) == 5
    assert face.detection_score is not None
    assert face.detection_score > 0.5
    # The portrait's face lies at about x 180–270, y 65–175.
    assert 190 < face.box.center[0] < 260
    assert 90 < face.box.center[1] < 145
    assert "3 images, 2 faces, 1 file left out." in captured.err


def test_globs_and_no_recursion(
    photos: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(photos / "**" / "*.jpg"), "--model", model, "--json"]) == 0
    assert len(lines(capsys.readouterr().out)) == 2
    assert main(["predict", str(photos), "--no-recursive", "--model", model, "--json"]) == 0
    assert len(lines(capsys.readouterr().out)) == 2


def test_the_table(photos: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(photos / "a.jpg"), str(photos / "empty.png")]
    assert main(["predict", *paths, "--model", model, "--top", "7"]) == 0
    text = capsys.readouterr().out
    assert "no face found" in text
    assert "█" in text
    for name in ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"):
        assert text.count(name) == 1


def test_a_bad_file_is_named_and_skipped(
    photos: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = photos / "bad.jpg"
    bad.write_bytes(b"")
    paths = [str(bad), str(photos / "a.jpg"), str(photos / "gone.jpg")]
    assert main(["predict", *paths, "--model", model, "--json"]) == 1
    captured = capsys.readouterr()
    assert len(lines(captured.out)) == 1
    assert f"error: {bad} is empty" in captured.err
    assert "gone.jpg does not exist" in captured.err
    assert main(["predict", str(bad), "--model", model]) == 2
    assert capsys.readouterr().out == ""


def test_whole_images_as_faces(
    photos: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for option in (["--faces"], ["--detector", "none"]):
        path = str(photos / "empty.png")
        assert main(["predict", path, "--model", model, "--json", *option]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    (result,) = lines(outputs[0])
    assert result.detector == "none"
    assert result.faces[0].box.width == 512


def test_min_confidence_leaves_faces_out(
    photos: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(photos / "a.jpg")
    assert main(["predict", path, "--model", model, "--json", "--min-confidence", "1"]) == 0
    assert lines(capsys.readouterr().out)[0].faces == ()


def test_csv_and_annotated_copies(
    photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table, painted = tmp_path / "faces.csv", tmp_path / "painted"
    arguments = ["--model", model, "--csv", str(table), "--annotate", str(painted)]
    assert main(["predict", str(photos), *arguments]) == 0
    capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    assert [row["faces"] for row in rows] == ["1", "0", "1"]
    names = sorted(p.relative_to(painted).as_posix() for p in painted.rglob("*.*"))
    assert names == ["a-mien.jpg", "empty-mien.png", "sub/a-mien.jpg"]
    before, after = cv2.imread(str(photos / "a.jpg")), cv2.imread(str(painted / "a-mien.jpg"))
    assert before is not None
    assert after is not None
    assert after.shape == before.shape
    assert (np.abs(after.astype(int) - before) > 60).any()


def test_annotated_copies_are_not_analysed_again(
    photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    painted = photos / "painted"
    arguments = ["predict", str(photos), "--model", model, "--annotate", str(painted)]
    for _ in range(2):
        assert main(arguments) == 0
        assert "3 images" in capsys.readouterr().err
    assert len(list(painted.rglob("*.*"))) == 3
    assert main(["predict", str(painted), *arguments[2:]]) == 2
    assert "Nothing is left but annotated copies" in capsys.readouterr().err


def test_annotated_copies_may_lie_among_the_photos(
    photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    arguments = ["--model", model, "--annotate", str(photos), "--csv", str(table)]
    for _ in range(2):
        assert main(["predict", str(photos), *arguments]) == 0
        assert len(table.read_text().splitlines()) == 4
    assert "left out: 3 annotated copies of an earlier call" in capsys.readouterr().err


def test_a_glob_of_folders_alone_is_an_error(
    photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("older\n")
    assert main(["predict", str(photos / "s*"), "--model", model, "--csv", str(table)]) == 2
    assert "No file matches" in capsys.readouterr().err
    assert table.read_text() == "older\n"


def test_a_call_that_reads_nothing_leaves_older_files(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "faces.csv"
    table.write_text("an older table\n")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    for name in ("bad.jpg", "gone.jpg"):
        arguments = ["predict", str(tmp_path / name), "--model", model, "--csv", str(table)]
        assert main(arguments) == 2
        assert "error:" in capsys.readouterr().err
    assert table.read_text() == "an older table\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.jpg", "faces.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detector", "yunt"], "did you mean 'yunet'"),
        (["--min-face", "3"], "min_face is 3"),
        (["--min-confidence", "2"], "min_confidence is 2"),
        (["--model", "gone.onnx"], "gone.onnx"),
        (["--csv", "a.xlsx"], "would hold csv, not .xlsx"),
        (["--csv", "a.jpg"], "would hold csv, not .jpg"),  # it may be the photo
    ],
)
def test_bad_options(
    photos: Path,
    model: str,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = arguments if "--model" in arguments else ["--model", model, *arguments]
    assert main(["predict", str(photos / "a.jpg"), *given]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_folder_names_what_it_leaves_out(
    photos: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / ".hidden.jpg").write_bytes(b"x")
    (photos / "raw.CR2").write_bytes(b"x")
    (photos / "film.mp4").write_bytes(b"x")
    (photos / "linked").symlink_to(photos / "sub")
    (photos / "loop").symlink_to(photos)
    (photos / "broken").symlink_to(photos / "gone")
    assert main(["predict", str(photos), "--model", model, "--json"]) == 1
    captured = capsys.readouterr()
    names = [str(Path(r.source or "").relative_to(photos)) for r in lines(captured.out)]
    assert names == ["a.jpg", "empty.png", "linked/a.jpg"]
    for line in (".hidden.jpg (hidden)", "raw.CR2 (CR2 is not read)", "film.mp4 (a video, for"):
        assert line in captured.err
    assert "3 images, 2 faces, 5 files left out." in captured.err
    assert main(["predict", str(photos), "--model", model, "--json", "-q"]) == 1
    quiet = capsys.readouterr().err
    assert quiet.count("\n") == 2, quiet


def test_a_working_folder_that_is_gone(
    photos: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "gone").mkdir()
    monkeypatch.chdir(photos / "gone")
    (photos / "gone").rmdir()
    arguments = ["predict", str(photos / "a.jpg"), "--model", model]
    assert main([*arguments, "--csv", str(photos / "a.csv")]) == 0
    capsys.readouterr()
    assert main([*arguments, "--csv", "a.csv"]) == 2
    assert "The working folder is gone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("https://example.org/a.jpg?size=9&x=[1]", "is an address, and mien fetches none; pipe"),
        ("film.MP4", "film.MP4 is a video; analyse it with: mien video"),
        ("file:///a.jpg", "give the file's path"),
        ("rtsp://camera/1", "mien live --camera rtsp://camera/1"),
        ("data:image/png;base64,AAAA", "Data URLs are for Python"),
        ("", "An empty name"),
        ("x" * 5000, "too long"),
    ],
)
def test_what_is_no_image_says_what_to_do(
    name: str, sentence: str, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "film.MP4").write_bytes(b"x")
    path = str(tmp_path / name) if name == "film.MP4" else name
    assert main(["predict", path, "--model", model]) == 2
    captured = capsys.readouterr().err
    assert sentence in captured
    assert captured.count("\n") == 1


def test_output_goes_by_its_ending(
    photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(photos / "a.jpg")
    for name in ("t.csv", "t.jsonl", "copies"):
        assert main(["predict", photo, "--model", model, "-o", str(tmp_path / name), "-q"]) == 0
        assert capsys.readouterr().out == ""
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").startswith("source,")
    assert len(lines((tmp_path / "t.jsonl").read_text(encoding="utf-8"))) == 1
    assert (tmp_path / "copies" / "a-mien.jpg").is_file()
    assert main(["predict", photo, "--model", model, "-o", str(tmp_path / "t.xlsx")]) == 2
    assert "ends in none of .csv" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_a_table_never_replaces_an_image_or_another_table(
    tmp_path: Path,
    jpeg: bytes,
    model: str,
    options: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo, link, table = tmp_path / "IMG", tmp_path / "link.csv", str(tmp_path / "t.out")
    photo.write_bytes(jpeg)
    link.symlink_to(photo)
    words = ["predict", str(photo), "--model", model, *options]
    for kind, target in (("--csv", photo), ("--parquet", photo), ("--csv", link), ("-o", link)):
        assert main([*words, kind, str(target)]) == 2
        assert f"{target} is an image to be read" in capsys.readouterr().err
    for target in ("-", os.devnull):
        assert main([*words, "--parquet", target]) == 2
        assert f"Parquet cannot go to {target}" in capsys.readouterr().err
    assert main([*words, "--csv", table, "--parquet", table]) == 2
    assert "--csv and --parquet name the same file" in capsys.readouterr().err
    assert photo.read_bytes() == jpeg
    assert sorted(path.name for path in tmp_path.iterdir()) == ["IMG", "link.csv"]
    link.unlink()
    words = ["predict", str(tmp_path / "*"), "--model", model, *options]
    assert main([*words, "--csv", str(tmp_path / "faces.csv")]) == 0
    assert main([*words, "--csv", str(tmp_path / "faces.csv")]) == 1  # by now of the glob itself


def test_an_animation_says_which_frame_was_read(
    tmp_path: Path, model: str, portrait: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.fromarray(a[..., ::-1]) for a in (portrait * 0, portrait * 0 + 90, portrait)]
    for name in ("a.gif", "b.webp", "c.png", "d.tif"):
        path = tmp_path / name
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
        options = ["--model", model, "--annotate", str(tmp_path / "copies")]
        assert main(["predict", str(path), *options, "--json"]) == 0
        captured = capsys.readouterr()
        (result,) = lines(captured.out)
        assert (result.frame, len(result.faces)) == (2, 1)
        assert f"{name} has several frames: number 2, from 0, was read" in captured.err
    annotated = cv2.imread(str(tmp_path / "copies" / "d-mien.png"))
    assert annotated is not None
    assert annotated.mean() > 20


def test_an_animation_without_a_face_says_that_it_was_searched(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert main(["predict", str(tmp_path / "a.gif"), "--model", model]) == 0
    assert "the first ones were searched, and none shows a face" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_folder_leaves_out_what_can_never_be_read(
    photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(photos / "pipe.jpg")
    (photos / "self.jpg").symlink_to("self.jpg")
    copies = ["-o", str(tmp_path / "copies")]
    assert main(["predict", str(photos), "--model", model, *copies]) == 1
    error = capsys.readouterr().err
    assert "pipe.jpg (no regular file)" in error
    assert "self.jpg cannot be read" in error
    assert "3 images, 2 faces, 1 could not be read, 2 files left out" in error


def test_workers_give_the_same(
    photos: Path,
    model: str,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (photos / "bad.jpg").write_bytes(b"no picture")
    outputs, copies = [], tmp_path_factory.mktemp("copies")
    for more in ([], ["--annotate", str(copies / "o")]):
        for workers in ("1", "3"):
            words = ["predict", str(photos), "--model", model, "--json", "--workers", workers]
            assert main([*words, *more]) == 1
            outputs.append(capsys.readouterr())
        assert outputs[-1] == outputs[-2]
    assert outputs[0].out == outputs[2].out
    assert len([*copies.rglob("*.*")]) == 3


def test_missing_folders_of_tables_are_made(photos: Path, tmp_path: Path, model: str) -> None:
    table = tmp_path / "new" / "deep" / "t.csv"
    assert main(["predict", str(photos / "a.jpg"), "--model", model, "--csv", str(table)]) == 0
    assert table.read_text(encoding="utf-8").startswith("source,")


def test_a_spreadsheet_is_refused(
    photos: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.xlsx"
    assert main(["predict", str(photos / "a.jpg"), "--model", model, "--csv", str(table)]) == 2
    captured = capsys.readouterr().err
    assert ".xlsx" in captured
    assert captured.count("\n") == 1
    assert not table.exists()


@pytest.mark.parametrize("width", [20, 30, 40, 60, 72, 80, 110, 200])
def test_the_table_fits(width: int, photos: Path, model: str) -> None:
    name = photos / f"{'long-' * 30}name.jpg"
    name.write_bytes((photos / "a.jpg").read_bytes())
    results = [Analyzer(model).analyze(path) for path in (name, photos / "empty.png")]
    page = io.StringIO()
    print_results(results, Console(file=page, width=width, force_terminal=True, no_color=True))
    text = re.sub(r"\x1b\[[0-9;]*m", "", page.getvalue())
    assert max(map(cell_len, text.splitlines())) <= width
    assert "%" in text
    pipe = io.StringIO()
    print_results(results, Console(file=pipe, width=width))
    assert str(name) in pipe.getvalue()


def program(*arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "mien", *arguments]
    return subprocess.run(command, check=False, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


def test_standard_input(photos: Path, model: str) -> None:
    image = (photos / "a.jpg").read_bytes()
    done = program("predict", "-", "--model", model, "--json", input=image, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    (result,) = lines(done.stdout.decode())
    assert result.source == "standard input"
    assert len(result.faces) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_standard_output_on_a_full_disk(photos: Path, model: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = program("predict", str(photos / "a.jpg"), "--model", model, "--json", stdout=full)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "error: Cannot write to standard output: the disk is full; free some space and run it "
        "again.\n"
    )


@pytest.mark.parametrize("words", ["", "--json", "--json --csv t.csv", "--help"])
def test_a_reader_that_goes_away(
    words: str, photos: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read, write = os.pipe()
    os.close(read)
    command = ["predict", str(photos / "a.jpg"), "--model", model, *words.split()]
    with os.fdopen(write, "wb") as pipe:
        done = program(*command, stdout=pipe)
    assert done.returncode == 141
    assert done.stderr == b""
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_demo_with_the_shipped_model(
    shipped_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "demo.png"
    assert main(["demo", "--output", str(output)]) == 0
    text, said = capsys.readouterr()
    assert said == f"wrote {output}\n"
    assert text.index("happy") < text.index("angry"), "she smiles"
    drawn = cv2.imread(str(output))
    photo = cv2.imread(str(Path(mien.__file__).parent / "assets" / "astronaut.jpg"))
    assert drawn is not None
    assert drawn.shape == photo.shape == (512, 512, 3)
    box = (drawn == color_of(Emotion.HAPPY)).all(axis=2)
    assert box.sum() > 1000, "box, label and bar"
    assert (photo == color_of(Emotion.HAPPY)).all(axis=2).sum() < 10
    assert (drawn == photo).all(axis=2).mean() > 0.6, "the photo behind them is the bundled one"


def test_demo_refuses_an_unknown_format(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--model", model, "--output", str(tmp_path / "demo.gif")]) == 2
    assert "name it .png or .jpg" in capsys.readouterr().err


@pytest.fixture(params=["covered.onnx is missing", "covered.onnx is damaged", "YuNet is missing"])
def broken_installation(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A file that mien brings is not there, or not whole; what the sentence names."""
    if request.param == "YuNet is missing":
        monkeypatch.setattr("mien.detect.network.MODEL_FILE", "gone.onnx")
        return "gone.onnx"
    (tmp_path / "mien" / "assets").mkdir(parents=True)
    if request.param == "covered.onnx is damaged":
        (tmp_path / "mien" / "assets" / "covered.onnx").write_bytes(b"no network")
    monkeypatch.setattr(covered.resources, "files", lambda package: tmp_path / package)
    monkeypatch.setattr(covered, "_network", cache(covered._network.__wrapped__))
    return "covered.onnx"


@pytest.mark.parametrize("more", [[], ["--annotate", "copies"], ["--workers", "2"], ["--quiet"]])
def test_a_broken_installation_is_said_once(
    more: list[str],
    photos: Path,
    model: str,
    broken_installation: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It was reported for each photo anew, as one that cannot be read."""
    monkeypatch.chdir(photos.parent)
    assert main(["predict", str(photos), "--model", model, *more]) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    assert broken_installation in error
    assert "could not be read" not in error


def test_a_model_error_is_no_photos(photos: Path, model: str) -> None:
    class Broken:
        name = "broken"

        def detect(self, image: NDArray[np.uint8]) -> tuple[()]:
            raise ModelError("The detector is broken.")

    told: list[str] = []
    analyzer = Analyzer(model, Broken())
    with pytest.raises(ModelError, match="The detector is broken"):
        list(analyzer.analyze_many([photos / "a.jpg"], on_error=lambda name, _: told.append(name)))
    assert told == []
