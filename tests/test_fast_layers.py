"""The fast layers compute what torch's own compute."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers_train import assert_same_with_gradients
from torch import nn

from mien.models.fast import Conv2d, Dropout, Sequential, _SmallMapConv


@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize("channels", [(8, 16), (16, 8)])
def test_small_map_convolution_and_gradients(size: int, channels: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(channels[1], channels[0], 3, 3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, channels[0], size, size, dtype=torch.float64, requires_grad=True)
    ours = _SmallMapConv.apply(x, weight)
    theirs = torch.nn.functional.conv2d(x, weight, padding=1)
    assert_same_with_gradients(ours, theirs, (x, weight))


@pytest.mark.parametrize("size", [1, 3, 12])
def test_convolution_is_torchs_with_its_state(size: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, 3, padding=1)
    layer = Conv2d(4, 6, 3, padding=1)
    layer.load_state_dict(plain.state_dict())
    x = torch.randn(5, 4, size, size)
    torch.testing.assert_close(layer(x), plain(x))


def test_dropout_keeps_the_rate_and_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(64, 32, 24, 24).contiguous(memory_format=torch.channels_last)
    y = Dropout(0.3)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert float((y == 0).float().mean()) == pytest.approx(0.3, abs=0.002)
    assert float(y.mean()) == pytest.approx(1, abs=0.003)
    assert y.unique().numel() == 2
    # neighbours in memory come from one random word: they must not be alike
    kept = (y.permute(0, 2, 3, 1).reshape(-1) != 0).float()
    together = kept[:-1] * kept[1:]
    assert float(together.mean()) == pytest.approx(0.49, abs=0.003)
    assert torch.equal(Dropout(0.3).eval()(x), x)


def test_dropout_repeats_with_the_seed_and_takes_any_length() -> None:
    x = torch.ones(3, 5)
    torch.manual_seed(1)
    first = Dropout(0.5)(x)
    torch.manual_seed(1)
    assert torch.equal(first, Dropout(0.5)(x))


def test_pooling_before_relu_changes_nothing() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    ours = Sequential(*copy.deepcopy(list(plain)))
    x = torch.randn(4, 1, 10, 10)
    a, b = plain(x), ours(x)
    assert torch.equal(a, b)
    a.square().sum().backward()
    b.square().sum().backward()
    for p, q in zip(plain.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
