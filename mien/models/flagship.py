"""mien's own networks: small residual nets for 48×48 grey faces, made for int8 inference.

The design follows what costs time on a CPU: full resolution only in a thin stem, few residual
blocks a stage (He et al. 2016), widths in multiples of 16 so that vector units stay full, pooling
instead of strided convolutions (whose gradients run at a third of the speed), ReLU only (int8
friendly), batch norm folded at export, global average pooling instead of dense layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mien.models.fast import Conv2d, Dropout
from mien.models.registry import register_model


def _conv_bn(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """conv-bn-relu-conv-bn plus the input, then ReLU; (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv_bn(channels, channels)
        self.second = _conv_bn(channels, channels)
        # Starting as the identity trains more stably at large learning rates (Goyal et al. 2017).
        nn.init.zeros_(self.second[1].weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class CompactResNet(nn.Module):
    """A stem at full resolution, then stages that each halve the side and add residual blocks.

    Args:
        num_classes: outputs.
        stem: channels of the 3×3 stem.
        widths: channels of the stages; every stage starts with 2×2 max pooling and a 3×3
            convolution.
        blocks: residual blocks of every stage.
        dropout: before the classifier.

    ``forward`` maps float (N, 1, 48, 48) to logits (N, num_classes); ``forward_features`` gives the
    pooled features (N, num_features) that auxiliary heads read.
    """

    def __init__(
        self,
        num_classes: int = 7,
        stem: int = 16,
        widths: Sequence[int] = (48, 96, 192),
        blocks: Sequence[int] = (1, 1, 2),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_bn(1, stem), nn.ReLU()]
        channels = stem
        for width, count in zip(widths, blocks, strict=True):
            layers += [nn.MaxPool2d(2), _conv_bn(channels, width), nn.ReLU()]
            layers += [ResidualBlock(width) for _ in range(count)]
            channels = width
        self.body = nn.Sequential(*layers)
        self.num_features = channels
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, x: Tensor) -> Tensor:
        return self.body(x).mean(dim=(2, 3))

    def forward_head(self, features: Tensor) -> Tensor:
        return self.head(self.dropout(features))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@register_model(
    "mien_small",
    paper="mien",
    input=(1, 48, 48),
    classes=7,
    description="Residual net for int8 on a CPU; the shipped default.",
)
def mien_small(num_classes: int = 7, dropout: float = 0.3) -> CompactResNet:
    """1.8 M parameters, 112 M multiply-adds, 12 convolutions."""
    return CompactResNet(num_classes, dropout=dropout)
