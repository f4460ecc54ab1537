"""Training: recipes, ``fit`` and checkpoints. Names are resolved lazily; torch loads on use."""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "Recipe": "mien.train.recipe",
    "override": "mien.train.recipe",
    "RECIPES": "mien.train.recipes",
    "get_recipe": "mien.train.recipes",
    "FitResult": "mien.train.fit",
    "fit": "mien.train.fit",
    "TorchClassifier": "mien.train.checkpoint",
    "load_checkpoint": "mien.train.checkpoint",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'mien.train' has no attribute {name!r}")
    return getattr(importlib.import_module(_NAMES[name]), name)
