"""Convolutions of other people's networks, faster where a CPU trains in bfloat16.

oneDNN's bfloat16 gradients are slow in two places where ImageNet networks on 48-pixel faces live:
depthwise kernels (4 to 10 times the time of float32) and maps of a few pixels. `speed_up` gives
such layers of a network a subclass that computes the same another way: depthwise kernels in
float32, small maps as a matrix product that leaves out the taps that meet only padding.
Parameters, state and names stay; in evaluation, export, float32 or on a GPU the layer is torch's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Largest input map, in pixels, that is multiplied as a matrix.
SMALL_MAP = 49


def _trains_in_bfloat16(layer: nn.Module, x: Tensor) -> bool:
    return (
        layer.training
        and x.device.type == "cpu"
        and x.ndim == 4
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") is torch.bfloat16
    )


def _taps(size: int, kernel: int, stride: int, padding: int) -> tuple[list[int], int]:
    """The kernel positions that meet the image somewhere, and the size of the output."""
    out = (size + 2 * padding - kernel) // stride + 1
    met = [
        k for k in range(kernel) if any(0 <= k - padding + stride * o < size for o in range(out))
    ]
    return met, out


class _MatrixConv(torch.autograd.Function):
    """Convolution and its gradients as matrix products (im2col over the taps that matter)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        n, c, h, w = x.shape
        rows, oh = _taps(h, weight.shape[2], stride[0], padding[0])
        cols, ow = _taps(w, weight.shape[3], stride[1], padding[1])
        (ph, pw), (sh, sw) = padding, stride
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, pw, pw, ph, ph))
        windows = [
            (slice(None), slice(i, i + sh * (oh - 1) + 1, sh), slice(j, j + sw * (ow - 1) + 1, sw))
            for i in rows
            for j in cols
        ]
        columns = x.new_empty(n, oh, ow, len(windows), c)
        for k, window in enumerate(windows):
            columns[:, :, :, k] = padded[window]
        matrix = columns.view(n * oh * ow, len(windows) * c)
        used = weight[:, :, rows][:, :, :, cols]
        flat = used.permute(2, 3, 1, 0).reshape(len(windows) * c, -1)
        ctx.save_for_backward(matrix, flat)
        ctx.plan = (weight.shape, rows, cols, windows, padded.shape, (h, w), padding)
        return (matrix @ flat).view(n, oh, ow, -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        matrix, flat = ctx.saved_tensors
        shape, rows, cols, windows, padded_shape, (h, w), (ph, pw) = ctx.plan
        n, oh, ow, outputs = grads[0].permute(0, 2, 3, 1).shape
        grad = grads[0].permute(0, 2, 3, 1).reshape(n * oh * ow, outputs)
        used = (grad.t() @ matrix).view(outputs, len(rows), len(cols), shape[1])
        grad_weight = used.new_zeros(shape)
        grad_weight[:, :, torch.tensor(rows)[:, None], torch.tensor(cols)] = used.permute(
            0, 3, 1, 2
        )
        columns = (grad @ flat.t()).view(n, oh, ow, len(windows), shape[1])
        padded = grad.new_zeros(padded_shape)
        for k, window in enumerate(windows):
            padded[window] += columns[:, :, :, k]
        return padded[:, ph : ph + h, pw : pw + w].permute(0, 3, 1, 2), grad_weight, None, None


class MatrixConv2d(nn.Conv2d):
    """A dense convolution that is a matrix product on small maps, in bfloat16 training on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        small = input.ndim == 4 and input.shape[2] * input.shape[3] <= SMALL_MAP
        if not small or not _trains_in_bfloat16(self, input):
            return super().forward(input)
        stride, padding = self.stride, self.padding
        with torch.autocast("cpu", enabled=False):
            x, weight = input.to(torch.bfloat16), self.weight.to(torch.bfloat16)
            if self.kernel_size == (1, 1) and padding == (0, 0):
                pixels = x[:, :, :: stride[0], :: stride[1]].permute(0, 2, 3, 1)
                out = F.linear(pixels, weight[:, :, 0, 0]).permute(0, 3, 1, 2)
            else:
                out = _MatrixConv.apply(x, weight, stride, padding)  # type: ignore[no-untyped-call]
            if self.bias is not None:
                out = out + self.bias.to(torch.bfloat16).view(1, -1, 1, 1)
        return out


class _Float32Mixin(nn.Conv2d):
    """A depthwise convolution in float32, in bfloat16 training on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        if not _trains_in_bfloat16(self, input):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).to(torch.bfloat16)


def speed_up(network: nn.Module) -> None:
    """Change the class of the layers that gain, in place; their parameters and state stay."""
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d) or isinstance(layer, (MatrixConv2d, _Float32Mixin)):
            continue
        kind = type(layer)
        if layer.groups == layer.in_channels > 1:
            # Subclasses too: timm's Conv2dSame pads first and then runs the same product.
            layer.__class__ = type(kind.__name__, (_Float32Mixin, kind), {})
        elif (
            kind is nn.Conv2d
            and layer.groups == 1
            and layer.dilation == (1, 1)
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        ):
            layer.__class__ = MatrixConv2d
