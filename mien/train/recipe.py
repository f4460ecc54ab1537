"""A recipe says everything about a training run: frozen dataclasses and ``--set key=value``."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mien.errors import RecipeError, nearest
from mien.train.ranges import check_values, sizes


@dataclass(frozen=True)
class OptimizerConfig:
    """name: adam, adamw, nadam, sgd (Nesterov) or muon. ``eps`` 1e-7 is Keras' default.

    muon (see :class:`mien.train.optimizers.Muon`) updates the convolutions with ``lr``; the dense
    layers, biases and batch norms go by SGD with Nesterov at ``lr`` × ``rest_scale``.

    Attributes:
        bias_scale: biases and batch norms learn at ``lr`` × this (the CIFAR speed records use 64).
        renormalise: muon: every convolution keeps the norm it started with, instead of decay.
    """

    name: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-7
    rest_scale: float = 1.0
    bias_scale: float = 1.0
    renormalise: bool = False


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over time.

    constant; onecycle (linear up over ``warmup`` of all steps, then linear down to
    ``final`` × lr); cosine (the same warm-up, then half a cosine down to ``final`` × lr); plateau
    (times ``factor`` after ``patience`` epochs without a better ``val_accuracy``, not under
    ``min_lr``).
    """

    name: str = "constant"
    warmup: float = 0.0
    final: float = 0.0
    factor: float = 0.1
    patience: int = 10
    min_lr: float = 0.0


@dataclass(frozen=True)
class LossConfig:
    """Cross-entropy and what is added to it.

    Attributes:
        label_smoothing: mass spread over all classes.
        class_weights: "none" or "balanced" (n / (classes × n_class), as scikit-learn).
        mixup: alpha of the beta distribution (Zhang et al. 2018); 0 = off.
        cutmix: the same for pasting a rectangle of another image (Yun et al. 2019); where both
            are on, a coin decides for every batch.
        name: "ce" (cross-entropy), or against wrong labels "gce" (generalised cross-entropy, Zhang
            & Sabuncu 2018) or "sce" (symmetric cross-entropy, Wang et al. 2019).
        gce_q: between 0 (cross-entropy) and 1 (mean absolute error).
        sce_reverse: weight of the reverse cross-entropy that "sce" adds.
        ferplus_auxiliary: weight of a second head that predicts the ten FER+ vote shares (KL
            divergence); it is dropped after training. 0 = off.
        ferplus_blend: share of the target taken from the FER+ votes for the model's own classes,
            where a sample has any; 0 = the dataset's labels alone.
        logit_adjustment: training adds this times the log share of each class in the image's source
            to the logits (Menon et al. 2021): at 1 the network's own answer is then that of classes
            with the shares of ``prior``, which its file states. 0 = off.
        prior: shares of classes, by name; those not named divide the rest evenly.
    """

    label_smoothing: float = 0.0
    class_weights: str = "none"
    mixup: float = 0.0
    ferplus_auxiliary: float = 0.0
    ferplus_blend: float = 0.0
    cutmix: float = 0.0
    name: str = "ce"
    gce_q: float = 0.7
    sce_reverse: float = 1.0
    logit_adjustment: float = 0.0
    prior: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AugmentConfig:
    """What is varied. Zero switches a part off; ranges are uniform.

    Attributes:
        flip: probability of mirroring left and right.
        rotation: largest angle in degrees, both ways.
        scale: largest relative change of size, both ways (0.15: 0.85 to 1.15).
        stretch: largest relative change of the width alone, on top of ``scale``.
        shift: largest shift as a fraction of the side, both axes.
        brightness: largest relative change of brightness (pixels times 1 ± b).
        contrast: largest relative change of contrast about the image's mean.
        erasing: probability of covering a rectangle with grey noise (Zhong et al. 2017).
        erasing_area: largest share of the image that the rectangle covers.
        crop: pixels of random crop: pad by reflection, then cut at a random place.
        fill: what lies outside the image: "reflect" or "border" or "zeros".
        resized_crop: smallest share of the image's area that a random-resized crop keeps
            (Szegedy et al. 2015; aspect 3:4 to 4:3, wholly inside the image); 0 = off.
        alternating: mirror every image in every other epoch (Jordan 2024) instead of at random:
            ``augment`` is then told which.
        interpolation: "bilinear" or "bicubic". Bilinear sampling halves the finest detail, which
            the images that are scored still have (Touvron et al. 2019 on such a mismatch);
            bicubic keeps three quarters of it for four times the time of the augmentation.
        degraded: share of the images that :mod:`mien.train.degrade` makes as poor as photos from
            life, after all of the above; the others get its milder framing and light. In the last
            quarter of the epochs the share falls to three quarters, then to half of it.
    """

    flip: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erasing: float = 0.0
    erasing_area: float = 0.2
    crop: int = 0
    fill: str = "border"
    resized_crop: float = 0.0
    alternating: bool = False
    interpolation: str = "bilinear"
    degraded: float = 0.0

    @property
    def geometric(self) -> bool:
        parts = (self.flip, self.rotation, self.scale, self.stretch, self.shift, self.crop)
        return any((*parts, self.resized_crop, self.alternating))


@dataclass(frozen=True)
class WeightConfig:
    """The weight of doubtful training images, 0..1; 1 changes nothing, 0 leaves them out.

    An image under several rules gets the smallest of their weights.

    Attributes:
        not_a_face: most FER+ raters said "no face" (150 of FER2013's Training images).
        constant: the image is one even grey.
        conflicting: a byte-identical image has another label.
        copies: a later byte-identical copy with the same label; the first one counts in full.
        unsupported: not one FER+ rater saw the expression of the label.
    """

    not_a_face: float = 1.0
    constant: float = 1.0
    conflicting: float = 1.0
    copies: float = 1.0
    unsupported: float = 1.0

    @property
    def active(self) -> dict[str, float]:
        """The rules that change something."""
        values = {f.name: float(getattr(self, f.name)) for f in fields(self)}
        return {name: value for name, value in values.items() if value != 1}


@dataclass(frozen=True)
class DistillConfig:
    """Learning from teachers (Hinton et al. 2015); ``mien distill`` names them.

    Attributes:
        weight: share of the teachers' soft targets in the loss, 0 = no teachers.
        temperature: both sides' logits are divided by it.
        unlabelled: name of the set of extra images that only the teachers label; "" = none.
        variants: the augmented images of so many epochs come again, and the teachers answer each
            once; the clean epochs show each image and its mirror image in turn. 0 = always new.
        clean: the teachers answer every image once, as it is, whatever the student sees of it.
        sources: names of the sources whose images they answer, spaces between; "" = all.
    """

    weight: float = 0.0
    temperature: float = 2.0
    unlabelled: str = ""
    variants: int = 0
    clean: bool = False
    sources: str = ""


@dataclass(frozen=True)
class Recipe:
    """A named, complete description of one training run.

    Attributes:
        name, paper, claim: what it is, where it comes from, what it reaches.
        model, model_args: registry name and keyword arguments. protocol: named data protocol.
        draws: how often an epoch shows an image (else once), by the source that its id begins with
            and its class: "ckplus:", "fer2013:disgust".
        pixels: "unit" (p / 255) or "standardise" (by the training mean and deviation).
        ema: decay of the averaged weights, which are then scored; 0 = off.
        clean_epochs: last epochs without augmentation (flip stays).
        dropout_off: last epochs without dropout: before batch norms it teaches them a variance
            that inference never sees (Li et al. 2019, "variance shift").
        early_stopping: epochs without a better val_accuracy before stopping; 0 = off.
        precision: "auto", "32" or "bf16".
        init: "random", "imagenet" (backbones) or a file of weights: :mod:`mien.models.weights`.
        weights: what doubtful training images count for.
        distill: how teachers are followed.
        progressive: (from this share of the epochs on, side in pixels) pairs; () = full size
            throughout, as validation and the teachers always have it.
        frozen_scale: batch norms keep the scale 1.
    """

    model: str
    name: str = ""
    paper: str = ""
    claim: str = ""
    protocol: str = "fer2013"
    model_args: Mapping[str, Any] = field(default_factory=dict)
    draws: Mapping[str, float] = field(default_factory=dict)
    pixels: str = "unit"
    batch_size: int = 64
    epochs: int = 30
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    ema: float = 0.0
    clean_epochs: int = 0
    dropout_off: int = 0
    early_stopping: int = 0
    precision: str = "auto"
    init: str = "random"
    weights: WeightConfig = field(default_factory=WeightConfig)
    distill: DistillConfig = DistillConfig()
    progressive: tuple[tuple[float, int], ...] = ()
    frozen_scale: bool = False

    def __post_init__(self) -> None:
        check_values(self)
        object.__setattr__(self, "progressive", sizes(self.progressive))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def differences(self, other: Recipe) -> list[str]:
        """The keys in which two trainings differ ("optimizer.lr"); the claim is none of them."""
        mine, theirs = (flat(r.to_dict()) for r in (self, other))
        keys = dict.fromkeys([*mine, *theirs])
        return [k for k in keys if k != "claim" and mine.get(k) != theirs.get(k)]

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """A recipe of :meth:`to_dict`. Raises RecipeError for unknown keys and wrong types."""
        try:
            made: Recipe = _build(cls, data, "")
        except (AttributeError, TypeError) as error:
            raise RecipeError(f"The recipe is malformed: {error}.") from None
        return made


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optimizer": {"lr": 1}} -> {"optimizer.lr": 1}; an empty mapping stays a value."""
    found: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _build(cls: type[Any], data: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in hints:
            raise RecipeError(f"Unknown recipe key {prefix + key!r}{nearest(key, hints)}")
        kind = hints[key]
        nested = isinstance(kind, type) and dataclasses.is_dataclass(kind)
        values[key] = _build(kind, value, f"{key}.") if nested else value
    return cls(**values)


def _parse(text: str, kind: Any, key: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if kind in (int, float):
            return kind(text)
        if kind is str:
            return text
        return json.loads(text)
    except (ValueError, KeyError):
        name = getattr(kind, "__name__", "JSON")
        raise RecipeError(f"--set {key}={text}: {text!r} is no {name}.") from None


def override(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Apply ``key=value`` settings ("optimizer.lr=0.1", "model_args.dropout=0.2").

    Raises:
        RecipeError: no "=", an unknown key (the nearest is named) or a value of the wrong type.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting}: write key=value.")
        recipe = _set(recipe, key.strip().split("."), text.strip(), key)
    return recipe


def _set(node: Any, path: list[str], text: str, key: str) -> Any:
    head, rest = path[0], path[1:]
    if isinstance(node, Mapping):  # model_args: any keyword, JSON if it parses
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        return {**node, head: value}
    hints = typing.get_type_hints(type(node))
    if head not in hints:
        raise RecipeError(f"--set {key}: no such key{nearest(head, flat_keys(node))}")
    if rest:
        child = getattr(node, head)
        if not (dataclasses.is_dataclass(child) or isinstance(child, Mapping)):
            raise RecipeError(f"--set {key}: {head!r} has no parts.")
        return dataclasses.replace(node, **{head: _set(child, rest, text, key)})
    if dataclasses.is_dataclass(getattr(node, head)):
        parts = ", ".join(f"{head}.{f.name}" for f in dataclasses.fields(getattr(node, head)))
        raise RecipeError(f"--set {key}: name one of its parts: {parts}.")
    return dataclasses.replace(node, **{head: _parse(text, hints[head], key)})


def flat_keys(node: Any) -> list[str]:
    """Every key that ``--set`` knows, dotted."""
    return list(flat(dataclasses.asdict(node)))
