"""Who stays: results are held back until it is known whether their faces are passers-by.

A face is a passer-by while it was seen for less time than asked for, or never as large as asked
for. A cut, or the end of the video, tells nothing of those it interrupts: they stay. So a result
waits for no longer than the time asked for and the gap after which a track is given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mien.results import Face, Result


@dataclass(slots=True)
class _Seen:
    """A track: when it was first and last seen, whether it was large, whether it stays."""

    first: float
    last: float
    large: bool = False
    stays: bool = False


class Passers:
    """Takes tracked results in order and gives them back without passers-by.

    Args:
        min_seconds: least time that a face is seen.
        min_side: least size of its largest box, as a fraction of the image's long side.
        max_gap: seconds after which an unseen track is given up.
        step: seconds that a frame stands for.
    """

    def __init__(self, min_seconds: float, min_side: float, max_gap: float, step: float) -> None:
        self._min_seconds, self._min_side = min_seconds, min_side
        self.max_gap, self.step = max_gap, step
        self._seen: dict[int, _Seen] = {}
        self._held: deque[Result] = deque()
        self._now = 0.0

    def update(self, result: Result) -> list[Result]:
        """Take a result; those that are decided now, in order."""
        self._now = result.time or 0.0
        for face in result.faces:
            if face.track is not None:
                seen = self._seen.setdefault(face.track, _Seen(self._now, self._now))
                seen.last = self._now
                side = max(face.box.width, face.box.height)
                seen.large |= side >= self._min_side * max(result.width, result.height)
                seen.stays |= seen.large and self._long_enough(seen)
        self._held.append(result)
        out = []
        while self._held and all(map(self._decided, self._held[0].faces)):
            out.append(self._released())
        since = self._held[0].time or 0.0 if self._held else self._now
        self._seen = {k: s for k, s in self._seen.items() if s.last >= since - self.max_gap}
        return out

    def _long_enough(self, seen: _Seen) -> bool:
        return seen.last - seen.first + self.step >= self._min_seconds - 1e-6

    def _decided(self, face: Face) -> bool:
        seen = self._seen.get(face.track or 0)
        return (
            seen is None
            or seen.stays
            or self._long_enough(seen)
            or self._now - seen.last > self.max_gap
        )

    def _released(self) -> Result:
        result = self._held.popleft()
        return replace(result, faces=tuple(face for face in result.faces if self._stays(face)))

    def _stays(self, face: Face) -> bool:
        seen = self._seen.get(face.track or 0)
        return face.track is None or (seen is not None and seen.stays)

    def hold(self, since: float, until: float) -> None:
        """As :meth:`mien.track.Tracker.hold`."""
        for seen in self._seen.values():
            if seen.last == since:
                seen.last = until
                seen.stays |= seen.large and self._long_enough(seen)

    def cut(self) -> None:
        """The image changes: those who are there now could not stay for longer."""
        for seen in self._seen.values():
            seen.stays |= seen.large and self._now - seen.last <= self.max_gap

    def finish(self) -> list[Result]:
        """The rest, at the end."""
        self.cut()
        return [self._released() for _ in range(len(self._held))]

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later, as JSON-ready values: see :meth:`restore`."""
        return {
            "now": self._now,
            "seen": {str(track): asdict(seen) for track, seen in self._seen.items()},
            "held": [result.to_dict() for result in self._held],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._now = float(state["now"])
        self._seen = {int(track): _Seen(**seen) for track, seen in state["seen"].items()}
        self._held = deque(map(Result.from_dict, state["held"]))
