"""Mixed expressions: a model's probabilities beside the votes of FER+'s ten raters.

Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
Distribution", ICMI 2016. Only the seven classes that FER2013 and FER+ share are compared: votes for
contempt, unknown and "not a face" are dropped and the rest is taken as the distribution. Every
divergence is in nats. Nothing here asks FER2013's own label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.dataset import PROTOCOLS_OF_OWN
from mien.data.splits import refuse_trained_on
from mien.emotions import FERPLUS_EMOTIONS, Label
from mien.errors import DataError
from mien.evaluate.metrics import share
from mien.evaluate.runner import Classifier, predict, versions
from mien.evaluate.samples import Samples
from mien.evaluate.scores import plain
from mien.results import BLEND_GAP, BLEND_SUM, is_blend

Floats = NDArray[np.float64]

#: The second expression's share of the votes from which people are said to see two.
SPLIT_SHARE = 0.3

#: Exponents tried on the probabilities: p^(1/t), normalised. Above 1 is flatter.
TEMPERATURES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)

#: Votes an image must have left, so that one rater can be compared with another.
MIN_VOTES = 2

_TINY = 1e-9
_PRIVATE = "PrivateTest: score it once, after every choice was made on PublicTest."


def shared_votes(votes: NDArray[np.floating[Any]], classes: Sequence[Label]) -> Floats:
    """The votes for ``classes``, float64 (N, K), from FER+'s ten columns.

    Args:
        votes: (N, 10), columns as ``FERPLUS_COLUMNS``.
        classes: K classes in the order wanted.

    Raises:
        DataError: FER+ does not have a class.
    """
    unknown = [c.value for c in classes if c not in FERPLUS_EMOTIONS]
    if unknown:
        raise DataError(f"FER+ has no votes for {', '.join(unknown)}.")
    columns = [FERPLUS_EMOTIONS.index(c) for c in classes]
    return np.asarray(votes, np.float64)[:, columns]


def _counted(
    votes: NDArray[np.floating[Any]], classes: Sequence[Label], what: str
) -> tuple[Floats, NDArray[np.bool_]]:
    """The votes of the images that have enough of them, and which these are; DataError: none."""
    counts = shared_votes(votes, classes)
    keep = counts.sum(axis=1) >= MIN_VOTES
    if not keep.any():
        raise DataError(f"No {what} has two FER+ votes for the model's classes.")
    return counts[keep], keep


def _normalised(values: Floats) -> Floats:
    return np.asarray(values / values.sum(axis=1, keepdims=True), np.float64)


def kl(p: Floats, q: Floats) -> Floats:
    """KL divergence of each row of ``q`` from ``p``, float64 (N,), nats; q is kept above 1e-9."""
    safe = np.where(p > 0, p, 1.0)
    terms = p * (np.log(safe) - np.log(np.maximum(q, _TINY)))
    return np.asarray(terms.sum(axis=1), np.float64)


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """Jensen–Shannon divergence of each row, float64 (N,), nats: 0 to ln 2."""
    middle = (p + q) / 2
    return np.asarray((kl(p, middle) + kl(q, middle)) / 2, np.float64)


def tempered(probabilities: Floats, temperature: float) -> Floats:
    """``p ** (1 / temperature)``, normalised: what softmax would give at that temperature."""
    logs = np.log(np.maximum(probabilities, 1e-30)) / temperature
    return _normalised(np.exp(logs - logs.max(axis=1, keepdims=True)))


def rater_agreement(counts: Floats) -> Floats:
    """Chance that two different raters of an image agree, float64 (N,): without replacement."""
    n = counts.sum(axis=1)
    return np.asarray((counts * (counts - 1)).sum(axis=1) / (n * (n - 1)), np.float64)


def rater_distributions(counts: Floats) -> Floats:
    """What one rater's answer says of the others', float64 (K, K), rows summing to 1.

    Row k is the distribution of the other raters' votes on the images that a rater called k: the
    best that can be made of one person's label. Estimated on other images than it is scored on.
    """
    n = counts.sum(axis=1)
    weighted = counts / np.maximum(n - 1, 1)[:, None]
    pairs = weighted.T @ counts - np.diag(weighted.sum(axis=0))
    return _normalised(pairs + 1e-6)


def _leading_two(rows: Floats) -> NDArray[np.int64]:
    """The two largest columns of each row, int64 (N, 2), in ascending order of the columns."""
    return np.sort(np.argsort(-rows, axis=1, kind="stable")[:, :2], axis=1)


def _people_split(votes: Floats) -> NDArray[np.bool_]:
    """Where the second expression has :data:`SPLIT_SHARE` of the votes or more."""
    return np.asarray(np.sort(votes, axis=1)[:, -2] >= SPLIT_SHARE - 1e-9)


def _standard_error(values: Floats) -> float | None:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


@dataclass(frozen=True)
class BlendReport:
    """Figures of :func:`blend` or :func:`blend_scores`; ``to_dict`` names them."""

    record: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dict(plain(self.record))


def blend(
    classifier: Classifier,
    samples: Samples,
    *,
    temperature: float | None = None,
    flip: bool = False,
    batch_size: int = 256,
    progress: bool = False,
    model: Mapping[str, Any] | None = None,
    command: str = "",
) -> BlendReport:
    """Score a model on the votes of FER+'s raters: :func:`blend_scores` with where it came from.

    Args:
        classifier: a loaded model.
        samples: the split, with votes; the others' come from its training split.
        temperature: see :func:`blend_scores`; asked for on PrivateTest, where nothing is chosen.
        flip, batch_size, progress, model, command: see :func:`mien.evaluate.evaluate`.

    Raises:
        DataError: no votes; no temperature on PrivateTest; or a model that was or may have been
            trained on these images.
    """
    if classifier.info.protocol in PROTOCOLS_OF_OWN:
        raise DataError(f"{classifier.info.name} has classes of its own; mien blend wants FER+'s.")
    chosen, private = samples.chosen, samples.split == "PrivateTest"
    if samples.role != "train":
        refuse_trained_on(classifier, chosen, samples.splits)
    if private and temperature is None:
        raise DataError(
            "On PrivateTest nothing is chosen: give --temperature, the best_temperature of "
            "`mien blend` on PublicTest."
        )
    training = samples.splits.select(samples.dataset, "train")
    if chosen.votes is None or training.votes is None:
        raise DataError(f"{samples.dataset.where} has no FER+ votes; put fer2013new.csv beside it.")
    tta = "flip" if flip else "none"
    found, _ = predict(classifier, chosen, batch_size=batch_size, tta=tta, progress=progress)
    votes = chosen.votes[chosen.indices_of(found.ids)]  # joined by id, as labels are
    scores = blend_scores(
        found.probabilities,
        votes,
        found.classes,
        reference_votes=training.votes,
        temperature=temperature,
    )
    where = {"protocol": samples.splits.protocol, "split": samples.split}
    gap = None if private else choose_gap(found.probabilities, votes, found.classes)
    return BlendReport(
        {
            "model": dict(model or {}),
            "data": {"name": chosen.name, "sha256": chosen.sha256, **where},
            "tta": tta,
            **scores.record,
            "gap_as_often_as_raters": None if gap is None else round(gap, 4),
            "notes": [_PRIVATE] if private else [],
            "versions": versions(),
            "command": command,
        }
    )


def blend_scores(
    probabilities: NDArray[np.floating[Any]],
    votes: NDArray[np.floating[Any]],
    classes: Sequence[Label],
    *,
    reference_votes: NDArray[np.floating[Any]],
    temperature: float | None = None,
) -> BlendReport:
    """Compare probabilities with people's votes, a single person's, and two baselines.

    Args:
        probabilities: float (N, K), rows summing to 1.
        votes: FER+ votes of the same N images, (N, 10).
        classes: the K classes; all must be in FER+.
        reference_votes: FER+ votes of other images (Training), for the class prior and for what
            one rater's answer says of the others'.
        temperature: compare the probabilities at this one too, chosen on other images. None: the
            best of :data:`TEMPERATURES` on these very images, which flatters it a little.

    Raises:
        DataError: no image has two votes left, or the two disagree in length.
    """
    if len(probabilities) != len(votes):
        raise DataError(f"{len(probabilities)} predictions came with votes of {len(votes)} images.")
    counts, keep = _counted(votes, classes, "image")
    p = _normalised(np.asarray(probabilities, np.float64)[keep])
    v = _normalised(counts)
    reference, _ = _counted(reference_votes, classes, "reference image")
    prior = np.broadcast_to(_normalised(reference).mean(axis=0), p.shape)
    uniform = np.full_like(p, 1 / p.shape[1])
    tried = TEMPERATURES if temperature is None else (temperature,)
    by_temperature = {f"{t:g}": float(kl(v, tempered(p, t)).mean()) for t in tried}
    best = min(tried, key=lambda t: by_temperature[f"{t:g}"])
    compared = {"model": p, f"model at {best:g}": tempered(p, best)}
    if best == 1.0:
        compared.pop("model at 1")
    compared |= {"class prior": prior, "uniform": uniform}
    entropy = -(v * np.log(np.where(v > 0, v, 1.0))).sum(axis=1)
    return BlendReport(
        {
            "classes": [c.value for c in classes],
            "images": len(votes),
            "kept": int(keep.sum()),
            "votes_dropped": 1 - float(counts.sum() / np.asarray(votes)[keep].sum()),
            "vote_entropy": float(entropy.mean()),
            "kl": {name: float(kl(v, q).mean()) for name, q in compared.items()},
            "kl_se": _standard_error(kl(v, p)),
            "js": {name: float(jensen_shannon(v, q).mean()) for name, q in compared.items()},
            "kl_by_temperature": by_temperature,
            "best_temperature": best,
            "temperature_chosen_here": temperature is None,
            "one_rater": _one_rater(counts, compared, rater_distributions(reference)),
            "agreement": _agreement(counts, p),
            "top2": _top2(v, p),
            "blend": _blend(v, p),
        }
    )


def _one_rater(counts: Floats, compared: dict[str, Floats], raters: Floats) -> dict[str, Any]:
    """Each rater in turn against the other raters, and everything else against the same.

    An image's raters weigh 1 together, so that each image counts the same.
    """
    rows, answers = np.nonzero(counts)
    here = np.arange(len(rows))
    weights = counts[rows, answers] / counts.sum(axis=1)[rows]
    rest = counts[rows]
    rest[here, answers] -= 1
    rest = _normalised(rest)

    def means(
        divergence: Callable[[Floats, Floats], Floats], others: Mapping[str, Floats]
    ) -> dict[str, float]:
        return {
            name: float(np.average(divergence(rest, q), weights=weights))
            for name, q in others.items()
        }

    others = {"one rater": raters[answers], **{name: q[rows] for name, q in compared.items()}}
    hard, classes = np.eye(counts.shape[1])[answers], counts.shape[1]
    smoothed = {f"{m:g}": (1 - m) * hard + m / classes for m in (0.05, 0.1, 0.2, 0.3)}
    return {
        "kl": means(kl, others),
        "js": means(jensen_shannon, others),
        "kl_of_smoothed_answer": means(kl, smoothed),
    }


def _agreement(counts: Floats, p: Floats) -> dict[str, Any]:
    """Chance to agree with a random rater: of the model's answer, another rater's, the best."""
    votes = counts.sum(axis=1)
    model = counts[np.arange(len(counts)), p.argmax(axis=1)] / votes
    rater = rater_agreement(counts)
    difference = model - rater
    return {
        "model": float(model.mean()),
        "rater": float(rater.mean()),
        "most_voted": float((counts.max(axis=1) / votes).mean()),
        "model_minus_rater": float(difference.mean()),
        "model_minus_rater_se": _standard_error(difference),
    }


def _top2(v: Floats, p: Floats) -> dict[str, Any]:
    """Whether the two leading classes are the same, where the votes have a clear second."""
    ranked = -np.sort(-v, axis=1)
    clear = (ranked[:, 1] > 0) & (ranked[:, 1] > ranked[:, 2])
    single = ranked[:, 0] > ranked[:, 1]
    model, lead = _leading_two(p), v.argmax(axis=1)
    return {
        "images": int(clear.sum()),
        "same_pair": share((model == _leading_two(v)).all(axis=1)[clear]),
        "images_with_one_leader": int(single.sum()),
        "leader_is_first": share((p.argmax(axis=1) == lead)[single]),
        "leader_in_two": share((model == lead[:, None]).any(axis=1)[single]),
    }


def _blend(v: Floats, p: Floats) -> dict[str, Any]:
    """How ``Face.blend`` does: does it speak up where people's votes are split?"""
    split = _people_split(v)
    said = np.array([is_blend(row) for row in p.tolist()])
    same = (_leading_two(v) == _leading_two(p)).all(axis=1)
    return {
        "rule": {"gap_below": BLEND_GAP, "sum_at_least": BLEND_SUM},
        "split_share": SPLIT_SHARE,
        "split": share(split),
        "said": share(said),
        "precision": share(split[said]),
        "recall": share(said[split]),
        "same_pair_where_both": share(same[said & split]),
    }


def choose_gap(
    probabilities: NDArray[np.floating[Any]], votes: NDArray[np.floating[Any]], classes: Any
) -> float | None:
    """The gap at which a model calls as many faces blends as raters are split on.

    None where no face's two leading expressions have :data:`mien.results.BLEND_SUM` together.
    :data:`mien.results.BLEND_GAP` was chosen like this, on PublicTest.
    """
    counts, keep = _counted(votes, classes, "image")
    v, p = _normalised(counts), np.asarray(probabilities, np.float64)[keep]
    wanted = int(_people_split(v).sum())
    ranked = -np.sort(-p, axis=1)
    fits = ranked[:, 0] + ranked[:, 1] >= BLEND_SUM
    gaps = np.sort((ranked[:, 0] - ranked[:, 1])[fits])
    return float(gaps[min(wanted, len(gaps) - 1)]) if len(gaps) else None
