"""Bah & Xue 2022, an adapted residual network: six convolutional and three residual blocks.

Table 1 of the paper: 9,773,111 parameters, 9,766,391 of them trainable. In the convolutional blocks
batch normalisation follows the activation, in the residual blocks it precedes it (§2.1.4).
Convolutions start He-normal (§2), the dense layer Glorot-uniform. Dropout is .3, and .4 in the
last convolutional block (§2.1.6). "Basic" is the paper's first phase: the same network without the
residual blocks.
"""

from __future__ import annotations

import torch
from torch import nn

from mien.models.blocks import (
    Add,
    GlobalAveragePooling2D,
    batch_norm,
    conv2d,
    dense,
    dropout,
    relu,
)
from mien.models.registry import register_model

# (kernel, filters, max-pool, dropout, followed by a residual block)
_BLOCKS = (
    (5, 16, False, 0.3, False),
    (3, 32, True, 0.3, True),
    (3, 64, True, 0.3, False),
    (3, 128, True, 0.3, True),
    (3, 256, True, 0.3, False),
    (3, 512, True, 0.4, True),
)


class ResidualBlock(nn.Module):
    """Conv 3×3, BN, ReLU, Conv 3×3, BN, plus the block's input, ReLU; same width and size."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.conv1 = conv2d(filters, filters, he_normal=True)
        self.norm1 = batch_norm(filters)
        self.relu1 = relu()
        self.conv2 = conv2d(filters, filters, he_normal=True)
        self.norm2 = batch_norm(filters)
        self.add = Add()
        self.relu2 = relu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        out: torch.Tensor = self.relu2(self.add(y, x))
        return out


def _conv_block(inputs: int, filters: int, kernel: int, pool: bool, rate: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, filters):
        layers += [
            conv2d(width, filters, kernel, he_normal=True),
            relu(),
            batch_norm(filters),
        ]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, dropout(rate))


def _network(num_classes: int, residual: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = 1
    for kernel, filters, pool, rate, with_residual in _BLOCKS:
        layers.append(_conv_block(width, filters, kernel, pool, rate))
        width = filters
        if residual and with_residual:
            layers.append(ResidualBlock(filters))
    return nn.Sequential(*layers, GlobalAveragePooling2D(), dense(width, num_classes))


@register_model(
    "bah_resnet",
    paper="Bah & Xue 2022",
    description="six convolutional blocks with three residual blocks between them",
)
def bah_resnet(num_classes: int = 7) -> nn.Module:
    """Float32 (N, 1, 48, 48) -> logits (N, num_classes); the softmax belongs to the loss.

    The last residual block works on 1×1 maps: in training mode a batch needs two images.
    """
    return _network(num_classes, residual=True)


@register_model(
    "bah_basic",
    paper="Bah & Xue 2022",
    description="the same network without its residual blocks",
)
def bah_basic(num_classes: int = 7) -> nn.Module:
    """Float32 (N, 1, 48, 48) -> logits (N, num_classes); the softmax belongs to the loss."""
    return _network(num_classes, residual=False)
