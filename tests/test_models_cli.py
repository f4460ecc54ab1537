from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mien.cli import main
from mien.models import list_models
from mien.models.summary import markdown_page

ROOT = Path(__file__).resolve().parent.parent

# A finder that hides torch, as if it were not installed.
_WITHOUT_TORCH = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "torch" else real(name, *a)
sys.meta_path.insert(0, Hide())
from mien.cli import main
sys.exit(main(sys.argv[1:]))
"""


def _without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _WITHOUT_TORCH, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "name",
        "paper",
        "input",
        "parameters",
        "multiply-adds",
        "MB",
        "fp32",
    ]
    bah = next(line for line in lines if line.startswith("bah_resnet"))
    assert bah.split()[-4:] == ["48×48×1", "9,773,111", "200,875,520", "39.09"]
    listed = [line.split()[0] for line in lines[1 : 1 + len(list_models())]]
    assert listed == [spec.name for spec in list_models()]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    by_name = {r["name"]: r for r in record["architectures"]}
    assert by_name["mondal_deep"]["parameters"] == 20_552_775
    assert by_name["mondal_deep"]["trainable"] == 20_543_559
    assert by_name["mondal_deep"]["megabytes"] == 82.21
    assert by_name["njoku_cnn"]["input"] == [1, 48, 48]
    assert isinstance(record["shipped"], list)


def test_layers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--layers", "njoku_cnn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[1:] == ["Conv2D", "48×48×32", "320"]
    assert lines[-1].split() == ["total", "2,489,095"]
    assert main(["models", "--layers", "njoku_cnn", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["type"] == "Conv2D"
    assert rows[0]["output_shape"] == [48, 48, 32]


def test_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--layers", "njoku"]) == 2
    assert capsys.readouterr().err == "error: Unknown model 'njoku'; did you mean 'njoku_cnn'?\n"


def test_docs_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert printed == markdown_page()
    page = ROOT / "docs" / "models.md"
    assert page.read_text(encoding="utf-8") == printed, (
        "run: mien models --markdown > docs/models.md"
    )
    for spec in list_models():
        assert f"| `{spec.name}` |" in printed


@pytest.mark.parametrize("arguments", [["--layers", "njoku_cnn"], ["--markdown"]])
def test_without_torch_says_what_to_install(arguments: list[str]) -> None:
    done = _without_torch("models", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "error: The network architectures need torch; install it with: pip install 'mien[train]'\n"
    )


def test_without_torch_the_shipped_models_are_listed(shipped_model: Path) -> None:
    done = _without_torch("models")
    assert done.returncode == 0, done.stderr
    assert "mien_small" in done.stdout
    assert "pip install 'mien[train]'" in done.stderr
