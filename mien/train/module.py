"""The LightningModule behind every recipe: augmentation, loss, optimiser, averaged weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.data.augment import augment
from mien.data.loaders import Batch
from mien.emotions import FERPLUS_EMOTIONS, Emotion
from mien.errors import RecipeError
from mien.models import create_model
from mien.train._lightning import L
from mien.train.recipe import Recipe

FERPLUS_OUTPUTS = 10


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser; weight decay acts on weights, not on biases and batch norm."""
    c = recipe.optimizer
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    other = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": c.weight_decay},
        {"params": other, "weight_decay": 0.0},
    ]
    betas = (c.beta1, c.beta2)
    if c.name == "sgd":
        nesterov = c.momentum > 0
        return torch.optim.SGD(groups, lr=c.lr, momentum=c.momentum, nesterov=nesterov, fused=True)
    if c.name == "nadam":  # torch has no fused one
        return torch.optim.NAdam(groups, lr=c.lr, betas=betas, eps=c.eps)
    kind = torch.optim.Adam if c.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=c.lr, betas=betas, eps=c.eps, fused=True)


class ExpressionModule(L.LightningModule):
    """Trains ``recipe.model``; ``self.averaged`` holds the EMA weights where the recipe asks.

    Args:
        recipe: the resolved recipe.
        classes: labels in output order.
        mean, std: standardisation on the 0..1 scale.
        class_weights: float (K,) or None.
    """

    def __init__(
        self,
        recipe: Recipe,
        classes: tuple[Emotion, ...],
        mean: float,
        std: float,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.classes = classes
        self.mean, self.std = mean, std
        self.model = create_model(recipe.model, num_classes=len(classes), **recipe.model_args)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.auxiliary: nn.Linear | None = None
        if recipe.loss.ferplus_auxiliary:
            if not hasattr(self.model, "forward_features"):
                raise RecipeError(
                    f"Model {recipe.model!r} has no forward_features; "
                    "loss.ferplus_auxiliary needs one."
                )
            self.auxiliary = nn.Linear(int(self.model.num_features), FERPLUS_OUTPUTS)
        self.averaged: nn.Module | None = None
        if recipe.ema:
            self.averaged = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.register_buffer("class_weights", class_weights)
        columns = [FERPLUS_EMOTIONS.index(c) if c in FERPLUS_EMOTIONS else -1 for c in classes]
        self.register_buffer("vote_columns", torch.tensor(columns), persistent=False)
        self._sums: dict[str, Tensor] = {}

    @property
    def deployed(self) -> nn.Module:
        """The network that validation scores and export writes."""
        return self.model if self.averaged is None else self.averaged

    def prepare(self, images: Tensor, train: bool) -> Tensor:
        """uint8 (N, 1, H, W) -> standardised float input, augmented in training."""
        x = images.float() / 255
        if train:
            config = self.recipe.augment
            if self.current_epoch >= self.recipe.epochs - self.recipe.clean_epochs:
                config = type(config)(flip=config.flip)
            x = augment(x, config)
        x = (x - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last)

    def on_train_epoch_start(self) -> None:
        # Everything random in an epoch follows from (seed, epoch): a resumed run draws the same.
        torch.manual_seed(1_000_003 * (self.run_seed + 1) + self.current_epoch)
        self._sums = {}

    run_seed: int = 0
    data_record: Mapping[str, Any] = MappingProxyType({})

    def targets(self, batch: Batch) -> Tensor:
        """Float (N, K): one-hot labels, blended with FER+ votes where the recipe asks."""
        target = F.one_hot(batch.labels, len(self.classes)).float()
        blend = self.recipe.loss.ferplus_blend
        if blend and batch.votes is not None:
            columns: Tensor = self.vote_columns  # type: ignore[assignment]
            votes = batch.votes[:, columns.clamp(min=0)] * (columns >= 0)
            mass = votes.sum(dim=1, keepdim=True)
            share = blend * (mass > 0.5)  # no blend where most raters saw no such expression
            target = (1 - share) * target + share * votes / mass.clamp(min=1e-6)
        return target

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        x = self.prepare(batch.images, train=True)
        target, votes, mixed = self.targets(batch), batch.votes, self.recipe.loss.mixup
        if mixed:
            lam = float(torch.distributions.Beta(mixed, mixed).sample())
            order = torch.randperm(len(x), device=x.device)
            x = lam * x + (1 - lam) * x[order]
            target = lam * target + (1 - lam) * target[order]
            votes = None if votes is None else lam * votes + (1 - lam) * votes[order]
        weight: Tensor | None = self.class_weights  # type: ignore[assignment]
        smoothing = self.recipe.loss.label_smoothing
        if self.auxiliary is None:
            logits = self.model(x)
            loss = F.cross_entropy(logits.float(), target, weight, label_smoothing=smoothing)
        else:
            features = self.model.forward_features(x)  # type: ignore[operator]
            logits = self.model.forward_head(features)  # type: ignore[operator]
            loss = F.cross_entropy(logits.float(), target, weight, label_smoothing=smoothing)
            if votes is not None:
                log_shares = F.log_softmax(self.auxiliary(features).float(), dim=1)
                extra = -(votes * log_shares).sum(dim=1).mean()
                loss = loss + self.recipe.loss.ferplus_auxiliary * extra
        self._add("train_loss", loss.detach() * len(x))
        self._add("train_correct", (logits.argmax(1) == target.argmax(1)).sum())
        self._add("train_n", torch.tensor(len(x)))
        return loss

    def _add(self, key: str, value: Tensor) -> None:
        self._sums[key] = self._sums.get(key, torch.zeros((), device=value.device)) + value

    def on_train_batch_end(self, *_: Any) -> None:
        if self.averaged is None:
            return
        # A young average follows the weights more closely, so early epochs mean something.
        decay = min(self.recipe.ema, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            ours, theirs = self.averaged.state_dict(), self.model.state_dict()
            for key, value in ours.items():
                if value.is_floating_point():
                    value.lerp_(theirs[key], 1 - decay)
                else:
                    value.copy_(theirs[key])

    def validation_step(self, batch: Batch, _index: int) -> None:
        logits = self.deployed(self.prepare(batch.images, train=False)).float()
        self._add("val_loss", F.cross_entropy(logits, batch.labels, reduction="sum"))
        self._add("val_correct", (logits.argmax(1) == batch.labels).sum())
        self._add("val_n", torch.tensor(len(batch.labels)))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["mien"] = {
            "recipe": self.recipe.to_dict(),
            "classes": [c.value for c in self.classes],
            "mean": self.mean,
            "std": self.std,
            "seed": self.run_seed,
            "data": dict(self.data_record),
        }

    def epoch_metrics(self) -> dict[str, float]:
        """train_/val_ loss and accuracy of the epoch that just ended; resets the sums."""
        metrics: dict[str, float] = {}
        for part in ("train", "val"):
            n = float(self._sums.get(f"{part}_n", 0))
            if n:
                metrics[f"{part}_loss"] = float(self._sums[f"{part}_loss"]) / n
                metrics[f"{part}_accuracy"] = float(self._sums[f"{part}_correct"]) / n
        self._sums = {}
        return metrics

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = nn.ModuleList([self.model])
        if self.auxiliary is not None:
            groups.append(self.auxiliary)
        return make_optimizer(self.recipe, groups)
