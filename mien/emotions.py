"""The one vocabulary of expressions: names, canonical order and each dataset's own codes.

Every name and index in mien comes from here; a dataset's codes are mapped when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from mien.errors import DataError, nearest


class Emotion(str, Enum):
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
FER2013: tuple[Emotion, ...] = (
    Emotion.ANGRY,
    Emotion.DISGUST,
    Emotion.FEAR,
    Emotion.HAPPY,
    Emotion.SAD,
    Emotion.SURPRISE,
    Emotion.NEUTRAL,
)

#: Share of each class in FER2013's Training split: 3995, 436, 4097, 7215, 4830, 3171 and 4965 of
#: 28,709 images.
FER2013_PRIOR: Mapping[Emotion, float] = MappingProxyType(
    {
        emotion: count / 28709
        for emotion, count in zip(FER2013, (3995, 436, 4097, 7215, 4830, 3171, 4965), strict=True)
    }
)

#: CK+48's seven classes: contempt, no neutral; canonical order.
CKPLUS: tuple[Emotion, ...] = (
    Emotion.ANGRY,
    Emotion.DISGUST,
    Emotion.FEAR,
    Emotion.HAPPY,
    Emotion.SAD,
    Emotion.SURPRISE,
    Emotion.CONTEMPT,
)

#: All eight classes (FER+ majority voting has eight).
ALL: tuple[Emotion, ...] = (*FER2013, Emotion.CONTEMPT)

#: The one palette, after Okabe and Ito (2008): told apart by colour-blind readers too. It is drawn
#: on images and on dark pages.
PALETTE: dict[Emotion, str] = {
    Emotion.ANGRY: "#D55E00",
    Emotion.DISGUST: "#009E73",
    Emotion.FEAR: "#CC79A7",
    Emotion.HAPPY: "#F0E442",
    Emotion.SAD: "#2B83C6",
    Emotion.SURPRISE: "#7CC8F2",
    Emotion.NEUTRAL: "#C9CDD3",
    Emotion.CONTEMPT: "#E69F00",
}

#: The same hues on a light page, where each has a contrast of 3.5 or more against white.
PALETTE_ON_LIGHT: dict[Emotion, str] = {
    Emotion.ANGRY: "#CF5400",
    Emotion.DISGUST: "#008560",
    Emotion.FEAR: "#B4558C",
    Emotion.HAPPY: "#958400",
    Emotion.SAD: "#1F62A8",
    Emotion.SURPRISE: "#2090C4",
    Emotion.NEUTRAL: "#767D88",
    Emotion.CONTEMPT: "#9C5B00",
}

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
    **{e.value: e for e in Emotion},
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
