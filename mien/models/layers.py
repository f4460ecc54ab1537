"""Building blocks with the conventions of Keras, in which the papers' systems were written.

Batch normalisation: momentum .99 and epsilon 1e-3, Keras's defaults (torch writes that momentum as
.01). Convolutions and dense layers: Glorot-uniform weights and zero biases. Dropout drops single
activations, also in maps. ``Flatten`` runs over (C, H, W) where Keras has (H, W, C): a permutation
of the next dense layer's inputs, without effect on training.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from mien.models.fast import Conv2d, Dropout

# Standard deviation of a unit normal truncated at two standard deviations (Keras divides by it).
_TRUNCATED_STD = 0.87962566103423978


class Add(nn.Module):
    """Sum of two tensors of one shape; a module so that it has a row in the layer table."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


class GlobalAveragePooling2D(nn.Module):
    """Mean over height and width: (N, C, H, W) -> (N, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


def conv2d(
    inputs: int, filters: int, kernel: int = 3, *, padding: str = "same", he_normal: bool = False
) -> nn.Conv2d:
    """Convolution of stride 1 with bias; ``padding`` is "same" or "valid" as in Keras.

    ``kernel`` must be odd. Weights are Glorot-uniform, or He-normal on request; the bias is zero.
    """
    layer = Conv2d(inputs, filters, kernel, padding=kernel // 2 if padding == "same" else 0)
    if he_normal:
        he_normal_(layer.weight)
    else:
        nn.init.xavier_uniform_(layer.weight)
    _zero_bias(layer)
    return layer


def dense(inputs: int, units: int) -> nn.Linear:
    """Fully connected layer, Glorot-uniform weights, zero bias."""
    layer = nn.Linear(inputs, units)
    nn.init.xavier_uniform_(layer.weight)
    _zero_bias(layer)
    return layer


def batch_norm(channels: int, *, maps: bool = True) -> nn.Module:
    """Batch normalisation of maps (N, C, H, W), or of vectors (N, C) when ``maps`` is False.

    In training mode it needs more than one value a channel, so vectors need batches of two.
    """
    kind = nn.BatchNorm2d if maps else nn.BatchNorm1d
    return kind(channels, eps=1e-3, momentum=0.01)


def dropout(rate: float) -> nn.Dropout:
    """Drop single activations with probability ``rate``, also in maps."""
    return Dropout(rate)


def relu() -> nn.ReLU:
    """ReLU in place: it follows convolutions, sums and batch norm, which do not need its input."""
    return nn.ReLU(inplace=True)


def he_normal_(weight: torch.Tensor) -> torch.Tensor:
    """Keras's ``he_normal``, in place: variance 2 / fan-in, truncated at two standard deviations.

    Source: He et al. 2015, "Delving deep into rectifiers", §2.2; the truncation and the correction
    of the deviation for it are Keras's.
    """
    fan_in = weight[0].numel()
    std = math.sqrt(2 / fan_in) / _TRUNCATED_STD
    return nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std)


def _zero_bias(layer: nn.Conv2d | nn.Linear) -> None:
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
