"""Where a video cuts from one shot to another, so that no face hands its number on.

A frame is compared with the one before it, both reduced to 32×18 pixels. A cut must change the
image much (as PySceneDetect's content detector has it), change its layout and not only its
light (so a flash or a lamp is none), and stand out from the changes just before it (as its
adaptive detector has it, so a fast pan or a shaken camera is none). Frames of one colour are
passed over: what comes after them is compared with what was before. Dissolves are not found, nor
is anything between frames that are more than half a second apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

#: Width and height in pixels of what two frames are compared by.
GLANCE = (32, 18)
#: Least mean change of a value, 0..255.
MIN_CHANGE = 18.0
#: Greatest correlation of the two images' brightness.
MAX_CORRELATION = 0.6
#: A frame whose brightness deviates less from its mean shows nothing, and is passed over.
MIN_CONTRAST = 4.0
#: Seconds; in more than this much may change without a cut.
MAX_GAP = 0.5
#: The change against the median of those before it, and how many of these are kept.
MIN_RATIO, MEMORY = 3.0, 8


def glance(image: Image) -> Image:
    """An image, uint8 (H, W, 3), reduced to uint8 (18, 32, 3)."""
    # Every n-th pixel first: an exact mean over a large image would take milliseconds.
    step = max(1, min(image.shape[0] // 72, image.shape[1] // 128))
    few = np.ascontiguousarray(image[::step, ::step])
    return np.asarray(cv2.resize(few, GLANCE, interpolation=cv2.INTER_AREA), np.uint8)


class CutDetector:
    """Says of each frame whether a new shot begins with it."""

    def __init__(self) -> None:
        self._before: Image | None = None
        self._time = 0.0
        self._changes: deque[float] = deque(maxlen=MEMORY)

    def update(self, seen: Image, timestamp: float) -> bool:
        """Whether a new shot begins with this frame; never with the first one.

        ``seen`` is the frame's :func:`glance`, ``timestamp`` its time in seconds.
        """
        if float(seen.mean(axis=2).std()) < MIN_CONTRAST:
            return False  # a covered lens, a black frame: the next image tells
        before, self._before = self._before, seen
        gap, self._time = timestamp - self._time, timestamp
        if before is None or gap > MAX_GAP:
            return False
        change = float(np.abs(seen.astype(np.int16) - before).mean())
        usual = median(self._changes) if self._changes else 0.0
        cut = (
            change >= MIN_CHANGE
            and change >= MIN_RATIO * usual
            and _correlation(seen, before) <= MAX_CORRELATION
        )
        if cut:
            self._changes.clear()
        else:
            self._changes.append(change)
        return cut

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later, as JSON-ready values: see :meth:`restore`."""
        before = None if self._before is None else self._before.tobytes().hex()
        return {"before": before, "time": self._time, "changes": list(self._changes)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._before = None
        if state["before"] is not None:
            flat = np.frombuffer(bytes.fromhex(state["before"]), np.uint8)
            self._before = flat.reshape(GLANCE[1], GLANCE[0], 3)
        self._time = float(state["time"])
        self._changes = deque((float(c) for c in state["changes"]), maxlen=MEMORY)


def _correlation(a: Image, b: Image) -> float:
    """Pearson's correlation of two images' brightness; 0 where one is flat."""
    x, y = (i.mean(axis=2) - i.mean() for i in (a, b))
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / size if size > 1e-6 else 0.0
