"""The losses that a recipe can choose."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from mien.train.recipe import LossConfig

#: Stands for log(0) in the reverse cross-entropy (Wang et al. 2019, section 3.3).
LOG_ZERO = -4.0


def label_loss(
    logits: Tensor,
    target: Tensor,
    config: LossConfig,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
) -> Tensor:
    """The loss of the labels under ``config.name``, with its label smoothing.

    Args:
        target: rows sum to 1.
        class_weights: (K,) or None.
        sample_weights: (N,) or None; the mean is then over the sum of the weights.
    """
    smoothing = config.label_smoothing
    if config.name == "ce":
        if sample_weights is None:
            return F.cross_entropy(logits, target, class_weights, label_smoothing=smoothing)
        each = F.cross_entropy(
            logits, target, class_weights, label_smoothing=smoothing, reduction="none"
        )
    else:
        each = _robust(logits, (1 - smoothing) * target + smoothing / target.shape[1], config)
        if class_weights is not None:
            each = each * (target @ class_weights)
    if sample_weights is None:
        return each.mean()
    return (each * sample_weights).sum() / sample_weights.sum().clamp(min=1e-6)


def _robust(logits: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Generalised or symmetric cross-entropy of every sample, (N,)."""
    log_p = F.log_softmax(logits, dim=1)
    if config.name == "gce":
        # (1 - p^q) / q, written with expm1 so that it stays exact for small q and small p
        q = config.gce_q
        return (target * -(log_p * q).expm1()).sum(dim=1) / q
    log_target = target.clamp(min=math.exp(LOG_ZERO)).log()
    forward = -(target * log_p).sum(dim=1)
    reverse = -(log_p.exp() * log_target).sum(dim=1)
    return forward + config.sce_reverse * reverse


def distillation_loss(logits: Tensor, soft: Tensor, temperature: float) -> Tensor:
    """KL divergence of the student from the teachers at ``temperature`` (Hinton et al. 2015).

    Args:
        soft: the teachers' probabilities at the same temperature; a row of zeros, of an image that
            they were not asked about, is no divergence.

    Times the temperature squared, so that gradients keep their size when it changes.
    """
    log_p = F.log_softmax(logits / temperature, dim=1)
    return F.kl_div(log_p, soft, reduction="batchmean") * temperature**2
