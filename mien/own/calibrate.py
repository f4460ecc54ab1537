"""``calibrate``: a model's temperature and the threshold of "unsure", refitted on own photos."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.atomic import write_bytes
from mien.classify import load_classifier
from mien.data.dataset import FaceDataset
from mien.data.own_faces import Findings, OwnFaces
from mien.errors import DataError, check_count
from mien.evaluate.metrics import negative_log_likelihood, reliability
from mien.evaluate.samples import read_photos, unseen
from mien.modelinfo import ModelInfo
from mien.onnxfile.head import with_record
from mien.own.divide import folds
from mien.own.linear import FOLDS, temperature_of
from mien.own.page import group_warnings
from mien.own.run import check_target
from mien.preprocess import softmax
from mien.quality import RULE, log_odds
from mien.results import Quality

Floats = NDArray[np.float64]

#: Share of the right answers that the threshold may cost where no accuracy is asked for.
LOST = 0.05
#: With fewer faces the figures say next to nothing.
FEWEST, FEW = 10, 100


@dataclass(frozen=True)
class Fit:
    """What a temperature and a threshold come to on faces that they were not fitted on.

    Attributes:
        temperature: of the softmax. below: the confidence under which an answer is unsure.
        ece, nll: expected calibration error, and negative log-likelihood in nats.
        coverage: share of the faces that are answered. accuracy: of those, 0..1; nan where none is.
    """

    temperature: float
    below: float
    ece: float
    nll: float
    coverage: float
    accuracy: float


@dataclass(frozen=True)
class CalibrationResult:
    """What :func:`calibrate` did.

    Attributes:
        path: the file written. info: its record.
        findings: what was in the photos.
        faces: that it was fitted on; left_out: that the model had learned from.
        before, after: as the model was, and as it is, the latter by cross-validation.
        overall: share of right answers where every face is answered, 0..1.
        warnings: a sentence each.
    """

    path: Path
    info: ModelInfo
    findings: Findings = field(repr=False)
    faces: int
    left_out: int
    before: Fit
    after: Fit
    overall: float
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; undefined figures are None."""

        def plain(fit: Fit) -> dict[str, float | None]:
            values = ((name, float(value)) for name, value in vars(fit).items())
            return {name: round(v, 6) if math.isfinite(v) else None for name, v in values}

        return {
            "path": str(self.path),
            "faces": self.faces,
            "left_out": self.left_out,
            "accuracy": round(self.overall, 6),
            "before": plain(self.before),
            "after": plain(self.after),
            "findings": self.findings.to_dict(),
            "warnings": list(self.warnings),
        }


def calibrate(
    model: str | Path,
    photos: str | Path,
    *,
    out: str | Path,
    accuracy: float | None = None,
    faces: bool = False,
    group_by: str | None = None,
    seed: int = 0,
    on_found: Callable[[Findings], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CalibrationResult:
    """Refit a model's temperature and the threshold of "unsure" on one's own labelled photos.

    Nothing else changes: the same faces get the same names. Faces that the model learned from are
    left out. A temperature that is no better on faces that it was not fitted on is not taken.

    Args:
        model: a shipped model's name or an ``.onnx`` file.
        photos: class folders, or a table; see :func:`mien.data.own.list_photos`.
        out: the ``.onnx`` file to write.
        accuracy: of the answers that are not unsure, 0..1: the lowest threshold that reaches it.
            None takes the threshold that costs at most 5 % of the right answers.
        faces: the photos already are faces.
        group_by: a regular expression that finds the person or video in a photo's path.
        seed: of the folds.
        on_found: called with what is in the photos.
        progress: called with (photos done, photos in all).

    Raises:
        DataError: the photos cannot be used, have another class than the model, or are fewer than
            ten; or no threshold reaches ``accuracy``.
        ModelError: the model is unknown or unusable.
        OutputError: ``out`` is no ``.onnx`` file, or cannot be written.
    """
    out = Path(out)
    check_target(out)
    check_count("seed", seed, DataError, least=0)
    if accuracy is not None and not (isinstance(accuracy, Real) and 0 < accuracy <= 1):
        raise DataError(f"The accuracy is {accuracy!r}; expected a share between 0 and 1.")
    classifier = load_classifier(model)
    own = read_photos(classifier, Path(photos), faces=faces, group_by=group_by, progress=progress)
    if on_found is not None:
        on_found(own.findings)
    answers = _answers(classifier, own)
    before, after = _fitted(answers, classifier.info, accuracy, seed)
    info = _refitted(classifier.info, after)
    write_bytes(out, with_record(classifier.path.read_bytes(), info))
    return CalibrationResult(
        path=out,
        info=info,
        findings=own.findings,
        faces=len(answers.labels),
        left_out=len(own.dataset) - len(answers.labels),
        before=before,
        after=after,
        overall=float((answers.logits.argmax(1) == answers.labels).mean()),
        warnings=_warnings(len(answers.labels), own.findings),
    )


def _warnings(faces: int, findings: Findings) -> tuple[str, ...]:
    found = []
    if faces < FEW:
        found.append(f"{faces} faces are few: with under {FEW} every figure here is rough.")
    return (*found, *group_warnings(findings))


def _refitted(info: ModelInfo, fit: Fit) -> ModelInfo:
    """The record without the calibration errors, which another temperature makes untrue."""

    def without(kept: Any) -> Any:
        return {k: v for k, v in kept.items() if k != "ece"} if isinstance(kept, dict) else kept

    scores = {key: without(kept) for key, kept in info.scores.items()}
    below = round(fit.below, 6)
    return replace(info, temperature=fit.temperature, unsure_below=below, scores=scores)


@dataclass(frozen=True)
class _Answers:
    """Float32 (N, K) logits, int64 (N,) labels and what belongs together, and the faces' faults."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    together: NDArray[np.int64]
    qualities: tuple[Quality, ...]

    def trust(self, p: Floats) -> Floats:
        pairs = zip(p.max(1).tolist(), self.qualities, strict=True)
        return np.array([RULE.trust(confidence, quality) for confidence, quality in pairs])


def _answers(classifier: Any, own: OwnFaces) -> _Answers:
    """What the model says of the faces that it has not seen. Raises DataError."""
    names = [label.value for label in classifier.info.labels]
    unknown = [c.value for c in own.dataset.classes if c.value not in names]
    if unknown:
        raise DataError(
            f"{own.dataset.where} has the class {unknown[0]!r}, and {classifier.info.name} knows "
            f"{', '.join(names[:12])}; rename it, or teach it: mien finetune."
        )
    data: FaceDataset = unseen(classifier, own.dataset)
    rows = own.dataset.indices_of(data.ids)
    if len(data) < FEWEST or len(np.unique(own.together[rows])) < FOLDS:
        raise DataError(
            f"{data.where}: {len(data)} faces that {classifier.info.name} has not learned from are "
            f"too few to calibrate on; give {FEWEST} or more, of {FOLDS} people or images at least."
        )
    places = np.array([names.index(c.value) for c in data.classes])
    return _Answers(
        classifier.logits(data.images),
        places[data.labels],
        own.together[rows],
        tuple(own.qualities[i] for i in rows.tolist()),
    )


def _fitted(answers: _Answers, info: ModelInfo, wanted: float | None, seed: int) -> tuple[Fit, Fit]:
    """As the model is, and as it becomes: fitted on all, judged by parts that were kept out."""
    labels, logits = answers.labels, answers.logits
    right = logits.argmax(1) == labels
    fold = folds(labels, answers.together, FOLDS, seed)
    least = RULE.least if info.unsure_below is None else log_odds(info.unsure_below)
    old = softmax(logits, info.temperature).astype(np.float64)
    before = _judged(info.temperature, least, old, labels, answers.trust(old) >= least)
    crossed = np.empty_like(old)
    for k in range(FOLDS):
        out = fold == k
        crossed[out] = softmax(logits[out], temperature_of(logits[~out], labels[~out]))
    kept = negative_log_likelihood(labels, crossed) >= before.nll
    if kept:
        crossed = old
    temperature = info.temperature if kept else temperature_of(logits, labels)
    trust = answers.trust(crossed)
    answered = np.zeros(len(labels), np.bool_)
    for k in range(FOLDS):
        out = fold == k
        answered[out] = trust[out] >= _threshold(trust[~out], right[~out], wanted)
    new = answers.trust(softmax(logits, temperature).astype(np.float64))
    least = _threshold(new, right, wanted)
    if not right.any():
        raise DataError("None of these answers is right; are the labels those of the model?")
    if not math.isfinite(least):
        raise DataError(
            f"No threshold makes {wanted:.1%} of these answers right: {right.mean():.1%} are where "
            "every face is answered, and the surest are no better; ask for less."
        )
    return before, _judged(temperature, least, crossed, labels, answered)


def _threshold(trust: Floats, right: NDArray[np.bool_], wanted: float | None) -> float:
    """The least trust of an answer that is used; inf where none reaches ``wanted``."""
    if wanted is None:
        return float(np.quantile(trust[right], LOST, method="lower")) if right.any() else math.inf
    order = np.argsort(-trust, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    ordered = trust[order]
    last = np.append(np.diff(ordered) < 0, True)  # faces of equal trust go together
    reached = np.flatnonzero(last & (share >= wanted))
    return float(ordered[reached[-1]]) if len(reached) else math.inf


def _judged(
    temperature: float,
    least: float,
    p: Floats,
    labels: NDArray[np.int64],
    answered: NDArray[np.bool_],
) -> Fit:
    right = p.argmax(1) == labels
    return Fit(
        temperature=temperature,
        below=1 / (1 + math.exp(-least)),
        ece=reliability(p.max(1), right).ece,
        nll=negative_log_likelihood(labels, p),
        coverage=float(answered.mean()),
        accuracy=float(right[answered].mean()) if answered.any() else math.nan,
    )
