"""Layers that compute what torch's own do, faster where a CPU trains in bfloat16.

Each is a subclass of torch's layer with the same parameters and state; elsewhere (evaluation,
export, float32, a GPU) it *is* torch's layer. `speed_up` gives them to other people's networks:
oneDNN's bfloat16 gradients are slow in two places where ImageNet networks on 48-pixel faces live,
depthwise kernels (4 to 10 times the time of float32) and maps of a few pixels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_INT64 = torch.iinfo(torch.int64)

#: Largest map, in pixels, on which a matrix product beats oneDNN's convolution gradients:
#: measured 1.6 times as fast at 6x6, 3 times at 3x3, and slower from 12x12 on.
SMALL_MAP = 36
#: The same for any kernel and stride, taps that meet only padding left out.
SMALL_INPUT = 49


def _trains_in_bfloat16(layer: nn.Module, x: Tensor) -> bool:
    return (
        layer.training
        and x.device.type == "cpu"
        and x.ndim == 4
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") is torch.bfloat16
    )


def _plus(out: Tensor, bias: Tensor | None) -> Tensor:
    return out if bias is None else out + bias.to(torch.bfloat16).view(1, -1, 1, 1)


class Dropout(nn.Dropout):
    """Dropout that draws 16 random bits an element: torch's bernoulli takes 14 ns each on a CPU.

    The rate is a multiple of 1/65536, and the scale is the exact inverse of what is kept.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0 or self.inplace or input.device.type != "cpu":
            return super().forward(input)
        dropped = round(self.p * 65536)
        if dropped >= 65536:
            return super().forward(input)
        n = input.numel()
        words = torch.empty(-(-n // 4), dtype=torch.int64).random_(_INT64.min, None)
        kept = words.view(torch.int16)[:n] >= dropped - 32768
        mask = kept.to(input.dtype).mul_(65536 / (65536 - dropped))
        if input.ndim == 4 and input.is_contiguous(memory_format=torch.channels_last):
            n_, c, h, w = input.shape
            return input * mask.view(n_, h, w, c).permute(0, 3, 1, 2)
        return input * mask.view(input.shape)


def _columns(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N*H*W, 9*C): the 3x3 neighbourhood of every pixel, zeros outside."""
    n, c, h, w = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    out = x.new_empty(n, h, w, 9, c)
    for k in range(9):
        i, j = divmod(k, 3)
        out[:, :, :, k] = padded[:, i : i + h, j : j + w]
    return out.view(n * h * w, 9 * c)


class _SmallMapConv(torch.autograd.Function):
    """3x3 "same" convolution and its gradients as matrix products (im2col)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        n, c, h, w = x.shape
        outputs = weight.shape[0]
        columns = _columns(x)
        ctx.save_for_backward(columns, weight)
        ctx.shape = (n, c, h, w)
        product = columns @ weight.permute(2, 3, 1, 0).reshape(9 * c, outputs)
        return product.view(n, h, w, outputs).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        columns, weight = ctx.saved_tensors
        n, c, h, w = ctx.shape
        outputs = weight.shape[0]
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        rows = grad.permute(0, 2, 3, 1).reshape(-1, outputs)
        grad_weight = (rows.t() @ columns).view(outputs, 3, 3, c).permute(0, 3, 1, 2)
        # The gradient of the input is the convolution of the output's with the turned kernel.
        turned = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(9 * outputs, c)
        grad_input = (_columns(grad) @ turned).view(n, h, w, c).permute(0, 3, 1, 2)
        return grad_input, grad_weight


class Conv2d(nn.Conv2d):
    """Convolution that turns into a matrix product on maps of at most 6x6, in bfloat16 training."""

    def forward(self, input: Tensor) -> Tensor:
        small = (
            _trains_in_bfloat16(self, input)
            and input.shape[2] * input.shape[3] <= SMALL_MAP
            and self.kernel_size == (3, 3)
            and self.stride == (1, 1)
            and self.padding == (1, 1)
            and self.dilation == (1, 1)
            and self.groups == 1
            and self.padding_mode == "zeros"
        )
        if not small:
            return super().forward(input)
        if input.shape[2:] == (1, 1):  # of a 3x3 kernel only the centre meets the image
            centre = F.linear(input.flatten(1), self.weight[:, :, 1, 1], self.bias)
            return centre[:, :, None, None]
        with torch.autocast("cpu", enabled=False):
            out: Tensor = _SmallMapConv.apply(  # type: ignore[no-untyped-call]
                input.to(torch.bfloat16), self.weight.to(torch.bfloat16)
            )
            return _plus(out, self.bias)


class Sequential(nn.Sequential):
    """Runs a max-pool before the ReLU that precedes it while training: they commute, and ReLU and
    its gradient then touch a quarter of the pixels. In evaluation the order is as written."""

    def forward(self, input: Tensor) -> Tensor:
        layers = list(self)
        if self.training:
            for i in range(len(layers) - 1):
                if isinstance(layers[i], nn.ReLU) and isinstance(layers[i + 1], nn.MaxPool2d):
                    layers[i], layers[i + 1] = layers[i + 1], layers[i]
        for layer in layers:
            input = layer(input)
        return input


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
        small = input.ndim == 4 and input.shape[2] * input.shape[3] <= SMALL_INPUT
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
            return _plus(out, self.bias)


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
