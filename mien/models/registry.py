"""The registry of network architectures: one decorator, one function to build, one to list.

The registry itself needs no torch. The modules that register architectures do; they are imported
on first use, so that ``import mien.models`` stays cheap.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from mien.errors import ModelError, nearest, require_extra

if TYPE_CHECKING:
    from torch import nn

Builder = Callable[..., "nn.Module"]

# Modules that register architectures when they are imported, in the order of `list_models`.
_PROVIDERS = (
    "mien.models.papers.debnath2021",
    "mien.models.papers.njoku2024",
    "mien.models.papers.bah2022",
    "mien.models.papers.mondal2022",
    "mien.models.transfer",
    "mien.models.flagship",
)

_REGISTRY: dict[str, ModelSpec] = {}


@dataclass(frozen=True)
class Measured:
    """Size and cost with the default classes.

    Attributes:
        parameters: Keras count (see `mien.models.summary`).
        trainable: those of them that training changes by gradients.
        multiply_adds: MACs of convolutions and dense layers, for one image.
    """

    parameters: int
    trainable: int
    multiply_adds: int


@dataclass(frozen=True)
class LayerRow:
    """One row of a Keras-like summary.

    Attributes:
        name: the module's path in the network, e.g. "features.conv1".
        type: the layer's Keras name where it has one ("Conv2D", "Dense"), else the torch class.
        output_shape: shape of one output without the batch, in the papers' order: (H, W, C) for
            maps, (features,) for vectors.
        parameters: Keras count of the module's own parameters; 0 where a module is called again.
        settings: what shapes its output, for people: "3×3, padding 1", "rate 0.25"; "" if nothing.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    settings: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """One architecture.

    Attributes:
        name: the name on the command line and in recipes.
        paper: where it comes from, "Author et al. year" or "mien".
        input: (channels, height, width) of one image; the network takes float32
            (N, channels, height, width).
        classes: number of outputs by default.
        description: one line.
        builder: called with ``num_classes=…`` and the options of `create_model`; returns a module
            whose output is logits, float32 (N, num_classes): the softmax belongs to the loss.
        measured: size and cost where they are known without building; a test holds them.
        extra: the extra of mien that building needs beside "train"; "" = none.
    """

    name: str
    paper: str
    input: tuple[int, int, int]
    classes: int
    description: str
    builder: Builder = field(repr=False)
    measured: Measured | None = None
    extra: str = ""

    def create(self, num_classes: int | None = None, **kwargs: Any) -> nn.Module:
        """Build the network with fresh weights; see `create_model`."""
        classes = self.classes if num_classes is None else num_classes
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
            raise ModelError(f"Model {self.name!r} needs at least two classes, not {classes!r}.")
        known = inspect.signature(self.builder).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            for option in kwargs:
                if option not in known:
                    allowed = ", ".join(known) or "none"
                    raise ModelError(
                        f"Model {self.name!r} has no option {option!r}; its options: {allowed}."
                    )
        try:
            return self.builder(num_classes=classes, **kwargs)
        except (TypeError, ValueError) as error:
            if not kwargs:
                raise
            raise ModelError(f"Model {self.name!r} refuses {kwargs}: {error}.") from None


def register_model(
    name: str,
    *,
    paper: str,
    input: tuple[int, int, int] = (1, 48, 48),
    classes: int = 7,
    description: str,
    measured: Measured | None = None,
    extra: str = "",
) -> Callable[[Builder], Builder]:
    """Decorator that puts a builder (a function or an ``nn.Module`` class) into the registry.

    Raises:
        ModelError: the name is taken by another builder.
    """

    def decorate(builder: Builder) -> Builder:
        taken = _REGISTRY.get(name)
        # Reloading a module registers the same builder again, which is harmless.
        if taken is not None and _origin(taken.builder) != _origin(builder):
            raise ModelError(f"Two models are called {name!r}; rename one.")
        _REGISTRY[name] = ModelSpec(
            name, paper, input, classes, description, builder, measured, extra
        )
        return builder

    return decorate


def get_spec(name: str) -> ModelSpec:
    """The specification of one architecture, or of the network in a model file (``.onnx``).

    Raises:
        ModelError: no such name (the message offers the nearest one).
        MissingExtraError: torch is not installed.
    """
    _load_providers()
    if name.endswith(".onnx"):
        return _of_file(name)
    if name not in _REGISTRY:
        hint = nearest(name, _REGISTRY, "; see `mien models` for the list.")
        raise ModelError(f"Unknown model {name!r}{hint}")
    return _REGISTRY[name]


def _of_file(path: str) -> ModelSpec:
    require_extra("train", ("onnx",), "To train a model file further")
    from mien.classify import Classifier
    from mien.models.from_onnx import OnnxNetwork

    def build(num_classes: int, dropout: float = 0.2) -> nn.Module:
        return OnnxNetwork(path, num_classes, dropout)

    info = Classifier(path, threads=1).info
    size = (info.channels, info.input_size, info.input_size)
    return ModelSpec(path, info.name, size, len(info.labels), info.architecture, build)


def create_model(name: str, num_classes: int | None = None, **kwargs: Any) -> nn.Module:
    """Build an architecture by name, with freshly initialised weights (torch's global generator).

    Args:
        name: a name from `list_models`.
        num_classes: number of outputs; the architecture's own number (7) by default.
        **kwargs: options of that architecture's builder.

    Returns:
        A module in training mode: float32 (N, C, H, W) -> logits, float32 (N, num_classes).

    Raises:
        ModelError: unknown name, unknown option, an option's value that is refused, or fewer than
            two classes.
        MissingExtraError: torch is not installed.
    """
    return get_spec(name).create(num_classes, **kwargs)


def list_models() -> tuple[ModelSpec, ...]:
    """All architectures: the papers', then mien's own, then those registered by others.

    Raises:
        MissingExtraError: torch is not installed.
    """
    _load_providers()
    rank = {module: i for i, module in enumerate(_PROVIDERS)}
    return tuple(
        sorted(_REGISTRY.values(), key=lambda s: rank.get(s.builder.__module__, len(rank)))
    )


def _origin(builder: Builder) -> tuple[str, str]:
    return builder.__module__, builder.__qualname__


@cache
def _load_providers() -> None:
    require_extra("train", ("torch",), "A network architecture")
    for module in _PROVIDERS:
        importlib.import_module(module)
