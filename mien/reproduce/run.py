"""One run of a reproduction's record: its network, its seeds and their scores.

Accuracies are fractions, what is missing is None, a run that was not done has the state "not run".
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mien.models.registry import LayerRow


def from_json(kind: Any, value: Any) -> Any:
    """``value`` as it comes out of JSON, as a ``kind``: a dataclass of dataclasses, tuples,
    mappings and plain values. A dataclass is given by names, where those that it has not are left
    out, or as a list of its first fields.

    Raises:
        TypeError, ValueError, AttributeError: ``value`` has another form.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        # An empty mapping stands for a dataclass that is not there.
        if value is None or (value == {} and dataclasses.is_dataclass(arguments[0])):
            return None
        return from_json(arguments[0], value)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        value = dict(zip(hints, value, strict=False)) if isinstance(value, list) else value
        return kind(**{k: from_json(hints[k], v) for k, v in value.items() if k in hints})  # type: ignore[operator]
    if origin is tuple:
        inner = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return tuple(from_json(k, v) for k, v in zip(inner, value, strict=True))
    if origin is not None:  # a mapping by names
        return {arguments[0](k): from_json(arguments[1], v) for k, v in value.items()}
    plain = (int, float) if kind is float else kind
    if kind is not Any and not isinstance(value, plain):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


DONE, PARTIAL, NOT_RUN = "done", "partial", "not run"

#: One epoch of ``curves.csv``: column -> value.
Epoch = Mapping[str, float]
#: Class -> images.
Counts = Mapping[str, int]


def mean(values: Sequence[float]) -> float | None:
    """Mean of at least one value, to six digits."""
    return round(float(np.mean(values)), 6) if values else None


def std(values: Sequence[float]) -> float | None:
    """Standard deviation (n - 1) of at least two values, to six digits."""
    return round(float(np.std(values, ddof=1)), 6) if len(values) > 1 else None


@dataclass(frozen=True)
class ClassRow:
    """One row of a classification report, ours or printed; None where it has nothing."""

    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    support: int | None = None
    predicted: int | None = None
    roc_auc: float | None = None
    average_precision: float | None = None


@dataclass(frozen=True)
class Roc:
    """The ROC curve of one class against the rest."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    area: float | None = None


@dataclass(frozen=True)
class Figures:
    """Every figure of one scoring; see :class:`mien.evaluate.scores.Scores`."""

    n: int
    accuracy: float
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    per_class: Mapping[str, ClassRow]
    accuracy_ci: tuple[float, float] | None = None
    balanced_accuracy: float | None = None
    balanced_accuracy_ci: tuple[float, float] | None = None
    macro_precision: float | None = None
    macro_recall: float | None = None
    macro_f1: float | None = None
    macro_f1_ci: tuple[float, float] | None = None
    weighted_precision: float | None = None
    weighted_recall: float | None = None
    weighted_f1: float | None = None
    cohen_kappa: float | None = None
    top2_accuracy: float | None = None
    macro_roc_auc: float | None = None
    macro_average_precision: float | None = None
    nll: float | None = None
    brier: float | None = None
    ece: float | None = None
    mean_confidence: float | None = None
    aurc: float | None = None
    roc: Mapping[str, Roc | None] | None = None


@dataclass(frozen=True)
class Score:
    """One checkpoint on one set of images; ``notes`` are warnings that its figures give."""

    key: str
    checkpoint: str
    split: str
    why: str
    n: int
    scores: Figures
    epoch: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resumed:
    """When, and with what, a stopped training went on."""

    started: str = ""
    commit: str = ""
    precision: str = ""
    threads: int | None = None
    cpu: str = ""
    gpu: str | None = None
    note: str = ""
    device: str = ""
    mien: str = ""


@dataclass(frozen=True)
class Environment:
    """Versions, commit and hardware."""

    mien: str = ""
    commit: str = ""
    python: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    cpu: str = ""
    threads: int | None = None
    gpu: str | None = None
    precision: str = ""
    precision_why: str = ""
    resumed: tuple[Resumed, ...] = ()

    @property
    def machine(self) -> str:
        """ "NVIDIA H100", or "Some Processor (2 threads)"; "" where it is not known."""
        if self.gpu or not self.cpu or not self.threads:
            return self.gpu or self.cpu
        return f"{self.cpu} ({self.threads} thread{'' if self.threads == 1 else 's'})"


@dataclass(frozen=True)
class Seed:
    """One training: a seed, or a fold of a cross-validation."""

    seed: int
    state: str
    fold: int | None = None
    best_epoch: int | None = None
    epochs: int = 0
    seconds: float | None = None
    command: str = ""
    started: str = ""
    environment: Environment = Environment()
    curves: tuple[Epoch, ...] = ()
    scores: tuple[Score, ...] = ()

    @property
    def number(self) -> int:
        return self.seed if self.fold is None else self.fold

    @property
    def name(self) -> str:
        """ "seed 0", "fold 3"."""
        return f"{'seed' if self.fold is None else 'fold'} {self.number}"

    def score(self, key: str) -> Score | None:
        return next((score for score in self.scores if score.key == key), None)

    def measure(self, figure: str) -> float | None:
        """One figure: "last.val_loss" or "best.val_accuracy" (a column of the curves), "test" (the
        accuracy of the score "test") or "test.macro_f1"; None where there is none."""
        head, _, rest = figure.partition(".")
        if head in ("last", "best"):
            last = self.curves[-1]["epoch"] if self.curves else None
            epoch = last if head == "last" else self.best_epoch
            return next((row.get(rest) for row in self.curves if row["epoch"] == epoch), None)
        score = self.score(head)
        return None if score is None else getattr(score.scores, rest or "accuracy")


@dataclass(frozen=True)
class Deviation:
    """A recipe's key, or a word, in which a run differs from the paper, or in which the paper had
    to be read: both values ("not given" where the paper is silent), and why, in one sentence."""

    field: str
    paper: Any
    ours: Any
    why: str = ""


@dataclass(frozen=True)
class Parameters:
    """How many a network has, by Keras' count; ``paper_total`` is printed in the paper."""

    total: int | None = None
    trainable: int | None = None
    paper_total: int | None = None


@dataclass(frozen=True)
class Seconds:
    """Wall-clock seconds of each finished training."""

    mean: float | None = None
    each: tuple[float, ...] = ()


@dataclass(frozen=True)
class Summary:
    """The accuracies of every finished seed or fold."""

    n_seeds: int
    mean: float | None
    std: float | None
    each: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """One network trained one way."""

    id: str
    label: str
    state: str
    dataset: str
    protocol: str
    why_not_run: str = ""
    recipe: Mapping[str, Any] | None = None
    paper_recipe: Mapping[str, Any] | None = None
    deviations: tuple[Deviation, ...] | None = None
    parameters: Parameters | None = None
    multiply_adds: int | None = None
    layers: tuple[LayerRow, ...] = ()
    seconds: Seconds = Seconds()
    paper_seconds: float | None = None
    paper_hardware: str = ""
    paper_report: Mapping[str, ClassRow] = field(default_factory=dict)
    paper_accuracy: Mapping[str, float] = field(default_factory=dict)
    seeds: tuple[Seed, ...] = ()
    summary: Mapping[str, Summary] = field(default_factory=dict)

    @property
    def done(self) -> tuple[Seed, ...]:
        """The finished seeds or folds; one that was killed on its way has no figures yet."""
        return tuple(seed for seed in self.seeds if seed.state == DONE)

    def scored(self, key: str) -> list[tuple[Seed, Score]]:
        """The finished seeds that have the score ``key``."""
        return [(seed, score) for seed in self.done if (score := seed.score(key)) is not None]

    @property
    def keys(self) -> list[str]:
        """Those of the scores that any finished seed has, in their order."""
        return list(dict.fromkeys(score.key for seed in self.done for score in seed.scores))

    def summarised(self, key: str) -> Summary:
        """The accuracy of every finished seed or fold under the score ``key``."""
        each = [score.scores.accuracy for _, score in self.scored(key)]
        return Summary(len(each), mean(each), std(each), tuple(each))

    def measured(self, figure: str) -> list[float]:
        """The figure of every finished seed or fold; see :meth:`Seed.measure`."""
        return [v for seed in self.done if (v := seed.measure(figure)) is not None]
