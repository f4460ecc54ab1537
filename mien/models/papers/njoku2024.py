"""Njoku et al. 2024, "Conv.ReLU features extraction and ANN classification".

Table 2 of the paper: four convolutions and two dense layers, 2,489,095 parameters. Only the first
convolution is padded. The paper names dropout rates of .1 and .2 without places: .1 is read as the
convolutional part's, .2 as the one before the classifier.
"""

from __future__ import annotations

from torch import nn

from mien.models.blocks import conv2d, dense, dropout, relu
from mien.models.fast import Sequential
from mien.models.registry import register_model


@register_model(
    "njoku_cnn",
    paper="Njoku et al. 2024",
    description="four plain convolutions, unpadded after the first, and two dense layers",
)
def njoku_cnn(num_classes: int = 7) -> nn.Module:
    """Float32 (N, 1, 48, 48) -> logits (N, num_classes); the softmax belongs to the loss."""
    layers: list[nn.Module] = [conv2d(1, 32), relu()]
    for inputs, filters in ((32, 64), (64, 128), (128, 256)):
        layers += [
            conv2d(inputs, filters, padding="valid"),
            relu(),
            nn.MaxPool2d(2),
            dropout(0.1),
        ]
    return Sequential(
        *layers,
        nn.Flatten(),
        dense(256 * 4 * 4, 512),
        relu(),
        dropout(0.2),
        dense(512, num_classes),
    )
