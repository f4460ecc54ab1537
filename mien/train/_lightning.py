"""lightning, imported so that a torchvision which does not fit this torch cannot stop it.

lightning imports torchmetrics, which imports torchvision where that is installed (the [transfer]
extra), which fails beside a build of torch that it was not made for.
"""

from __future__ import annotations

import importlib.util
from contextlib import suppress

from mien.models._torchvision import import_torchvision

if importlib.util.find_spec("torchvision") is not None:
    with suppress(ImportError, RuntimeError):  # lightning says itself what it cannot do without
        import_torchvision()

import lightning as L
from lightning.fabric.plugins import TorchCheckpointIO

__all__ = ["L", "TorchCheckpointIO"]
