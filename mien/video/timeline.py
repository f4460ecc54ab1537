"""What happened in a video, face by face, in bounded memory, and the page that shows it.

However long the video, a face is at most ``BINS`` averages and ``CHANGES`` little images: when the
bins are used up, neighbours are merged. Of more than ``FACES`` faces those seen longest are
charted: a face gets the place of another once it was seen for longer. Of the others is kept when,
and for how long, they were seen.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.emotions import Label, to_label
from mien.results import Face, Result

BINS, CHANGES, FACES = 800, 16, 64
#: Width of a bin in seconds as long as the video is short; two frames where they come slower.
FINEST = 0.04
#: An image replaces the one of the same stay when the expression is so much clearer in it.
CLEARER = 0.05

Image = NDArray[np.uint8]


@dataclass
class Change:
    """A stay in one expression: when it began, and the clearest image of it so far."""

    time: float
    emotion: Label
    confidence: float
    jpeg: bytes | None


@dataclass
class FaceTrack:
    """What is kept of one face.

    Attributes:
        track: its number.
        first, last: seconds of its first and last frame.
        seconds, frames: how long, and in how many frames, it was seen.
        unsure: seconds in which its expression had no name, or none that can be trusted.
        shares: seconds with each expression in the lead (smoothed, if scores were smoothed), since
            it is charted.
        changes: stays in one expression, in order of time; the shortest may be left out.
        sums: float32 (BINS, 2, K): sums of raw and smoothed probabilities.
        counts: int32 (BINS,): frames in each bin.
    """

    track: int
    first: float
    last: float
    sums: NDArray[np.float32]
    counts: NDArray[np.int32]
    seconds: float = 0.0
    frames: int = 0
    unsure: float = 0.0
    shares: dict[Label, float] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    @property
    def charted(self) -> float:
        """Seconds that ``shares`` and ``unsure`` are of."""
        return sum(self.shares.values())


class Timeline:
    """Collects a video's tracked results.

    ``passers``: whether a face counts as passing by until :meth:`stays` says otherwise.
    """

    def __init__(self, labels: Sequence[Label], *, passers: bool = False) -> None:
        self.labels, self._passers = tuple(labels), passers
        self.tracks: dict[int, FaceTrack] = {}
        #: Of every face: first second, seconds and frames; and those who were not passing by.
        self.seen: dict[int, tuple[float, float, int]] = {}
        self.stayed: set[int] = set()
        self.width = FINEST
        self.begin: float | None = None
        self.end = 0.0
        self.frames = self.faceless = 0
        self.smoothed = False

    def add(self, result: Result, seconds: float, thumbnails: Sequence[Image] = ()) -> None:
        """Take the next frame: a result with ``time`` and tracked faces.

        ``seconds`` is how long it stands for; ``thumbnails`` are one uint8 (N, N, 3) BGR image a
        face, or none at all.
        """
        time = result.time or 0.0
        if self.begin is None:
            self.begin, self.width = time, max(FINEST, 2 * seconds)
        self.end = max(self.end, time + seconds)
        self.frames += 1
        self.faceless += not result.faces
        while (time - self.begin) / self.width >= BINS:
            self._merge()
        index = max(0, int((time - self.begin) / self.width))
        images: Sequence[Image | None] = thumbnails or [None] * len(result.faces)
        for face, image in zip(result.faces, images, strict=True):
            if face.track is not None:
                self._see(face, face.track, time, seconds, index, image)

    def _see(
        self,
        face: Face,
        number: int,
        time: float,
        seconds: float,
        index: int,
        image: Image | None,
    ) -> None:
        first, before, frames = self.seen.get(number, (time, 0.0, 0))
        self.seen[number] = first, before + seconds, frames + 1
        track = self.tracks.get(number) or self._new(number)
        if track is None:
            return
        track.last = time
        track.first, track.seconds, track.frames = self.seen[number]
        emotion, shown = face.shown
        self.smoothed = self.smoothed or face.smoothed is not None
        track.shares[emotion] = track.shares.get(emotion, 0.0) + seconds
        if face.steady is None if face.smoothed is not None else face.unsure:
            track.unsure += seconds
        track.counts[index] += 1
        for row, values in enumerate((face.probabilities, shown)):
            track.sums[index, row] += [values[label] for label in self.labels]
        _change(track, time, emotion, shown[emotion], image)

    def _merge(self) -> None:
        """Half as many bins, twice as wide."""
        half = BINS // 2
        for track in self.tracks.values():
            track.sums[:half] = track.sums[0::2] + track.sums[1::2]
            track.counts[:half] = track.counts[0::2] + track.counts[1::2]
            track.sums[half:] = 0
            track.counts[half:] = 0
        self.width *= 2

    def _new(self, number: int) -> FaceTrack | None:
        """A chart for face ``number``; None while all places are those of faces seen longer."""
        if len(self.tracks) >= FACES:
            least = min(self.tracks.values(), key=lambda t: t.seconds)
            if least.seconds >= self.seen[number][1]:
                return None
            del self.tracks[least.track]
        sums = np.zeros((BINS, 2, len(self.labels)), np.float32)
        track = FaceTrack(number, 0.0, 0.0, sums, np.zeros(BINS, np.int32))
        self.tracks[number] = track
        return track

    def stays(self, result: Result) -> Result:
        """The faces of ``result``, which is given back, are not passing by."""
        self.stayed.update(face.track for face in result.faces if face.track is not None)
        return result

    def _passes(self, number: int) -> bool:
        return self._passers and number not in self.stayed

    @property
    def passers(self) -> int:
        """How many faces were only passing by."""
        return sum(map(self._passes, self.seen))

    @property
    def dropped(self) -> int:
        """How many others have no chart."""
        return len(self.seen) - self.passers - len(self.ranked())

    def ranked(self) -> list[FaceTrack]:
        """The charted faces that were not passing by, the one seen longest first."""
        people = [track for track in self.tracks.values() if not self._passes(track.track)]
        return sorted(people, key=lambda t: (-t.seconds, t.track))

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later, as JSON-ready values: see :meth:`restore`."""
        tracks = [
            {
                **vars(track),
                "sums": _pack(track.sums),
                "counts": _pack(track.counts),
                "changes": [
                    (c.time, c.emotion, c.confidence, encoded(c.jpeg)) for c in track.changes
                ],
            }
            for track in self.tracks.values()
        ]
        whole = {name: getattr(self, name) for name in _KEPT}
        seen = [(number, *known) for number, known in self.seen.items()]
        return {**whole, "tracks": tracks, "seen": seen, "stayed": sorted(self.stayed)}

    def restore(self, state: Mapping[str, Any]) -> None:
        for name in _KEPT:
            setattr(self, name, state[name])
        self.tracks = {t["track"]: self._track(t) for t in state["tracks"]}
        self.seen = {n: (first, spent, frames) for n, first, spent, frames in state["seen"]}
        self.stayed = set(state["stayed"])

    def _track(self, saved: Mapping[str, Any]) -> FaceTrack:
        sums = np.frombuffer(_unpack(saved["sums"]), np.float32)
        track = FaceTrack(**saved)
        track.sums = sums.reshape(BINS, 2, len(self.labels)).copy()
        track.counts = np.frombuffer(_unpack(saved["counts"]), np.int32).copy()
        track.shares = {to_label(e): s for e, s in saved["shares"].items()}
        track.changes = [
            Change(at, to_label(name), sure, base64.b64decode(jpeg) or None)
            for at, name, sure, jpeg in saved["changes"]
        ]
        return track


#: What a stopped run keeps of a timeline beside its tracks.
_KEPT = ("width", "begin", "end", "frames", "faceless", "smoothed")


def _change(
    track: FaceTrack, time: float, emotion: Label, confidence: float, image: Image | None
) -> None:
    """Begin a new stay when the expression changed; keep the clearest image of each."""
    changes = track.changes
    if not changes or changes[-1].emotion != emotion:
        changes.append(Change(time, emotion, confidence, _jpeg(image)))
        if len(changes) > CHANGES:
            stays = [b.time - a.time for a, b in pairwise(changes[1:])]
            shortest = 1 + int(np.argmin(stays))
            del changes[shortest]
            if changes[shortest].emotion == changes[shortest - 1].emotion:  # A B A became A A
                del changes[shortest]
    elif image is not None and confidence > changes[-1].confidence + CLEARER:
        changes[-1].confidence, changes[-1].jpeg = confidence, _jpeg(image)


def _jpeg(image: Image | None) -> bytes | None:
    if image is None:
        return None
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return bytes(data.tobytes())


def encoded(data: bytes | None) -> str:
    """Base64 as text; none is empty."""
    return "" if data is None else base64.b64encode(data).decode("ascii")


def _pack(array: NDArray[Any]) -> str:
    return encoded(zlib.compress(array.tobytes(), 1))


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
