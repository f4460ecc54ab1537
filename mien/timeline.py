"""What happened in a film, face by face, in bounded memory, and the page that shows it.

However long the film, a face is at most ``BINS`` averages and ``CHANGES`` little pictures: when the
bins are used up, neighbours are merged. Of more than ``FACES`` faces those seen longest are kept.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from itertools import pairwise
from string import Template
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.emotions import PALETTE, PALETTE_ON_LIGHT, Emotion
from mien.report.style import STYLE, page_style
from mien.results import Face, Result

BINS, CHANGES, FACES = 800, 16, 64
#: Faces that get a chart of their own on the page; the others are counted.
CHARTS = 24
#: Width of a bin in seconds as long as the film is short; two frames where they come slower.
FINEST = 0.04
#: Holes up to so many seconds are closed on the page: frames do not come quite regularly.
BRIDGE = 0.3
#: A face unseen for so many seconds may make room for a new one.
GONE = 2.0
#: A picture replaces the one of the same stay when the expression is so much clearer in it.
CLEARER = 0.05
_GAP = 255  # in the page's data: no face in this bin

Image = NDArray[np.uint8]


@dataclass
class Change:
    """A stay in one expression: when it began, and the clearest picture of it so far."""

    time: float
    emotion: Emotion
    confidence: float
    jpeg: bytes | None


@dataclass
class FaceTrack:
    """What is kept of one face.

    Attributes:
        track: its number.
        first, last: seconds of its first and last frame.
        frames: frames it was seen in.
        passer: whether it is only passing by, as far as is known.
        shares: seconds with each expression in the lead (smoothed, if scores were smoothed).
        changes: stays in one expression, in order of time; the shortest may be left out.
        sums: float32 (BINS, 2, K): sums of raw and smoothed probabilities.
        counts: int32 (BINS,): frames in each bin.
    """

    track: int
    first: float
    last: float
    sums: NDArray[np.float32]
    counts: NDArray[np.int32]
    frames: int = 0
    passer: bool = False
    shares: dict[Emotion, float] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long the face was seen."""
        return sum(self.shares.values())


class Timeline:
    """Collects a film's tracked results.

    Args:
        labels: the model's classes.
        passers: whether a face counts as passing by until :meth:`stays` says otherwise.
    """

    def __init__(self, labels: Sequence[Emotion], *, passers: bool = False) -> None:
        self.labels, self._passers = tuple(labels), passers
        self.tracks: dict[int, FaceTrack] = {}
        self.width = FINEST
        self.begin: float | None = None
        self.end = 0.0
        self.frames = self.faceless = self.dropped = self.passed = 0
        self.smoothed = False

    def add(self, result: Result, seconds: float, thumbnails: Sequence[Image] = ()) -> None:
        """Take the next frame.

        Args:
            result: with ``time`` and with tracked faces.
            seconds: how long the frame stands for.
            thumbnails: one uint8 (N, N, 3) BGR picture a face, or none at all.
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
        pictures: Sequence[Image | None] = thumbnails or [None] * len(result.faces)
        for face, picture in zip(result.faces, pictures, strict=True):
            if face.track is not None:
                self._see(face, face.track, time, seconds, index, picture)

    def _see(
        self,
        face: Face,
        number: int,
        time: float,
        seconds: float,
        index: int,
        picture: Image | None,
    ) -> None:
        track = self.tracks.get(number)
        if track is None:
            if len(self.tracks) >= FACES:
                self._make_room(time)
            k = len(self.labels)
            zeros = np.zeros((BINS, 2, k), np.float32), np.zeros(BINS, np.int32)
            track = self.tracks[number] = FaceTrack(
                number, time, time, *zeros, passer=self._passers
            )
        track.last, track.frames = time, track.frames + 1
        emotion, shown = face.shown
        self.smoothed = self.smoothed or face.smoothed is not None
        track.shares[emotion] = track.shares.get(emotion, 0.0) + seconds
        track.counts[index] += 1
        for row, values in enumerate((face.probabilities, shown)):
            track.sums[index, row] += [values[label] for label in self.labels]
        _change(track, time, emotion, shown[emotion], picture)

    def _merge(self) -> None:
        """Half as many bins, twice as wide."""
        half = BINS // 2
        for track in self.tracks.values():
            track.sums[:half] = track.sums[0::2] + track.sums[1::2]
            track.counts[:half] = track.counts[0::2] + track.counts[1::2]
            track.sums[half:] = 0
            track.counts[half:] = 0
        self.width *= 2

    def _make_room(self, time: float) -> None:
        gone = [t for t in self.tracks.values() if time - t.last > GONE]
        least = min(gone or self.tracks.values(), key=lambda t: t.seconds)
        del self.tracks[least.track]
        self.dropped += not least.passer
        self.passed += least.passer

    def stays(self, track: int | None) -> None:
        """This face is not passing by."""
        if track in self.tracks:
            self.tracks[track].passer = False

    @property
    def passers(self) -> int:
        """How many faces were only passing by."""
        return self.passed + sum(track.passer for track in self.tracks.values())

    def ranked(self) -> list[FaceTrack]:
        """The faces that were not passing by, the one seen longest first."""
        people = [track for track in self.tracks.values() if not track.passer]
        return sorted(people, key=lambda t: (-t.seconds, t.track))

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later, as JSON-ready values: see :meth:`restore`."""
        return {
            "width": self.width,
            "begin": self.begin,
            "end": self.end,
            "frames": self.frames,
            "faceless": self.faceless,
            "dropped": self.dropped,
            "passed": self.passed,
            "smoothed": self.smoothed,
            "tracks": [
                {
                    "track": t.track,
                    "first": t.first,
                    "last": t.last,
                    "frames": t.frames,
                    "passer": t.passer,
                    "shares": {e.value: s for e, s in t.shares.items()},
                    "sums": _pack(t.sums),
                    "counts": _pack(t.counts),
                    "changes": [
                        [c.time, c.emotion.value, c.confidence, _base64(c.jpeg)] for c in t.changes
                    ],
                }
                for t in self.tracks.values()
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        for name in (
            "width",
            "begin",
            "end",
            "frames",
            "faceless",
            "dropped",
            "passed",
            "smoothed",
        ):
            setattr(self, name, state[name])
        k = len(self.labels)
        self.tracks = {
            t["track"]: FaceTrack(
                t["track"],
                t["first"],
                t["last"],
                np.frombuffer(_unpack(t["sums"]), np.float32).reshape(BINS, 2, k).copy(),
                np.frombuffer(_unpack(t["counts"]), np.int32).copy(),
                t["frames"],
                t["passer"],
                {Emotion(e): s for e, s in t["shares"].items()},
                [
                    Change(at, Emotion(e), sure, base64.b64decode(jpeg) if jpeg else None)
                    for at, e, sure, jpeg in t["changes"]
                ],
            )
            for t in state["tracks"]
        }


def _change(
    track: FaceTrack, time: float, emotion: Emotion, confidence: float, picture: Image | None
) -> None:
    """Begin a new stay when the expression changed; keep the clearest picture of each."""
    changes = track.changes
    if not changes or changes[-1].emotion != emotion:
        changes.append(Change(time, emotion, confidence, _jpeg(picture)))
        if len(changes) > CHANGES:
            stays = [b.time - a.time for a, b in pairwise(changes[1:])]
            shortest = 1 + int(np.argmin(stays))
            del changes[shortest]
            if changes[shortest].emotion == changes[shortest - 1].emotion:  # A B A became A A
                del changes[shortest]
    elif picture is not None and confidence > changes[-1].confidence + CLEARER:
        changes[-1].confidence, changes[-1].jpeg = confidence, _jpeg(picture)


def _jpeg(picture: Image | None) -> bytes | None:
    if picture is None:
        return None
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return bytes(data.tobytes())


def _base64(data: bytes | None) -> str:
    return "" if data is None else base64.b64encode(data).decode("ascii")


def _pack(array: NDArray[Any]) -> str:
    return _base64(zlib.compress(array.tobytes(), 1))


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def clock(seconds: float) -> str:
    """75.5 -> "1:15", with hours where there are any."""
    whole = int(max(0.0, seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def to_html(timeline: Timeline, title: str, details: Sequence[tuple[str, str]] = ()) -> str:
    """The page: self-contained, no request leaves it, light and dark.

    Args:
        timeline: a film's collected results.
        title: its name.
        details: lines on how it was made: (name, value).
    """
    ranked = timeline.ranked()
    shown = sorted(ranked[:CHARTS], key=lambda t: (t.first, t.track))
    begin = timeline.begin or 0.0
    data = {
        "labels": [e.value for e in timeline.labels],
        "begin": begin,
        "end": max(timeline.end, begin + timeline.width),
        "width": timeline.width,
        "smoothed": timeline.smoothed,
        "faces": [_face_data(t, timeline.smoothed, timeline.width) for t in shown],
    }
    template = resources.files("mien").joinpath("assets/timeline.html").read_text(encoding="utf-8")
    colours = {e.value: [PALETTE_ON_LIGHT[e], PALETTE[e]] for e in timeline.labels}
    return Template(template).substitute(
        title=escape(title),
        style=f"{STYLE}\n{page_style()}",
        subtitle=escape(_subtitle(timeline)),
        key="".join(
            f'<li><i class="chip" style="background:var(--c-{e.value})"></i>{e.value}</li>'
            for e in timeline.labels
        ),
        faces="".join(_section(t, timeline.labels) for t in shown) or _NOBODY,
        rest=escape(_rest(timeline, len(ranked) - len(shown))),
        details="".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in details),
        # "<" could end the script element.
        data=json.dumps({**data, "colours": colours}).replace("<", "\\u003c"),
    )


_NOBODY = '<section class="panel block"><p>No face was found in this film.</p></section>'


def _subtitle(timeline: Timeline) -> str:
    faces = len(timeline.tracks) + timeline.dropped + timeline.passed - timeline.passers
    parts = [
        clock(round(timeline.end - (timeline.begin or 0.0))),
        f"{timeline.frames:,} frames looked at",
    ]
    parts.append(f"{faces:,} face{'' if faces == 1 else 's'}")
    if timeline.faceless:
        parts.append(f"{timeline.faceless / timeline.frames:.0%} of the frames without one")
    return " · ".join(parts)


def _rest(timeline: Timeline, hidden: int) -> str:
    count = hidden + timeline.dropped
    more = f"{count:,} more face{' was' if count == 1 else 's were'} seen, each for less time."
    n = timeline.passers
    passers = f"{n:,} {'person' if n == 1 else 'people'} passing by left out."
    return " ".join(part for part, there in ((more, count), (passers, n)) if there)


def _face_data(track: FaceTrack, smoothed: bool, width: float) -> dict[str, Any]:
    """The bins from the first to the last in use: percentages as bytes, 255 where nobody is."""
    used = np.flatnonzero(track.counts)
    low, high = int(used[0]), int(used[-1]) + 1
    counts = track.counts[low:high]
    means = track.sums[low:high] / np.maximum(counts, 1)[:, None, None]
    bytes_ = np.rint(means * 200).clip(0, 200).astype(np.uint8)
    bytes_[counts == 0] = _GAP
    holes = np.diff(used) - 1
    for hole, before in zip(holes, used - low, strict=False):
        if 0 < hole * width <= BRIDGE:
            bytes_[before + 1 : before + 1 + hole] = bytes_[before]
    rows = (0, 1) if smoothed else (0,)
    return {
        "track": track.track,
        "bin": low,
        "series": [_base64(np.ascontiguousarray(bytes_[:, r]).tobytes()) for r in rows],
        "changes": [[c.time, c.emotion.value, c.confidence] for c in track.changes],
    }


def _section(track: FaceTrack, labels: Sequence[Emotion]) -> str:
    total = track.seconds or 1.0
    shares = {e: track.shares.get(e, 0.0) / total for e in labels}
    best = max(shares, key=shares.__getitem__)
    bar = "".join(
        f'<span style="width:{100 * s:.2f}%;background:var(--c-{e.value})" '
        f'title="{e.value} {s:.0%}"></span>'
        for e, s in shares.items()
        if s > 0
    )
    ranked = sorted((s, e) for e, s in shares.items() if s >= 0.005)[::-1]
    words = ", ".join(f"{e.value} {s:.0%}" for s, e in ranked)
    face = max((c for c in track.changes if c.jpeg), key=lambda c: c.confidence, default=None)
    portrait = _img(face.jpeg, f"face {track.track}", "portrait") if face and face.jpeg else ""
    strip = "".join(
        f'<figure data-time="{c.time:.3f}">{_img(c.jpeg, c.emotion.value)}'
        f'<figcaption><i class="chip" style="background:var(--c-{c.emotion.value})"></i>'
        f"{c.emotion.value}<span>{clock(c.time)}</span></figcaption></figure>"
        for c in track.changes
        if c.jpeg
    )
    label = escape(
        f"Probabilities of face {track.track} over time; mostly {best.value}. "
        "Arrow keys move the cursor, plus and minus zoom.",
        quote=True,
    )
    return (
        f'<section class="panel block face" data-track="{track.track}"><header>{portrait}<div>'
        f"<h2>Face {track.track}</h2>"
        f'<p class="under">seen for {track.seconds:.1f} s, from {clock(track.first)} to '
        f"{clock(track.last)}, in {track.frames:,} frames</p>"
        f'<div class="shares" aria-hidden="true">{bar}</div>'
        f'<p class="under">in the lead: {words}</p></div></header>'
        f'<div class="chart"><canvas role="img" tabindex="0" aria-label="{label}"></canvas>'
        f'<output aria-live="polite"></output></div><div class="strip">{strip}</div></section>'
    )


def _img(jpeg: bytes | None, alt: str, cls: str = "") -> str:
    kind = f' class="{cls}"' if cls else ""
    return (
        f'<img{kind} alt="{escape(alt, quote=True)}" src="data:image/jpeg;base64,{_base64(jpeg)}">'
    )
