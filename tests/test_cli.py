"""The dispatcher: help, version, unknown verbs, exit codes."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time

import pytest

import mien
from mien.cli import VERBS, main


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
    assert all(f"  {name}" in text and verb.help in text for name, verb in VERBS.items())
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_there_and_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert importlib.import_module(VERBS[verb].module).app is not None
    assert main([verb, "--help"]) == 0
    assert f"mien {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_no_help_holds_markup(verb: str) -> None:
    """rich takes words in square brackets for markup and drops them."""
    import typer.main

    command = typer.main.get_command(importlib.import_module(VERBS[verb].module).app)
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
