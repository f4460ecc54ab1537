"""The softmax temperature, fitted; no torch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mien.preprocess import softmax


def fit_temperature(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    prior: NDArray[np.float32] | None = None,
) -> float:
    """The softmax temperature that minimises the negative log-likelihood (Guo et al. 2017).

    Args:
        logits: (N, K). labels: (N,), 0..K-1.
        prior: float (K,), log of each class's share among the labels over its share in the model's
            own prior; None = 0 everywhere.

    Golden-section search on log T in [1/10, 10]: the likelihood is unimodal in it.
    """

    def nll(log_t: float) -> float:
        t = math.exp(log_t)
        p = softmax(logits if prior is None else logits + t * prior, t)
        return float(-np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-12)).mean())

    low, high = math.log(0.1), math.log(10.0)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(40):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if nll(a) < nll(b):
            high = b
        else:
            low = a
    return round(math.exp((low + high) / 2), 4)
