"""Mondal 2022, three CNNs: shallow, shallow with dropout, deep.

Figures 6–8 of the paper: 2,345,607 parameters for the first two, 20,552,775 (20,543,559 trainable)
for the deep one. The dropout rates are not in the paper and read as .25 after pooling and .5 in the
dense part; in the deep network ReLU is read as following each batch normalisation.
"""

from __future__ import annotations

from torch import nn

from mien.models.blocks import batch_norm, conv2d, dense, dropout, relu
from mien.models.fast import Sequential
from mien.models.registry import register_model


def _shallow(num_classes: int, regularised: bool) -> Sequential:
    def drop(rate: float) -> list[nn.Module]:
        return [dropout(rate)] if regularised else []

    def conv(inputs: int, filters: int, pool: bool) -> list[nn.Module]:
        pooling: list[nn.Module] = [nn.MaxPool2d(2)] if pool else []
        return [conv2d(inputs, filters, padding="valid"), relu(), *pooling]

    return Sequential(
        *conv(1, 32, pool=False),
        *conv(32, 64, pool=True),
        *drop(0.25),
        *conv(64, 128, pool=True),
        *conv(128, 128, pool=True),
        *drop(0.25),
        nn.Flatten(),
        dense(128 * 4 * 4, 1024),
        relu(),
        *drop(0.5),
        dense(1024, num_classes),
    )


@register_model(
    "mondal_shallow",
    paper="Mondal 2022",
    description="four unpadded convolutions and two dense layers, nothing against overfitting",
)
def mondal_shallow(num_classes: int = 7) -> nn.Module:
    """Float32 (N, 1, 48, 48) -> logits (N, num_classes); the softmax belongs to the loss."""
    return _shallow(num_classes, regularised=False)


@register_model(
    "mondal_dropout",
    paper="Mondal 2022",
    description="the shallow network with three dropout layers (the paper's improved model)",
)
def mondal_dropout(num_classes: int = 7) -> nn.Module:
    """Float32 (N, 1, 48, 48) -> logits (N, num_classes); the softmax belongs to the loss."""
    return _shallow(num_classes, regularised=True)


@register_model(
    "mondal_deep",
    paper="Mondal 2022",
    description="thirteen padded convolutions with batch normalisation, and two dense layers",
)
def mondal_deep(num_classes: int = 7) -> nn.Module:
    """Float32 (N, 1, 48, 48) -> logits (N, num_classes); the softmax belongs to the loss."""
    layers: list[nn.Module] = []
    width = 1
    for kernel, filters, depth in ((3, 64, 2), (5, 128, 3), (3, 512, 4), (3, 512, 4)):
        for _ in range(depth):
            layers += [conv2d(width, filters, kernel), batch_norm(filters), relu()]
            width = filters
        layers += [nn.MaxPool2d(2), dropout(0.25)]
    return Sequential(
        *layers,
        nn.Flatten(),
        dense(512 * 3 * 3, 512),
        relu(),
        dropout(0.5),
        dense(512, num_classes),
    )
