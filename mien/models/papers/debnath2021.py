"""Debnath et al. 2021, "Four-layer ConvNet to facial emotion recognition".

Four convolutional and two dense blocks, 5,160,199 parameters (Keras count). The filter counts come
from the authors' published code; the paper's section "CNN model overview" gives only the sequence
of blocks, each with batch normalisation, ReLU and dropout.
"""

from __future__ import annotations

from torch import nn

from mien.models.blocks import batch_norm, conv2d, dense, dropout, relu
from mien.models.fast import Sequential
from mien.models.registry import register_model


def _conv_block(inputs: int, filters: int) -> nn.Sequential:
    return Sequential(
        conv2d(inputs, filters),
        batch_norm(filters),
        relu(),
        nn.MaxPool2d(2),
        dropout(0.25),
    )


def _dense_block(inputs: int, units: int) -> nn.Sequential:
    return nn.Sequential(dense(inputs, units), batch_norm(units, maps=False), relu(), dropout(0.25))


@register_model(
    "debnath_convnet",
    paper="Debnath et al. 2021",
    description="four convolutional and two dense blocks with batch normalisation",
)
def debnath_convnet(num_classes: int = 7) -> nn.Module:
    """Float32 (N, 1, 48, 48) -> logits (N, num_classes); the softmax belongs to the loss."""
    return nn.Sequential(
        _conv_block(1, 128),
        _conv_block(128, 256),
        _conv_block(256, 512),
        _conv_block(512, 512),
        nn.Flatten(),
        _dense_block(512 * 3 * 3, 256),
        _dense_block(256, 512),
        dense(512, num_classes),
    )
