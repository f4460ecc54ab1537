"""Export of checkpoints to ONNX. Names are resolved lazily; torch and onnx load on use."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["ExportResult", "default_licence", "export_onnx", "fit_temperature", "record_scores"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mien.export' has no attribute {name!r}")
    return getattr(importlib.import_module("mien.export.onnx"), name)
