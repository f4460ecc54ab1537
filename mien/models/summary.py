"""What ``mien models`` prints: every architecture with its size and its cost.

Networks are built on torch's "meta" device: shapes without numbers, so nothing is allocated.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mien.models.registry import LayerRow, Measured, ModelSpec, get_spec, list_models
from mien.report.markdown import markdown_table

_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

# torch class -> the name that Keras summaries, and so the papers' tables, use.
_KERAS_TYPES: dict[str, str] = {
    "Linear": "Dense",
    "Conv2d": "Conv2D",
    "BatchNorm1d": "BatchNormalization",
    "BatchNorm2d": "BatchNormalization",
    "MaxPool2d": "MaxPooling2D",
    "AvgPool2d": "AveragePooling2D",
    "ReLU": "Activation",
}


@dataclass(frozen=True)
class ParameterSplit:
    """Number of parameters by the Keras count.

    ``non_trainable`` holds the running statistics of batch normalisation and frozen weights.
    """

    trainable: int
    non_trainable: int

    @property
    def total(self) -> int:
        return self.trainable + self.non_trainable


def split_parameters(module: nn.Module) -> ParameterSplit:
    """Trainable and non-trainable parameters of a module; shared weights count once."""
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in module.parameters() if not p.requires_grad)
    return ParameterSplit(trainable, frozen + sum(_running_stats(m) for m in module.modules()))


def count_parameters(module: nn.Module) -> int:
    """Keras total: all weights and the running mean and variance of batch normalisation."""
    return split_parameters(module).total


def count_multiply_adds(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """MACs of one forward pass on one image: all ``Conv2d`` and ``Linear`` layers, exact.

    One multiply-add is one weight used once (padding counts, biases, normalisation, activation and
    pooling do not), a module called twice counts twice. Convolutions called as functions
    are not seen. Runs the module once in evaluation mode on zeros and leaves it as it was.

    Args:
        module: the network, on any device (also "meta").
        input_shape: (C, H, W) of one image.
    """
    total = 0

    def count(layer: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            height, width = layer.kernel_size
            total += output[0].numel() * (layer.in_channels // layer.groups) * height * width
        elif isinstance(layer, nn.Linear):
            total += output[0].numel() * layer.in_features

    _trace(module, input_shape, lambda m: isinstance(m, (nn.Conv2d, nn.Linear)), count)
    return total


def layer_table(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[LayerRow, ...]:
    """The layers of a network in the order in which they run, as a Keras summary lists them.

    Args:
        module: the network, on any device (also "meta"); it is left as it was.
        input_shape: (C, H, W) of one image.
    """
    names = {m: name for name, m in module.named_modules()}
    seen: set[nn.Module] = set()
    rows: list[LayerRow] = []

    def record(layer: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        shape = tuple(output.shape[1:])
        if len(shape) == 3:
            shape = (*shape[1:], shape[0])
        kind = type(layer).__name__
        parameters = 0 if layer in seen else _own_parameters(layer)
        seen.add(layer)
        keras = _KERAS_TYPES.get(kind, kind)
        rows.append(LayerRow(names[layer], keras, shape, parameters, _settings(layer)))

    def is_layer(layer: nn.Module) -> bool:
        return next(layer.children(), None) is None or _own_parameters(layer) > 0

    _trace(module, input_shape, is_layer, record)
    return tuple(rows)


def _settings(layer: nn.Module) -> str:
    if isinstance(layer, nn.Dropout | nn.Dropout2d):
        return f"rate {layer.p:g}"
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return ""
    said = ["×".join(map(str, _pair(layer.kernel_size)))]
    usual = (1, 1) if isinstance(layer, nn.Conv2d) else layer.kernel_size
    if _pair(layer.stride) != _pair(usual):
        said.append(f"stride {_pair(layer.stride)[0]}")
    if isinstance(layer.padding, str):  # "same", "valid"
        said.append(f"padding {layer.padding}")
    elif any(_pair(layer.padding)):
        said.append(f"padding {_pair(layer.padding)[0]}")
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        said.append(f"{layer.groups} groups")
    return ", ".join(said)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _running_stats(layer: nn.Module) -> int:
    if not isinstance(layer, _BATCH_NORM) or layer.running_mean is None:
        return 0
    return 2 * layer.running_mean.numel()


def _own_parameters(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters(recurse=False)) + _running_stats(layer)


def _trace(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    wanted: Callable[[nn.Module], bool],
    hook: Callable[..., None],
) -> None:
    weight = next(module.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    dtype = torch.float32 if weight is None else weight.dtype
    handles = [m.register_forward_hook(hook) for m in module.modules() if wanted(m)]
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            module(torch.zeros(1, *input_shape, device=device, dtype=dtype))
    finally:
        for m, training in modes:
            m.training = training
        for handle in handles:
            handle.remove()


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
