"""In-memory batches for training: the whole dataset is one uint8 tensor, a batch is an index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.data.dataset import FaceDataset


@dataclass(frozen=True)
class Batch:
    """images: uint8 (N, 1, H, W); labels: int64 (N,); votes: float (N, 10) shares or None.

    ``index``: int64 (N,), rows of the dataset; ``weights``: float (N,) of the samples' labels, or
    None where all count alike.
    """

    images: Tensor
    labels: Tensor
    votes: Tensor | None
    index: Tensor | None = None
    weights: Tensor | None = None


class EpochBatches:
    """Iterates over a dataset in batches; the order of an epoch depends on (seed, epoch) alone.

    That is what makes a resumed run equal to an uninterrupted one: nothing that a killed process
    knew is needed to draw epoch k again.

    ``epoch``, 0 at first, is what the training loop sets before each iteration.

    Args:
        shuffle: train order (shuffled, last short batch dropped) or file order (all samples).
        weights: float32 (N,), what each sample's label counts for; None = all alike.
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
    ) -> None:
        self.images = torch.from_numpy(np.ascontiguousarray(dataset.images)).unsqueeze(1).to(device)
        self.labels = torch.from_numpy(np.ascontiguousarray(dataset.labels)).to(device)
        self.votes: Tensor | None = None
        if dataset.votes is not None:
            votes = torch.from_numpy(np.ascontiguousarray(dataset.votes)).float()
            # Rows nobody voted on stay all zero and so carry no auxiliary loss.
            self.votes = (votes / votes.sum(dim=1, keepdim=True).clamp(min=1)).to(device)
        self.weights = None if weights is None else torch.from_numpy(weights).to(device)
        self.batch_size = min(batch_size, max(len(dataset), 1))
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def __len__(self) -> int:
        n = len(self.labels)
        return n // self.batch_size if self.shuffle else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        n = len(self.labels)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(n)
        else:
            order = np.arange(n)
        index = torch.from_numpy(order).to(self.labels.device)
        for k in range(len(self)):
            rows = index[k * self.batch_size : (k + 1) * self.batch_size]
            votes = None if self.votes is None else self.votes[rows]
            weights = None if self.weights is None else self.weights[rows]
            yield Batch(self.images[rows], self.labels[rows], votes, rows, weights)
