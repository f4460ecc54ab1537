"""The dispatcher: help, version, unknown verbs, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import mien
from mien import bench
from mien._system import child_environment
from mien.batch import Options
from mien.cli import VERBS, app_of, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mien", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_version_and_help_are_quick_and_light(flag: str) -> None:
    code = (
        "import sys; from mien.cli import main; main([sys.argv[1]]);"
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'typer', 'rich', 'torch'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or None)"
    )
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, flag], capture_output=True, text=True, check=False
        )
        best = min(best, time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    assert best < 0.3
    assert (mien.__version__ if flag == "--version" else "Usage: mien VERB") in done.stdout


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name}" in text and does in text for name, does in VERBS.items())
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_there_and_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"mien {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_no_help_holds_markup(verb: str) -> None:
    """rich takes words in square brackets for markup and drops them."""
    import typer.main

    command = typer.main.get_command(app_of(verb))
    helps = [getattr(p, "help", None) or "" for p in command.params]
    for sub in getattr(command, "commands", {}).values():
        helps += [getattr(p, "help", None) or "" for p in sub.params]
    assert not [text for text in helps if "[" in text]


def test_unknown_verb_gives_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predcit"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: Unknown verb 'predcit'; did you mean 'predict'?\n"
    assert captured.out == ""
    assert main(["qqqq"]) == 2
    assert "known verbs: predict" in capsys.readouterr().err
    assert main(["--qqqq"]) == 2
    assert "Unknown option '--qqqq'" in capsys.readouterr().err


def test_nothing_at_all_prints_help() -> None:
    done = run()
    assert done.returncode == 2
    assert "Verbs:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict"], "Missing argument"),
        (["predict", "a.jpg", "--jsn"], "No such option: --jsn"),
        (["predict", "a.jpg", "--top", "0"], "Invalid value"),
        (["predict", "a.jpg", "--json", "--csv", "-"], "would both print"),
    ],
)
def test_usage_errors_are_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("words", [["predict"], ["video"], ["data"], ["data", "audit"], ["train"]])
def test_h_is_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "-h"]) == 0
    assert f"Usage: mien {' '.join(words)}" in capsys.readouterr().out


def test_the_shell_can_complete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Else typer asks the system for the parent process' name, which may be no shell here.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert main(["--show-completion", "bash"]) == 0
    assert "_MIEN_COMPLETE" in capsys.readouterr().out
    for typed, wanted in (("mien pre", "predict"), ("mien video --no-b", "--no-bars")):
        monkeypatch.setenv("_MIEN_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
        assert main([]) == 0
        assert capsys.readouterr().out.split() == [wanted]


def test_a_defect_is_one_sentence_and_a_traceback_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mien.cli import models

    def broken() -> None:
        raise KeyError("\x1b[31m")

    monkeypatch.setattr(models, "models", broken)
    monkeypatch.delenv("MIEN_DEBUG")
    assert main(["models"]) == 70
    told = capsys.readouterr().err
    assert told.startswith("error: This is a defect of mien (KeyError: ")
    assert "MIEN_DEBUG=1" in told
    assert told.count("\n") == 1
    assert "\x1b" not in told
    monkeypatch.setenv("MIEN_DEBUG", "1")
    assert main(["models"]) == 70
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("MIEN_DEBUG", str(tmp_path / "defect.txt"))
    assert main(["models"]) == 70
    assert "Traceback" not in capsys.readouterr().err
    assert "KeyError" in (tmp_path / "defect.txt").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes them")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(closed: str, tmp_path: Path, jpeg: bytes) -> None:
    """What a library prints does not end up in a file that got a closed stream's number; the exit
    code tells when results had nowhere to go."""
    photo, table = tmp_path / "a.jpg", tmp_path / "t.csv"
    photo.write_bytes(jpeg)
    commands = {f"predict {photo} --quiet --csv {table}": 0, "predict none.jpg": 2}
    printing = ("data splits", f"predict {photo}", f"predict {photo} --json")
    printing += ("--version", "video -h")
    commands |= dict.fromkeys(printing, 2 if ">&-" in closed.split() else 0)
    if "<&-" in closed:
        commands["predict -"] = 2
    for words, code in commands.items():
        done = subprocess.run(
            ["sh", "-c", f"exec {sys.executable} -m mien {words} {closed}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        if code and "2>" not in closed:
            assert done.stderr.startswith("error: ")
            assert done.stderr.count("\n") == 1
    assert len(table.read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_sigterm_cleans_up_and_says_so(tmp_path: Path) -> None:
    """The table that was begun is gone, as after Ctrl-C."""
    pipe = tmp_path / "a.jpg"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "mien", "predict", str(pipe), "--csv", "t.csv"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not list(tmp_path.glob(".mien-*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        assert process.stderr is not None
        assert process.stderr.read() == "error: Terminated.\n"
    assert process.returncode == 143
    assert [p.name for p in tmp_path.iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 110, 200])
def test_the_progress_line_is_one_line(width: int) -> None:
    import io

    from rich.console import Console

    from mien.cli.video import _progress

    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    bar = _progress(console)
    task = bar.add_task("a long name of a video " * 5 + ".mp4", total=216_000, rate="1234 frames/s")
    bar.update(task, completed=123_456)
    (line,) = console.render_lines(bar.get_renderable(), pad=False)
    text = "".join(segment.text for segment in line)
    assert len(text) <= width
    assert "a long" in text
    assert ("123456/216000" in text) == (width >= 40)


def test_a_reader_that_goes_ends_the_help_page_quietly() -> None:
    command = [sys.executable, "-m", "mien", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_the_old_name_of_an_option_still_works(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert main(["ensemble", "--views", "ten"]) == 2
    assert "Name members" in capsys.readouterr().err  # and not "No such option"
    assert main(["ensemble", "--help"]) == 0
    page = capsys.readouterr().out
    assert "--tta" in page
    assert "--views" not in page


def test_files_of_the_working_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path, portrait: NDArray[np.uint8]
) -> None:
    """``random.py`` of the folder a verb ran in came before Python's own in its children."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("torch")
    from mien.train.jobs import share_out

    for name in ("json", "queue", "random", "typing"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", portrait)
    assert mien.batch("a.png", "rows", options=Options(str(model)), workers=1).photos == 1
    assert bench.fresh_process(model, portrait, 1)["cold_start_s"] > 0
    assert share_out(["--version"], 1, device="cpu")
    relaunch = (
        "import sys; from mien.cli._training import relaunch_with_allocator as relaunch;"
        "sys.argv = ['mien', '--version']; relaunch()"
    )
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    done = subprocess.run(
        [sys.executable, "-P", "-c", relaunch], env=child_environment(), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    if sys.platform == "linux":
        assert mien.__version__.encode() in done.stdout
