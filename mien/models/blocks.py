"""Parts of mien's own networks: residual and re-parameterisable blocks, gates, a whitened stem.

Every part maps float (N, C, H, W) to float (N, C', H, W).
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def conv_bn(inputs: int, outputs: int) -> nn.Sequential:
    """A 3×3 convolution and batch norm."""
    return nn.Sequential(Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate that sees the whole map (Hu et al. 2018).

    Args:
        reduction: the gate's hidden layer has ``channels / reduction`` units, 8 at least.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(channels // reduction, 8)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.excite(torch.relu(self.squeeze(x.mean(dim=(2, 3))))).sigmoid()
        return x * gate[:, :, None, None]


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): drops a whole branch for some of the samples."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.rate
        return x * (kept / (1 - self.rate)).to(x.dtype)


class ResidualBlock(nn.Module):
    """conv-bn-relu-conv-bn plus the input, then ReLU; (N, C, H, W) -> (N, C, H, W).

    Args:
        se: reduction of a squeeze-and-excitation gate on the branch; 0 = none.
        drop_path: probability of dropping the branch for a sample in training.
    """

    def __init__(self, channels: int, se: int = 0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.first = conv_bn(channels, channels)
        self.second = conv_bn(channels, channels)
        self.gate = SqueezeExcite(channels, se) if se else nn.Identity()
        self.drop = DropPath(drop_path) if drop_path else nn.Identity()
        # Starting as the identity trains more stably at large learning rates (Goyal et al. 2017).
        norm = self.second[1]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.second(torch.relu(self.first(x)))
        return torch.relu(x + self.drop(self.gate(branch)))


class RepConv(nn.Module):
    """RepVGG's sum of 3×3, 1×1 and identity, each with batch norm (Ding et al. 2021).

    Trains as three branches; :func:`fuse` turns it into one 3×3 convolution that gives the same.
    The identity is there where inputs and outputs are equally many. A ReLU follows outside.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wide = conv_bn(inputs, outputs)
        self.narrow = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False))
        self.narrow.append(nn.BatchNorm2d(outputs))
        self.same = nn.BatchNorm2d(outputs) if inputs == outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.wide(x) + self.narrow(x)
        return y if self.same is None else y + self.same(x)

    def fused(self) -> nn.Conv2d:
        """One convolution with bias that computes what this does in evaluation mode."""
        kernel, bias = _folded(*self.wide)
        small, shift = _folded(*self.narrow)
        kernel, bias = kernel + F.pad(small, (1, 1, 1, 1)), bias + shift
        if self.same is not None:
            channels = len(kernel)
            identity = torch.eye(channels).to(kernel)[:, :, None, None]
            small, shift = _scaled(identity, self.same)
            kernel, bias = kernel + F.pad(small, (1, 1, 1, 1)), bias + shift
        out = Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1).to(kernel.device)
        with torch.no_grad():
            out.weight.copy_(kernel)
            out.bias.copy_(bias)  # type: ignore[union-attr]
        return out


def _folded(conv: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return _scaled(conv.weight, norm)


def _scaled(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution without bias followed by batch norm in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def fuse(model: nn.Module) -> nn.Module:
    """``model`` in its deployed form: every :class:`RepConv` as one convolution.

    A model without one is returned as it is; else a copy, the original stays trainable.
    """
    if not any(isinstance(m, RepConv) for m in model.modules()):
        return model
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, RepConv):
                setattr(parent, name, child.fused().train(child.training))
    return model


class WhitenedStem(nn.Module):
    """3×3 patches in their principal directions, scaled to unit variance; then fixed (Jordan 2024).

    Gives both signs of each of the nine directions, so that the ReLU behind it loses nothing:
    (N, 1, H, W) -> (N, 18, H, W). Random until ``fit`` shows it training images.
    """

    OUTPUTS = 18

    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv2d(1, self.OUTPUTS, 3, padding=1, bias=False)
        self.conv.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x)
        return found

    @torch.no_grad()
    def whiten_(self, images: Tensor, eps: float = 5e-4) -> None:
        """Set the filters from float (N, 1, H, W), standardised as in training."""
        patches = F.unfold(images[:, :, :, :], 3).transpose(1, 2).reshape(-1, 9).double()
        patches = patches - patches.mean(dim=0)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / torch.sqrt(values.clamp(min=0) + eps)).T.reshape(9, 1, 3, 3)
        self.conv.weight.copy_(torch.cat([filters, -filters]))
