"""Small real data to train on: drawn images whose class can be learned."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from mien.data.dataset import FaceDataset, Splits
from mien.emotions import FER2013
from mien.train.recipe import Recipe, override
from mien.train.recipes import get_recipe


def drawn_faces(n: int = 140, seed: int = 0) -> FaceDataset:
    """Images whose class can be learned: a bright bar at a place that depends on the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 7
    images = rng.integers(0, 90, (n, 48, 48), dtype=np.uint8)
    for i, k in enumerate(labels):
        images[i, 4 + 6 * k : 9 + 6 * k, 8:40] = 230
    votes = np.zeros((n, 10), np.float32)
    votes[:, 0] = 10
    parts = np.where(np.arange(n) % 4 == 3, "PublicTest", "Training")
    return FaceDataset(
        images=images,
        labels=labels.astype(np.int64),
        ids=np.array([f"drawn:{i:05d}" for i in range(n)]),
        classes=FER2013,
        name="drawn",
        splits=parts,
        groups=np.array([""] * n),
        votes=votes,
    )


def drawn_splits(data: FaceDataset) -> Splits:
    train = data.ids[data.splits == "Training"]
    val = data.ids[data.splits == "PublicTest"]
    return Splits("fer2013", 0, {"train": train, "val": val, "test": val[:0]})


def small_recipe(**changes: object) -> Recipe:
    """``mien_small``'s recipe, short, for the same network with narrow stages."""
    settings = ["precision=32", "batch_size=16", "epochs=3", "model_args.widths=[16,32,48]"]
    base = override(get_recipe("mien_small"), settings)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def assert_same_with_gradients(
    ours: torch.Tensor, theirs: torch.Tensor, inputs: tuple[torch.Tensor, ...]
) -> None:
    """Both values, and their gradients with respect to ``inputs``, are the same."""
    torch.testing.assert_close(ours, theirs)
    grad = torch.randn_like(theirs)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, grad),
        torch.autograd.grad(theirs, inputs, grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
