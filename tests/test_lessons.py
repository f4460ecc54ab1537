"""docs/lessons.md: figures from the records, and words that fit whatever was measured."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from helpers_reproduction import CLASSES, record, run_record, scores_of, summary_of

from mien.cli.reproduce import reproduce as reproduce_command
from mien.report.svg import sized
from mien.reproduce.lessons import FOLDER, lessons_page
from mien.reproduce.lessons.charts import Gap, Line, accuracy_curves, recalls
from mien.reproduce.lessons.page import TOPICS
from mien.reproduce.lessons.words import curve_of, gap, moved, pts, spread, two_errors, verdict
from mien.reproduce.mislabelled import shuffled_report
from mien.reproduce.systems import get_system

ROOT = Path(__file__).resolve().parent.parent


def run(
    run_id: str,
    train: tuple[float, float],
    val: tuple[float, float],
    *,
    epochs: int = 11,
    losses: tuple[float, float] = (1.5, 1.0),
    tests: tuple[float, ...] = (0.6, 0.62, 0.61),
    key: str = "test",
    n: int = 3589,
    **changes: Any,
) -> dict[str, Any]:
    """An invented run with straight curves from the first to the last figure, a seed a test."""
    made = run_record(run_id, run_id, **changes)
    seeds = []
    for i, accuracy in enumerate(tests):
        seed = copy.deepcopy(made["seeds"][0])
        seed |= {"seed": i, "epochs": epochs, "best_epoch": epochs}
        seed["curves"] = [
            {
                "epoch": e + 1,
                "train_accuracy": train[0] + (train[1] - train[0]) * e / (epochs - 1),
                "val_accuracy": val[0] + (val[1] - val[0]) * e / (epochs - 1),
                "train_loss": 1.0,
                "val_loss": losses[0] + (losses[1] - losses[0]) * e / (epochs - 1),
            }
            for e in range(epochs)
        ]
        kept = []
        for entry in seed["scores"]:
            if entry["key"] == "test":
                entry |= {"key": key, "n": n}
                entry["scores"]["accuracy"] = accuracy
                kept.append(entry)
            elif entry["key"] == "val":
                kept.append(entry | {"n": 3589})
        seed["scores"] = kept
        seeds.append(seed)
    return made | {"seeds": seeds, "summary": summary_of(seeds)}


def with_recalls(made: dict[str, Any], values: dict[str, float], support: dict[str, int]) -> dict:
    for seed in made["seeds"]:
        for entry in seed["scores"]:
            if entry["key"] == "paper":
                entry["n"] = sum(support.values())
                entry["scores"]["per_class"] = {
                    c: {"recall": values[c], "support": support[c]} for c in CLASSES
                }
    return made


def debnath(**changes: Any) -> dict[str, Any]:
    given = {"train": (0.3, 0.9), "val": (0.4, 0.6), "losses": (1.8, 1.0)} | changes
    return {**record([run("debnath_convnet", **given)]), "system": "debnath2021"}


def mondal(shallow: float = 0.92, tests: tuple[float, float] = (0.6, 0.61)) -> dict[str, Any]:
    runs = [
        run("mondal_shallow", (0.3, shallow), (0.4, 0.58), tests=tests[:1]),
        run("mondal_dropout", (0.3, 0.64), (0.4, 0.6), tests=tests[1:]),
    ]
    return {**record(runs), "system": "mondal2022"}


def bah(drawn: float = 0.97, apart: float = 0.88) -> dict[str, Any]:
    runs = []
    for end in ("", "_fer2013"):
        runs.append(run(f"bah_basic{end}", (0.3, 0.7), (0.4, 0.62), tests=(0.7,)))
        runs.append(run(f"bah_resnet{end}", (0.3, 0.75), (0.4, 0.64), tests=(0.72,)))
    ck, sides = {"dataset": "ckplus", "n": 99}, {"dataset": "ckplus", "n": 98}
    spread_out = (drawn - 0.01, drawn, drawn + 0.01)
    runs.append(run("bah_ckplus", (0.3, 1.0), (0.4, 0.98), tests=spread_out, **ck))
    folds = tuple(apart + 0.01 * (i - 4.5) for i in range(10))
    runs.append(run("bah_ckplus_subjects", (0.3, 1.0), (0.4, 0.9), tests=folds, **sides))
    for i, seed in enumerate(runs[-1]["seeds"]):
        seed |= {"seed": 0, "fold": i}
    row = {"test": 99, "same_sequence_in_training": 97, "same_subject_in_training": 99}
    row |= {"same_sequence_seen": 99, "same_subject_seen": 99}
    leak = {"state": "done", "sequences": 327, "subjects": 118}
    leak["each"] = [{"seed": 0, **row}, {"seed": 1, **row, "same_sequence_in_training": 96}]
    headlines = [{"key": "ckplus_random", "label": "CK+", "run": "bah_ckplus", "paper": 0.97}]
    made = {**record(runs), "system": "bah2022", "headlines": headlines}
    return made | {"extra": {"ckplus_leakage": leak}}


def ahmed(better: bool = True) -> dict[str, Any]:
    step = 0.1 if better else -0.1
    whole = {c: 0.5 + 0.04 * i for i, c in enumerate(CLASSES)}
    part = {c: v + step for c, v in whole.items()}
    supports = (958, 111, 1024, 1774, 1247, 831, 1233)
    key = {"key": "paper"}
    recipe = {"name": "ahmed_x", "init": "imagenet", "optimizer": {"name": "adam"}}
    recipe |= {"batch_size": 64, "epochs": 8}
    name = "efficientnet_lite0"
    runs = [
        run(f"{name}_all", (0.3, 0.7), (0.4, 0.6), recipe=recipe, **key),
        run(f"{name}_balanced", (0.3, 0.6), (0.4, 0.6), recipe=recipe, protocol="balanced", **key),
    ]
    with_recalls(runs[0], whole, dict(zip(CLASSES, supports, strict=True)))
    with_recalls(runs[1], part, dict.fromkeys(CLASSES, 109) | {"angry": 112})
    return {**record(runs), "system": "ahmed2024"}


def njoku() -> dict[str, Any]:
    import numpy as np

    scores = scores_of(0, n=3000)
    shuffled = shuffled_report(np.array(scores["confusion"]), scores["classes"], repeats=50)
    per_class = {c: dict.fromkeys(("precision", "recall", "f1"), 0.14) for c in CLASSES}
    report = {
        "state": "done",
        "split": "PublicTest + PrivateTest",
        "paper": {"source": "table 5", "accuracy": 0.18, "per_class": per_class},
        "ours": {"accuracy": scores["accuracy"], "per_class": scores["per_class"]},
        "shuffled": shuffled,
        "largest_distance": 0.021,
    }
    made = run("njoku_cnn", (0.3, 0.7), (0.4, 0.65), key="paper", recipe={"name": "njoku_cnn"})
    for seed in made["seeds"]:
        next(e for e in seed["scores"] if e["key"] == "paper")["scores"] = scores
    headline = {"key": "accuracy_7178", "label": "All", "run": "njoku_cnn", "paper": 0.6538}
    found = {**record([made]), "system": "njoku2024", "headlines": [headline]}
    return found | {"extra": {"mislabelled_report": report}}


def write(folder: Path, *records: dict[str, Any]) -> Path:
    for made in records:
        target = folder / made["system"]
        target.mkdir(parents=True, exist_ok=True)
        (target / "reproduction.json").write_text(json.dumps(made), encoding="utf-8")
    return folder


def lesson(folder: Path, name: str, *records: dict[str, Any]) -> str:
    """The part of the page below one lesson's heading."""
    page, _ = lessons_page(write(folder, *records))
    return page.split(f'<a id="{name}"></a>')[1].split('<a id="')[0]


def words(part: str) -> str:
    """The sentences of a lesson: the paragraph below its picture's caption."""
    return part.strip().split("\n\n")[3]


def everything() -> list[dict[str, Any]]:
    return [debnath(), njoku(), ahmed(), bah(), mondal()]


def test_nothing_is_measured_yet(tmp_path: Path) -> None:
    page, plots = lessons_page(tmp_path)
    assert plots == {}
    assert page.count("still missing. To make them yourself: `mien reproduce ") == 6
    assert "![" not in page
    assert "yourself: `mien reproduce debnath2021 --data data/ --out results/debnath2021`" in page


def test_every_lesson_has_all_its_parts(tmp_path: Path) -> None:
    page, plots = lessons_page(write(tmp_path, *everything()))
    assert "still missing" not in page
    assert set(plots) == {f"{topic.name}.svg" for topic in TOPICS}
    for topic in TOPICS:
        part = page.split(f'<a id="{topic.name}"></a>')[1].split('<a id="')[0]
        assert topic.question in part
        assert f"({FOLDER}/{topic.name}.svg)" in part
        count = len(re.findall(r"[.!?](?= [A-Z]|$)", re.sub(r"et al\.|He ", "", words(part))))
        assert 3 <= count <= 6, (topic.name, count, words(part))
        assert "**Try it.**" in part
        assert part.count("```sh\n") == 1
        for fact in ("Some Processor, 2 threads, bf16", "abc1234", "Fast budget, `mien reproduce"):
            assert fact in part
        assert f"../results/{topic.paper}/reproduction.json" in part
        for bad in ("nan", "None", "–", "{", "not run"):
            assert bad not in words(part), (topic.name, bad)


def test_plots_are_whole_and_follow_the_page_colours(tmp_path: Path) -> None:
    _, plots = lessons_page(write(tmp_path, *everything()))
    for name, svg in plots.items():
        root = ET.fromstring(svg)
        assert float(root.attrib["width"]) == 580, name
        assert root.attrib["aria-label"]
        assert "prefers-color-scheme:dark" in svg
        body = svg.split("</style>")[1]
        assert not re.findall(r'(?:fill|stroke)="#', body), name
        for found in re.findall(r'\bc?x[12]?="([-\d.]+)"', body):
            assert -1 <= float(found) <= 441, (name, found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Validation slows"),
        ({"val": (0.55, 0.6)}, "So validation stalls, with 0.0"),
        ({"val": (0.56, 0.52)}, "Nothing of that climb reaches"),
        ({"train": (0.5, 0.7), "val": (0.3, 0.69)}, "keeps up"),
        ({"train": (0.5, 0.53), "val": (0.3, 0.4)}, "too little to speak of a stall"),
        ({"train": (0.3, 0.4)}, "never stays above validation accuracy"),
    ],
)
def test_overfitting_says_what_the_curves_do(tmp_path: Path, changes: dict, said: str) -> None:
    found = words(lesson(tmp_path, "overfitting", debnath(**changes)))
    said = "slows down more than it stalls (0.33" if said == "Validation slows" else said
    assert said in found
    assert "5,155,079 weights to set and 28,709 images" in found


def test_overfitting_has_the_figures_of_its_turn(tmp_path: Path) -> None:
    # .3 + .06 e is above .4 + .02 e from the fourth epoch on.
    found = words(lesson(tmp_path, "overfitting", debnath()))
    assert "From epoch 4 on" in found
    assert "by epoch 11 it climbs from 48.0 to 90.0 % (42.0 points)" in found
    assert "validation accuracy climbs from 46.0 to 60.0 % (14.0 points)" in found
    assert "lowest at the last epoch (1.000)" in found
    turned = words(lesson(tmp_path, "overfitting", debnath(losses=(1.0, 1.9))))
    assert "lowest at epoch 1 (1.000) and 1.900 at the last" in turned


def test_dropout_takes_the_side_of_the_figures(tmp_path: Path) -> None:
    found = words(lesson(tmp_path, "dropout", mondal()))
    assert "34.0 points without and 4.0 points with it: dropout closed 30.0 points" in found
    assert "at most 2.3 points, so these runs do not show that dropout changed" in found
    wide = words(lesson(tmp_path, "dropout", mondal(shallow=0.6)))
    assert "here dropout did not close it" in wide
    below = words(lesson(tmp_path, "dropout", mondal(shallow=0.5)))
    assert "is −8.0 and 4.0 points" in below
    up = words(lesson(tmp_path, "dropout", mondal(tests=(0.6, 0.65))))
    assert "so dropout raised it by more than" in up
    down = words(lesson(tmp_path, "dropout", mondal(tests=(0.6, 0.55))))
    assert "so dropout lowered it by more than" in down


def test_residual_blocks(tmp_path: Path) -> None:
    found = lesson(tmp_path, "residual", bah())
    assert "best validation accuracy is 62.0 %, at epoch 11; the residual one is there" in found
    assert words(found).count("two standard errors") == 2
    alone = bah()
    alone["runs"] = [r for r in alone["runs"] if r["id"] not in ("bah_basic", "bah_resnet")]
    assert "Trained on FER2013 alone" in lesson(tmp_path, "residual", alone)
    one = bah()
    one["runs"] = [r for r in one["runs"] if "basic" not in r["id"]]
    assert "still missing" in lesson(tmp_path, "residual", one)


def test_balancing_is_judged_by_the_mean_recall(tmp_path: Path) -> None:
    found = words(lesson(tmp_path, "balancing", ahmed()))
    assert "Only 547 of the 35,887 images are disgust" in found
    assert "3,829 in all, and trains on 3,063 of them instead of 28,709" in found
    assert (
        "62.0 % with all data, 72.0 % balanced, so balancing, with its fewer images, gains "
        "10.0 points" in found
    )
    assert "Recall of disgust, the rarest class, climbs from 54.0 to 64.0 %" in found
    assert "109 to 112 images of a class" in found
    worse = words(lesson(tmp_path, "balancing", ahmed(better=False)))
    assert "with its fewer images, costs 10.0 points" in worse
    other = ahmed()
    other["runs"][1]["recipe"] = {**other["runs"][1]["recipe"], "init": "random"}
    assert "still missing" in lesson(tmp_path, "balancing", other)


def test_the_wrong_order_and_its_snippet(tmp_path: Path) -> None:
    part = lesson(tmp_path / "results", "wrong-order", njoku())
    assert "reports accuracy .18 in its classification report and 65.38 % in its text" in part
    assert "further than 2.1 points from the shuffles' mean" in part
    assert "`njoku_cnn` on fer2013 (the first of 3 seeds)" in part
    snippet = part.split("<<'END'\n")[1].split("\nEND")[0]
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    rows = done.stdout.splitlines()
    assert len(rows) == len(CLASSES) + 1
    for row in rows[:-1]:
        recall, share = map(float, re.findall(r"\d\.\d\d", row))
        assert abs(recall - share) < 0.02


def test_a_random_split_is_judged_by_the_folds(tmp_path: Path) -> None:
    found = words(lesson(tmp_path, "random-split", bah()))
    assert "Draw 99 test frames at random, and 96.5 on average of them" in found
    assert "97.0 ± 1.0 % (3 draws)" in found
    assert "88.0 ± 3.0 % (10 folds)" in found
    assert "9.0 points kinder: in part it asks" in found
    assert "not the kinder one" in words(lesson(tmp_path, "random-split", bah(drawn=0.8)))
    near = words(lesson(tmp_path, "random-split", bah(drawn=0.89)))
    assert "so few frames do not tell from chance" in near


def test_runs_that_are_not_finished_teach_nothing(tmp_path: Path) -> None:
    killed = debnath()
    for seed in killed["runs"][0]["seeds"]:
        seed["state"] = "partial"
    assert "still missing" in lesson(tmp_path, "overfitting", killed)
    dry = {**debnath(), "budget": "fast (dry run)"}
    assert "still missing" in lesson(tmp_path, "overfitting", dry)


def test_seeds_that_stopped_early_are_averaged_where_all_are() -> None:
    made = run("x", (0.3, 0.9), (0.4, 0.6))
    made["seeds"][1]["curves"] = made["seeds"][1]["curves"][:7]
    curve = curve_of(made)
    assert curve is not None
    assert curve.last["epoch"] == 7
    assert [len(p) for p in curve.each["val_accuracy"]] == [11, 7, 11]


def test_words_follow_the_shown_figures() -> None:
    assert gap(0.7206, 0.5804) == 14.1  # 72.1 - 58.0, as a reader subtracts them
    assert moved(0.5, 0.5004) == "stays at 50.0 %"
    assert moved(0.6, 0.5) == "falls from 60.0 to 50.0 %"
    assert (pts(1.0), pts(-0.3)) == ("1.0 point", "0.3 points")
    assert spread([0.5]) == "50.0 %"
    assert two_errors(0.5, 0.5, 5000) == pytest.approx(2.0)
    assert "raised" in verdict(0.53, 0.5, 5000, "it")
    assert "do not show" in verdict(0.52, 0.5, 5000, "it")


def test_charts_carry_their_figures() -> None:
    points = [(1.0, 0.4), (2.0, 0.6)]
    svg = accuracy_curves(
        [Line("a <b>", "var(--accent)", points, [points, points], dashed=True)],
        "One",
        [Gap(2, 0.4, 0.6, "var(--gap)", "20.0", "x < y")],
        (2, "here"),
        {"validation": ("var(--accent)", [(5.0, 0.65, 5.0)])},
    )
    ET.fromstring(svg)
    assert "the paper, epoch 5: validation 65.00 %" in svg
    assert "20.0" in svg
    dots = recalls([("happy", "9 images", 0.2, 0.75)], ("before", "after"), "Two")
    ET.fromstring(sized(dots))
    assert "happy, before: 20.0 %" in dots
    assert "happy, after: 75.0 %" in dots


def test_the_commands_to_try_are_real(tmp_path: Path) -> None:
    """Every recipe, override and run that the page names exists."""
    pytest.importorskip("torch")
    from mien.train.recipe import override
    from mien.train.recipes import get_recipe

    page, _ = lessons_page(write(tmp_path, *everything()))
    fences = re.findall(r"```sh\n(mien .*?)\n```", page, re.DOTALL)
    blocks = [row.removeprefix("mien ") for fence in fences for row in fence.splitlines()]
    blocks += re.findall(r"yourself: `mien (reproduce .*?)`", lessons_page(tmp_path / "none")[0])
    assert len(blocks) == 13
    options = set(reproduce_command.__annotations__)
    for verb, name, *rest in (block.split() for block in blocks):
        if verb == "train":
            sets = [rest[i + 1] for i, word in enumerate(rest) if word == "--set"]
            override(get_recipe(name), sets)
        else:
            assert verb == "reproduce"
            system = get_system(name)
            for i, word in enumerate(rest):
                if word == "--only":
                    system.run(rest[i + 1])
                if word.startswith("--"):
                    assert word.removeprefix("--") in options


def test_the_page_needs_no_torch() -> None:
    script = (
        "import sys, mien.reproduce.lessons\n"
        "print(sorted({'torch', 'lightning', 'matplotlib', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_script_writes_and_notices_what_is_stale(tmp_path: Path) -> None:
    write(tmp_path / "results", debnath())
    (tmp_path / "docs").mkdir()
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "import fill_readme; fill_readme.ROOT = pathlib.Path(sys.argv[2])\n"
        "import fill_lessons; sys.exit(fill_lessons.main(sys.argv[3:]))"
    )

    def fill(*more: str) -> int:
        command = [sys.executable, "-c", code, str(ROOT / "examples"), str(tmp_path), *more]
        return subprocess.run(command, capture_output=True, text=True, check=False).returncode

    assert fill("--check") == 1
    assert fill() == 0
    plot = tmp_path / "docs" / FOLDER / "overfitting.svg"
    assert plot.exists()
    assert fill("--check") == 0
    (tmp_path / "results" / "debnath2021" / "reproduction.json").unlink()
    assert fill("--check") == 1
    assert plot.exists()
    assert fill() == 0
    assert not plot.exists()
    assert fill("--check") == 0
