"""What the papers' systems share: why a fast recipe differs from the paper's."""

from __future__ import annotations

_CYCLE = "One cycle of the learning rate (up, then down to 0) needs far fewer passes."

#: Recipe key -> why the fast budget changes it.
FAST: dict[str, str] = {
    "epochs": "Fewer passes with the schedule below; the headlines say whether they suffice.",
    "schedule.name": _CYCLE,
    "schedule.warmup": _CYCLE,
    "schedule.patience": "The cycle does not wait for a plateau.",
    "schedule.min_lr": "The cycle ends at 0.",
    "optimizer.lr": "The peak of the cycle; the paper's rate is constant.",
    "batch_size": "Larger batches train more images a second.",
    "clean_epochs": "The last epochs see the images as they are tested, but for the mirroring.",
    "dropout_off": "Dropout before batch norms shifts the variance that they learn, and a short "
    "training cannot grow out of it.",
    "early_stopping": "The cycle has a fixed end.",
    "augment.interpolation": "Bilinear sampling takes detail from the training pictures that those "
    "which are scored still have.",
    "loss.class_weights": "Weights trade accuracy, the headline, for recall of the rare classes.",
}
