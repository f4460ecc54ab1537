"""Batches of images on the training device, and their augmentation: one affine grid for a batch.

Augmentation works on float tensors (N, 1, H, W) in 0..1, before standardisation, and draws from
torch's global generator of the tensor's device, so a seeded epoch always sees the same images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.data.dataset import FaceDataset
from mien.train.degrade import degrade
from mien.train.recipe import AugmentConfig


@dataclass(frozen=True)
class Batch:
    """images: uint8 (N, 1, H, W); labels: int64 (N,); votes: float (N, 10) shares or None.

    ``index``: int64 (N,), rows of the dataset; ``weights``: float (N,) of the samples' labels, or
    None where all count alike; ``prior``: float (N, K), log share of each class among the
    images of the sample's source, or None.
    """

    images: Tensor
    labels: Tensor
    votes: Tensor | None
    index: Tensor | None = None
    weights: Tensor | None = None
    prior: Tensor | None = None


class EpochBatches:
    """Iterates over a dataset in batches; the order of an epoch depends on (seed, epoch) alone.

    That is what makes a resumed run equal to an uninterrupted one: nothing that a killed process
    knew is needed to draw epoch k again.

    ``epoch``, 0 at first, is what the training loop sets before each iteration.

    Args:
        shuffle: train order (shuffled, last short batch dropped) or file order (all samples).
        weights: float32 (N,), what each sample's label counts for; None = all alike.
        draws: float64 (N,), how often an epoch shows each sample, of which the whole part is sure
            and the rest a matter of chance; None = once. Only where ``shuffle``.
        prior: float32 (N, K) for :attr:`Batch.prior`, or None.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        device: torch.device | str = "cpu",
        weights: NDArray[np.float32] | None = None,
        draws: NDArray[np.float64] | None = None,
        prior: NDArray[np.float32] | None = None,
    ) -> None:
        self.images = torch.from_numpy(np.ascontiguousarray(dataset.images)).unsqueeze(1).to(device)
        self.labels = torch.from_numpy(np.ascontiguousarray(dataset.labels)).to(device)
        self.votes: Tensor | None = None
        if dataset.votes is not None:
            votes = torch.from_numpy(np.ascontiguousarray(dataset.votes)).float()
            # Rows nobody voted on stay all zero and so carry no auxiliary loss.
            self.votes = (votes / votes.sum(dim=1, keepdim=True).clamp(min=1)).to(device)
        self.weights = None if weights is None else torch.from_numpy(weights).to(device)
        self.prior = None if prior is None else torch.from_numpy(prior).to(device)
        self.draws = draws
        #: Images an epoch.
        self.drawn = len(dataset) if draws is None else int(draws.sum() + 1e-6)
        self.batch_size = min(batch_size, max(self.drawn, 1))
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def __len__(self) -> int:
        n = self.drawn
        return n // self.batch_size if self.shuffle else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        n = len(self.labels)
        if self.shuffle:
            random = np.random.default_rng([self.seed, self.epoch])
            order = random.permutation(n)
            if self.draws is not None:
                # Systematic sampling along a random order: every epoch has as many images.
                upto = np.floor(np.cumsum(self.draws[order]) + 1e-6).astype(np.int64)
                order = random.permutation(np.repeat(order, np.diff(upto, prepend=0)))
        else:
            order = np.arange(n)
        index = torch.from_numpy(order).to(self.labels.device)
        for k in range(len(self)):
            rows = index[k * self.batch_size : (k + 1) * self.batch_size]
            votes = None if self.votes is None else self.votes[rows]
            weights = None if self.weights is None else self.weights[rows]
            prior = None if self.prior is None else self.prior[rows]
            yield Batch(self.images[rows], self.labels[rows], votes, rows, weights, prior)


def _uniform(n: int, limit: float, like: Tensor) -> Tensor:
    return (torch.rand(n, device=like.device) * 2 - 1) * limit


def _windows(n: int, smallest: float, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random windows of at least ``smallest`` of the area: half-sides and centre, each (N,)."""
    area = 1 - torch.rand(n, device=like.device) * (1 - smallest)
    aspect = torch.exp(_uniform(n, math.log(4 / 3) / 2, like))  # half on each side
    width, height = (area.sqrt() * aspect).clamp(max=1), (area.sqrt() / aspect).clamp(max=1)
    x = (torch.rand(n, device=like.device) * 2 - 1) * (1 - width)
    y = (torch.rand(n, device=like.device) * 2 - 1) * (1 - height)
    return width, height, x, y


def affine_matrices(
    n: int, config: AugmentConfig, like: Tensor, mirrored: Tensor | None = None
) -> Tensor:
    """Random output-to-input maps, float (N, 2, 3), in grid_sample's -1..1 coordinates.

    ``mirrored``, bool (N,), says which images to mirror; None draws it.
    """
    angle = _uniform(n, math.radians(config.rotation), like)
    size = 1 + _uniform(n, config.scale, like)
    width = size * (1 + _uniform(n, config.stretch, like))
    mirror = torch.where(torch.rand(n, device=like.device) < config.flip, -1.0, 1.0)
    dx, dy = _uniform(n, 2 * config.shift, like), _uniform(n, 2 * config.shift, like)
    if config.crop:  # whole pixels, as a padded crop has them
        side = like.shape[-1]
        steps = torch.randint(-config.crop, config.crop + 1, (2, n), device=like.device)
        dx, dy = dx + 2 * steps[0] / side, dy + 2 * steps[1] / side
    if mirrored is not None:
        mirror = torch.where(mirrored, -1.0, 1.0)
    if config.resized_crop:
        wide, high, x, y = _windows(n, config.resized_crop, like)
        width, size = width / wide, size / high
        dx, dy = dx + x, dy + y
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


def alternating_mirror(index: Tensor, epoch: int, seed: int) -> Tensor:
    """Which samples to mirror in ``epoch``: a coin a sample, turned over every epoch.

    Args:
        index: int64 (N,), each sample's row in the training split.

    Returns:
        bool (N,).
    """
    # An integer hash (Knuth's multiplicative one) stands for the coin: no state to keep or resume.
    coin = ((index + 7919 * (seed + 1) % 2**31) * 2654435761) >> 15
    return (coin + epoch) % 2 == 1


def augment(
    x: Tensor, config: AugmentConfig, side: int | None = None, mirrored: Tensor | None = None
) -> Tensor:
    """Augment a batch: float (N, 1, H, W) in 0..1 -> the same range, and shape or (.., side, side).

    Args:
        side: height and width of the result; None keeps the input's.
        mirrored: bool (N,), which images to mirror; None draws it by ``config.flip``.
    """
    n = x.shape[0]
    shape = list(x.shape) if side is None else [*x.shape[:2], side, side]
    if config.geometric or shape != list(x.shape):
        theta = affine_matrices(n, config, x, mirrored)
        grid = F.affine_grid(theta, shape, align_corners=False)
        padding = "reflection" if config.fill == "reflect" else config.fill
        mode = config.interpolation
        x = F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=False)
        if mode == "bicubic":
            x = x.clamp(0, 1)  # it overshoots at edges
    if config.contrast or config.brightness:
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        gain = (1 + _uniform(n, config.contrast, x)).view(n, 1, 1, 1)
        light = (1 + _uniform(n, config.brightness, x)).view(n, 1, 1, 1)
        x = (((x - mean) * gain + mean) * light).clamp(0, 1)
    if config.erasing:
        x = _erase(x, config)
    return degrade(x, config.degraded) if config.degraded else x


def smaller(x: Tensor, side: int | None) -> Tensor:
    """float (N, C, H, W) -> (N, C, side, side), antialiased; None leaves it as it is."""
    if side is None or x.shape[-1] == side:
        return x
    with torch.autocast(x.device.type, enabled=False):
        x = F.interpolate(x.float(), (side, side), mode="bilinear", antialias=True)
    return x.contiguous(memory_format=torch.channels_last)


def _box(lam: float, h: int, w: int) -> tuple[slice, slice]:
    """A random rectangle of 1 - ``lam`` of the area, cut off at the image's edge."""
    cut = math.sqrt(1 - lam)
    cy, cx = (int(v) for v in (torch.rand(2) * torch.tensor([h, w])).tolist())
    half_h, half_w = round(h * cut) // 2, round(w * cut) // 2
    return (
        slice(max(cy - half_h, 0), min(cy + half_h, h)),
        slice(max(cx - half_w, 0), min(cx + half_w, w)),
    )


def mix(x: Tensor, mixup: float, cutmix: float) -> tuple[Tensor, Tensor, float]:
    """Mix a batch with itself in another order.

    Args:
        x: float (N, C, H, W).
        mixup, cutmix: alphas of the beta distributions, 0 = off; at least one is on.

    Returns:
        the mixed images, the order int64 (N,) of the partners, and the share of the originals:
        targets are to be mixed alike.
    """
    paste = bool(cutmix) and (not mixup or bool(torch.rand(()) < 0.5))
    alpha = cutmix if paste else mixup
    lam = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(x), device=x.device)
    if not paste:
        return lam * x + (1 - lam) * x[order], order, lam
    rows, columns = _box(lam, x.shape[2], x.shape[3])
    mixed = x.clone()
    mixed[:, :, rows, columns] = x[order][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, order, 1 - area / (x.shape[2] * x.shape[3])
