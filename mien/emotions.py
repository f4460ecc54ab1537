"""The one vocabulary of expressions: names, canonical order and each dataset's own codes.

Every name and index in mien comes from here; a dataset's codes are mapped when it is read.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

from mien.errors import DataError, nearest


class Label(str):
    """A class's name: an :class:`Emotion`, or any name that somebody gave a class of their own."""

    __slots__ = ()

    @property
    def value(self) -> str:
        """The name as a plain string."""
        return str.__str__(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
        """FastAPI's and pydantic's: text, read back by :func:`to_label`."""
        if issubclass(cls, Enum):
            return handler(source)
        read = {"type": "no-info", "function": to_label}
        return {"type": "function-after", "function": read, "schema": {"type": "str"}}


class Emotion(Label, Enum):
    """An expression label. The value is the canonical lower-case name used in every output."""

    ANGRY = "angry"
    DISGUST = "disgust"
    FEAR = "fear"
    HAPPY = "happy"
    SAD = "sad"
    SURPRISE = "surprise"
    NEUTRAL = "neutral"
    CONTEMPT = "contempt"

    def __str__(self) -> str:
        return self.value


#: The seven classes in FER2013's order (codes 0..6): the canonical order of every 7-class model.
FER2013: tuple[Emotion, ...] = tuple(e for e in Emotion if e is not Emotion.CONTEMPT)

#: Share of each class in FER2013's Training split, of 28,709 images.
_COUNTS = (3995, 436, 4097, 7215, 4830, 3171, 4965)
FER2013_PRIOR: Mapping[Label, float] = MappingProxyType(
    {emotion: count / 28709 for emotion, count in zip(FER2013, _COUNTS, strict=True)}
)

#: CK+48's seven classes: contempt, no neutral; canonical order.
CKPLUS: tuple[Emotion, ...] = tuple(e for e in Emotion if e is not Emotion.NEUTRAL)

#: All eight classes (FER+ majority voting has eight).
ALL: tuple[Emotion, ...] = tuple(Emotion)

#: The one palette, after Okabe and Ito (2008): told apart by colour-blind readers too. The first
#: colour is drawn on images and dark pages; the second is the same hue for a light page, where it
#: has a contrast of 3.5 or more against white.
_PALETTES: dict[Emotion, tuple[str, str]] = {
    Emotion.ANGRY: ("#D55E00", "#CF5400"),
    Emotion.DISGUST: ("#009E73", "#008560"),
    Emotion.FEAR: ("#CC79A7", "#B4558C"),
    Emotion.HAPPY: ("#F0E442", "#958400"),
    Emotion.SAD: ("#2B83C6", "#1F62A8"),
    Emotion.SURPRISE: ("#7CC8F2", "#2090C4"),
    Emotion.NEUTRAL: ("#C9CDD3", "#767D88"),
    Emotion.CONTEMPT: ("#E69F00", "#9C5B00"),
}
PALETTE = {emotion: dark for emotion, (dark, _) in _PALETTES.items()}
PALETTE_ON_LIGHT = {emotion: light for emotion, (_, light) in _PALETTES.items()}

#: Columns of ``fer2013new.csv`` (Barsoum et al. 2016), in file order; the last two are no emotion.
FERPLUS_COLUMNS: tuple[str, ...] = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)


def to_label(name: str) -> Label:
    """The field's :class:`Emotion` of exactly that name, else a :class:`Label` of one's own."""
    return _EMOTIONS.get(name) or Label(name)


def to_labels(names: Iterable[str]) -> tuple[Label, ...]:
    """Every name through :func:`to_label`; their colours are told apart in this order."""
    labels = tuple(to_label(name) for name in names)
    for label in labels:
        colour_of(label)
    return labels


_EMOTIONS: dict[str, Emotion] = {e.value: e for e in Emotion}
#: Names of one's own in the order in which this process met them, for their colours.
_MET: dict[str, int] = {}


def colour_of(label: str, on_light: bool = False) -> str:
    """ "#rrggbb" of a class: the palette's; names of one's own get further hues, in the order met.

    Those have a luminance of 0.2, which gives a contrast of 3.5 or more against white and against
    the dark pages alike.
    """
    emotion = _EMOTIONS.get(label)
    if emotion is not None:
        return (PALETTE_ON_LIGHT if on_light else PALETTE)[emotion]
    hue = (0.58 + 0.381966 * _MET.setdefault(str(label), len(_MET))) % 1  # by the golden angle
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        rgb = colorsys.hls_to_rgb(hue, middle, 0.7)
        red, green, blue = (c / 12.92 if c < 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb)
        too_bright = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.2
        low, high = (low, middle) if too_bright else (middle, high)
    return "#" + "".join(f"{round(255 * c):02X}" for c in rgb)


def has_colour(name: str) -> bool:
    """Whether ``name`` is an expression, or a class of a model that this process has met."""
    return name in _EMOTIONS or name in _MET


_ALIASES: dict[str, Emotion] = {
    "anger": Emotion.ANGRY,
    "disgusted": Emotion.DISGUST,
    "fearful": Emotion.FEAR,
    "afraid": Emotion.FEAR,
    "happiness": Emotion.HAPPY,
    "joy": Emotion.HAPPY,
    "sadness": Emotion.SAD,
    "surprised": Emotion.SURPRISE,
    "neutrality": Emotion.NEUTRAL,
    **_EMOTIONS,
}

#: FER+ vote column -> Emotion, for the eight columns that are emotions.
FERPLUS_EMOTIONS: tuple[Emotion, ...] = tuple(_ALIASES[c] for c in FERPLUS_COLUMNS[:8])


def parse_emotion(name: str) -> Emotion:
    """Map any dataset's spelling ("anger", "Happiness", "sad") to :class:`Emotion`.

    Raises:
        DataError: the name is no known expression; the message gives the nearest one.
    """
    key = name.strip().lower()
    if key in _ALIASES:
        return _ALIASES[key]
    known = f"; known: {', '.join(e.value for e in ALL)}."
    raise DataError(f"Unknown expression {name!r}{nearest(key, _ALIASES, known)}")


def parse_fer2013_code(code: int) -> Emotion:
    """Map FER2013's integer code 0..6 to :class:`Emotion`. Raises DataError outside that range."""
    if 0 <= code < len(FER2013):
        return FER2013[code]
    raise DataError(f"Unknown FER2013 emotion code {code}; expected 0 to 6.")
