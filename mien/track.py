"""Faces over time: who is who from frame to frame, and scores that do not flicker.

    tracker, smoother = Tracker(), Smoother()
    for frame, seconds in video:
        faces = analyzer.analyze(frame, color="bgr").faces
        faces = smoother.update(tracker.update(faces, seconds), seconds)

Tracking is by overlap and motion, as in SORT (Bewley et al. 2016), with ByteTrack's second round
of matching (Zhang et al. 2022) for what the first leaves over. It is written here, in plain
Python, because the libraries that do it (supervision, norfair) bring SciPy and matplotlib or a
Kalman filter package, a hundred times the size of this file, and ``mien video`` shall work with
the base install.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from mien.emotions import Label, to_label
from mien.errors import MienError
from mien.results import Box, Face

#: Least overlap (intersection over union) of the predicted and the found box: first round.
MIN_IOU = 0.25
#: Second round: distance between the centres in face sides, and what a second without a match adds.
REACH, REACH_PER_SECOND = 0.75, 2.0
#: Faces that differ more than this in side are never the same in the second round.
MAX_SIDE_RATIO = 1.7
#: Seconds over which a speed is averaged, and after which a hidden face's speed is forgotten.
SPEED_SECONDS, SPEED_MEMORY = 0.15, 0.4


@dataclass
class _Track:
    """A face that is followed: its last box, its centre's speed in pixels a second."""

    id: int
    box: Box
    time: float
    speed: tuple[float, float] = (0.0, 0.0)

    def predict(self, time: float) -> Box:
        """Where the face should be now; a hidden face coasts to a stop."""
        gap = max(0.0, time - self.time)
        moved = SPEED_MEMORY * (1 - math.exp(-gap / SPEED_MEMORY))
        dx, dy = (v * moved for v in self.speed)
        return Box(self.box.x + dx, self.box.y + dy, self.box.width, self.box.height)

    def see(self, box: Box, time: float) -> None:
        gap = time - self.time
        if gap > 0:
            (x, y), (old_x, old_y) = box.center, self.box.center
            weight = 1 - math.exp(-gap / SPEED_SECONDS)
            self.speed = (
                self.speed[0] + weight * ((x - old_x) / gap - self.speed[0]),
                self.speed[1] + weight * ((y - old_y) / gap - self.speed[1]),
            )
            self.time = time
        self.box = box


class Tracker:
    """Gives every face the number it had in the frames before. One per video or stream.

    A number is never given twice. Faces are matched by their boxes alone, so after a cut a face
    in the same place may inherit the number of the one before it: call :meth:`cut` there.

    Args:
        max_gap: seconds a face may be hidden (or missed by the detector) and keep its number.

    Raises:
        MienError: ``max_gap`` is negative or not finite.
    """

    def __init__(self, max_gap: float = 1.0) -> None:
        self.max_gap = _at_least_zero("max_gap", max_gap)
        self._tracks: list[_Track] = []
        self._next = 1

    def update(self, faces: Sequence[Face], timestamp: float) -> tuple[Face, ...]:
        """The faces of the next frame, in the order given, with their ``track`` numbers.

        ``timestamp`` is in seconds, on any clock that does not go backwards.
        """
        ids = self.assign([face.box for face in faces], timestamp)
        return tuple(dataclasses.replace(f, track=i) for f, i in zip(faces, ids, strict=True))

    def assign(self, boxes: Sequence[Box], timestamp: float) -> list[int]:
        """The tracks' numbers, from 1, for the boxes of the next frame."""
        self._tracks = [t for t in self._tracks if timestamp - t.time <= self.max_gap]
        ids = [0] * len(boxes)
        free = list(range(len(boxes)))
        open_tracks = list(self._tracks)
        for similarity in (_overlap, _nearness):
            found = [boxes[i] for i in free]
            pairs = match(_similarities(open_tracks, found, timestamp, similarity))
            for row, column in pairs:
                open_tracks[row].see(boxes[free[column]], timestamp)
                ids[free[column]] = open_tracks[row].id
            rows, columns = {r for r, _ in pairs}, {c for _, c in pairs}
            open_tracks = [t for n, t in enumerate(open_tracks) if n not in rows]
            free = [i for n, i in enumerate(free) if n not in columns]
        for i in free:
            ids[i] = self._next
            self._tracks.append(_Track(self._next, boxes[i], timestamp))
            self._next += 1
        return ids

    def hold(self, since: float, until: float) -> None:
        """The frame of ``since`` was shown up to ``until``, and so were its faces.

        For videos that hold no frames while nothing moves.
        """
        for track in self._tracks:
            if track.time == since:
                track.time = until

    def cut(self) -> None:
        """Forget where the faces were: the next frame's faces all get new numbers."""
        self._tracks = []

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later, as JSON-ready values: see :meth:`restore`."""
        tracks = [dataclasses.asdict(track) for track in self._tracks]
        return {"next": self._next, "tracks": tracks}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._next = int(state["next"])
        self._tracks = [
            _Track(t["id"], Box(**t["box"]), t["time"], tuple(t["speed"])) for t in state["tracks"]
        ]


@dataclass
class _Score:
    """What is known of a track's expression.

    Attributes:
        values: the averaged probabilities.
        steady: the name.
        time: seconds of the last frame.
        voted: seconds of the last sure frame; None where none was.
        doubt: share of the recent frames that were unsure, 0..1.
    """

    values: dict[Label, float]
    steady: Label | None
    time: float
    voted: float | None = None
    doubt: float = 0.0


class Smoother:
    """Averages every track's probabilities over time and holds on to the expression's name.

    The average is exponential: a frame's weight falls to 1/e after ``seconds``, whatever the frame
    rate. An expression is named when it leads all others by ``margin``, and for as long as it is
    the most probable one; between, there is no name. So two equal ones do not take turns, and the
    name is never that of a smaller bar. A frame in which the face is unsure
    (:attr:`mien.results.Face.unsure`) does not count once there was a sure one; where most of the
    recent ones are, there is no name.

    Args:
        seconds: time constant; 0 switches the averaging off (the hysteresis stays).
        margin: lead in probability, 0..1, that a name needs; 0 switches it off.
        max_gap: a track unseen for more seconds starts afresh.

    Raises:
        MienError: a value is out of range.
    """

    def __init__(self, seconds: float = 0.4, margin: float = 0.1, max_gap: float = 1.0) -> None:
        self.seconds = _at_least_zero("seconds", seconds)
        self.margin = _at_least_zero("margin", margin)
        self.max_gap = _at_least_zero("max_gap", max_gap)
        if margin > 1:
            raise MienError(f"margin is {margin}; expected 0 to 1.")
        self._scores: dict[int, _Score] = {}

    def update(self, faces: Sequence[Face], timestamp: float) -> tuple[Face, ...]:
        """The faces with ``smoothed`` and ``steady`` filled in; those without a track unchanged.

        Args:
            faces: all faces of one frame, after :meth:`Tracker.update`.
            timestamp: seconds, on the tracker's clock.
        """
        self._scores = {k: s for k, s in self._scores.items() if timestamp - s.time <= self.max_gap}
        return tuple(self._smooth(face, timestamp) for face in faces)

    def _smooth(self, face: Face, time: float) -> Face:
        if face.track is None:
            return face
        score = self._scores.get(face.track)
        if score is None or score.values.keys() != face.probabilities.keys():
            score = _Score(dict(face.probabilities), None, time, doubt=float(face.unsure))
            self._scores[face.track] = score
        else:
            score.doubt += self._weight(time - score.time) * (face.unsure - score.doubt)
            since = score.time if score.voted is None else score.voted
            # The first sure frame takes the place of all unsure ones before it.
            first = score.voted is None and not face.unsure
            weight = 1.0 if first else self._weight(time - since)
            for emotion, value in face.probabilities.items():
                if score.voted is None or not face.unsure:
                    score.values[emotion] += weight * (value - score.values[emotion])
            score.time = max(time, score.time)
        if not face.unsure:
            score.voted = score.time
        best, second = (*sorted(score.values, key=lambda e: -score.values[e])[:2], None)[:2]
        if best is not None and score.steady != best:
            lead = score.values[best] - (score.values[second] if second is not None else 0.0)
            score.steady = best if lead >= self.margin else None
        steady = None if score.doubt > 0.5 else score.steady
        return dataclasses.replace(face, smoothed=dict(score.values), steady=steady)

    def _weight(self, gap: float) -> float:
        """What a frame counts that came so many seconds after the one before it."""
        return 1 - math.exp(-max(0.0, gap) / self.seconds) if self.seconds else 1.0

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later, as JSON-ready values: see :meth:`restore`."""
        return {str(track): dataclasses.asdict(score) for track, score in self._scores.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._scores = {
            int(track): _Score(
                {to_label(k): float(v) for k, v in s["values"].items()},
                None if s["steady"] is None else to_label(s["steady"]),
                *(s["time"], s["voted"], s["doubt"]),
            )
            for track, s in state.items()
        }


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0..1."""
    wide = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    high = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    if wide <= 0 or high <= 0:
        return 0.0
    both = wide * high
    return both / (a.area + b.area - both)


def _overlap(track: _Track, place: Box, box: Box, time: float) -> float:
    value = iou(place, box)
    return value if value >= MIN_IOU else 0.0


def _nearness(track: _Track, place: Box, box: Box, time: float) -> float:
    """1 at the predicted place, 0 at the end of reach, which grows while the face is hidden."""
    side, other = _side(place), _side(box)
    if max(side, other) > MAX_SIDE_RATIO * min(side, other):
        return 0.0
    (x, y), (to_x, to_y) = place.center, box.center
    distance = math.hypot(to_x - x, to_y - y) / ((side + other) / 2)
    return max(0.0, 1 - distance / _sides(track, time))


def _sides(track: _Track, time: float) -> float:
    """Reach in sides of a face."""
    return REACH + REACH_PER_SECOND * max(0.0, time - track.time)


def _side(box: Box) -> float:
    return math.sqrt(max(box.area, 1e-9))


def _similarities(
    tracks: Sequence[_Track],
    boxes: Sequence[Box],
    time: float,
    similarity: Callable[[_Track, Box, Box, float], float],
) -> list[dict[int, float]]:
    """For each track the boxes that it may be, with their similarities.

    In a crowd nearly every pair is too far apart, for either similarity: those are not compared.
    """
    centers = [box.center for box in boxes]
    order = sorted(range(len(boxes)), key=lambda i: centers[i][0])
    xs = [centers[i][0] for i in order]
    longest = max((max(box.width, box.height) for box in boxes), default=0.0)
    rows = []
    for track in tracks:
        place = track.predict(time)
        x, y = place.center
        touching = (max(place.width, place.height) + longest) / 2
        reach = _sides(track, time) * _side(place) * (1 + MAX_SIDE_RATIO) / 2
        far = 1.001 * max(touching, reach)  # rounding shall exclude nothing
        row = {}
        for i in order[bisect_left(xs, x - far) : bisect_right(xs, x + far)]:
            if abs(centers[i][1] - y) <= far:
                value = similarity(track, place, boxes[i], time)
                if value > 0:
                    row[i] = value
        rows.append(row)
    return rows


def match(rows: Sequence[Mapping[int, float]]) -> list[tuple[int, int]]:
    """Pairs (row, column) with the greatest sum of similarities.

    The Hungarian method by shortest augmenting paths (Jonker and Volgenant 1987), on the pairs that
    are possible alone. Each row also has a column of its own, of similarity 0, that stands for no
    partner; a search ends there at the latest and so stays among the neighbours: a frame of
    hundreds of faces takes about as long as hundreds of frames of one.

    Args:
        rows: for each row its possible columns with their similarities, over 0.
    """
    # Columns from 0; row i's own is -1 - i.
    edges = [
        [*((j, -value) for j, value in row.items()), (-1 - i, 0.0)] for i, row in enumerate(rows)
    ]
    u = [min(cost for _, cost in edge) for edge in edges]  # prices of rows
    v: dict[int, float] = {}  # and of columns, 0 at first
    owner: dict[int, int] = {}
    column_of: dict[int, int] = {}
    for start in range(len(rows)):
        least: dict[int, float] = {}
        way: dict[int, int] = {}  # the row from which a column is reached
        heap: list[tuple[float, int]] = []
        used: list[int] = []
        row, length = start, 0.0
        while True:
            for column, cost in edges[row]:
                far = length + cost - u[row] - v.get(column, 0.0)
                if far < least.get(column, math.inf):
                    least[column], way[column] = far, row
                    heappush(heap, (far, column))
            length, at = heappop(heap)
            while length > least[at]:  # a shorter way was found since
                length, at = heappop(heap)
            if at not in owner:
                break
            used.append(at)
            row = owner[at]
        u[start] += length
        for column in used:
            u[owner[column]] += length - least[column]
            v[column] = v.get(column, 0.0) - (length - least[column])
        while True:
            row = way[at]
            before = column_of.get(row)
            owner[at], column_of[row] = row, at
            if before is None:
                break
            at = before
    return sorted((i, j) for j, i in owner.items() if j >= 0)


def _at_least_zero(name: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise MienError(f"{name} is {value}; expected 0 or more.")
    return float(value)
