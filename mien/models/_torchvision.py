"""torchvision beside a torch that it was not built for.

The registry's torchvision is a CUDA build. Beside a CPU build of torch its compiled operators do
not load, and importing it then fails with "operator torchvision::nms does not exist", because it
registers a shape function for an operator that nobody declared. Networks need none of these
operators, so it is enough to declare the two that are asked for: they have no implementation, and
calling one still fails. Nothing is declared where torchvision imports as it is.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import torch

#: What torchvision 0.28 registers shape functions for at import, with its own schemas.
_MISSING = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# torch forgets the declarations when this is collected.
_library: Any = None


def import_torchvision() -> ModuleType:
    """The ``torchvision`` package, imported so that it works beside any build of torch.

    timm imports torchvision too: call this first.

    Raises:
        ImportError: it is not installed.
        RuntimeError: it fails for another reason than its missing operators.
    """
    global _library
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _library is not None or "torchvision::nms does not exist" not in str(error):
            raise
    _library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _MISSING:
        _library.define(schema)
    # The failed import left its first submodules behind.
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    return importlib.import_module("torchvision")
