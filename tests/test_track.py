"""Tracking and smoothing: drawn motions with a known answer."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mien import track
from mien.emotions import FER2013, Emotion, Label
from mien.errors import MienError
from mien.results import Box, Face, Result
from mien.track import Smoother, Tracker, iou, match


def face(x: float, y: float = 100, side: float = 80, **p: float) -> Face:
    """A face centred at (x, y)."""
    values = {e: p.get(e.value, 0.0) for e in FER2013}
    if not p:
        values[Emotion.NEUTRAL] = 1.0
    return Face(Box(x - side / 2, y - side / 2, side, side), values)


def assignment(table: list[list[float]]) -> list[tuple[int, int]]:
    """The matching of a full table of similarities."""
    return match([{j: value for j, value in enumerate(row) if value > 0} for row in table])


def ids(faces: tuple[Face, ...]) -> list[int | None]:
    return [f.track for f in faces]


def test_one_walking_face_keeps_its_number() -> None:
    tracker = Tracker()
    rng = np.random.default_rng(0)
    for n in range(300):
        jitter = rng.normal(0, 3, 2)
        out = tracker.update([face(50 + 4 * n + jitter[0], 100 + jitter[1])], n / 30)
        assert ids(out) == [1]


def test_numbers_do_not_depend_on_the_order_within_a_frame() -> None:
    tracker = Tracker()
    rng = np.random.default_rng(1)
    people = [face(150 * k + 100) for k in range(5)]
    known = tracker.update(people, 0.0)
    for n in range(1, 50):
        order = rng.permutation(5)
        out = tracker.update([people[k] for k in order], n / 30)
        assert ids(out) == [known[k].track for k in order]


def test_two_faces_that_pass_each_other_keep_their_numbers() -> None:
    """Motion decides: at the crossing both boxes overlap both faces."""
    tracker = Tracker()
    for n in range(60):
        left, right = face(100 + 6 * n, 100), face(460 - 6 * n, 112)
        assert ids(tracker.update([left, right], n / 30)) == [1, 2]


@pytest.mark.parametrize("hidden", [1, 8, 24])
def test_a_number_survives_an_occlusion(hidden: int) -> None:
    """The face walks on behind the obstacle, slowly enough to be plausible."""
    tracker = Tracker(max_gap=1.0)
    for n in range(30):
        tracker.update([face(100 + 3 * n), face(600)], n / 30)
    for n in range(30, 30 + hidden):
        assert ids(tracker.update([face(600)], n / 30)) == [2]
    n = 30 + hidden
    assert ids(tracker.update([face(600), face(100 + 3 * n)], n / 30)) == [2, 1]


def test_a_face_gone_for_long_comes_back_as_a_new_one() -> None:
    tracker = Tracker(max_gap=1.0)
    tracker.update([face(100)], 0.0)
    assert ids(tracker.update([face(100)], 0.9)) == [1]
    assert ids(tracker.update([face(100)], 2.0)) == [2]


def test_another_face_elsewhere_is_not_mistaken_for_the_one_that_left() -> None:
    tracker = Tracker()
    tracker.update([face(100)], 0.0)
    assert ids(tracker.update([face(500)], 1 / 30)) == [2]
    assert ids(tracker.update([face(100, side=200)], 2 / 30)) == [3]  # far larger: someone else


def test_the_same_motion_at_a_third_of_the_frame_rate() -> None:
    """What `--every 3` makes of a face that moves a quarter of its side a frame."""
    tracker = Tracker()
    for n in range(0, 60, 3):
        assert ids(tracker.update([face(50 + 20 * n)], n / 30)) == [1]


def test_a_cut_gives_new_numbers() -> None:
    tracker = Tracker()
    tracker.update([face(100)], 0.0)
    tracker.cut()
    assert ids(tracker.update([face(100)], 1 / 30)) == [2]


def test_time_that_stands_still_or_runs_back_does_no_harm() -> None:
    tracker, smoother = Tracker(), Smoother()
    for time in (0.0, 0.0, 0.1, 0.05, 0.05, 0.2):
        out = smoother.update(tracker.update([face(100, happy=1.0)], time), time)
        assert ids(out) == [1]
        assert out[0].smoothed is not None
        assert sum(out[0].smoothed.values()) == pytest.approx(1)


def test_state_goes_through_json_and_the_rest_is_the_same() -> None:
    rng = np.random.default_rng(2)
    frames = [
        [face(100 + 5 * n, happy=p, sad=1 - p), face(400 - 3 * n, fear=p, neutral=1 - p)]
        for n, p in enumerate(rng.random(40))
    ]

    def run(stop: int | None) -> list[dict[str, object]]:
        tracker, smoother, out = Tracker(), Smoother(), []
        for n, faces in enumerate(frames):
            if n == stop:
                saved = json.loads(json.dumps([tracker.state(), smoother.state()]))
                tracker, smoother = Tracker(), Smoother()
                tracker.restore(saved[0])
                smoother.restore(saved[1])
            done = smoother.update(tracker.update(faces, n / 25), n / 25)
            out += [f.to_dict() for f in done]
        return out

    assert run(None) == run(17)


def test_a_name_of_ones_own_outlives_a_restart() -> None:
    """The lead has shrunk under the margin, and the name stays as it would have."""
    leads = [0.9] * 5 + [0.505] * 12

    def names(stop: int | None) -> list[str | None]:
        smoother, out = Smoother(), []
        for n, p in enumerate(leads):
            if n == stop:
                saved = json.loads(json.dumps(smoother.state()))
                smoother = Smoother()
                smoother.restore(saved)
            labels = {Label("bored"): p, Label("keen"): 1 - p}
            seen = replace(face(100), probabilities=labels, track=1)
            out += [f.steady for f in smoother.update([seen], n / 5)]
        return out

    assert names(None) == names(8)
    assert names(None)[-1] == "bored"


def test_smoothing_is_exponential_in_time_whatever_the_frame_rate() -> None:
    """After a step the average has gone 1 - 1/e of the way within the time constant."""
    for rate in (10, 30, 120):
        smoother = Smoother(seconds=0.5, margin=0)
        first = Tracker().update([face(100, sad=1.0)], 0.0)
        smoother.update(first, 0.0)
        for n in range(1, rate // 2 + 1):
            step = Face(first[0].box, face(0, happy=1.0).probabilities, track=1)
            (out,) = smoother.update([step], n / rate)
        assert out.smoothed is not None
        assert out.smoothed[Emotion.HAPPY] == pytest.approx(1 - math.exp(-1))
        assert out.emotion == Emotion.HAPPY  # the raw score is still there
        assert out.probabilities[Emotion.HAPPY] == 1.0


def changes(names: list[Emotion | None]) -> int:
    return sum(a != b for a, b in itertools.pairwise(names))


def test_hysteresis_stops_the_flicker_but_follows_a_real_change() -> None:
    rng = np.random.default_rng(3)

    def names(margin: float) -> list[Emotion | None]:
        smoother, out = Smoother(seconds=0, margin=margin), []
        for n in range(400):
            happy = 0.5 + float(rng.normal(0, 0.02)) if n < 300 else 0.9
            seen = Face(Box(0, 0, 9, 9), face(0, happy=happy, sad=1 - happy).probabilities, track=1)
            out.append(smoother.update([seen], n / 30)[0].steady)
        return out

    nervous, calm = names(0.0), names(0.25)
    assert changes(nervous[:300]) > 50
    assert changes(calm[:300]) == 0
    assert calm[-1] == Emotion.HAPPY


def test_a_face_without_a_track_is_left_alone() -> None:
    seen = face(100)
    assert Smoother().update([seen], 0.0) == (seen,)


def test_smoothing_starts_afresh_after_a_long_gap() -> None:
    smoother = Smoother(max_gap=1.0)
    happy = Face(Box(0, 0, 9, 9), face(0, happy=1.0).probabilities, track=1)
    sad = Face(Box(0, 0, 9, 9), face(0, sad=1.0).probabilities, track=1)
    smoother.update([happy], 0.0)
    (out,) = smoother.update([sad], 5.0)
    assert out.steady == Emotion.SAD
    assert out.smoothed == sad.probabilities


def test_memory_stays_bounded_however_many_faces_come_and_go() -> None:
    tracker, smoother = Tracker(), Smoother()
    for n in range(3000):
        faces = tracker.update([face(100 if n % 2 else 2000)], n * 2.0)
        smoother.update(faces, n * 2.0)
    assert len(tracker.state()["tracks"]) == 1
    assert len(smoother.state()) == 1
    assert tracker.state()["next"] == 3001


def test_assignment_is_optimal() -> None:
    """Against every permutation, for random tables of all small shapes."""
    rng = np.random.default_rng(4)
    shapes = Counter()
    for _ in range(300):
        n, m = (int(v) for v in rng.integers(1, 6, 2))
        table = np.where(rng.random((n, m)) < 0.3, 0.0, rng.random((n, m))).tolist()
        got = assignment(table)
        assert len({i for i, _ in got}) == len({j for _, j in got}) == len(got)
        assert all(table[i][j] > 0 for i, j in got)
        best = max(
            sum(table[i][j] for i, j in zip(rows, columns, strict=True))
            for rows in itertools.permutations(range(n), min(n, m))
            for columns in [range(m)] * (n >= m) + list(itertools.permutations(range(m), n))
            if len(rows) == len(columns)
        )
        assert sum(table[i][j] for i, j in got) == pytest.approx(best)
        shapes[n > m] += 1
    assert len(shapes) == 2
    assert assignment([]) == assignment([[]]) == []


def plain_assignment(table: list[list[float]]) -> list[tuple[int, int]]:
    """The Hungarian method on the whole table, as in the books: O(n³)."""
    n, m = len(table), len(table[0])
    if n > m:
        turned = [[row[j] for row in table] for j in range(m)]
        return sorted((i, j) for j, i in plain_assignment(turned))
    u, v = [0.0] * (n + 1), [0.0] * (m + 1)
    owner, way = [0] * (m + 1), [0] * (m + 1)
    for i in range(1, n + 1):
        owner[0], at = i, 0
        least, used = [math.inf] * (m + 1), [False] * (m + 1)
        while owner[at]:
            used[at] = True
            row, step, nearest = owner[at], math.inf, 0
            for j in range(1, m + 1):
                if used[j]:
                    continue
                cost = -table[row - 1][j - 1] - u[row] - v[j]
                if cost < least[j]:
                    least[j], way[j] = cost, at
                if least[j] < step:
                    step, nearest = least[j], j
            for j in range(m + 1):
                if used[j]:
                    u[owner[j]] += step
                    v[j] -= step
                else:
                    least[j] -= step
            at = nearest
        while at:
            owner[at] = owner[way[at]]
            at = way[at]
    pairs = sorted((owner[j] - 1, j - 1) for j in range(1, m + 1) if owner[j])
    return [(i, j) for i, j in pairs if table[i][j] > 0]


def test_the_sparse_assignment_is_the_plain_one() -> None:
    rng = np.random.default_rng(5)
    for density in (0.02, 0.1, 0.5, 1.0):
        for _ in range(40):
            n, m = (int(v) for v in rng.integers(1, 40, 2))
            table = np.where(rng.random((n, m)) < density, rng.random((n, m)), 0.0).tolist()
            assert assignment(table) == plain_assignment(table)


def crowd(rng: np.random.Generator, count: int, step: float) -> list[tuple[float, float]]:
    """Centres on a loose grid, ``step`` faces of 40 pixels apart."""
    wide = round(math.sqrt(count * 16 / 9))
    shift = rng.normal(0, 4, (count, 2))
    return [
        (40 * step * (k % wide) + shift[k, 0], 40 * step * (k // wide) + shift[k, 1])
        for k in range(count)
    ]


@pytest.mark.parametrize("step", [1.1, 2.4])
def test_pairs_that_are_not_compared_would_not_have_matched(step: float) -> None:
    """Against the full table, for a crowd of faces of all sizes, near and far, after a while."""
    rng = np.random.default_rng(6)
    tracker, boxes = Tracker(), []
    for n in range(2):
        sides = rng.uniform(15, 90, 60)
        places = crowd(rng, 60, step)
        boxes = [face(x, y, side).box for (x, y), side in zip(places, sides, strict=True)]
        if n == 0:
            tracker.assign(boxes, 0.0)
    tracks = tracker._tracks
    for similarity in (track._overlap, track._nearness):
        rows = track._similarities(tracks, boxes, 0.7, similarity)
        assert any(rows)
        for t, row in zip(tracks, rows, strict=True):
            full = [similarity(t, t.predict(0.7), box, 0.7) for box in boxes]
            assert row == {i: value for i, value in enumerate(full) if value > 0}


@pytest.mark.parametrize(("step", "rate"), [(1.5, 25.0), (1.1, 25.0), (1.3, 3.0)])
def test_the_work_for_a_crowd_grows_with_its_number_only(
    monkeypatch: pytest.MonkeyPatch, step: float, rate: float
) -> None:
    """300 faces: what is counted are comparisons and steps of searches, not seconds."""
    work: Counter[str] = Counter()

    def counted(name: str) -> None:
        real = getattr(track, name)

        def count(*args: object) -> object:
            work[name] += 1
            return real(*args)

        monkeypatch.setattr(track, name, count)

    for name in ("_overlap", "_nearness", "heappush"):
        counted(name)

    def follow(count: int) -> int:
        rng, tracker = np.random.default_rng(7), Tracker()
        frames = 4
        work.clear()
        for n in range(frames):
            boxes = [face(x + 3 * n, y, 40).box for x, y in crowd(rng, count, step)]
            numbers = tracker.assign(boxes, n / rate)
            if step > 1.4:
                assert numbers == list(range(1, count + 1))
        return work.total()

    few, many = follow(30), follow(300)
    assert many < 20 * few  # ten times the faces; the plain method takes a thousand times the work
    assert many < 4 * 300 * 60


def test_iou() -> None:
    assert iou(Box(0, 0, 10, 10), Box(0, 0, 10, 10)) == 1
    assert iou(Box(0, 0, 10, 10), Box(5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert iou(Box(0, 0, 10, 10), Box(10, 0, 10, 10)) == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tracker(max_gap=-1),
        lambda: Tracker(max_gap=math.nan),
        lambda: Smoother(seconds=-0.1),
        lambda: Smoother(margin=1.5),
        lambda: Smoother(max_gap=math.inf),
    ],
)
def test_values_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(MienError, match="expected 0"):
        make()  # type: ignore[operator]


def test_results_carry_tracks_through_json_and_old_records_still_read() -> None:
    tracker, smoother = Tracker(), Smoother()
    faces = smoother.update(tracker.update([face(100, happy=0.5, sad=0.5)], 0.0), 0.0)
    result = Result(faces, 640, 480, frame=7, time=0.28)
    assert Result.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert faces[0].shown == (Emotion.HAPPY, faces[0].smoothed)
    plain = Result((face(100),), 640, 480)
    record = plain.to_dict()
    assert not {"frame", "time"} & set(record)
    assert not {"track", "smoothed", "steady"} & set(record["faces"][0])
    assert Result.from_dict(record) == plain


def test_unsure_frames_do_not_vote_and_too_many_take_the_name() -> None:
    """A sure beginning, a second of unsure frames that say something else, and sure ones again."""
    smoother = Smoother(0.4, 0.1)

    def look(n: int, unsure: bool, **p: float) -> Face:
        seen = replace(face(100, **p), track=1, unsure=unsure)
        (out,) = smoother.update([seen], n / 10)
        return out

    for n in range(10):
        sure = look(n, False, happy=0.9, sad=0.1)
    assert sure.steady is Emotion.HAPPY
    doubtful = [look(n, True, happy=0.1, sad=0.9) for n in range(10, 20)]
    assert all(f.smoothed == sure.smoothed for f in doubtful)
    assert doubtful[0].steady is Emotion.HAPPY, "one bad frame is no doubt"
    assert doubtful[-1].steady is None
    names = [look(n, False, happy=0.9, sad=0.1).steady for n in range(20, 30)]
    assert names[0] is None
    assert names[-1] is Emotion.HAPPY


def test_the_first_sure_frame_replaces_unsure_ones() -> None:
    smoother = Smoother(0.4, 0.1)
    for n in range(5):
        (seen,) = smoother.update(
            [replace(face(100, happy=0.1, sad=0.9), track=1, unsure=True)], n / 10
        )
        assert seen.steady is None
    (seen,) = smoother.update([replace(face(100, happy=0.8, sad=0.2), track=1)], 0.5)
    assert seen.smoothed == pytest.approx(seen.probabilities)
