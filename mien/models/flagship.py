"""mien's own networks: small residual nets for 48×48 grey faces, made for int8 inference.

The design follows what costs time on a CPU: full resolution only in a thin stem, few residual
blocks a stage (He et al. 2016), widths in multiples of 16 so that vector units stay full, pooling
instead of strided convolutions (whose gradients run at a third of the speed), ReLU only (int8
friendly), batch norm folded at export, global average pooling instead of dense layers.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mien.errors import ModelError
from mien.models.blocks import RepConv, ResidualBlock, WhitenedStem, conv_bn
from mien.models.fast import Dropout
from mien.models.registry import register_model

BLOCKS = ("residual", "rep")

#: Variance under which ``standardise`` no longer enlarges contrast: .02 of the pixels' deviation.
_EVEN = 4e-4


class CompactResNet(nn.Module):
    """A stem at full resolution, then stages that each halve the side and add blocks.

    Args:
        num_classes: outputs.
        stem: channels of the 3×3 stem.
        widths: channels of the stages; every stage starts with 2×2 max pooling and a 3×3
            convolution.
        blocks: blocks of every stage.
        dropout: before the classifier.
        block: "residual", or "rep" (RepVGG; every convolution after the stem, one a block).
        se: reduction of a squeeze-and-excitation gate in every residual block; 0 = none.
        drop_path: stochastic depth of the last residual block; the earlier ones have less.
        whiten: the stem is a fixed whitening of 3×3 patches (18 channels; ``stem`` is not read).
        standardise: every face gets mean 0 and deviation 1 first, whatever its light.

    ``forward`` maps float (N, 1, H, W), 48×48 in deployment and 8×8 at least, to logits
    (N, num_classes); ``forward_features`` gives the pooled features (N, num_features) that
    auxiliary heads read.

    Raises:
        ModelError: an option is out of range.
    """

    def __init__(
        self,
        num_classes: int = 7,
        stem: int = 16,
        widths: Sequence[int] = (48, 96, 192),
        blocks: Sequence[int] = (1, 1, 2),
        dropout: float = 0.3,
        block: str = "residual",
        se: int = 0,
        drop_path: float = 0.0,
        whiten: bool = False,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        _check(widths, blocks, block, drop_path)
        if block == "rep" and (se or drop_path):
            raise ModelError("block=rep has no se and no drop_path; set both to 0.")
        first = WhitenedStem() if whiten else conv_bn(1, stem)
        layers: list[nn.Module] = [first, nn.ReLU()]
        channels = WhitenedStem.OUTPUTS if whiten else stem
        make = RepConv if block == "rep" else conv_bn
        done, total = 0, sum(blocks)
        for width, count in zip(widths, blocks, strict=True):
            layers += [nn.MaxPool2d(2), make(channels, width), nn.ReLU()]
            for _ in range(count):
                done += 1
                if block == "rep":
                    layers += [RepConv(width, width), nn.ReLU()]
                else:
                    layers.append(ResidualBlock(width, se, drop_path * done / total))
            channels = width
        self.body = nn.Sequential(*layers)
        self.num_features = channels
        self.standardise = standardise
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def whiten_(self, images: Tensor) -> None:
        """Fit a whitened stem to training images, float (N, 1, H, W) standardised; else nothing."""
        if isinstance(self.body[0], WhitenedStem):
            self.body[0].whiten_(images)

    def forward_features(self, x: Tensor) -> Tensor:
        if self.standardise:
            with torch.autocast(x.device.type, enabled=False):
                x = x - x.mean(dim=(2, 3), keepdim=True)
                x = x * torch.rsqrt((x * x).mean(dim=(2, 3), keepdim=True) + _EVEN)
            x = x.contiguous(memory_format=torch.channels_last)
        pooled: Tensor = self.body(x).mean(dim=(2, 3))
        return pooled

    def forward_head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def _check(widths: Sequence[int], blocks: Sequence[int], block: str, drop_path: float) -> None:
    if block not in BLOCKS:
        raise ModelError(f"block must be one of {', '.join(BLOCKS)}; not {block!r}.")
    if not widths or len(widths) != len(blocks) or len(widths) > 3:
        raise ModelError(
            f"widths and blocks have {len(widths)} and {len(blocks)} stages; give both the same "
            "number, 1 to 3."
        )
    if not 0 <= drop_path < 1:
        raise ModelError(f"drop_path must be in [0, 1), not {drop_path}.")


def _register(name: str, description: str, **defaults: Any) -> None:
    """A CompactResNet with ``defaults``, which the ``model_args`` of a recipe change."""

    def build(num_classes: int = 7, **options: Any) -> CompactResNet:
        return CompactResNet(num_classes, **{**defaults, **options})

    # The registry refuses options that are not in it.
    build.__signature__ = inspect.signature(CompactResNet)  # type: ignore[attr-defined]
    register_model(name, paper="mien", description=description)(build)


_register("mien_small", "Residual net for int8 on a CPU: the first default.")
_register(
    "mien_distilled",
    "Shipped for the FER2013 benchmark; a student: mien_small with a thinner first stage.",
    widths=(32, 96, 192),
)
_register(
    "mien_base",
    "mien_small a third wider: the single network for accuracy, trainable on a CPU.",
    widths=(64, 128, 256),
)
_register(
    "mien_wide",
    "Wider and deeper, for training on a GPU; still under 12 M parameters.",
    stem=64,
    widths=(128, 256, 448),
    blocks=(2, 2, 1),
    dropout=0.4,
)
_register(
    "mien_fast",
    "The speed run's net: whitened stem, one residual block in each of two stages.",
    widths=(48, 96, 192),
    blocks=(0, 1, 1),
    dropout=0.2,
    whiten=True,
)
