"""What is painted on an image: where, in which colour, and nowhere else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from mien import draw as module
from mien.draw import MIN_LONG_SIDE, color_of, draw, lettering
from mien.emotions import ALL, FER2013, PALETTE, PALETTE_ON_LIGHT, Emotion, to_labels
from mien.results import Box, Face, Result

P = dict(zip(FER2013, (0.05, 0.01, 0.04, 0.7, 0.1, 0.06, 0.04), strict=True))


def blank(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 90, np.uint8)


def result(height: int, width: int, *boxes: Box) -> Result:
    return Result(tuple(Face(box, P) for box in boxes), width, height)


def test_every_expression_has_its_own_colour() -> None:
    assert set(PALETTE) == set(PALETTE_ON_LIGHT) == set(ALL)
    for a, b in itertools.combinations(ALL, 2):
        distance = np.linalg.norm(np.subtract(color_of(a), color_of(b), dtype=float))
        assert distance > 60, (a, b)


def test_the_source_is_left_alone_and_the_box_has_its_colour() -> None:
    image = blank(600, 800)
    painted = draw(image, result(600, 800, Box(300, 200, 120, 140)))
    assert (image == 90).all()
    assert painted.shape == image.shape
    assert tuple(painted[200, 360]) == color_of(Emotion.HAPPY)
    inside = painted[215:330, 315:405]
    assert (inside == 90).all(), "the face itself must stay visible"


def test_no_face_paints_nothing() -> None:
    image = blank(600, 800)
    assert (draw(image, result(600, 800)) == image).all()


def test_small_images_are_enlarged() -> None:
    painted = draw(blank(24, 48), result(24, 48, Box(0, 0, 24, 24)))
    assert painted.shape == (MIN_LONG_SIDE // 2, MIN_LONG_SIDE, 3)


@pytest.mark.parametrize("size", [(8, 8), (8, 2000), (2000, 8), (480, 640), (3000, 4000)])
@pytest.mark.parametrize(
    "box", [(0, 0, 1, 1), (-0.2, -0.2, 0.5, 0.5), (0.8, 0.8, 0.5, 0.5), (0.5, 0.5, 0.001, 0.001)]
)
def test_any_size_and_any_box(size: tuple[int, int], box: tuple[float, ...]) -> None:
    height, width = size
    x, y, w, h = box
    painted = draw(
        blank(*size), result(height, width, Box(x * width, y * height, w * width, h * height))
    )
    assert painted.dtype == np.uint8
    assert min(painted.shape[:2]) >= min(size)


@pytest.mark.parametrize("size", [(300, 20000), (12000, 1080)])
def test_a_long_image_has_its_names(size: tuple[int, int]) -> None:
    box = Box(400, 100, 90, 110)
    painted = draw(blank(*size), result(*size, box), bars=False)
    painted[94:216, 394:496] = 90
    rows, columns = np.nonzero((painted != 90).any(axis=2))
    assert 12 < np.ptp(rows) < 120
    assert 60 < np.ptp(columns) < 400


def test_labels_stay_inside_and_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    height, width = 700, 900
    boxes = [
        Box(float(x), float(y), 60, 70)
        for x, y in zip(rng.uniform(-20, width, 40), rng.uniform(-20, height, 40), strict=True)
    ]
    places: list[tuple[int, int, int, int]] = []
    paste = module._paste

    def record(image: NDArray[np.uint8], sprite: module._Sprite, x: int, y: int) -> None:
        places.append((x, y, *sprite.size))
        paste(image, sprite, x, y)

    monkeypatch.setattr(module, "_paste", record)
    draw(blank(height, width), result(height, width, *boxes))
    assert len(places) >= len(boxes), "every face keeps its label"
    assert all(x >= 0 and y >= 0 for x, y, _, _ in places)
    assert all(x + w <= width and y + h <= height for x, y, w, h in places)
    assert not any(module._overlap(a, b) for a, b in itertools.combinations(places, 2))


def test_names_in_a_crowd_cover_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [(x, y, 40, 50) for y in range(20, 480, 80) for x in range(10, 720, 72)]
    places: list[tuple[int, int, int, int]] = []
    monkeypatch.setattr(module, "_paste", lambda i, s, x, y: places.append((x, y, *s.size)))
    draw(blank(480, 720), result(480, 720, *(Box(*map(float, b)) for b in boxes)), bars=False)
    assert len(places) == len(boxes)
    covered = [
        (place, box)
        for place, own in zip(places, boxes, strict=True)
        for box in boxes
        if box != own and module._overlap(place, box)
    ]
    assert not covered


def test_a_label_is_its_text_at_its_height_inside_its_tag() -> None:
    """Text of ``cap`` pixels stands between equal margins, dark on the tag's bright colour."""
    label = module._label(Face(Box(0, 0, 90, 90), P), 20)
    ink = np.linalg.norm(label.color.astype(float) - color_of(Emotion.HAPPY), axis=2) > 60
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    width, height = label.size
    assert 20 <= rows[-1] - rows[0] + 1 <= 30, "capitals have 20 pixels; p and y reach lower"
    assert 10 <= rows[0] <= 20
    assert abs(columns[0] - (width - 1 - columns[-1])) <= 4
    assert 10 <= columns[0] <= 20
    assert label.alpha[height // 2, width // 2] == pytest.approx(0.96, abs=0.01)


def test_a_label_says_expression_and_probability_and_both_of_a_blend() -> None:
    def label(**p: float) -> module._Sprite:
        rest = (1 - sum(p.values())) / (7 - len(p))
        return module._label(
            Face(Box(0, 0, 90, 90), {e: p.get(e.value, rest) for e in FER2013}), 20
        )

    assert not np.array_equal(label(happy=0.71).color, label(happy=0.78).color)
    assert label(happy=0.47, surprise=0.44).size[0] > 1.8 * label(happy=0.9).size[0]


def test_bars_are_drawn_where_there_is_room_unless_they_are_not_wanted() -> None:
    image, found = blank(600, 800), result(600, 800, Box(100, 200, 120, 140))
    beside = (slice(200, 340), slice(250, 420))
    with_bars = draw(image, found)[beside]
    assert (draw(image, found, bars=False)[beside] == 90).all()
    panel = (with_bars - 0.2 * 90) / 0.8  # what shines through it taken away
    lengths = [
        (np.abs(panel - color_of(e)).max(axis=2) < 4).sum() for e in (Emotion.HAPPY, Emotion.SAD)
    ]
    assert lengths[0] > 3 * lengths[1] > 0, "0.7 and 0.1"


def test_names_in_other_scripts_are_drawn_where_a_font_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tag(name: str) -> tuple[int, ...]:
        (label,) = to_labels([name])
        face = Face(Box(300, 200, 120, 140), {label: 0.7, Emotion.SAD: 0.3})
        painted = draw(blank(600, 800), Result((face,), 800, 600), bars=False)
        return tuple(int(v) for v in np.flatnonzero((painted != 90).any(2)))

    assert lettering.letters("happy", 40) is None
    names = ("спокойный", "ελληνικά", "naïve café", "😀")
    monkeypatch.setattr(lettering, "FONTS", ())
    lettering.letters.cache_clear()
    lettering._font_for.cache_clear()
    without = [tag(name) for name in names]  # "?" and letters without accents: no font
    monkeypatch.undo()
    lettering.letters.cache_clear()
    lettering._font_for.cache_clear()
    module._tag.cache_clear()
    font = lettering._font_for("ж")
    if not font:
        pytest.skip("no font with Cyrillic here")
    assert [tag(name) != old for name, old in zip(names, without, strict=True)][:3] == [True] * 3
    mask, baseline = lettering.letters("жён", 40) or (np.zeros((0, 0)), 0)
    assert mask.max() == 255
    assert 35 <= baseline <= 60
    assert lettering.letters("\U000f0000", 40) is None  # private use: no font has it
