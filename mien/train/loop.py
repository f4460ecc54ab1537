"""The training loop, from top to bottom. `mien train`, distillation and the speed run are this.

Everything random in a step follows from (seed, epoch, step), and all else that an epoch needs is in
:class:`State`, the weights and the optimiser: a killed run that goes on from its last checkpoint
ends with the weights of an uninterrupted one. Started by torchrun, this runs in every process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch

from mien.errors import RecipeError
from mien.train import processes
from mien.train.batches import EpochBatches
from mien.train.learner import Learner
from mien.train.recipe import Recipe, ScheduleConfig

#: One epoch's line in curves.csv.
Row = dict[str, float]


@dataclass
class State:
    """Where a run stands, beside its weights and its optimiser.

    Attributes:
        epoch, step: how many are done.
        rows: one per epoch, for curves.csv.
        best, best_epoch: highest val_accuracy and its epoch, from 1; without a validation split
            nothing may be chosen: None and the last epoch.
        factor, plateau_best, waited: of the plateau schedule.
        seconds: of training and validation.
    """

    epoch: int = 0
    step: int = 0
    rows: list[Row] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = -1
    factor: float = 1.0
    plateau_best: float = -1.0
    waited: int = 0
    seconds: float = 0.0

    def finished(self, recipe: Recipe) -> bool:
        """Whether all epochs are done, or early stopping has waited long enough."""
        patience = recipe.early_stopping
        early = bool(patience and self.rows) and self.epoch - self.best_epoch >= patience
        return early or self.epoch >= recipe.epochs


def train(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    batches: EpochBatches,
    judge: EpochBatches | None = None,
    *,
    state: State | None = None,
    device: str = "cpu",
    precision: str = "32",
    after_step: Callable[[State, int], None] = lambda state, images: None,
    after_epoch: Callable[[State, bool], None] | None = None,
    steps: int | None = None,
) -> State:
    """Train ``learner`` in place to the end of its recipe.

    Args:
        batches: the training set, shuffled by epoch. judge: the validation split.
        state: of the run that goes on; its weights and optimiser are loaded already.
        precision: "32" or "bf16".
        after_step: gets the number of images of the step.
        after_epoch: called when an epoch is scored, with whether it is the best so far. Without
            it nothing is scored or kept.
        steps: end after so many.

    Raises:
        RecipeError: the loss of an epoch is not finite.
    """
    recipe, state = learner.recipe, state or State()
    total = recipe.epochs * len(batches)
    autocast = partial(torch.autocast, device, torch.bfloat16, enabled=precision == "bf16")
    while not state.finished(recipe):
        started = time.monotonic()
        learner.begin(state.epoch)
        batches.epoch = learner.image_epoch
        for number, batch in enumerate(batches):
            rate = learning_rate(recipe.schedule, recipe.optimizer.lr, state.step, total)
            for group in optimizer.param_groups:
                group["lr"] = rate * state.factor * group.get("lr_scale", 1.0)
            with autocast():
                loss = learner.loss(batch, number)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            processes.add_gradients(learner)
            optimizer.step()
            state.step += 1
            learner.follow_weights(state.step)
            after_step(state, len(batch.labels))
            if state.step == steps:
                return state
        state.epoch += 1
        if after_epoch is None:
            continue
        processes.average(learner)
        if judge is not None:
            with autocast():
                learner.judge(judge)
        scores, spent = learner.metrics(), time.monotonic() - started
        for name in ("train_loss", "val_loss"):
            if not math.isfinite(scores.get(name, 0.0)):
                raise RecipeError(
                    f"The training diverged in epoch {state.epoch} ({name} is {scores[name]}): "
                    "lower optimizer.lr, or the recipe's other numbers."
                )
        state.seconds += spent
        row = {"epoch": state.epoch} | {key: round(value, 6) for key, value in scores.items()}
        row |= {"learning_rate": optimizer.param_groups[0]["lr"], "seconds": round(spent, 2)}
        state.rows.append(row)
        after_epoch(state, _choose(state, recipe, scores.get("val_accuracy")))
    return state


def learning_rate(schedule: ScheduleConfig, base: float, step: int, steps: int) -> float:
    """The rate at ``step`` of ``steps`` for the schedules that are functions of the step."""
    if schedule.name not in ("onecycle", "cosine"):
        return base
    warm = schedule.warmup * steps
    if step < warm:
        return base * (step + 1) / (warm + 1)
    t = min((step - warm) / max(steps - warm, 1), 1.0)
    fall = 1 - t if schedule.name == "onecycle" else (1 + math.cos(math.pi * t)) / 2
    return base * (schedule.final + (1 - schedule.final) * fall)


def _choose(state: State, recipe: Recipe, score: float | None) -> bool:
    """Note the epoch's score; whether it is the best so far."""
    if score is not None and recipe.schedule.name == "plateau":
        _wait(state, recipe, score)
    improved = score is None or state.best is None or score > state.best
    if improved:
        state.best, state.best_epoch = score, state.epoch
    return improved


def _wait(state: State, recipe: Recipe, score: float) -> None:
    """torch's ReduceLROnPlateau (mode max, threshold 1e-4 absolute, as Keras' min_delta)."""
    schedule = recipe.schedule
    if score > state.plateau_best + 1e-4:
        state.plateau_best, state.waited = score, 0
        return
    state.waited += 1
    if state.waited >= schedule.patience:
        state.factor = max(state.factor * schedule.factor, schedule.min_lr / recipe.optimizer.lr)
        state.waited = 0
