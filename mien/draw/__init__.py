"""Paints a Result on its image: boxes, labels and small bars, legible at any size.

Text and panels are drawn large and scaled down, which smooths OpenCV's stroke fonts. A label never
leaves the image and never covers another label, nor another face where it, or a number alone, has
room elsewhere; bars are left out where they find none.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.draw.lettering import letters
from mien.emotions import Label, colour_of
from mien.results import Box, Face, Result, blend_of
from mien.text import drawable

Image = NDArray[np.uint8]
Rect = tuple[int, int, int, int]  # x, y, width, height
Bgr = tuple[int, int, int]

#: Images with a shorter long side are enlarged before they are annotated.
MIN_LONG_SIDE = 480

#: Letters of a name that are drawn at most.
LONGEST_NAME = 24

#: Bars in a panel.
MOST_BARS = 10

#: Labels in the order in which they are tried: over other faces, with both names of a blend, brief.
_TRIES = [
    (o, m, b) for o in (False, True) for m, b in ((True, False), (False, False), (False, True))
]
_FONT = cv2.FONT_HERSHEY_DUPLEX
_CAP = 22.0  # Height in pixels of a capital letter of this font at scale 1.
_SUPER = 4  # Sprites are drawn this many times larger.
_INK: Bgr = (26, 20, 18)
_PAPER: Bgr = (245, 242, 240)
_FAINT: Bgr = (178, 170, 166)


def color_of(emotion: Label) -> Bgr:
    """The palette's colour of ``emotion`` as (blue, green, red), each 0..255."""
    value = colour_of(emotion).lstrip("#")
    red, green, blue = (int(value[i : i + 2], 16) for i in (0, 2, 4))
    return blue, green, red


def _text_on(background: Bgr) -> Bgr:
    blue, green, red = background
    return _INK if 0.114 * blue + 0.587 * green + 0.299 * red > 115 else _PAPER


@dataclass(frozen=True)
class _Sprite:
    """A small transparent image: ``color`` uint8 (h, w, 3), ``alpha`` float32 (h, w), 0..1."""

    color: Image
    alpha: NDArray[np.float32]

    @property
    def size(self) -> tuple[int, int]:
        return self.color.shape[1], self.color.shape[0]


class _Canvas:
    """Draws one sprite at ``_SUPER`` times its size; coordinates are those of the sprite."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = max(1, width), max(1, height)
        shape = (self.height * _SUPER, self.width * _SUPER)
        self._color = np.zeros((*shape, 3), np.uint8)
        self._alpha = np.zeros(shape, np.uint8)
        self._small_alpha: NDArray[np.float32] | None = None

    def copy(self) -> _Canvas:
        """Another canvas with the same content; its base is this one's and is not drawn again."""
        other = _Canvas.__new__(_Canvas)
        other.width, other.height = self.width, self.height
        other._color, other._alpha = self._color.copy(), self._alpha
        other._small_alpha = self._shrunk_alpha()
        return other

    def _shrunk_alpha(self) -> NDArray[np.float32]:
        if self._small_alpha is None:
            size = (self.width, self.height)
            alpha = cv2.resize(self._alpha, size, interpolation=cv2.INTER_AREA)
            self._small_alpha = np.asarray(alpha, np.float32) / np.float32(255)
        return self._small_alpha

    def rounded(
        self,
        rect: tuple[float, float, float, float],
        radius: float,
        color: Bgr,
        opacity: float = 1.0,
        base: bool = False,
    ) -> None:
        """Fill a rounded rectangle; the ``base`` also decides where the sprite is transparent."""
        x, y, w, h = (round(v * _SUPER) for v in rect)
        r = max(0, min(round(radius * _SUPER), w // 2, h // 2))
        mask = np.zeros((h, w), np.uint8)  # of the rectangle alone: the canvas is much larger
        if r:
            cv2.rectangle(mask, (r, 0), (w - r - 1, h - 1), 255, -1)
            cv2.rectangle(mask, (0, r), (w - 1, h - r - 1), 255, -1)
            for cx in (r, w - r - 1):
                for cy in (r, h - r - 1):
                    cv2.circle(mask, (cx, cy), r, 255, -1)
        elif w and h:
            mask[:] = 255
        top, left = max(0, y), max(0, x)
        area = self._color[top : y + h, left : x + w]
        where = mask[top - y :, left - x :][: area.shape[0], : area.shape[1]] > 0
        if base:
            self._color[:] = color
            self._alpha[top : y + h, left : x + w][where] = round(255 * opacity)
        elif opacity == 1:
            area[where] = color
        else:
            mixed = (1 - opacity) * area[where] + opacity * np.array(color, np.float32)
            area[where] = mixed.astype(np.uint8)

    def text(self, text: str, x: float, baseline: float, cap: float, color: Bgr) -> None:
        drawn = letters(text, cap * _SUPER)
        if drawn is not None:
            mask, above = drawn
            top, left = max(0, round(baseline * _SUPER) - above), round(x * _SUPER)
            area = self._color[top : top + len(mask), left : left + mask.shape[1]]
            share = mask[: len(area), : area.shape[1], None] / np.float32(255)
            area[:] = (1 - share) * area + share * np.array(color, np.float32)
            return
        text = drawable(text, len(text))
        scale = cap * _SUPER / _CAP
        thickness = max(1, round(cap * _SUPER * 0.075))
        origin = (round(x * _SUPER), round(baseline * _SUPER))
        cv2.putText(self._color, text, origin, _FONT, scale, color, thickness, cv2.LINE_AA)

    def sprite(self) -> _Sprite:
        size = (self.width, self.height)
        color = cv2.resize(self._color, size, interpolation=cv2.INTER_AREA)
        return _Sprite(np.asarray(color, np.uint8), self._shrunk_alpha())


def _short(name: str) -> str:
    """A class's name as long as there is room for."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 2]}.."


def _text_width(text: str, cap: float) -> float:
    drawn = letters(text, cap * _SUPER)
    if drawn is not None:
        return len(drawn[0][0]) / _SUPER
    text = drawable(text, len(text))
    scale = cap * _SUPER / _CAP
    (width, _), _ = cv2.getTextSize(text, _FONT, scale, max(1, round(cap * _SUPER * 0.075)))
    return width / _SUPER


def _label(face: Face, cap: float, mixed: bool = True, brief: bool = False) -> _Sprite:
    """The tag with the expression and its probability; in a video also the face's number.

    A face that is unsure shows that word in place of the expression.

    A blend is named with both ("happy / surprise"), unless ``mixed`` is False. A ``brief`` tag has
    the number alone, or the probability.
    """
    emotion, probabilities = face.shown
    number = "" if face.track is None else f"{face.track}  "
    name, value = _short(emotion), f"{100 * probabilities[emotion]:.0f}%"
    unsure = face.unsure if face.smoothed is None else face.steady is None
    if brief:
        return _tag(number.strip() or ("?" if unsure else value), "", emotion, cap)
    if unsure:
        name = "unsure"
    pair = blend_of(probabilities) if mixed and not unsure else None
    if pair is not None and emotion in pair:
        other = pair[1] if emotion == pair[0] else pair[0]
        name = f"{name} / {_short(other)}"
        value = f"{value[:-1]} + {100 * probabilities[other]:.0f}%"
    return _tag(f"{number}{name}", value, emotion, cap)


@functools.lru_cache(maxsize=256)
def _tag(name: str, value: str, emotion: Label, cap: float) -> _Sprite:
    """Kept, because a video shows the same few tags in frame after frame."""
    color = color_of(emotion)
    pad, gap = 0.75 * cap, 0.6 * cap * bool(value)
    first = _text_width(name, cap)
    canvas = _Canvas(
        round(first + gap + _text_width(value, cap * 0.86) + 2 * pad), round(cap + 2 * pad)
    )
    canvas.rounded((0, 0, canvas.width, canvas.height), cap * 0.5, color, 0.96, base=True)
    ink = _text_on(color)
    canvas.text(name, pad, pad + cap, cap, ink)
    canvas.text(value, pad + first + gap, pad + cap, cap * 0.86, ink)
    return canvas.sprite()


@functools.lru_cache(maxsize=8)
def _empty_bars(names: tuple[str, ...], cap: float) -> tuple[_Canvas, float]:
    """The panel without values, and where its bars begin; kept for the next frame of a video."""
    pad, row, track = 0.95 * cap, 1.95 * cap, 6.2 * cap
    longest = max(_text_width(name, cap) for name in names)
    width = round(longest + track + _text_width("100", cap) + 2 * pad + 1.7 * cap)
    canvas = _Canvas(width, round(row * len(names) + 2 * pad - (row - cap)))
    canvas.rounded((0, 0, width, canvas.height), 0.7 * cap, _INK, 0.8, base=True)
    left = pad + longest + 0.85 * cap
    for index, name in enumerate(names):
        top = pad + index * row
        canvas.text(name, pad, top + cap, cap, _FAINT)
        canvas.rounded((left, top, track, cap), cap * 0.3, _PAPER, 0.13)
    return canvas, left


def _bars(face: Face, cap: float) -> _Sprite:
    """The panel with a bar for every class, in the model's order; of many the most probable."""
    cap = cap * 0.78
    shown, probabilities = face.shown
    if len(probabilities) > MOST_BARS:  # the first by probability
        best = sorted(probabilities.items(), key=lambda item: -item[1])[:MOST_BARS]
        probabilities = dict(best)
    empty, left = _empty_bars(tuple(map(_short, probabilities)), cap)
    canvas = empty.copy()
    pad, row, track = 0.95 * cap, 1.95 * cap, 6.2 * cap
    for index, (emotion, value) in enumerate(probabilities.items()):
        top = pad + index * row
        ink = _FAINT
        if emotion == shown:
            ink = _PAPER
            canvas.text(_short(emotion), pad, top + cap, cap, ink)
        length = max(0.35 * cap, track * min(1.0, max(0.0, value)))
        canvas.rounded((left, top, length, cap), cap * 0.3, color_of(emotion))
        number = f"{100 * value:.0f}"
        right = canvas.width - pad - _text_width(number, cap)
        canvas.text(number, right, top + cap, cap, ink)
    return canvas.sprite()


def _overlap(a: Rect, b: Rect) -> int:
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0, wide) * max(0, high)


def _clamped(x: float, y: float, size: tuple[int, int], width: int, height: int) -> Rect:
    w, h = size
    return max(0, min(round(x), width - w)), max(0, min(round(y), height - h)), w, h


def _label_places(box: Rect, size: tuple[int, int], gap: int) -> list[tuple[float, float]]:
    x, y, w, h = box
    lw, lh = size
    rows = [y - lh - gap, y + h + gap, y + gap, y + h - lh - gap]
    rows += [y - (n + 1) * (lh + gap) for n in (1, 2, 3)]
    rows += [y + h + gap + n * (lh + gap) for n in (1, 2, 3)]
    return [(column, row) for row in rows for column in (x, x + w - lw, x + (w - lw) / 2)]


def _place_label(
    box: Rect, size: tuple[int, int], gap: int, frame: tuple[int, int], taken: list[Rect], far: bool
) -> Rect | None:
    """A free place near the box, or else the nearest on a grid if it may be ``far``, else None."""
    if size[0] > frame[0] or size[1] > frame[1]:
        return None
    for x, y in _label_places(box, size, gap):
        rect = _clamped(x, y, size, *frame)
        if not any(_overlap(rect, other) for other in taken):
            return rect
    if not far:
        return None
    xs, ys = (np.arange(0, frame[k] - size[k] + 1, max(4, size[1] // 2)) for k in (0, 1))
    free = np.ones((len(ys), len(xs)), bool)
    for x, y, w, h in taken:
        rows, columns = (ys > y - size[1]) & (ys < y + h), (xs > x - size[0]) & (xs < x + w)
        free[np.ix_(rows, columns)] = False
    if not free.any():
        return None
    cx, cy = (box[k] + (box[k + 2] - size[k]) / 2 for k in (0, 1))
    distance = (ys[:, None] - cy) ** 2 + (xs - cx) ** 2
    row, column = np.unravel_index(np.where(free, distance, np.inf).argmin(), free.shape)
    return int(xs[column]), int(ys[row]), *size


def _place_bars(
    box: Rect, size: tuple[int, int], gap: int, frame: tuple[int, int], taken: list[Rect]
) -> Rect | None:
    """Right of the box, left, below or above, wholly inside and covering nothing; else None."""
    x, y, w, h = box
    pw, ph = size
    if pw > frame[0] or ph > frame[1]:
        return None
    for px, py in (
        (x + w + 2 * gap, y),
        (x - pw - 2 * gap, y),
        (x + (w - pw) / 2, y + h + 2 * gap),
        (x + (w - pw) / 2, y - ph - 2 * gap),
    ):
        rect = _clamped(px, py, size, *frame)
        if not any(_overlap(rect, other) for other in (*taken, box)):
            return rect
    return None


def _paste(image: Image, sprite: _Sprite, x: int, y: int) -> None:
    w, h = sprite.size
    part = image[y : y + h, x : x + w]
    part[:] = cv2.blendLinear(part, sprite.color, 1 - sprite.alpha, sprite.alpha)


def _outline(image: Image, box: Rect, color: Bgr, thickness: int) -> None:
    """A rounded box with a dark rim, so that it shows on any ground."""
    x, y, w, h = box
    r = max(1, min(round(0.12 * min(w, h)), w // 2, h // 2))
    for ink, width in ((_INK, thickness + max(2, thickness // 2)), (color, thickness)):
        for a, b in (
            ((x + r, y), (x + w - r, y)),
            ((x + r, y + h), (x + w - r, y + h)),
            ((x, y + r), (x, y + h - r)),
            ((x + w, y + r), (x + w, y + h - r)),
        ):
            cv2.line(image, a, b, ink, width, cv2.LINE_AA)
        for cx, cy, angle in (
            (x + r, y + r, 180),
            (x + w - r, y + r, 270),
            (x + w - r, y + h - r, 0),
            (x + r, y + h - r, 90),
        ):
            cv2.ellipse(image, (cx, cy), (r, r), angle, 0, 90, ink, width, cv2.LINE_AA)


def _scaled(box: Box, scale: float, width: int, height: int) -> Rect:
    """The box in whole pixels of the annotated image, cut to what can be seen of it."""
    left = min(max(0, round(box.x * scale)), width - 2)
    top = min(max(0, round(box.y * scale)), height - 2)
    right = max(left + 1, min(width - 1, round((box.x + box.width) * scale)))
    bottom = max(top + 1, min(height - 1, round((box.y + box.height) * scale)))
    return left, top, right - left, bottom - top


def draw(image: Image, result: Result, *, bars: bool = True) -> Image:
    """Paint ``result`` on a copy of ``image``.

    Args:
        image: uint8 (H, W, 3), BGR, upright: the image that ``result`` speaks of.
        result: the faces; boxes in pixels of ``image``.
        bars: also draw each face's panel of probabilities where there is room.

    Returns:
        uint8 (H', W', 3), BGR. The size is ``image``'s, but for an image whose long side is under
        ``MIN_LONG_SIDE``: it is enlarged to that, so that the text can be read.
    """
    scale = max(1.0, MIN_LONG_SIDE / max(image.shape[:2]))
    if scale > 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        canvas = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    else:
        canvas = image.copy()
    height, width = canvas.shape[:2]
    longest, frame = min(max(width, height), 2 * min(width, height)), (width, height)
    gap = max(3, round(longest / 200))
    boxes = [_scaled(face.box, scale, width, height) for face in result.faces]
    for face, box in zip(result.faces, boxes, strict=True):
        thickness = max(2, round(min(longest / 260, max(2.0, box[2] / 28))))
        _outline(canvas, box, color_of(face.shown[0]), thickness)
    taken: list[Rect] = []
    caps: list[float] = []
    for face, box in zip(result.faces, boxes, strict=True):
        cap = float(np.clip(box[2] * 0.12, max(9.5, longest / 95), max(11.5, longest / 42)))
        if face.track is not None:  # in a video the text must not swell with every frame
            cap = round(cap)
        caps.append(cap)
        others = [other for other in boxes if other is not box]
        for over, mixed, brief in _TRIES:
            label = _label(face, cap, mixed, brief)
            kept = taken if over else [*taken, *others]
            place = _place_label(box, label.size, gap, frame, kept, far=over)
            if place is not None:
                _paste(canvas, label, place[0], place[1])
                taken.append(place)
                break
    for face, box, cap in zip(result.faces, boxes, caps, strict=True) if bars else ():
        panel = _bars(face, cap)
        others = [other for other in boxes if other is not box]
        place = _place_bars(box, panel.size, gap, frame, [*taken, *others])
        if place is not None:
            _paste(canvas, panel, place[0], place[1])
            taken.append(place)
    return canvas
