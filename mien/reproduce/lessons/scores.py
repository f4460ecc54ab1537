"""Lessons 4 to 6, read off scores: balancing, a report in the wrong order, a random split."""

from __future__ import annotations

import math
from typing import Any

from mien.report import charts
from mien.report.document import count, number
from mien.reproduce.lessons.charts import recalls
from mien.reproduce.lessons.words import (
    Lesson,
    Record,
    accuracies,
    class_counts,
    gap,
    images,
    mean,
    moved,
    pct,
    pts,
    run_of,
    scores_of,
    spread,
    two_errors,
)
from mien.reproduce.score_sections import done_seeds
from mien.train.ahmed_table import TITLES

_START = {"imagenet": "ImageNet weights", "random": "random weights"}


def balancing(record: Record) -> Lesson | None:
    """What balancing did: one of Ahmed & Murshid's backbones on all data and on a balanced part."""
    pairs = [p for name in TITLES if (p := _balanced_pair(record, name)) is not None]
    if not pairs:
        return None
    name, whole, part = max(pairs, key=lambda p: mean(accuracies(p[1], "paper")))
    before, after = (_recalls(run) for run in (whole, part))
    classes = list(before)
    tested = scores_of(whole, "paper")[0]["scores"]["per_class"]  # the same images for every seed
    seen = {c: int(tested[c]["support"]) for c in classes}
    rare, often = min(classes, key=seen.__getitem__), max(classes, key=seen.__getitem__)
    mean_before, mean_after = mean(list(before.values())), mean(list(after.values()))
    drawn = [e["scores"]["per_class"] for e in scores_of(part, "paper")]  # one set for each seed
    few = min(int(table[c]["support"]) for table in drawn for c in classes)
    many = max(int(table[c]["support"]) for table in drawn for c in classes)
    noise = 200 * math.sqrt(0.25 / few)
    sentences = [
        _sizes(record, rare, classes, int(scores_of(part, "paper")[0]["n"])),
        f"{TITLES[name]}, from {_START.get(_init(whole), 'the weights of a file')}, was trained on "
        f"each ({_setting(whole)}; {_setting(part)}) and answers "
        f"{pct(mean(accuracies(whole, 'paper')))} of all data's test images and "
        f"{pct(mean(accuracies(part, 'paper')))} of the balanced ones.",
        f"These two cannot be compared: {pct(seen[often] / sum(seen.values()), 0)} of the former "
        f"are {often}, and the latter are drawn from equally many of each class, and "
        "fewer images also make fewer training steps.",
        _mean_recall(mean_before, mean_after),
        f"Recall of {rare}, the rarest class, {moved(before[rare], after[rare])}; that of {often}, "
        f"the most frequent, {moved(before[often], after[often])}.",
        f"A balanced test set has {_between(few, many)} images of a class, so a recall on one "
        f"is known to about ±{noise:.0f} points.",
    ]
    rows = [
        (c, f"{count(seen[c])} test images", before[c], after[c])
        for c in sorted(classes, key=seen.__getitem__)
    ]
    rows.append(("mean", "", mean_before, mean_after))
    names = ("trained on all data", "on the balanced part")
    return Lesson(
        sentences,
        recalls(rows, names, "Recall of each class, trained on all data and on a balanced part"),
        "Recall of each class, trained on all data and on a balanced part",
        f"{TITLES[name]}: recall of each class, rarest first, on its own test images.",
        (str(whole["id"]), str(part["id"])),
        "Keep every image and weigh the rare classes' mistakes more instead. Compare the recalls "
        "in the two folders' `report/report.md`: what does disgust gain, and what does happy pay?",
        "mien train mondal_shallow --data data/ --name fer2013 --out runs/plain\n"
        "mien train mondal_shallow --data data/ --name fer2013 --out runs/weighted "
        "--set loss.class_weights=balanced",
    )


def _balanced_pair(record: Record, name: str) -> tuple[str, Record, Record] | None:
    """One backbone's runs on both forms of the data, from the same kind of start."""
    whole, part = (run_of(record, f"{name}_{data}") for data in ("all", "balanced"))
    if not scores_of(whole, "paper") or not scores_of(part, "paper"):
        return None
    return (name, whole, part) if _init(whole) == _init(part) else None


def _init(run: Record) -> str:
    return str((run.get("recipe") or {}).get("init"))


def _setting(run: Record) -> str:
    """ "all data: adam, batch 64, 8 epochs"."""
    recipe = run.get("recipe") or {}
    data = "balanced" if str(run.get("protocol")) == "balanced" else "all data"
    optimizer = (recipe.get("optimizer") or {}).get("name")
    return f"{data}: {optimizer}, batch {recipe.get('batch_size')}, {recipe.get('epochs')} epochs"


def _recalls(run: Record) -> dict[str, float]:
    """Class -> mean recall over seeds, of the classes that occur."""
    tables = [e["scores"]["per_class"] for e in scores_of(run, "paper")]
    known = [c for c in tables[0] if all(number(t[c].get("recall")) is not None for t in tables)]
    return {c: mean([float(t[c]["recall"]) for t in tables]) for c in known}


def _sizes(record: Record, rare: str, classes: list[str], tested: int) -> str:
    """How much under-sampling leaves."""
    counts = class_counts(record)
    everything, training = sum(images(counts, s) or 0 for s in counts), images(counts, "Training")
    smallest = sum(by.get(rare, 0) for by in counts.values())
    if not everything or training is None:
        return f"Balancing keeps as many images of every class as the rarest, {rare}, has."
    kept = smallest * len(classes)
    return (
        f"Only {count(smallest)} of the {count(everything)} images are {rare}; balancing by "
        f"under-sampling keeps as many of every class, {count(kept)} in all, and trains on "
        f"{count(kept - tested)} of them instead of {count(training)}."
    )


def _between(few: int, many: int) -> str:
    return count(few) if few == many else f"{count(few)} to {count(many)}"


def _mean_recall(before: float, after: float) -> str:
    said = (
        f"The mean of the recalls counts every class alike in both: {pct(before)} with all data, "
        f"{pct(after)} balanced"
    )
    change = gap(after, before)
    if change > 0:
        return f"{said}, so balancing, with its fewer images, gains {pts(change)}."
    if change < 0:
        return f"{said}, so balancing, with its fewer images, costs {pts(change)}."
    return f"{said}, no difference."


_SNIPPET = """python - <<'END'
import json
import numpy as np
from mien.reproduce.mislabelled import shuffled_report
run = json.load(open("results/njoku2024/reproduction.json"))["runs"][0]
score = next(s for s in run["seeds"][0]["scores"] if s["key"] == "paper")["scores"]
report = shuffled_report(np.array(score["confusion"]), score["classes"], repeats=100, seed=1)
for name, row in report["per_class"].items():
    print(f"{name:9s} recall {row['recall']:.2f}, of the answers {row['predicted_share']:.2f}")
print(report["accuracy"])
END"""


def wrong_order(record: Record) -> Lesson | None:
    """What a mislabelled report looks like: Njoku et al."""
    value = (record.get("extra") or {}).get("mislabelled_report") or {}
    ours, shuffled, paper = (value.get(k) or {} for k in ("ours", "shuffled", "paper"))
    if not ours or not shuffled:
        return None
    classes = list(ours["per_class"])
    n = sum(int(ours["per_class"][c]["support"]) for c in classes)
    rare = min(classes, key=lambda c: int(ours["per_class"][c]["support"]))
    sums = shuffled["accuracy"]
    printed = float(paper["accuracy"])
    share = shuffled["per_class"][rare]
    sentences = [
        f"The paper reports accuracy {_two_digits(printed)} in its classification report"
        f"{_elsewhere(record)}.",
        f"Our network has {pct(ours['accuracy'])} on the {count(n)} images; with the same answers "
        f"and the labels shuffled, {count(shuffled['repeats'])} times, it has {pct(sums['mean'])} "
        f"on average ({pct(sums['low'])} to {pct(sums['high'])}).",
        _distance(value, printed, sums),
        "In such a report a class's precision is the share of the images that have its label, and "
        "its recall the share of the answers that name it; the faces play no part.",
        f"So {rare} reads {_two_digits(paper['per_class'][rare]['recall'])} in the paper and "
        f"{_two_digits(share['recall'])} in ours with shuffled labels, while our network finds "
        f"{pct(ours['per_class'][rare]['recall'])} of it.",
        "Two signs give it away: the report's accuracy is not the one that training measured on "
        "the same images, and every recall is near that class's share of the answers.",
    ]
    kinds = ("paper", "ours", "ours, labels shuffled")
    sides = (paper, ours, shuffled)
    rows = [(c, [_recall(side, c) for side in sides]) for c in classes]
    rows.append(("accuracy", [printed, float(ours["accuracy"]), float(sums["mean"])]))
    what = "Recall of each class and accuracy: the paper's report, ours, ours with shuffled labels"
    return Lesson(
        sentences,
        charts.bars(rows, what, kinds),
        what,
        f"Recall of each class and accuracy, {value.get('split', 'the test images')}.",
        ("njoku_cnn",),
        "Make the mistake on purpose: shuffle the labels of our answers, and set each recall "
        "beside the share of the answers that name the class.",
        _SNIPPET,
        first_seed=True,
    )


def _recall(side: Record, name: str) -> float | None:
    return number(((side.get("per_class") or {}).get(name) or {}).get("recall"))


def _two_digits(value: Any) -> str:
    known = number(value)
    return "–" if known is None else f"{known:.2f}".removeprefix("0")


def _elsewhere(record: Record) -> str:
    """What the same paper says of the same images elsewhere."""
    told = [h for h in record.get("headlines") or () if h.get("key") == "accuracy_7178"]
    value = number(told[0].get("paper")) if told else None
    if value is None:
        return ""
    return f" and {pct(value, 2)} in its text, of the same network and images"


def _distance(value: Record, printed: float, sums: Record) -> str:
    """How near the paper's printed report is to ours with shuffled labels."""
    low, high = float(sums["low"]), float(sums["high"])
    # The paper prints two digits: .18 stands for anything from .175 to .185.
    inside = low - 0.005 <= printed <= high + 0.005
    where = "lies within" if inside else "lies outside"
    said = f"The printed {_two_digits(printed)} {where} the range of the shuffles"
    far = number(value.get("largest_distance"))
    if far is None:
        return f"{said}."
    return (
        f"{said}, and no printed figure of a class is further than {pts(100 * far)} from the "
        "shuffles' mean."
    )


def _dots(run: Record, unit: str) -> list[tuple[str, float]]:
    """(number, test accuracy) of every finished seed or fold."""
    return [
        (str(seed.get(unit, 0)), float(entry["scores"]["accuracy"]))
        for seed in done_seeds(run)
        for entry in seed.get("scores") or ()
        if entry["key"] == "test"
    ]


def random_split(record: Record) -> Lesson | None:
    """Why a random split of CK+ flatters: Bah & Xue."""
    runs = ("bah_ckplus", "bah_ckplus_subjects")
    drawn, apart = (accuracies(run_of(record, name), "test") for name in runs)
    leak = (record.get("extra") or {}).get("ckplus_leakage") or {}
    each = list(leak.get("each") or ())
    if not drawn or not apart or not each:
        return None
    frames = int(each[0]["test"])
    sequence, person = (
        mean([float(row[f"same_{what}_in_training"]) for row in each])
        for what in ("sequence", "subject")
    )
    folds = scores_of(run_of(record, runs[1]), "test")
    tested = sum(int(e["n"]) for e in folds)
    wanted = len(run_of(record, runs[1]).get("seeds") or ())
    some = "" if len(apart) == wanted else f" of {wanted}"
    sentences = [
        f"CK+ here is {count(leak.get('sequences'))} short films of {count(leak.get('subjects'))} "
        "people, three frames of each, taken where the expression is at its height and nearly the "
        "same.",
        f"Draw {frames} test frames at random, and {_about(sequence)} of them have a frame of the "
        f"same film in training, {_about(person)} one of the same person.",
        f"So drawn, the network has {spread(drawn)} ({_times(len(drawn), 'draw')}); in folds that "
        f"keep every person on one side it has {spread(apart)} ({len(apart)}{some} "
        f"fold{'' if len(apart) == 1 else 's'}).",
        _kindness(mean(drawn), mean(apart), len(drawn) * frames, tested),
        "Which figure holds depends on the question: the camera will see a stranger, and that is "
        "what the folds ask.",
    ]
    theirs = [h for h in record.get("headlines") or () if h.get("key") == "ckplus_random"]
    paper = number(theirs[0].get("paper")) if theirs else None
    rows = [
        ("random frames", _dots(run_of(record, runs[0]), "seed"), paper),
        ("people apart", _dots(run_of(record, runs[1]), "fold"), None),
    ]
    return Lesson(
        sentences,
        charts.seed_dots(rows, "split"),
        "Accuracy on CK+ by random frames and by people apart",
        "Each dot is one division of CK+ and the accuracy on its test frames.",
        runs,
        "Train once on random frames and once with people apart, and compare the validation "
        "accuracies that the two print at their end.",
        "mien train bah_ckplus_fast --data data/ --out runs/random-frames\n"
        "mien train bah_ckplus_fast --data data/ --protocol ckplus-subjects --fold 0 "
        "--out runs/people-apart",
    )


def _about(value: float) -> str:
    """97.0 -> "97", 96.67 -> "96.7 on average"."""
    return f"{value:.0f}" if value == int(value) else f"{value:.1f} on average"


def _times(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _kindness(drawn: float, apart: float, n: int, m: int) -> str:
    """By how much the random split is too kind, if it is."""
    change = gap(drawn, apart)
    noise = round(two_errors(drawn, apart, n, m), 1)
    if change <= 0:
        return "In these runs the random split is not the kinder one."
    said = f"The random split is {pts(change)} kinder"
    if change <= noise:
        return f"{said}, which so few frames do not tell from chance ({pts(noise)})."
    return f"{said}: in part it asks whether the network remembers a face, not what the face does."
