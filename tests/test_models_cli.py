from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_onnx import make_onnx

from mien import zoo
from mien.cli import main
from mien.models import list_models
from mien.models.summary import markdown_page, summarise

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
from mien import zoo
from pathlib import Path
if sys.argv[1]:
    zoo._FOLDER = Path(sys.argv[1])
    zoo.MODELS = zoo._read_table()
from mien.cli import main
sys.exit(main(sys.argv[2:]))
"""


def _without_torch(*arguments: str, zoo: Path | str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _WITHOUT_TORCH, str(zoo), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "name",
        "paper",
        "input",
        "parameters",
        "MACs",
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
    assert lines[1].split()[1:] == ["Conv2D", "3×3,", "padding", "1", "48×48×32", "320"]
    assert lines[-1].split() == ["total", "2,489,095"]
    assert main(["models", "--layers", "njoku_cnn", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["type"] == "Conv2D"
    assert rows[0]["output_shape"] == [48, 48, 32]
    kinds = {row["type"]: row["settings"] for row in rows}
    assert kinds["Dropout"] == "rate 0.2"
    assert kinds["MaxPooling2D"] == "2×2"
    assert kinds["Conv2D"] == "3×3"
    assert kinds["Dense"] == ""


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
        "error: The list of architectures needs torch; install it with: pip install 'mien[train]'\n"
    )


@pytest.fixture
def zoo_folder(tmp_path: Path) -> Path:
    """A package folder with two real ONNX models; the second one is not the file that is listed."""
    entries = []
    for name, precision in (("mien_photo", "int8"), ("other", "float32")):
        path = make_onnx(
            tmp_path / f"{name}.onnx",
            precision=precision,
            parameters=2_716_311,
            multiply_adds=102_520_576,
            scores={"PrivateTest": {"accuracy": 0.7123, "n": 3589}},
        )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entries.append({"name": name, "file": path.name, "sha256": digest, "description": "d"})
    (tmp_path / "models.json").write_text(json.dumps({"models": entries}))
    return tmp_path


@pytest.fixture
def zoo_of_two(zoo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(zoo, "_FOLDER", zoo_folder)
    monkeypatch.setattr(zoo, "MODELS", zoo._read_table())
    return zoo_folder


def test_shipped_models(zoo_of_two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    size = f"{(zoo_of_two / 'mien_photo.onnx').stat().st_size / 1e6:.2f}"
    wanted = ["mien_photo", "(default)", "int8", "2,716,311", "102,520,576", size, "71.2", "%"]
    assert lines[-2].split() == wanted
    assert main(["models", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["shipped"][0]
    assert (first["name"], first["default"], first["precision"]) == ("mien_photo", True, "int8")
    assert first["scores"]["PrivateTest"]["n"] == 3589


def test_a_damaged_shipped_model_is_named(
    zoo_of_two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (zoo_of_two / "other.onnx").write_bytes(b"damaged")
    assert main(["models"]) == 1
    captured = capsys.readouterr()
    assert "mien_photo (default)" in captured.out
    assert captured.err.startswith("error: ")
    assert "other.onnx" in captured.err


def test_without_torch_the_shipped_models_are_listed(zoo_folder: Path) -> None:
    done = _without_torch("models", zoo=zoo_folder)
    assert done.returncode == 0, done.stderr
    assert "mien_photo (default)" in done.stdout
    assert "debnath" not in done.stdout
    assert done.stderr.startswith("note: ")
    assert "pip install 'mien[train]'" in done.stderr
    done = _without_torch("models", "--json", zoo=zoo_folder)
    record = json.loads(done.stdout)
    assert record["architectures"] is None
    assert [r["name"] for r in record["shipped"]] == ["mien_photo", "other"]


def test_without_torch_and_without_shipped_models(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text('{"models": []}')
    done = _without_torch("models", zoo=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'mien[train]'" in done.stderr


def test_the_packages_own_models_are_listed(
    shipped_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "--json"]) == 0
    shipped = json.loads(capsys.readouterr().out)["shipped"]
    default = next(record for record in shipped if record["default"])
    assert default["bytes"] == shipped_model.stat().st_size
    architecture = next(spec for spec in list_models() if spec.name == default["architecture"])
    assert default["parameters"] == summarise(architecture).parameters
    assert default["multiply_adds"] == summarise(architecture).multiply_adds
