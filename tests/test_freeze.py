"""An application that PyInstaller froze finds mien's models, pages and verbs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import mien
from mien._pyinstaller import hook_folders

PHOTO = Path(mien.__file__).parent / "assets" / "astronaut.jpg"

APPLICATION = """
import json, sys
import mien
from mien.cli import main
result = mien.predict(sys.argv[1])
print(json.dumps(result.to_dict()))
sys.exit(main(["demo", "--output", sys.argv[2]]))
"""


def test_the_hook_is_found_by_its_entry_point():
    (folder,) = hook_folders()
    assert (Path(folder) / "hook-mien.py").is_file()
    entries = importlib.metadata.entry_points(group="pyinstaller40")
    declared = [entry.load() for entry in entries if entry.value.startswith("mien")]
    assert declared in ([hook_folders], [])  # [] where mien was not installed since


@pytest.mark.skipif(
    importlib.util.find_spec("PyInstaller") is None, reason="PyInstaller is not installed"
)
def test_a_frozen_application_runs(tmp_path, shipped_model):
    (tmp_path / "app.py").write_text(APPLICATION)
    subprocess.run(
        [
            *(sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR"),
            *("--additional-hooks-dir", *hook_folders(), "app.py"),
        ],
        cwd=tmp_path,
        check=True,
        timeout=280,
    )
    done = subprocess.run(
        [tmp_path / "dist" / "app" / "app", PHOTO, "demo.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(tmp_path / "home"), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[0])
    assert record == mien.predict(PHOTO).to_dict() | {"source": str(PHOTO)}
    assert (tmp_path / "demo.png").is_file()
