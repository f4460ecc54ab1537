"""What a recipe trains: a network with its augmentation, loss, averaged weights and teachers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from mien.emotions import FERPLUS_EMOTIONS, Label
from mien.errors import RecipeError
from mien.modelinfo import spread_prior
from mien.models import create_model
from mien.models.weights import InitialWeights
from mien.train import processes
from mien.train.batches import Batch, alternating_mirror, augment, mix, smaller
from mien.train.losses import distillation_loss, label_loss
from mien.train.recipe import AugmentConfig, Recipe

FERPLUS_OUTPUTS = 10


#: (N, 1, H, W) float images in 0..1, temperature -> (N, K) float probabilities.
Teacher = Callable[[Tensor, float], Tensor]


def seed_torch(value: int) -> None:
    """Any number is a seed, where torch takes none of 2**63 or more."""
    torch.manual_seed(value % 2**63)


def freeze_scales(model: nn.Module) -> None:
    """Set every batch norm's scale to 1 and keep it there; its shift still learns."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            layer.weight.requires_grad_(False)


class Learner(nn.Module):
    """Trains ``recipe.model``; ``self.averaged`` holds the EMA weights where the recipe asks.

    Attributes:
        epoch: number of the epoch under way, from 0.
        answers: float16 (variants + 2, rows, K), what the teachers said, at last to the clean
            epochs' images and their mirror images; NaN where not asked yet. (1, rows, K) where
            they answer images as they are (``distill.clean``).

    Args:
        recipe: the resolved recipe.
        classes: labels in output order.
        mean, std: standardisation on the 0..1 scale.
        class_weights: float (K,) or None.
        seed: seeds order and augmentation, with the epoch.
        rows: size of the training set.
        teacher: gives soft targets (:class:`mien.train.distill.Teachers`); no part of the weights.
        teacher_prior: float (K,), log share of each class where the teachers learned, or None.
        untaught: bool (rows,), images whose labels alone count, or None.
    """

    class_weights: Tensor | None
    vote_columns: Tensor
    stated: Tensor

    def __init__(
        self,
        recipe: Recipe,
        classes: tuple[Label, ...],
        mean: float,
        std: float,
        class_weights: Tensor | None = None,
        *,
        seed: int = 0,
        rows: int = 0,
        teacher: Teacher | None = None,
        teacher_prior: Tensor | None = None,
        untaught: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.classes = classes
        self.mean, self.std = mean, std
        self.seed, self.rows, self.teacher = seed, rows, teacher
        self.teacher_prior, self.untaught = teacher_prior, untaught
        self.epoch = 0
        self.model = create_model(recipe.model, num_classes=len(classes), **recipe.model_args)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if recipe.frozen_scale:
            freeze_scales(self.model)
        self.auxiliary: nn.Linear | None = None
        if recipe.loss.ferplus_auxiliary:
            if not hasattr(self.model, "forward_features"):
                raise RecipeError(
                    f"Model {recipe.model!r} has no forward_features; "
                    "loss.ferplus_auxiliary needs one."
                )
            network: Any = self.model
            self.auxiliary = nn.Linear(network.num_features, FERPLUS_OUTPUTS)
        self.averaged: nn.Module | None = None
        if recipe.ema:
            self.averaged = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.register_buffer("class_weights", class_weights)
        columns = [FERPLUS_EMOTIONS.index(c) if c in FERPLUS_EMOTIONS else -1 for c in classes]
        self.register_buffer("vote_columns", torch.tensor(columns), persistent=False)
        shares = spread_prior(recipe.loss.prior, classes).values()
        self.register_buffer("stated", torch.tensor(list(shares)).log(), persistent=False)
        self._sums: dict[str, Tensor] = {}
        self.answers: Tensor | None = None

    @property
    def first_clean(self) -> int:
        """The first of the last epochs, without geometric augmentation or erasing."""
        return max(0, self.recipe.epochs - self.recipe.clean_epochs)

    @property
    def image_epoch(self) -> int:
        """The epoch whose order and augmentation this one has: an earlier one's where the recipe
        lets images come again (``distill.variants``)."""
        variants, since = self.recipe.distill.variants, self.epoch - self.first_clean
        if not variants:
            return self.epoch
        return self.epoch % variants if since < 0 else self.first_clean + since % 2

    def side(self) -> int | None:
        """Side of this epoch's training images in pixels; None = as they are.

        The last epoch sees full size however few there are: what is scored and deployed does.
        """
        if self.epoch == self.recipe.epochs - 1:
            return None
        share, side = self.epoch / self.recipe.epochs, None
        for start, size in self.recipe.progressive:
            side = size if share >= start else side
        return side

    def augmentation(self) -> AugmentConfig:
        """Of this epoch's training images."""
        config = self.recipe.augment
        if self.epoch >= self.first_clean:
            # What comes again is an image and its mirror image in turn.
            turns = config.alternating or bool(config.flip and self.recipe.distill.variants)
            return AugmentConfig(flip=config.flip, alternating=turns)
        done = self.epoch / self.recipe.epochs
        milder = 1 if done < 0.75 else 0.75 if done < 0.92 else 0.5
        return replace(config, degraded=milder * config.degraded)

    @property
    def deployed(self) -> nn.Module:
        """The network that validation scores and export writes."""
        return self.model if self.averaged is None else self.averaged

    def prepare(self, images: Tensor, train: bool, index: Tensor | None = None) -> Tensor:
        """uint8 (N, 1, H, W) -> standardised float input, augmented in training.

        ``index``: the samples' rows, for what depends on the sample (alternating flip).
        """
        x = images.float() / 255
        if train:
            config, mirrored = self.augmentation(), None
            if config.alternating and index is not None:
                mirrored = alternating_mirror(index, self.image_epoch, self.seed)
            # In bfloat16 the sampling points themselves would be rounded, by up to .1 pixels.
            with torch.autocast(x.device.type, enabled=False):
                # Teachers answer images of full size; the student's are made smaller after that.
                x = augment(x, config, None if self.teacher else self.side(), mirrored)
        x = (x - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last)

    def initialise(self, images: Tensor, start: InitialWeights | None = None) -> None:
        """Set what a fresh network takes from elsewhere.

        Args:
            images: uint8 (N, 1, H, W), training images, for a whitening first layer.
            start: weights to start from.
        """
        network: Any = self.model
        if start is not None:
            start.load_into(network)
        if hasattr(network, "whiten_"):
            network.whiten_((images.float() / 255 - self.mean) / self.std)
        if self.averaged is not None:
            self.averaged.load_state_dict(network.state_dict())

    def begin(self, epoch: int) -> None:
        """Make ready for an epoch."""
        self.epoch = epoch
        self._sums = {}
        if epoch >= self.recipe.epochs - self.recipe.dropout_off:
            for layer in self.model.modules():
                if isinstance(layer, _DropoutNd):
                    layer.p = 0.0

    def targets(self, batch: Batch) -> Tensor:
        """Float (N, K): one-hot labels, blended with FER+ votes where the recipe asks."""
        target = F.one_hot(batch.labels, len(self.classes)).float()
        blend = self.recipe.loss.ferplus_blend
        if blend and batch.votes is not None:
            columns = self.vote_columns
            votes = batch.votes[:, columns.clamp(min=0)] * (columns >= 0)
            mass = votes.sum(dim=1, keepdim=True)
            share = blend * (mass > 0.5)  # no blend where most raters saw no such expression
            target = (1 - share) * target + share * votes / mass.clamp(min=1e-6)
        return target

    def follow(self, x: Tensor, batch: Batch, part: slice) -> Tensor:
        """The teachers' soft targets (N, K) for a ``part`` of ``batch``, which was prepared as
        ``x``; zeros where they are not asked."""
        assert self.teacher is not None
        distill, rows = self.recipe.distill, None if batch.index is None else batch.index[part]
        seen = batch.images[part].float() / 255 if distill.clean else x * self.std + self.mean
        if rows is None or not (distill.variants or distill.clean):
            soft: Tensor = self.teacher(seen, distill.temperature)
            if rows is not None and self.untaught is not None:
                soft = soft.masked_fill(self.untaught[rows.cpu()].to(soft.device)[:, None], 0.0)
            return soft
        if self.answers is None:
            slots = 1 if distill.clean else distill.variants + 2
            shape = (slots, self.rows, len(self.classes))
            self.answers = torch.full(shape, torch.nan, dtype=torch.float16)
            if self.untaught is not None:
                self.answers[:, self.untaught] = 0
        since = self.image_epoch - self.first_clean
        slot = self.image_epoch if since < 0 else distill.variants + since
        slot = 0 if distill.clean else slot
        rows, known = rows.cpu(), self.answers[slot]
        new = known[rows].isnan().any(dim=1)
        if new.any():
            asked = seen[new.to(seen.device)]
            known[rows[new]] = self.teacher(asked, distill.temperature).half().cpu()
        return known[rows].float().to(x.device)

    def loss(self, batch: Batch, number: int) -> Tensor:
        """The loss of the epoch's batch of that ``number``, on augmented images; a scalar.

        Of several processes each computes its addend. All that is random follows from the seed,
        the epoch and ``number``.
        """
        config = self.recipe.loss
        # The images, which may come again, must not depend on what dropout drew before them...
        seed_torch(7_368_787 * (self.image_epoch + 1) + 1009 * self.seed + number)
        x = self.prepare(batch.images, train=True, index=batch.index)
        target, votes, weights = self.targets(batch), batch.votes, batch.weights
        order, lam = None, 1.0
        if config.mixup or config.cutmix:
            x, order, lam = mix(x, config.mixup, config.cutmix)
            target = lam * target + (1 - lam) * target[order]
            votes = None if votes is None else lam * votes + (1 - lam) * votes[order]
            weights = None if weights is None else lam * weights + (1 - lam) * weights[order]
        total, part = len(x), processes.mine(len(x))
        x, target = x[part], target[part]
        soft = None
        if self.teacher is not None:
            if order is not None and self.recipe.distill.clean:  # each was answered unmixed
                whole = self.follow(x, batch, slice(None))
                soft = (lam * whole + (1 - lam) * whole[order])[part]
            else:
                soft = self.follow(x, batch, part)
            x = smaller(x, self.side())
        # ... and dropout not on them; other processes drop other units.
        apart = 86_028_121 * processes.number()
        seed_torch(15_485_863 * (self.epoch + 1) + 1009 * self.seed + number + apart)
        if self.auxiliary is None:
            logits = self.model(x).float()
        else:
            features = self.model.forward_features(x)  # type: ignore[operator]
            logits = self.model.forward_head(features).float()  # type: ignore[operator]
        # Means of the whole batch: those of the part times its share, for the sum of all parts.
        share: float | Tensor = len(x) / total
        mine = None
        if weights is not None:
            mine = weights[part]
            share = mine.sum() / weights.sum().clamp(min=1e-6)
        named = self._adjusted(logits, None if batch.prior is None else batch.prior[part])
        loss = label_loss(named, target, config, self.class_weights, mine) * share
        if soft is not None:
            distill, taught = self.recipe.distill, self._adjusted(logits, self.teacher_prior)
            following = distillation_loss(taught, soft, distill.temperature) * (len(x) / total)
            loss = (1 - distill.weight) * loss + distill.weight * following
        if self.auxiliary is not None and votes is not None:
            log_shares = F.log_softmax(self.auxiliary(features).float(), dim=1)
            voted = (votes.sum(dim=1) > 0).sum().clamp(min=1)  # not the images without votes
            loss = loss - config.ferplus_auxiliary * (votes[part] * log_shares).sum() / voted
        hits = named.argmax(1) == target.argmax(1)
        if batch.weights is not None:  # extra images have no label to hit
            hits = hits[batch.weights[part] > 0]
        self._add("train_loss", loss.detach() * (len(hits) * total / len(x)))
        self._add("train_correct", hits.sum())
        self._add("train_n", torch.tensor(len(hits)))
        return loss

    def _adjusted(self, logits: Tensor, prior: Tensor | None) -> Tensor:
        """The logits under the classes' shares that a loss knows, or as they are."""
        weight = self.recipe.loss.logit_adjustment
        if prior is None or not weight:
            return logits
        return logits + weight * (prior.to(logits.device) - self.stated)

    def _add(self, key: str, value: Tensor) -> None:
        self._sums[key] = self._sums.get(key, torch.zeros((), device=value.device)) + value

    def follow_weights(self, step: int) -> None:
        """Move the averaged weights after ``step`` steps.

        A young average follows the weights more closely, so early epochs mean something.
        """
        if self.averaged is None:
            return
        decay = min(self.recipe.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            ours, theirs = self.averaged.state_dict(), self.model.state_dict()
            for key, value in ours.items():
                if value.is_floating_point():
                    value.lerp_(theirs[key], 1 - decay)
                else:
                    value.copy_(theirs[key])

    @torch.inference_mode()
    def judge(self, batches: Iterable[Batch]) -> None:
        """Score the deployed network on images as they are; see :meth:`metrics`."""
        network = self.deployed
        training = network.training
        network.eval()
        for batch in batches:
            part = processes.mine(len(batch.labels))
            labels = batch.labels[part]
            if not len(labels):
                continue
            logits = network(self.prepare(batch.images[part], train=False)).float()
            self._add("val_loss", F.cross_entropy(logits, labels, reduction="sum"))
            self._add("val_correct", (logits.argmax(1) == labels).sum())
            self._add("val_n", torch.tensor(len(labels)))
        network.train(training)

    def metrics(self) -> dict[str, float]:
        """train_/val_ loss and accuracy of the epoch that just ended; resets the sums."""
        metrics: dict[str, float] = {}
        for part in ("train", "val"):
            keys = (f"{part}_{name}" for name in ("loss", "correct", "n"))
            loss, correct, n = processes.add_up([float(self._sums.get(key, 0)) for key in keys])
            if n:
                metrics |= {f"{part}_loss": loss / n, f"{part}_accuracy": correct / n}
        self._sums = {}
        return metrics

    def trained(self) -> nn.Module:
        """What the optimiser changes: the network and, where there is one, the auxiliary head."""
        return nn.ModuleList([self.model, *([] if self.auxiliary is None else [self.auxiliary])])
