"""Blends: the rule, its place in results and images, and the comparison with votes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_onnx import make_onnx
from numpy.typing import NDArray

from mien import draw as draw_module
from mien.cli import main
from mien.data.dataset import FaceDataset
from mien.draw import draw
from mien.emotions import FER2013, FERPLUS_COLUMNS, Emotion
from mien.errors import DataError
from mien.evaluate import blend as module
from mien.evaluate.blend import blend_scores, jensen_shannon, kl, rater_agreement, shared_votes
from mien.results import BLEND_GAP, BLEND_SUM, Box, Face, Result, blend_of, is_blend


def mixture(happy: float, surprise: float) -> dict[Emotion, float]:
    rest = (1 - happy - surprise) / 5
    found = dict.fromkeys(FER2013, rest)
    return {**found, Emotion.HAPPY: happy, Emotion.SURPRISE: surprise}


def test_the_rule_and_its_edges() -> None:
    assert (BLEND_GAP, BLEND_SUM) == (0.3, 0.6)
    assert blend_of(mixture(0.5, 0.4)) == (Emotion.HAPPY, Emotion.SURPRISE)
    assert blend_of(mixture(0.4, 0.5)) == (Emotion.SURPRISE, Emotion.HAPPY)
    assert blend_of(mixture(0.64, 0.3)) is None, "one dominates"
    assert blend_of(mixture(0.3, 0.28)) is None, "unclear, not mixed"
    assert not is_blend([1.0])
    assert is_blend([0.5, 0.5])
    # On the edges: a gap of exactly .25 counts, a sum of exactly .75 counts.
    assert is_blend([0.5, 0.25, 0.25])


def test_a_face_says_so_in_json_and_back() -> None:
    face = Face(Box(0, 0, 9, 9), mixture(0.5, 0.4))
    assert face.blend == (Emotion.HAPPY, Emotion.SURPRISE)
    record = json.loads(json.dumps(face.to_dict()))
    assert record["blend"] == ["happy", "surprise"]
    assert Face.from_dict(record).blend == face.blend
    plain = Face(Box(0, 0, 9, 9), mixture(0.9, 0.05)).to_dict()
    assert plain["blend"] is None


def test_the_tag_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, str]] = []
    tag = draw_module._tag

    def record(name: str, value: str, emotion: Emotion, cap: float) -> draw_module._Sprite:
        said.append((name, value))
        return tag(name, value, emotion, cap)

    monkeypatch.setattr(draw_module, "_tag", record)
    image = np.full((500, 600, 3), 90, np.uint8)

    def shown(face: Face, pixels: NDArray[np.uint8] = image) -> tuple[str, str]:
        said.clear()
        draw(pixels, Result((face,), pixels.shape[1], pixels.shape[0]))
        return said[-1]

    box = Box(200, 200, 120, 120)
    assert shown(Face(box, mixture(0.5, 0.4))) == ("happy / surprise", "50 + 40%")
    assert shown(Face(box, mixture(0.9, 0.05))) == ("happy", "90%")
    # In a video the smoothed probabilities and the steady name count.
    video = Face(box, mixture(0.9, 0.05), smoothed=mixture(0.4, 0.5), steady=Emotion.HAPPY)
    assert shown(video) == ("happy / surprise", "40 + 50%")
    narrow = np.full((900, 120, 3), 90, np.uint8)
    assert shown(Face(Box(10, 300, 100, 120), mixture(0.5, 0.4)), narrow)[0] == "happy"


def test_divergences_against_known_values() -> None:
    p = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    q = np.array([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
    assert kl(p, q) == pytest.approx([0.5 * np.log(2), np.log(2)])
    assert kl(p, p) == pytest.approx([0, 0])
    assert jensen_shannon(p[1:], np.array([[0.0, 1.0, 0.0]])) == pytest.approx([np.log(2)])
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p))


def test_votes_are_matched_by_name() -> None:
    votes = np.arange(10, dtype=np.float32)[None]
    got = dict(zip(FER2013, shared_votes(votes, FER2013)[0].tolist(), strict=True))
    assert got[Emotion.NEUTRAL] == FERPLUS_COLUMNS.index("neutral")
    assert got[Emotion.HAPPY] == FERPLUS_COLUMNS.index("happiness")
    assert got[Emotion.FEAR] == FERPLUS_COLUMNS.index("fear")


def test_rater_against_rater_is_unbiased() -> None:
    """Against every ordered pair of two different raters, counted out."""
    counts = np.array([[3.0, 1, 0], [2, 2, 1], [5, 0, 0]])
    for row, got in zip(counts, rater_agreement(counts), strict=True):
        raters = [k for k, n in enumerate(row) for _ in range(int(n))]
        pairs = [(a, b) for i, a in enumerate(raters) for j, b in enumerate(raters) if i != j]
        assert got == pytest.approx(np.mean([a == b for a, b in pairs]))


def test_what_one_rater_says_of_the_others() -> None:
    counts = np.array([[3.0, 1, 0], [2, 2, 1], [0, 0, 4]])
    joint = np.zeros((3, 3))
    for row in counts:
        raters = [k for k, n in enumerate(row) for _ in range(int(n))]
        for i, a in enumerate(raters):
            for j, b in enumerate(raters):
                joint[a, b] += (i != j) / (len(raters) - 1)
    expected = joint / joint.sum(axis=1, keepdims=True)
    assert module.rater_distributions(counts) == pytest.approx(expected, abs=1e-5)


def people(n: int = 400, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Images with a distribution each, and ten raters' votes drawn from it: (p, votes)."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(7, 0.3), n)
    columns = [
        FERPLUS_COLUMNS.index(c)
        for c in ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    ]
    votes = np.zeros((n, 10))
    for i in range(n):
        votes[i, columns] = rng.multinomial(10, p[i])
    return p, votes


def test_who_knows_the_distribution_beats_a_single_rater() -> None:
    p, votes = people()
    _, others = people(seed=1)
    record = blend_scores(p, votes, FER2013, reference_votes=others).to_dict()
    assert record["images"] == record["kept"] == 400
    assert record["votes_dropped"] == 0
    one = record["one_rater"]["kl"]
    assert one["model"] < one["one rater"] < one["class prior"] < one["uniform"] + 0.01
    assert record["best_temperature"] == 1.0
    assert min(record["kl_by_temperature"].values()) == record["kl"]["model"]
    # Whoever answers a rater's most likely class agrees at least as often as another rater.
    agree = record["agreement"]
    assert agree["rater"] < agree["model"] < agree["most_voted"]
    assert record["blend"]["precision"] > record["blend"]["split"] + 0.2
    assert record["top2"]["leader_in_two"] > 0.9
    flat = module.tempered(p, 2.0)
    again = blend_scores(flat, votes, FER2013, reference_votes=others).to_dict()
    assert again["best_temperature"] == 0.5, "the temperature that was put in comes out"


def test_votes_for_no_expression_are_dropped_and_counted() -> None:
    p, votes = people(20)
    votes[0] = 0
    votes[0, FERPLUS_COLUMNS.index("NF")] = 10
    votes[1] = 0
    votes[1, [0, FERPLUS_COLUMNS.index("unknown")]] = (1, 9)
    record = blend_scores(p, votes, FER2013, reference_votes=votes).to_dict()
    assert (record["images"], record["kept"]) == (20, 18)
    votes[2] = 0
    votes[2, [0, FERPLUS_COLUMNS.index("contempt")]] = (5, 5)
    record = blend_scores(p, votes, FER2013, reference_votes=votes).to_dict()
    assert record["kept"] == 18
    assert record["votes_dropped"] == pytest.approx(5 / 180, abs=1e-6)
    with pytest.raises(DataError, match="two FER"):
        blend_scores(p[:1], votes[:1], FER2013, reference_votes=votes)
    with pytest.raises(DataError, match="19 predictions"):
        blend_scores(p[1:], votes, FER2013, reference_votes=votes)


def test_the_gap_makes_blends_as_frequent_as_split_votes() -> None:
    p, votes = people(1000)
    gap = module.choose_gap(p, votes, FER2013)
    counts = -np.sort(-shared_votes(votes, FER2013), axis=1)
    ranked = -np.sort(-p, axis=1)
    said = (ranked[:, 0] - ranked[:, 1] < gap) & (ranked[:, 0] + ranked[:, 1] >= BLEND_SUM)
    assert said.sum() == (counts[:, 1] >= 3).sum()


def test_the_published_gap_is_that_of_the_shipped_model(fer2013: FaceDataset) -> None:
    """The choice of BLEND_GAP, made again on 400 of PublicTest's faces."""
    from mien.classify import load_classifier
    from mien.data import make_splits
    from mien.robustness.runner import subset

    few = subset(make_splits(fer2013, "fer2013").select(fer2013, "PublicTest"), 400)
    assert few.votes is not None
    p = load_classifier().predict_proba(few.images)
    assert module.choose_gap(p, few.votes, FER2013) == pytest.approx(BLEND_GAP, abs=0.1)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from test_robustness import faces

    data, (_, votes) = faces(42, seed=5), people(42)
    usage = ["Training", "PublicTest", "PrivateTest"]
    rows, ballots = ["emotion,pixels,Usage"], ["Usage,Image name," + ",".join(FERPLUS_COLUMNS)]
    for i in range(42):
        part = usage[i // 7 % 3]
        rows.append(f"{data.labels[i]},{' '.join(map(str, data.images[i].ravel()))},{part}")
        ballots.append(f"{part},fer{i:07d}.png," + ",".join(str(int(v)) for v in votes[i]))
    (tmp_path / "fer2013.csv").write_text("\n".join(rows) + "\n")
    model = str(make_onnx(tmp_path / "m.onnx"))
    arguments = ["blend", model, "--data", str(tmp_path / "fer2013.csv")]
    assert main(arguments) == 2
    assert "fer2013new.csv" in capsys.readouterr().err
    (tmp_path / "fer2013new.csv").write_text("\n".join(ballots) + "\n")
    assert main([*arguments, "--json", "--out", str(tmp_path / "blend.json")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["images"] == 14
    assert record == json.loads((tmp_path / "blend.json").read_text())
    from mien.classify import load_classifier

    chosen = [i for i in range(42) if i // 7 % 3 == 1]
    p = load_classifier(model).predict_proba(data.images[chosen])
    v = shared_votes(votes[chosen], FER2013)
    v /= v.sum(axis=1, keepdims=True)
    assert record["kl"]["model"] == pytest.approx(kl(v, p.astype(float)).mean(), abs=1e-5)
    assert record["gap_as_often_as_raters"] is None  # an untrained network is never that sure
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "random rater" in said
    assert "votes are for contempt, unknown or no face" in " ".join(said.split())
    assert "would say blend" not in said
    # One whose leading two have enough: the gap is that of choose_gap, and never PrivateTest's.
    sure = str(make_onnx(tmp_path / "sure.onnx", temperature=0.2))
    arguments[1] = sure
    assert main([*arguments, "--json"]) == 0
    p = load_classifier(sure).predict_proba(data.images[chosen])
    assert json.loads(capsys.readouterr().out)["gap_as_often_as_raters"] == pytest.approx(
        module.choose_gap(p, votes[chosen], FER2013), abs=1e-4
    )
    assert main(arguments) == 0
    assert "would say blend as often as votes split" in " ".join(capsys.readouterr().out.split())
    assert main([*arguments, "--split", "PrivateTest", "--temperature", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gap_as_often_as_raters"] is None
