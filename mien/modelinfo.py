"""ModelInfo: what a classifier file says about itself, carried in the ONNX metadata.

Nothing is ever inferred from a file's name. The whole record is one JSON object under the metadata
key ``mien``; a file without that key is not mien's and is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mien.emotions import FER2013_PRIOR, Label, to_label, to_labels
from mien.errors import ModelError
from mien.text import printable

METADATA_KEY = "mien"
FORMAT_VERSION = 1

#: What the numbers of a record may be. A file is not trusted because it can be read.
SIDES = (8, 512)
_WHOLE = {
    "input_size": SIDES,
    "channels": (1, 3),
    "parameters": (0, 10**12),
    "multiply_adds": (0, 10**15),
    "format_version": (0, FORMAT_VERSION),
}
_REAL = {
    "mean": (-10.0, 10.0),
    "std": (1e-4, 100.0),
    "crop_scale": (0.2, 5.0),
    "crop_shift_y": (-1.0, 1.0),
    "temperature": (0.01, 100.0),
    "unsure_below": (0.0, 1.0),
}
_LONGEST_TEXT = 2000
_DEEPEST = 8


@dataclass(frozen=True)
class ModelInfo:
    """Everything that inference needs to know of a classifier, and everything a user should.

    The network takes ``images``: float32 (N, channels, input_size, input_size), pixel values
    ``(p / 255 - mean) / std``, and gives ``logits``: float32 (N, len(labels)). Probabilities are
    ``softmax(logits / temperature)``.

    Attributes:
        name: short name, e.g. "mien_distilled".
        labels: the classes in output order.
        input_size: side of the square input in pixels.
        channels: 1 (grey) or 3 (grey repeated).
        mean, std: standardisation on the 0..1 scale.
        crop_scale: side of the crop over the side of FER2013's frame of the same face
            (``mien.preprocess.face_square``); 1 for a model trained on FER2013.
        crop_shift_y: shift of the crop's centre downwards, as a fraction of that frame.
        temperature: softmax temperature fitted on the validation split (1 = none).
        unsure_below: confidence, 0..1, below which an answer on a flawless face is unsure, as
            ``mien calibrate`` fitted it; None is :data:`mien.quality.RULE`'s.
        architecture, recipe, seed: what was trained and how.
        training_data, protocol, licence: what it was trained on and what that permits.
        parameters, multiply_adds: size of the float network (per face).
        precision: "float32" or "int8".
        prior: share of each class among what it was trained on, label -> 0..1, or empty where that
            is not known; see :func:`prior_weights`.
        data_sha256: of the training data as read (:attr:`mien.data.FaceDataset.sha256`), or "".
        train_ids_sha256: of the sorted ids of the images that it was trained on, or "".
        learned: of a model of one's own classes, the fingerprints of the faces that it learned
            from or was chosen on (:func:`mien.data.dataset.fingerprint`): they are never scored.
        scores: measured figures, e.g. {"PublicTest": {"accuracy": .71, "n": 3589}}.
        created_with: version of mien that wrote the file.
    """

    name: str
    labels: tuple[Label, ...]
    input_size: int = 48
    channels: int = 1
    mean: float = 0.0
    std: float = 1.0
    crop_scale: float = 1.0
    crop_shift_y: float = 0.0
    temperature: float = 1.0
    unsure_below: float | None = None
    architecture: str = ""
    recipe: str = ""
    seed: int | None = None
    training_data: str = ""
    protocol: str = ""
    licence: str = ""
    parameters: int = 0
    multiply_adds: int = 0
    precision: str = "float32"
    prior: Mapping[Label, float] = field(default_factory=dict)
    data_sha256: str = ""
    train_ids_sha256: str = ""
    learned: tuple[str, ...] = ()
    scores: Mapping[str, Any] = field(default_factory=dict)
    created_with: str = ""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        self._check_values()
        for name in _TEXT:  # they are shown in tables, reports and messages
            object.__setattr__(self, name, printable(getattr(self, name)))
        object.__setattr__(self, "labels", to_labels(map(printable, self.labels)))
        object.__setattr__(self, "learned", tuple(self.learned))
        if len(set(self.labels)) != len(self.labels) or len(self.labels) < 2:
            raise ModelError(f"Model {self.name!r} needs at least two distinct labels.")
        if self.prior:
            prior = {to_label(label): share for label, share in self.prior.items()}
            if prior.keys() != set(self.labels) or not _is_distribution(prior.values()):
                raise ModelError(f"Model {self.name!r} has a prior that does not fit its labels.")
            object.__setattr__(self, "prior", prior)

    def _check_values(self) -> None:
        """Types and ranges. Raises ModelError."""
        for name in _TEXT:
            if not isinstance(value := getattr(self, name), str) or len(value) > _LONGEST_TEXT:
                raise ModelError(f"{name} is {_short(value)}; expected a short text.")
        for name, (low, high) in {**_WHOLE, **_REAL}.items():
            value = getattr(self, name)
            if value is None and name == "unsure_below":
                continue
            kinds = int if name in _WHOLE else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                raise ModelError(f"{name} is {_short(value)}; expected {low:g} to {high:g}.")
        if self.channels == 2:
            raise ModelError(f"Model {self.name!r} has 2 channels; expected 1 or 3.")
        if self.seed is not None and not isinstance(self.seed, int):
            raise ModelError(f"seed is {_short(self.seed)}; expected a whole number.")
        if not _is_list(self.labels):
            raise ModelError(f"labels are {_short(self.labels)}; expected a list of names.")
        if not _is_list(self.learned) or any(len(mark) > 64 for mark in self.learned):
            raise ModelError(f"learned is {_short(self.learned)}; expected a list of fingerprints.")
        for name in ("scores", "prior"):
            if not isinstance(value := getattr(self, name), Mapping) or not _is_flat(value):
                raise ModelError(f"{name} is {_short(value)}; expected a table.")

    def to_metadata(self) -> dict[str, str]:
        """The ONNX ``metadata_props`` entries that describe this model."""
        record = asdict(self)
        record["labels"] = [label.value for label in self.labels]
        record["prior"] = {label.value: share for label, share in self.prior.items()}
        record["scores"] = dict(self.scores)
        return {METADATA_KEY: json.dumps(record, sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], source: str = "the model") -> ModelInfo:
        """Read the record back. ``source`` names the file in error messages.

        Raises:
            ModelError: the record is missing, damaged, of a newer format or impossible.
        """
        if METADATA_KEY not in metadata:
            raise ModelError(
                f"{source} is not a mien model: its ONNX metadata has no {METADATA_KEY!r} record; "
                "make one with `mien export`."
            )
        try:
            record = json.loads(
                metadata[METADATA_KEY], parse_constant=_refuse_number, parse_float=_finite
            )
            version = record.get("format_version", 0)
            if isinstance(version, int) and version > FORMAT_VERSION:
                raise ModelError(
                    f"it was written by a newer mien (format {_short(version)}); upgrade mien."
                )
            known = {f.name for f in fields(cls)}
            return cls(**{k: v for k, v in record.items() if k in known})
        except ModelError as error:
            raise ModelError(f"{source}: {error}") from None
        except RecursionError:
            raise ModelError(f"{source} carries a damaged mien record: too deep.") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{source} carries a damaged mien record: {_short(error)}") from None


_TEXT = tuple(f.name for f in fields(ModelInfo) if f.type == "str")


def spread_prior(named: Mapping[str, float], labels: Iterable[Label]) -> dict[Label, float]:
    """The shares of all classes where those not ``named`` divide the rest evenly.

    Raises:
        ModelError: a name is no label, or nothing is left for the others.
    """
    known = {label.value: label for label in labels}
    rest = (1 - sum(named.values())) / max(len(known) - len(named), 1)
    if not named.keys() <= known.keys() or not all(0 < v < 1 for v in (*named.values(), rest)):
        raise ModelError(
            f"prior is {_short(dict(named))}; expected shares of some of {', '.join(known)} that "
            "leave something for the others."
        )
    return {label: named.get(name, rest) for name, label in known.items()}


def known_prior(info: ModelInfo) -> Mapping[Label, float] | None:
    """The shares of the classes that the model states, or FER2013's where it learned on its
    Training split; None where they are not known."""
    if info.prior:
        return info.prior
    fer2013 = info.training_data.startswith("fer2013") and set(info.labels) == set(FER2013_PRIOR)
    return FER2013_PRIOR if fer2013 else None


def prior_weights(info: ModelInfo, prior: str) -> tuple[float, ...]:
    """Factors that move probabilities from the training's class prior to another one.

    By Bayes' rule ``p_i * new_i / old_i``, renormalised, is what the same likelihoods give under
    the new prior (Saerens et al. 2002).

    Args:
        info: the model; a network of FER2013's Training split that states no prior has that
            split's.
        prior: "balanced" (every class as likely) or "fer2013" (the shares of its Training split).

    Returns:
        One factor for each of ``info.labels``.

    Raises:
        ModelError: an unknown word, a model whose prior is not known, or "fer2013" for other
            classes than FER2013's.
    """
    old = known_prior(info)
    if old is None:
        raise ModelError(
            f"Model {info.name!r} does not state the prior of its classes; leave prior out."
        )
    if prior == "balanced":
        new = dict.fromkeys(info.labels, 1 / len(info.labels))
    elif prior == "fer2013" and set(info.labels) == set(FER2013_PRIOR):
        new = dict(FER2013_PRIOR)
    else:
        raise ModelError(
            f"prior is {prior!r}; expected balanced, or fer2013 for a model of its seven classes."
        )
    return tuple(new[label] / old[label] for label in info.labels)


def _is_distribution(shares: Iterable[Any]) -> bool:
    values = list(shares)
    numbers = all(isinstance(v, (int, float)) and 0 < v <= 1 for v in values)
    return numbers and math.isclose(sum(values), 1, abs_tol=1e-3)


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value)


def _is_flat(value: object, depth: int = 0) -> bool:
    """Whether tables and lists are nested less than :data:`_DEEPEST` times."""
    if not isinstance(value, (Mapping, list, tuple)):
        return True
    inner = value.values() if isinstance(value, Mapping) else value
    return depth < _DEEPEST and all(_is_flat(v, depth + 1) for v in inner)


def _short(value: object) -> str:
    try:
        text = str(value) if isinstance(value, Exception) else repr(value)
    except ValueError:  # a whole number of too many digits
        return "a huge number"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _finite(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _refuse_number(text)


def _refuse_number(text: str) -> float:
    raise ValueError(f"{text[:20]} is no number")
