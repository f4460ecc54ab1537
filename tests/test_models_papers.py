from __future__ import annotations

import math
from functools import cache

import paper_tables
import pytest
import torch
from torch import nn

from mien.models import create_model, get_spec, layer_table, split_parameters

NAMES = tuple(paper_tables.TOTALS)


@cache
def _meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return create_model(name)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_the_layer_table(name: str) -> None:
    module = _meta(name)
    table = layer_table(module, (1, 48, 48))
    wanted = paper_tables.rows(name)
    assert [(r.type, r.output_shape, r.parameters) for r in table] == [w[:3] for w in wanted]
    layers = dict(module.named_modules())
    rates = [getattr(layers[r.name], "p", None) for r in table]
    assert rates == [w[3] for w in wanted]


@pytest.mark.parametrize("name", NAMES)
def test_totals(name: str) -> None:
    split = split_parameters(_meta(name))
    assert (split.total, split.trainable) == paper_tables.TOTALS[name]
    assert sum(row[2] for row in paper_tables.rows(name)) == split.total


def test_bah_non_trainable_is_the_papers() -> None:
    assert split_parameters(_meta("bah_resnet")).non_trainable == 6_720
    assert split_parameters(_meta("mondal_deep")).non_trainable == 9_216


def test_kernels_are_the_papers() -> None:
    def kernels(name: str) -> list[int]:
        convs = [m for m in _meta(name).modules() if isinstance(m, nn.Conv2d)]
        assert all(m.stride == (1, 1) and m.kernel_size[0] == m.kernel_size[1] for m in convs)
        return [m.kernel_size[0] for m in convs]

    assert kernels("bah_resnet") == [5, 5] + [3] * 16
    assert kernels("bah_basic") == [5, 5] + [3] * 10
    assert kernels("mondal_deep") == [3, 3, 5, 5, 5] + [3] * 8
    assert (
        kernels("mondal_shallow") == kernels("njoku_cnn") == kernels("debnath_convnet") == [3] * 4
    )


@pytest.mark.parametrize("name", NAMES)
def test_no_softmax_inside_and_keras_batch_norm(name: str) -> None:
    for module in _meta(name).modules():
        assert not isinstance(module, (nn.Softmax, nn.LogSoftmax))
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert (module.momentum, module.eps) == (0.01, 1e-3)


def _weights(name: str) -> list[tuple[nn.Module, torch.Tensor, int, int]]:
    result = []
    for module in create_model(name).modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert torch.count_nonzero(module.bias) == 0
            weight = module.weight.detach()
            area = weight[0, 0].numel()
            result.append((module, weight, area * weight.shape[1], area * weight.shape[0]))
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
    return result


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("bah")])
def test_weights_start_glorot_uniform(name: str) -> None:
    for _, weight, fan_in, fan_out in _weights(name):
        bound = math.sqrt(6 / (fan_in + fan_out))
        assert weight.abs().max() <= bound
        if weight.numel() > 2_000:
            assert weight.abs().max() > 0.98 * bound
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.06)
            assert abs(weight.mean().item()) < 6 * bound / math.sqrt(3 * weight.numel())


@pytest.mark.parametrize("name", ["bah_resnet", "bah_basic"])
def test_bah_convolutions_start_he_normal_truncated(name: str) -> None:
    for module, weight, fan_in, fan_out in _weights(name):
        if isinstance(module, nn.Linear):
            assert weight.abs().max() <= math.sqrt(6 / (fan_in + fan_out))
            continue
        std = math.sqrt(2 / fan_in)
        limit = 2 * std / 0.87962566103423978
        assert weight.abs().max() <= limit * (1 + 1e-6)
        if weight.numel() > 4_000:
            assert weight.std().item() == pytest.approx(std, rel=0.05)
            # A normal, not a uniform of that deviation, whose values end at 1.73 deviations.
            assert weight.abs().max() > 0.95 * limit
            within = (weight.abs() < std / 0.87962566103423978).float().mean().item()
            assert within == pytest.approx(0.6827 / 0.9545, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_forward_and_backward(name: str) -> None:
    model = create_model(name, num_classes=5)
    images = torch.randn(2, 1, 48, 48)
    logits = model(images)
    assert logits.shape == (2, 5)
    nn.functional.cross_entropy(logits, torch.tensor([0, 3])).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
    # With a batch of two, many units of a narrow layer are dead or saturated: any signal counts.
    silent = [n for n, p in model.named_parameters() if not p.grad.any() and "weight" in n]
    assert silent == []
    model.eval()
    with torch.no_grad():
        first, again = model(images[:1]), model(images[:1])
        assert first.shape == (1, 5)
        assert torch.equal(first, again)
        assert not torch.allclose(first.sum(), torch.tensor(1.0))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("mondal_shallow",)])
def test_dropout_acts_in_training_only(name: str) -> None:
    model = create_model(name)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eval()
    images = torch.randn(1, 1, 48, 48)
    with torch.no_grad():
        assert not torch.equal(model(images), model(images))


def test_residual_block_adds_its_input() -> None:
    block = create_model("bah_resnet")[2].eval()
    nn.init.zeros_(block.norm2.weight)
    x = torch.randn(1, 32, 24, 24)
    assert torch.equal(block(x), torch.relu(x))


@pytest.mark.parametrize("name", NAMES)
def test_spec(name: str) -> None:
    spec = get_spec(name)
    assert (spec.input, spec.classes) == ((1, 48, 48), 7)
    assert spec.paper.endswith(("2021", "2022", "2024"))
