"""The speed run: a whole training without files, timed from first to last step.

What is timed: fresh weights, every epoch with its augmentation, the averaged weights. What is not:
reading the data, moving it to the device, a warm-up that is thrown away (on a GPU, where the first
steps choose their kernels), and scoring afterwards. The schedule is fixed beforehand: the accuracy
is the last epoch's, not the first crossing of a mark. benchmarks/flagship keeps its records.
"""

from __future__ import annotations

import math
import time

import torch

from mien.data.dataset import FaceDataset, Splits
from mien.errors import RecipeError
from mien.modelinfo import ModelInfo
from mien.train import loop
from mien.train.checkpoint import TorchClassifier
from mien.train.learner import Learner
from mien.train.loop import State
from mien.train.optimizers import make_optimizer
from mien.train.recipe import Recipe
from mien.train.selection import select

WARM_UP = 3


def _sync(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed_run(
    recipe: Recipe,
    dataset: FaceDataset,
    splits: Splits,
    *,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "32",
) -> tuple[TorchClassifier, float]:
    """Train once; returns the classifier and the seconds.

    Raises:
        RecipeError: the recipe needs teachers, or its schedule the validation score.
    """
    if recipe.schedule.name == "plateau" or recipe.early_stopping:
        raise RecipeError("A speed run's schedule is fixed: no plateau and no early stopping.")
    material = select(recipe, dataset, splits)
    first = material.first().to(device)
    batches = material.batches(recipe, seed, device)

    def fresh() -> tuple[Learner, torch.optim.Optimizer]:
        made = material.learner(recipe, seed, device)
        made.to(device)
        made.initialise(first)
        return made, make_optimizer(recipe, made.trained())

    if device == "cuda":
        torch.backends.cudnn.benchmark = True
        for share, _ in recipe.progressive or ((0.0, 48),):
            state = State(math.ceil(share * recipe.epochs))
            loop.train(
                *fresh(), batches, state=state, device=device, precision=precision, steps=WARM_UP
            )
    _sync(device)
    start = time.perf_counter()
    learner, optimizer = fresh()
    loop.train(learner, optimizer, batches, device=device, precision=precision)
    _sync(device)
    seconds = time.perf_counter() - start
    info = ModelInfo(
        name=recipe.name, labels=dataset.classes, mean=learner.mean, std=learner.std, seed=seed
    )
    return TorchClassifier(learner.deployed.eval(), info, device), seconds
