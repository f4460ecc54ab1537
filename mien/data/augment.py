"""Batched augmentation on the training device: one affine grid for a whole batch.

Works on float tensors (N, 1, H, W) in 0..1, before standardisation, and draws from torch's global
generator of the tensor's device, so a seeded epoch always sees the same pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AugmentConfig:
    """What is varied. Zero switches a part off; ranges are uniform.

    Attributes:
        flip: probability of mirroring left and right.
        rotation: largest angle in degrees, both ways.
        scale: largest relative change of size, both ways (0.15: 0.85 to 1.15).
        stretch: largest relative change of the width alone, on top of ``scale``.
        shift: largest shift as a fraction of the side, both axes.
        brightness: largest relative change of brightness (pixels times 1 ± b).
        contrast: largest relative change of contrast about the picture's mean.
        erasing: probability of covering a rectangle with grey noise (Zhong et al. 2017).
        erasing_area: largest share of the picture that the rectangle covers.
        crop: pixels of random crop: pad by reflection, then cut at a random place.
        fill: what lies outside the picture: "reflect" or "border" or "zeros".
    """

    flip: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erasing: float = 0.0
    erasing_area: float = 0.2
    crop: int = 0
    fill: str = "border"

    @property
    def geometric(self) -> bool:
        return any((self.flip, self.rotation, self.scale, self.stretch, self.shift, self.crop))


def _uniform(n: int, limit: float, like: Tensor) -> Tensor:
    return (torch.rand(n, device=like.device) * 2 - 1) * limit


def affine_matrices(n: int, config: AugmentConfig, like: Tensor) -> Tensor:
    """Random output-to-input maps, float (N, 2, 3), in grid_sample's -1..1 coordinates."""
    angle = _uniform(n, math.radians(config.rotation), like)
    size = 1 + _uniform(n, config.scale, like)
    width = size * (1 + _uniform(n, config.stretch, like))
    mirror = torch.where(torch.rand(n, device=like.device) < config.flip, -1.0, 1.0)
    dx, dy = _uniform(n, 2 * config.shift, like), _uniform(n, 2 * config.shift, like)
    if config.crop:  # whole pixels, as a padded crop has them
        side = like.shape[-1]
        steps = torch.randint(-config.crop, config.crop + 1, (2, n), device=like.device)
        dx, dy = dx + 2 * steps[0] / side, dy + 2 * steps[1] / side
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.stack(
        [mirror * cos / width, -sin / size, dx, mirror * sin / width, cos / size, dy], dim=1
    )
    return theta.view(n, 2, 3)


def _erase(x: Tensor, config: AugmentConfig) -> Tensor:
    n, _, h, w = x.shape
    dev = x.device
    area = torch.rand(n, device=dev) * (config.erasing_area - 0.02) + 0.02
    ratio = torch.exp(_uniform(n, math.log(3.3), x))
    eh = (area * ratio).sqrt().clamp(max=1) * h
    ew = (area / ratio).sqrt().clamp(max=1) * w
    top = torch.rand(n, device=dev) * (h - eh)
    left = torch.rand(n, device=dev) * (w - ew)
    rows = torch.arange(h, device=dev).view(1, h, 1)
    cols = torch.arange(w, device=dev).view(1, 1, w)
    inside = (
        (rows >= top.view(n, 1, 1))
        & (rows < (top + eh).view(n, 1, 1))
        & (cols >= left.view(n, 1, 1))
        & (cols < (left + ew).view(n, 1, 1))
        & (torch.rand(n, 1, 1, device=dev) < config.erasing)
    )
    return torch.where(inside.unsqueeze(1), torch.rand_like(x), x)


def augment(x: Tensor, config: AugmentConfig) -> Tensor:
    """Augment a batch: float (N, 1, H, W) in 0..1 -> the same shape and range."""
    n = x.shape[0]
    if config.geometric:
        grid = F.affine_grid(affine_matrices(n, config, x), list(x.shape), align_corners=False)
        padding = "reflection" if config.fill == "reflect" else config.fill
        x = F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    if config.contrast or config.brightness:
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        gain = (1 + _uniform(n, config.contrast, x)).view(n, 1, 1, 1)
        light = (1 + _uniform(n, config.brightness, x)).view(n, 1, 1, 1)
        x = (((x - mean) * gain + mean) * light).clamp(0, 1)
    if config.erasing:
        x = _erase(x, config)
    return x
