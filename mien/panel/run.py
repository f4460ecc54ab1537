"""Runs the panel: photos through conditions through anything that finds and names faces."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mien.detect import Detector, load_detector
from mien.emotions import Label
from mien.errors import DataError, MienError
from mien.evaluate.metrics import averages, reliability, wilson
from mien.panel.conditions import CONDITIONS, VERSION, Condition, Image, Place
from mien.panel.sets import PanelPhoto, PanelSet
from mien.pipeline import Analyzer
from mien.text import printable

#: From this confidence on a wrong answer that is not marked unsure misleads.
CONFIDENT = 0.6


@dataclass(frozen=True)
class Answer:
    """What a package says of one face: its centre in pixels, probabilities, and any doubt."""

    x: float
    y: float
    probabilities: Mapping[Label, float]
    unsure: bool = False


#: (photo uint8 (H, W, 3) BGR, whether it already is one face) -> every face found.
Ask = Callable[[Image, bool], Sequence[Answer]]


def ask_analyzer(analyzer: Analyzer) -> Ask:
    """mien's own pipeline as the panel asks it."""

    def ask(image: Image, crop: bool) -> list[Answer]:
        faces = analyzer.analyze(image, color="bgr", faces=crop).faces
        return [
            Answer(*face.box.center, face.probabilities, bool(getattr(face, "unsure", False)))
            for face in faces
        ]

    return ask


@dataclass(frozen=True)
class CellScore:
    """One set under one condition. Shares are 0..1, None where nothing counts.

    Attributes:
        n, found: photos, and the share whose face was found.
        accuracy: right answers over all photos; what was not found counts as wrong.
        named: right answers over the faces found.
        macro_recall: mean over the classes present, over all photos.
        ece: expected calibration error of the faces found.
        misleading: of the wrong answers, the share with ``CONFIDENT`` or more and no doubt.
        right_unsure: of the right answers, the share marked unsure.
    """

    set: str
    condition: str
    group: str
    n: int
    found: float
    accuracy: float
    named: float | None
    macro_recall: float
    ece: float | None
    misleading: float | None
    right_unsure: float | None


@dataclass(frozen=True)
class GroupScore:
    """London's answers by what people say of themselves, with a 95 % interval (Wilson 1927)."""

    set: str
    tag: str
    group: str
    label: str
    n: int
    right: int
    low: float
    high: float


@dataclass(frozen=True)
class PanelReport:
    """Everything that a run of the panel measured."""

    version: str
    model: str
    half: str
    cells: tuple[CellScore, ...]
    groups: tuple[GroupScore, ...]
    remarks: Mapping[str, str]
    unreadable: int = 0
    first_unreadable: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def cell(self, name: str, condition: str = "clean") -> CellScore | None:
        found = (c for c in self.cells if (c.set, c.condition) == (name, condition))
        return next(found, None)

    def mean(self, value: Callable[[CellScore], float | None], clean: bool) -> float | None:
        """Mean of a figure over all cells that are clean, or over all that are not."""
        cells = [c for c in self.cells if (c.condition == "clean") == clean]
        known = [v for c in cells if (v := value(c)) is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class _Seen:
    photo: PanelPhoto
    answer: Answer | None

    @property
    def said(self) -> Label | None:
        p = self.answer.probabilities if self.answer else {}
        return max(p, key=lambda e: p[e]) if p else None

    @property
    def right(self) -> bool:
        return self.said == self.photo.label  # other packages answer with plain strings


def run_panel(
    ask: Ask,
    sets: Sequence[PanelSet],
    *,
    model: str = "",
    half: str = "development",
    limit: int | None = None,
    conditions: Sequence[str] | None = None,
    progress: Callable[[str, str], None] = lambda name, photo: None,
) -> PanelReport:
    """Score ``ask`` on one half of every set, under every condition.

    Args:
        ask: finds and names faces; :func:`ask_analyzer` for mien, any callable for others.
        half: "development" to choose on, "test" to report once, "all".
        limit: photos of each class and set at most.
        conditions: names of :data:`CONDITIONS`; all by default.
        progress: called before every photo: its set, and "3 of 120".

    Raises:
        DataError: an unknown condition or half, two sets of one name, or nothing is left to score.
    """
    known = {c.name: c for c in CONDITIONS}
    for name in conditions or ():
        if name not in known:
            raise DataError(f"Unknown condition {name!r}; known: {', '.join(known)}.")
    chosen = [known[name] for name in conditions or known]
    for name, count in Counter(s.name for s in sets).items():
        if count > 1:
            raise DataError(f"{count} sets of the panel are called {name!r}; rename one.")
    cells: list[CellScore] = []
    groups: list[GroupScore] = []
    used = [s.of_half(half).first(limit) for s in sets]
    used = [s for s in used if s.photos]
    if not used:
        raise DataError(f"No photo of the panel is in the {half} half.")
    unreadable: list[str] = []
    close = load_detector("yunet", 0.0125, 0.5)
    for panel_set in used:
        seen: dict[Condition, list[_Seen]]
        seen = {c: [] for c in chosen if c.crops or not panel_set.crops}
        for number, photo in enumerate(panel_set.photos, 1):
            progress(panel_set.name, f"{number} of {len(panel_set.photos)}")
            try:
                image = photo.image()
            except MienError:
                unreadable.append(f"{panel_set.name}/{photo.id}")
                continue
            place = _place(image, None if panel_set.crops else close)
            for condition, answers in seen.items():
                answers.append(_look(ask, panel_set.crops, photo, image, place, condition))
        for condition, answers in seen.items():
            cells += [_score(panel_set.name, condition, answers)] if answers else []
            groups += _groups(panel_set.name, answers) if condition.name == "clean" else []
    lost, first = len(unreadable), printable(next(iter(unreadable), ""))
    if not cells:
        why = "The conditions are not for faces already cut out."
        raise DataError(f"No photo could be read; the first is {first}." if lost else why)
    remarks = {s.name: s.remark for s in used}
    return PanelReport(VERSION, model, half, tuple(cells), tuple(groups), remarks, lost, first)


def _place(image: Image, detector: Detector | None) -> Place:
    """Where the face is on the photo as it is, by a detector that looks closely; where that finds
    none, the middle of the image stands for it."""
    found = [] if detector is None else detector.detect(image)
    if found:
        box = max(found, key=lambda d: d.box.area).box
        return (*box.center, math.sqrt(box.area))
    height, width = image.shape[:2]
    return width / 2, height / 2, float(min(width, height))


def _look(
    ask: Ask, crop: bool, photo: PanelPhoto, image: Image, place: Place, condition: Condition
) -> _Seen:
    changed, (x, y, side) = condition.change(image, place, photo.id)
    answers = ask(changed, crop)
    if not crop:
        answers = [a for a in answers if math.hypot(a.x - x, a.y - y) < side / 2]
        answers = sorted(answers, key=lambda a: math.hypot(a.x - x, a.y - y))
    return _Seen(photo, answers[0] if answers else None)


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _confidence(seen: _Seen) -> float:
    return max(seen.answer.probabilities.values()) if seen.answer else 0.0


def _score(name: str, condition: Condition, seen: Sequence[_Seen]) -> CellScore:
    classes = list(dict.fromkeys([*(s.photo.label for s in seen), *(s.said for s in seen)]))
    at = {label: i for i, label in enumerate(classes)}
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    for s in seen:
        confusion[at[s.photo.label], at[s.said]] += 1
    figures = averages(confusion)
    found = [s for s in seen if s.answer is not None]
    wrong = [s for s in found if not s.right]
    right = [s for s in found if s.right]
    confidence = np.array([_confidence(s) for s in found])
    hits = np.array([s.right for s in found], dtype=bool)
    return CellScore(
        set=name,
        condition=condition.name,
        group=condition.group,
        n=len(seen),
        found=len(found) / len(seen),
        accuracy=float(figures["accuracy"]),
        named=_share([s.right for s in found]),
        macro_recall=float(figures["macro_recall"]),
        ece=reliability(confidence, hits).ece if found else None,
        misleading=_share([_confidence(s) >= CONFIDENT and not _unsure(s) for s in wrong]),
        right_unsure=_share([_unsure(s) for s in right]),
    )


def _unsure(seen: _Seen) -> bool:
    return seen.answer is not None and seen.answer.unsure


def _groups(name: str, seen: Sequence[_Seen]) -> Iterator[GroupScore]:
    tags = dict.fromkeys(tag for s in seen for tag in s.photo.tags)
    for tag in tags:
        keys = sorted({(s.photo.tags[tag], s.photo.label) for s in seen if tag in s.photo.tags})
        for group, label in keys:
            some = [s for s in seen if s.photo.tags.get(tag) == group and s.photo.label == label]
            right = sum(s.right for s in some)
            low, high = wilson(right, len(some))
            yield GroupScore(name, tag, group, label.value, len(some), right, low, high)
