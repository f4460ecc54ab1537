"""The models shipped with the package.

``models.json`` beside this file lists them; every file's SHA-256 is checked before use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mien._system import file_sha256
from mien.errors import ModelError, nearest

#: The model that is used when none is named.
DEFAULT = "mien_photo"

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """One shipped model.

    Attributes:
        name: what to call it.
        file: its file in the package's ``zoo`` folder.
        sha256: of that file.
        description: one line.
    """

    name: str
    file: str
    sha256: str
    description: str = ""


def _read_table() -> Mapping[str, ZooEntry]:
    """``models.json``: {"models": [{"name": …, "file": …, "sha256": …, "description": …}]}."""
    table = json.loads((_FOLDER / "models.json").read_text(encoding="utf-8"))
    entries = [ZooEntry(**entry) for entry in table["models"]]
    return MappingProxyType({entry.name: entry for entry in entries})


#: Every shipped model by name.
MODELS: Mapping[str, ZooEntry] = _read_table()


def model_path(name: str = DEFAULT) -> Path:
    """Path of a shipped model's ONNX file.

    Raises:
        ModelError: unknown name, or the file is missing or not the one that was shipped.
    """
    if name not in MODELS:
        hint = nearest(name, MODELS, "; give a shipped model or an .onnx file.")
        raise ModelError(f"Unknown model {name!r}{hint} Shipped: {', '.join(MODELS) or 'none'}.")
    entry = MODELS[name]
    path = _FOLDER / entry.file
    if not path.is_file():
        raise ModelError(f"The shipped model {path} is missing; reinstall mien.")
    if file_sha256(path) != entry.sha256:
        raise ModelError(f"{path} is not the file that was shipped; reinstall mien.")
    return path
