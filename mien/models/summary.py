"""What ``mien models`` prints: every architecture with its size and its cost.

Networks are built on torch's "meta" device: shapes without numbers, so nothing is allocated.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from typing import Any

import torch

from mien.models.counting import LayerRow, count_multiply_adds, layer_table, split_parameters
from mien.models.registry import Measured, ModelSpec, get_spec, list_models
from mien.report.markdown import markdown_table


@dataclass(frozen=True)
class ModelSummary(Measured):
    """One architecture with its size and cost."""

    spec: ModelSpec

    @property
    def megabytes(self) -> float:
        """Size of the parameters as float32, in 10^6 bytes."""
        return round(self.parameters * 4 / 1e6, 2)

    @property
    def size(self) -> str:
        """The input as people write it: "48×48×1"."""
        channels, *sides = self.spec.input
        return "×".join(map(str, (*sides, channels)))

    def to_dict(self) -> dict[str, Any]:
        spec = self.spec
        return {
            "name": spec.name,
            "paper": spec.paper,
            "input": list(spec.input),
            "classes": spec.classes,
            "parameters": self.parameters,
            "trainable": self.trainable,
            "multiply_adds": self.multiply_adds,
            "megabytes": self.megabytes,
            "description": spec.description,
        }


def summarise(spec: ModelSpec) -> ModelSummary:
    """Size and cost of one architecture: known beforehand, else measured."""
    return ModelSummary(**vars(spec.measured or measure(spec)), spec=spec)


def measure(spec: ModelSpec) -> Measured:
    """Build one architecture and measure it.

    Raises:
        MissingExtraError: it needs an extra that is not installed.
    """
    with torch.device("meta"):
        module = spec.create()
    split = split_parameters(module)
    return Measured(split.total, split.trainable, count_multiply_adds(module, spec.input))


def summarise_all() -> tuple[ModelSummary, ...]:
    """Size and cost of every architecture of the registry."""
    return tuple(summarise(spec) for spec in list_models())


def layers_of(name: str) -> tuple[LayerRow, ...]:
    """The layer table of an architecture by name.

    Raises:
        ModelError: unknown name.
    """
    spec = get_spec(name)
    with torch.device("meta"):
        module = spec.create()
    return layer_table(module, spec.input)


def markdown_page() -> str:
    """``docs/models.md``: the table of all architectures, then what every source file says."""
    header = (
        "name",
        "paper",
        "input",
        "parameters",
        "trainable",
        "MACs",
        "MB",
        "what it is",
    )
    rows = [
        [
            f"`{s.spec.name}`",
            s.spec.paper,
            s.size,
            f"{s.parameters:,}",
            f"{s.trainable:,}",
            f"{s.multiply_adds:,}",
            f"{s.megabytes:.1f}",
            s.spec.description.rstrip("."),
        ]
        for s in summarise_all()
    ]
    parts = [_HEAD, markdown_table(header, rows, left=3, words=(7,))]
    for source in dict.fromkeys(spec.builder.__module__ for spec in list_models()):
        title, _, body = (inspect.getdoc(sys.modules[source]) or "").partition("\n")
        if title:
            parts.append(f"## {title.rstrip('.')}\n\n{body.strip()}")
    return "\n\n".join(parts) + "\n"


_HEAD = """# Models

<!-- Generated: mien models --markdown > docs/models.md -->

Parameters are counted as Keras counts them (weights and the running statistics of batch
normalisation). MACs are those of convolutions and dense layers for one image.
MB is 10⁶ bytes of float32. Every network takes float32 (N, C, H, W) and gives logits;
`mien models --layers NAME` prints its layers."""
