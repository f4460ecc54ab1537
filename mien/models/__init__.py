"""Network architectures: a registry, what they weigh and what they cost. Training needs torch.

`list_models` and `create_model` give the architectures; `count_parameters`, `split_parameters`,
`count_multiply_adds` and `layer_table` measure any torch module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mien.models.registry import (
    LayerRow,
    ModelSpec,
    create_model,
    get_spec,
    list_models,
    register_model,
)

if TYPE_CHECKING:
    from mien.models.summary import (
        ParameterSplit,
        count_multiply_adds,
        count_parameters,
        layer_table,
        split_parameters,
    )

__all__ = [
    "LayerRow",
    "ModelSpec",
    "ParameterSplit",
    "count_multiply_adds",
    "count_parameters",
    "create_model",
    "get_spec",
    "layer_table",
    "list_models",
    "register_model",
    "split_parameters",
]


def __getattr__(name: str) -> Any:
    # The counting functions import torch: only when somebody asks for them.
    if name in __all__:
        return getattr(importlib.import_module("mien.models.summary"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
