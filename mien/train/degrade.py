"""What life does to photos of faces: poor crops, poor light, blur, few pixels, noise, JPEG, covers.

Works on float tensors (N, 1, H, W) in 0..1 and draws from torch's global generator; the numbers
are those that ``mien_photo`` was trained with. Sizes follow the side, so that a face of 96 pixels
is blurred as one of 48 is.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

#: The numbers in pixels below are of faces of this side.
SIDE = 48


def degrade(x: Tensor, share: float) -> Tensor:
    """Vary framing and light of every image, and degrade ``share`` of them heavily.

    Args:
        x: float (N, 1, H, H) in 0..1.
        share: 0..1.

    Returns:
        the same shape and range, on 256 levels, as a photo has them.
    """
    device, x = x.device, x.cpu()  # JPEG is coded there
    hard = torch.rand(len(x)) < share
    x = _framed(x, hard)
    x = _covered(x, hard)
    x, dark = _lit(x, hard)
    x = _blurred(x, hard)
    x = _few_pixels(x, hard)
    deviation = torch.where(_some(hard, 0.25), _log_uniform(len(x), 0.008, 0.08), 0.0)
    sensor = deviation * dark + _uniform(len(x), 0.0, 0.012)  # a dark photo is noisy, if faintly
    x = x + torch.randn_like(x) * _column(torch.where(dark < 1, sensor, deviation))
    return ((_coded(x.clamp(0, 1), _some(hard, 0.15)) * 255).round() / 255).to(device)


def _uniform(n: int, low: float, high: float) -> Tensor:
    return torch.rand(n) * (high - low) + low


def _log_uniform(n: int, low: float, high: float) -> Tensor:
    return torch.exp(_uniform(n, math.log(low), math.log(high)))


def _some(hard: Tensor, chance: float) -> Tensor:
    """Of the images to degrade, each with this chance; bool (N,)."""
    return hard & (torch.rand(len(hard)) < chance)


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _framed(x: Tensor, hard: Tensor) -> Tensor:
    """A detector's errors: turned, of another size, shifted, mirrored, sheared, in perspective."""
    n, reach = len(x), torch.where(hard, 1.0, 0.4)
    angle = _uniform(n, -1, 1) * math.radians(20) * reach
    size = 1 + _uniform(n, -0.22, 0.22) * reach
    width = size * (1 + _uniform(n, -0.15, 0.15) * reach)
    dx, dy = _uniform(n, -0.2, 0.2) * reach, _uniform(n, -0.2, 0.2) * reach
    shear = _uniform(n, -0.2, 0.2) * reach * (torch.rand(n) < 0.3)
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    a, b, d, e = mirror * cos / width, -sin / size, mirror * sin / width, cos / size
    theta = torch.stack([a + shear * d, b + shear * e, dx, d, e, dy], dim=1).view(n, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    # One side nearer than the other, as of a turned head or a camera close by.
    keystone = (_uniform(n, -0.25, 0.25) * reach * (torch.rand(n) < 0.3)).view(n, 1, 1)
    grid[..., 1] = grid[..., 1] * (1 + keystone * grid[..., 0])
    out = F.grid_sample(x, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return out.clamp(0, 1)


def _covered(x: Tensor, hard: Tensor) -> Tensor:
    """Masks, hands, hair, sunglasses: parts under a grey, noise or another face's pixels."""
    n, side = len(x), x.shape[-1]
    y = torch.arange(side).view(1, 1, side, 1) / side
    z = torch.arange(side).view(1, 1, 1, side) / side
    grey = torch.where(_column(torch.rand(n) < 0.3), torch.rand_like(x), _column(torch.rand(n)))
    other = x[torch.randperm(n)].flip(2)
    fill = torch.where(_column(torch.rand(n) < 0.3), other, grey)
    edge = _column(_uniform(n, 0.48, 0.68)) + (2 * z - 1) ** 2 * _column(_uniform(n, -0.08, 0.12))
    hidden = _column(_some(hard, 0.07)) & (y > edge)  # a mask
    half, left = _column(_uniform(n, 0.4, 0.6)), _column(torch.rand(n) < 0.5)
    hidden |= _column(_some(hard, 0.05)) & torch.where(left, z < half, z > half)
    hidden |= _column(_some(hard, 0.03)) & (y < _column(_uniform(n, 0.2, 0.42)))
    top, start = _column(_uniform(n, -0.1, 0.9)), _column(_uniform(n, -0.1, 0.9))
    high, wide = _column(_uniform(n, 0.1, 0.45)), _column(_uniform(n, 0.1, 0.45))
    box = (y >= top) & (y < top + high) & (z >= start) & (z < start + wide)
    hidden |= _column(torch.rand(n) < 0.18) & box
    angle = _column(_uniform(n, 0, math.pi))  # a hand: an ellipse from below
    down, across = y - _column(_uniform(n, 0.4, 1.1)), z - _column(_uniform(n, 0, 1))
    u = down * torch.cos(angle) + across * torch.sin(angle)
    v = across * torch.cos(angle) - down * torch.sin(angle)
    inside = (u / _column(_uniform(n, 0.1, 0.2))) ** 2 + (v / _column(_uniform(n, 0.2, 0.5))) ** 2
    hidden |= _column(_some(hard, 0.08)) & (inside < 1)
    return torch.where(hidden, fill, x)


def _lit(x: Tensor, hard: Tensor) -> tuple[Tensor, Tensor]:
    """Contrast, brightness, gamma, light from one side, darkness; also each image's darkness."""
    n, side = len(x), x.shape[-1]
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * _column(1 + _uniform(n, -0.4, 0.3)) + mean
    x = (x * _column(1 + _uniform(n, -0.25, 0.25))).clamp(1e-4, 1)
    gamma = torch.where(_some(hard, 0.35), _log_uniform(n, 0.4, 2.5), 1.0)
    gamma = torch.where(_some(hard, 0.06), _log_uniform(n, 2.5, 4.5), gamma)
    x = x ** _column(gamma)
    along = torch.linspace(-1, 1, side)
    angle = _column(_uniform(n, 0, 2 * math.pi))
    slope = torch.cos(angle) * along.view(1, -1) + torch.sin(angle) * along.view(-1, 1)
    x = (x * (1 + _column(_uniform(n, 0.2, 0.7) * _some(hard, 0.2)) * slope)).clamp(0, 1)
    dark = torch.where(_some(hard, 0.12), _log_uniform(n, 0.05, 0.8), 1.0)
    return x * _column(dark), dark


def _blurred(x: Tensor, hard: Tensor) -> Tensor:
    """Gaussian, defocus or motion blur."""
    rows = torch.nonzero(_some(hard, 0.28))[:, 0]
    if not len(rows):
        return x
    n, scale = len(rows), x.shape[-1] / SIDE
    reach = math.ceil(5 * scale)
    line = torch.arange(-reach, reach + 1) / scale
    down, across = torch.meshgrid(line, line, indexing="ij")
    squared = (down**2 + across**2)[None]
    gaussian = torch.exp(-squared / (2 * _log_uniform(n, 0.4, 2.4).view(n, 1, 1) ** 2))
    disc = torch.sigmoid((_log_uniform(n, 0.8, 3.5).view(n, 1, 1) - squared.sqrt()) * 4)
    angle, length = _uniform(n, 0, math.pi).view(n, 1, 1), _uniform(n, 1, 4.5).view(n, 1, 1)
    along = across * torch.cos(angle) + down * torch.sin(angle)
    off = down * torch.cos(angle) - across * torch.sin(angle)
    motion = torch.exp(-(off**2) / 0.5) * torch.sigmoid((length - along.abs()) * 4)
    which = torch.randint(0, 3, (n, 1, 1))
    kernels = torch.where(which == 0, gaussian, torch.where(which == 1, disc, motion))
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    padded = F.pad(x[rows], (reach,) * 4, mode="replicate").transpose(0, 1)
    x[rows] = F.conv2d(padded, kernels[:, None], groups=n).transpose(0, 1)
    return x


def _few_pixels(x: Tensor, hard: Tensor) -> Tensor:
    """Faces of 11 to 36 pixels, enlarged again."""
    side = x.shape[-1]
    for rows in torch.nonzero(_some(hard, 0.25))[:, 0].chunk(5):
        if len(rows):
            small = int(torch.randint(11, 37, ()))
            smooth = bool(torch.rand(()) < 0.8)
            less = F.interpolate(x[rows], (small, small), mode="bilinear", antialias=smooth)
            how = "bilinear" if torch.rand(()) < 0.6 else "bicubic"
            x[rows] = F.interpolate(less, (side, side), mode=how).clamp(0, 1)
    return x


def _coded(x: Tensor, chosen: Tensor) -> Tensor:
    """The chosen images through JPEG of poor quality, at once or twice their size."""
    side = x.shape[-1]
    for i in torch.nonzero(chosen)[:, 0].tolist():
        pixels = (x[i, 0] * 255).round().to(torch.uint8).numpy()
        factor, quality = int(torch.randint(1, 3, ())), int(torch.randint(8, 60, ()))
        large = cv2.resize(pixels, None, fx=factor, fy=factor)
        data = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        coded = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
        back = cv2.resize(coded, (side, side), interpolation=cv2.INTER_AREA)
        x[i, 0] = torch.from_numpy(np.asarray(back, np.float32)) / 255
    return x
