"""Which values a recipe's keys may have."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from mien.errors import RecipeError

#: The keys that hold one of a few words.
_CHOICES = {
    "optimizer.name": ("adam", "adamw", "nadam", "sgd", "muon"),
    "schedule.name": ("constant", "onecycle", "cosine", "plateau"),
    "pixels": ("unit", "standardise"),
    "loss.name": ("ce", "gce", "sce"),
    "loss.class_weights": ("none", "balanced"),
    "precision": ("auto", "32", "bf16"),
    "augment.fill": ("border", "reflect", "zeros"),
    "augment.interpolation": ("bilinear", "bicubic"),
}
#: (what a value must be, whether it is, the keys)
_RANGES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("a mapping (JSON)", lambda v: isinstance(v, Mapping), "model_args draws loss.prior"),
    ("at least 1", lambda v: v >= 1, "batch_size epochs"),
    (
        "at least 0",
        lambda v: v >= 0,
        "clean_epochs dropout_off early_stopping distill.variants optimizer.weight_decay "
        "optimizer.eps optimizer.rest_scale optimizer.bias_scale schedule.patience "
        "schedule.min_lr loss.ferplus_auxiliary loss.sce_reverse augment.crop augment.rotation "
        "augment.shift",
    ),
    ("0 or at least 0.001", lambda v: v == 0 or v >= 0.001, "loss.mixup loss.cutmix"),
    ("above 0", lambda v: v > 0, "optimizer.lr distill.temperature"),
    (
        "in [0, 1)",
        lambda v: 0 <= v < 1,
        "ema optimizer.momentum optimizer.beta1 optimizer.beta2 augment.scale augment.stretch",
    ),
    ("in [0.02, 1]", lambda v: 0.02 <= v <= 1, "augment.erasing_area"),
    ("in (0, 1]", lambda v: 0 < v <= 1, "loss.gce_q schedule.factor"),
    (
        "in [0, 1]",
        lambda v: 0 <= v <= 1,
        "distill.weight schedule.warmup schedule.final augment.brightness "
        "augment.contrast loss.label_smoothing loss.ferplus_blend augment.flip augment.erasing "
        "augment.resized_crop augment.degraded",
    ),
)


def check_values(recipe: Any) -> None:
    """Raise RecipeError for the first key of a recipe whose value is none that it may have."""
    for key, known in _CHOICES.items():
        value = operator.attrgetter(key)(recipe)
        if value not in known:
            raise RecipeError(f"{key} must be one of {', '.join(known)}; not {value!r}.")
    values = {
        key: (where, holds, operator.attrgetter(key)(recipe))
        for where, holds, keys in _RANGES
        for key in keys.split()
    }
    where, holds, _ = values["distill.weight"]  # theirs are shares, too
    values |= {f"weights.{k}": (where, holds, v) for k, v in recipe.weights.active.items()}
    for key, (where, holds, value) in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise RecipeError(f"{key} must be a finite number, not {value!r}.")
        if not holds(value):
            raise RecipeError(f"{key} must be {where}, not {value!r}.")


def sizes(value: Any) -> tuple[tuple[float, int], ...]:
    """``progressive`` as tuples, whatever JSON made of it; shares rising from 0."""
    try:
        pairs = tuple((float(share), int(side)) for share, side in value)
    except (TypeError, ValueError):
        pairs = ((-1.0, 0),)
    shares = [share for share, _ in pairs]
    if pairs and (
        shares[0] != 0 or shares != sorted(set(shares)) or not all(8 <= s <= 96 for _, s in pairs)
    ):
        raise RecipeError(
            "progressive is a list of [share of epochs, side] pairs, the first share 0, rising, "
            f"sides from 8 to 96 ([[0,24],[0.5,36],[0.8,48]]); not {value!r}."
        )
    return pairs
