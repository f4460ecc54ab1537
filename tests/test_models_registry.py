from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
import torch
from torch import nn

from mien import models
from mien.errors import ModelError
from mien.models import (
    count_multiply_adds,
    count_parameters,
    create_model,
    layer_table,
    list_models,
    registry,
    split_parameters,
)

PAPER_ORDER = [
    "debnath_convnet",
    "njoku_cnn",
    "bah_resnet",
    "bah_basic",
    "mondal_shallow",
    "mondal_dropout",
    "mondal_deep",
]


def test_the_papers_come_first_and_names_are_unique() -> None:
    names = [spec.name for spec in list_models()]
    assert names[:7] == PAPER_ORDER
    assert len(set(names)) == len(names)


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'bah_resnet'"):
        create_model("bah_resent")
    with pytest.raises(ModelError, match="mien models"):
        create_model("zzz")


def test_options_are_checked() -> None:
    with pytest.raises(ModelError, match="no option 'depth'; its options: num_classes"):
        create_model("njoku_cnn", depth=3)
    for bad in (0, 1, -7, True, 7.0, "7"):
        with pytest.raises(ModelError, match="at least two classes"):
            create_model("njoku_cnn", num_classes=bad)  # type: ignore[arg-type]


def test_register_refuses_a_taken_name_but_not_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    list_models()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    def tiny(num_classes: int = 3) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes))

    register = models.register_model(
        "tiny", paper="none", input=(1, 2, 2), classes=3, description=""
    )
    assert register(tiny) is tiny
    register(tiny)
    with pytest.raises(ModelError, match="Two models are called 'tiny'"):
        register(lambda num_classes: nn.Identity())
    assert list_models()[-1].name == "tiny"
    assert create_model("tiny")(torch.zeros(2, 1, 2, 2)).shape == (2, 3)
    assert create_model("tiny", num_classes=9)(torch.zeros(2, 1, 2, 2)).shape == (2, 9)


@pytest.mark.parametrize("spec", list_models(), ids=lambda spec: spec.name)
def test_every_registered_model_keeps_the_contract(spec: models.ModelSpec) -> None:
    if spec.extra and importlib.util.find_spec("timm") is None:
        pytest.skip(f"the [{spec.extra}] extra is not installed")
    with torch.device("meta"):
        module = spec.create(num_classes=6)
        assert module.training
        assert module(torch.zeros(3, *spec.input)).shape == (3, 6)
    table = layer_table(module, spec.input)
    assert sum(row.parameters for row in table) == count_parameters(module)
    assert count_multiply_adds(module, spec.input) > 0


class _Network(nn.Module):
    """Grouped, strided, padded, unbiased and repeated layers, and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, (3, 5), stride=2, padding=1, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.square = nn.Conv2d(6, 6, 1)
        self.fc = nn.Linear(6, 4)
        self.fc.weight.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.square(self.square(self.norm(self.conv(x))))
        return self.fc(x.mean((2, 3))) * self.scale


def test_parameters_by_the_keras_count() -> None:
    split = split_parameters(_Network())
    conv, norm, square, bias, scale = 6 * 1 * 3 * 5, 2 * 6, 6 * 6 + 6, 4, 4
    assert split.trainable == conv + norm + square + bias + scale
    assert split.non_trainable == 2 * 6 + 6 * 4
    assert split.total == count_parameters(_Network()) == split.trainable + split.non_trainable


def test_multiply_adds_are_exact() -> None:
    # Input 2×9×11 -> conv: height (9+2-3)//2+1 = 5, width (11+2-5)//2+1 = 5.
    conv = 6 * 5 * 5 * (2 // 2) * 3 * 5
    square = 2 * 6 * 5 * 5 * 6
    assert count_multiply_adds(_Network(), (2, 9, 11)) == conv + square + 6 * 4


def test_known_multiply_adds_of_a_paper_model() -> None:
    # mondal_shallow by hand: outputs × kernel × input channels.
    conv = 46**2 * 32 * 9 + 44**2 * 64 * 9 * 32 + 20**2 * 128 * 9 * 64 + 8**2 * 128 * 9 * 128
    wanted = conv + 2048 * 1024 + 1024 * 7
    assert count_multiply_adds(create_model("mondal_shallow"), (1, 48, 48)) == wanted


def test_layer_table_of_repeated_and_bare_parameters() -> None:
    table = layer_table(_Network(), (2, 9, 11))
    assert [(r.name, r.type, r.output_shape) for r in table] == [
        ("conv", "Conv2D", (5, 5, 6)),
        ("norm", "BatchNormalization", (5, 5, 6)),
        ("square", "Conv2D", (5, 5, 6)),
        ("square", "Conv2D", (5, 5, 6)),
        ("fc", "Dense", (4,)),
        ("", "_Network", (4,)),
    ]
    assert [r.parameters for r in table] == [90, 24, 42, 0, 28, 4]


def test_measuring_leaves_the_network_as_it_was() -> None:
    network = _Network()
    network.train()
    network.norm.eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    count_multiply_adds(network, (2, 9, 11))
    layer_table(network, (2, 9, 11))
    assert network.training
    assert not network.norm.training
    assert all(not m._forward_hooks for m in network.modules())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    with pytest.raises(RuntimeError):
        layer_table(network, (3, 9, 11))
    assert network.training
    assert all(not m._forward_hooks for m in network.modules())


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, mien.models; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = models.nonsense
