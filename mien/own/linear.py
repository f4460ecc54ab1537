"""A linear head on frozen features: multinomial logistic regression in numpy, L2 by folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.evaluate.temperature import fit_temperature
from mien.own.divide import folds

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

FOLDS = 5
#: From so many faces times classes on two folds must do: of 1,000 classes each fit takes seconds.
LARGE = 1_000_000
#: Strengths of the L2 penalty that the folds choose from, strong ones first: each fit starts from
#: the one before.
PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
#: Parts of the training photos for which the learning curve has a point.
PARTS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
#: Lowest temperature.
COOLEST = 0.5
_STEPS, _MEMORY, _ENOUGH = 40, 8, 3e-4


@dataclass(frozen=True)
class Linear:
    """A dense layer: ``logits = features @ weight.T + bias``.

    Attributes:
        weight: float32 (K, D). bias: float32 (K,).
    """

    weight: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        """float32 (N, D) -> (N, K)."""
        return features @ self.weight.T + self.bias


@dataclass(frozen=True)
class Chosen:
    """The head that was fitted, and what the folds said.

    Attributes:
        linear: fitted on all rows with the best penalty.
        penalty: that one.
        logits: float32 (N, K), of every row by a head that has not seen it.
        accuracy: share of rows that these have right.
        curve: (faces learned from, accuracy on faces not seen) for parts of the rows.
    """

    linear: Linear
    penalty: float
    logits: Floats
    accuracy: float
    curve: tuple[tuple[int, float], ...]


def fit(
    features: Floats, labels: Ints, classes: int, penalty: float, start: Linear | None = None
) -> Linear:
    """Minimise the balanced cross-entropy plus ``penalty / 2 * |weight|²`` by L-BFGS.

    Args:
        features: float32 (N, D), of a scale around 1. labels: int64 (N,).
        start: where to begin; zeros by default.
    """
    n, width = features.shape
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    share = (1 / counts[labels]).astype(np.float32)  # every class counts alike
    share /= share.sum()
    rows = np.arange(n)

    def value(w: Floats) -> tuple[float, Floats]:
        matrix = w.reshape(classes, width + 1)
        z = features @ matrix[:, :-1].T + matrix[:, -1]
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z)
        total = p.sum(axis=1, keepdims=True)
        loss = float((share * (np.log(total[:, 0]) - z[rows, labels])).sum())
        p /= total
        p[rows, labels] -= 1
        p *= share[:, None]
        gradient = np.empty_like(matrix)
        gradient[:, :-1] = p.T @ features + penalty * matrix[:, :-1]
        gradient[:, -1] = p.sum(axis=0)
        loss += penalty / 2 * float((matrix[:, :-1] ** 2).sum())
        return loss, gradient.ravel()

    begin = np.zeros((classes, width + 1), np.float32)
    if start is not None:
        begin[:, :-1], begin[:, -1] = start.weight, start.bias
    best = _lbfgs(value, begin.ravel()).reshape(classes, width + 1)
    return Linear(np.ascontiguousarray(best[:, :-1]), np.ascontiguousarray(best[:, -1]))


def _lbfgs(value: Callable[[Floats], tuple[float, Floats]], w: Floats) -> Floats:
    """Nocedal's two loops with a halving line search; float32, deterministic."""
    loss, gradient = value(w)
    pairs: list[tuple[Floats, Floats, float]] = []
    for _ in range(_STEPS):
        if float(np.abs(gradient).max()) < _ENOUGH:
            break
        q, alphas = gradient.copy(), []
        for s, y, rho in reversed(pairs):
            alphas.append(rho * float(s @ q))
            q -= alphas[-1] * y
        if pairs:
            s, y, _ = pairs[-1]
            q *= float(s @ y) / float(y @ y)
        for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
            q += (alpha - rho * float(y @ q)) * s
        slope, step = float(gradient @ q), 1.0
        for _ in range(20):
            moved = w - step * q
            found, new = value(moved)
            if found <= loss - 1e-4 * step * slope:
                break
            step /= 2
        else:
            break  # as low as float32 goes
        s, y = moved - w, new - gradient
        if float(s @ y) > 1e-10:
            pairs = [*pairs[1 - _MEMORY :], (s, y, 1 / float(s @ y))]
        w, loss, gradient = moved, found, new
    return w


def choose(
    features: Floats, mirrored: Floats, labels: Ints, classes: int, together: Ints, seed: int
) -> Chosen:
    """Fit a head whose penalty cross-validation chooses by the balanced log-loss.

    Args:
        features: float32 (N, D). mirrored: the same of the faces' mirror images, which are
            learned from too.
        labels: int64 (N,), 0..classes-1.
        together: int64 (N,), faces that share a number are never on both sides of a fold.
        seed: of the folds.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-3
    x, mirror = (features - mean) / deviation, (mirrored - mean) / deviation
    count = min(FOLDS if len(x) * classes < LARGE else 2, len(np.unique(together)))
    fold = folds(labels, together, count, seed + 2)
    found = {p: np.zeros((len(x), classes), np.float32) for p in PENALTIES}
    for k in range(count):
        inside, outside = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if not len(inside) or not len(outside):
            continue
        for penalty, linear in _path(x, mirror, labels, classes, inside, PENALTIES):
            found[penalty][outside] = linear.logits(x[outside])
    penalty = min(PENALTIES, key=lambda p: _log_loss(found[p], labels, classes))
    curve = _curve(x, mirror, labels, classes, fold, penalty, seed)
    right = float((found[penalty].argmax(1) == labels).mean())
    curve = tuple({**dict(curve), round(len(x) * (count - 1) / count): right}.items())
    linear = head_of(features, mirrored, labels, classes, penalty)
    return Chosen(linear, penalty, found[penalty], right, curve)


def head_of(
    features: Floats, mirrored: Floats, labels: Ints, classes: int, penalty: float
) -> Linear:
    """A head fitted on all rows; see :func:`choose`."""
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-3
    x, mirror = (features - mean) / deviation, (mirrored - mean) / deviation
    until = [p for p in PENALTIES if p >= penalty]
    linear = _path(x, mirror, labels, classes, np.arange(len(x)), until)[-1][1]
    weight = (linear.weight / deviation).astype(np.float32)
    return Linear(weight, (linear.bias - weight @ mean).astype(np.float32))


def temperature_of(logits: Floats, labels: Ints) -> float:
    """The temperature fitted on logits (N, K) of faces that the head has not seen.

    It has a floor: where a few faces are all right, nothing bounds how sure they may be. Logits of
    many classes are small, and their floor is lower.
    """
    return max(fit_temperature(logits, labels), COOLEST * min(1.0, 10 / int(logits.shape[1])))


def _path(
    x: Floats, mirror: Floats, labels: Ints, classes: int, rows: Ints, penalties: Sequence[float]
) -> list[tuple[float, Linear]]:
    both, twice = np.concatenate([x[rows], mirror[rows]]), np.tile(labels[rows], 2)
    linear, found = None, []
    for penalty in penalties:
        linear = fit(both, twice, classes, penalty, linear)
        found.append((penalty, linear))
    return found


def _log_loss(logits: Floats, labels: Ints, classes: int) -> float:
    z = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels]
    counts = np.bincount(labels, minlength=classes)
    return float((losses / counts[labels]).sum())


def _curve(
    x: Floats,
    mirror: Floats,
    labels: Ints,
    classes: int,
    fold: Ints,
    penalty: float,
    seed: int,
) -> tuple[tuple[int, float], ...]:
    """Accuracy on the folds by heads that learned from a part of the other ones."""
    points = []
    rng = np.random.default_rng([seed, 22])
    rank = np.empty(len(x), np.int64)  # of each face within its class and fold, shuffled
    for k in np.unique(fold):
        for c in range(classes):
            rows = rng.permutation(np.flatnonzero((fold == k) & (labels == c)))
            rank[rows] = np.arange(len(rows))
    place = fold * classes + labels
    of = np.bincount(place)[place]
    for part in PARTS[:-1]:
        kept = rank < np.ceil(part * of)
        if kept.sum() < 2 * classes or (kept.sum() > 0.75 * len(x)):
            continue
        right, learned = 0, []
        for k in np.unique(fold):
            inside, outside = np.flatnonzero((fold != k) & kept), np.flatnonzero(fold == k)
            linear = _path(x, mirror, labels, classes, inside, (penalty,))[-1][1]
            right += int((linear.logits(x[outside]).argmax(1) == labels[outside]).sum())
            learned.append(len(inside))
        points.append((round(float(np.mean(learned))), right / len(x)))
    return tuple(points)
