"""The parts that only one paper has: a mislabelled report, leakage, a grid of backbones.

Keys without a form of their own are shown as plain tables, so that nothing of a record is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mien.report import charts
from mien.report.document import (
    NOT_RUN,
    Block,
    Chart,
    Charts,
    Pairs,
    Section,
    Table,
    Text,
    count,
    figure,
    number,
    percent,
    shown,
    slug,
)
from mien.reproduce.grid import grid_section

Record = Mapping[str, Any]

#: Ends of keys whose values are fractions.
_SHARES = ("accuracy", "precision", "recall", "f1", "share", "rate", "mean", "std", "low", "high")


def extra_sections(result: Record) -> list[Section]:
    """One section for every key of the record's ``extra``."""
    found = []
    for key, value in (result.get("extra") or {}).items():
        form = _FORMS.get(key, _plain)
        if value not in (None, {}, [], ""):
            found.append(form(key, value))
    return found


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _cell(key: str, value: Any) -> str:
    """A value by its key: shares in percent, counts with commas, words as they are."""
    if value is None:
        return NOT_RUN
    if isinstance(value, float) and number(value) is not None:
        if key.lower().split("_")[-1] in _SHARES and abs(value) <= 1:
            return percent(value)
        return figure(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return count(value)
    return shown(value)


def _plain(key: str, value: Any) -> Section:
    return Section(f"extra-{slug(key)}", _title(key), _plain_blocks(key, value))


def _plain_blocks(key: str, value: Any) -> list[Block]:
    if isinstance(value, Mapping):
        scalars = [
            (_title(str(k)), _cell(str(k), v))
            for k, v in value.items()
            if not isinstance(v, (Mapping, list, tuple))
        ]
        blocks: list[Block] = [Pairs(scalars)] if scalars else []
        for k, v in value.items():
            if isinstance(v, (Mapping, list, tuple)) and v:
                blocks += [Text(f"{_title(str(k))}:"), *_plain_blocks(str(k), v)]
        return blocks
    if isinstance(value, Sequence) and not isinstance(value, str):
        if value and all(isinstance(v, Mapping) for v in value):
            columns = list(dict.fromkeys(k for row in value for k in row))
            rows = [[_cell(str(c), row.get(c)) for c in columns] for row in value]
            return [Table([_title(str(c)).lower() for c in columns], rows)]
        return [Text(", ".join(_cell(key, v) for v in value))]
    return [Text(_cell(key, value))]


def _mislabelled(key: str, value: Record) -> Section:
    """The paper's classification report, ours, and ours with shuffled labels, side by side."""
    sides = [
        (name, value[part])
        for part, name in (("paper", "paper"), ("ours", "ours"), ("shuffled", _SHUFFLED))
        if value.get(part)
    ]
    classes = list(dict.fromkeys(c for _, side in sides for c in side["per_class"]))
    header, rows = ["class"], []
    for name, _ in sides:
        header += [f"precision, {name.removeprefix('ours, ')}", "recall", "F1"]
    shuffled = value.get("shuffled") or {}
    header += ["share of predictions", "support"] if shuffled else ["support"]
    for c in classes:
        cells, support = [c], None
        for _, side in sides:
            row = side["per_class"].get(c) or {}
            cells += [figure(row.get(k), 2) for k in ("precision", "recall", "f1")]
            support = row.get("support", support)
        if shuffled:
            cells.append(figure((shuffled["per_class"].get(c) or {}).get("predicted_share"), 2))
        rows.append([*cells, count(support)])
    accuracies = [_accuracy_of(side) for _, side in sides]
    last = ["accuracy"]
    for accuracy in accuracies:
        last += ["", "", figure(accuracy, 2)]
    rows.append([*last, *([""] if shuffled else []), ""])
    kinds = ("paper", "ours", _SHUFFLED)
    known = dict(sides)
    bars = [(c, [_rate(known.get(kind), c) for kind in kinds]) for c in classes]
    bars.append(("accuracy", [_accuracy_of(known.get(kind)) for kind in kinds]))
    svg = charts.bars(bars, "Recall of each class", kinds)
    blocks: list[Block] = [Text(_mislabelled_text(value, shuffled)), Table(header, rows)]
    blocks.append(Charts([Chart("mislabelled-recall", svg, "Recall of each class, and accuracy")]))
    training = value.get("paper_training")
    if training:
        source = training.get("source", "")
        blocks.append(Text(f"The paper's report of its training images ({source}) is alike:"))
        blocks.append(_printed_report(training))
    return Section(f"extra-{slug(key)}", "The classification report and what went wrong", blocks)


_SHUFFLED = "ours, labels shuffled"


def _rate(side: Record | None, name: str) -> float | None:
    return number(((side or {}).get("per_class") or {}).get(name, {}).get("recall"))


def _accuracy_of(side: Record | None) -> float | None:
    accuracy = (side or {}).get("accuracy")
    return number(accuracy.get("mean") if isinstance(accuracy, Mapping) else accuracy)


def _mislabelled_text(value: Record, shuffled: Record) -> str:
    where = shown(value.get("split"))
    if not shuffled:
        return f"{where}. Ours: {NOT_RUN}."
    sums = shuffled["accuracy"]
    said = (
        f"{where}. Our predictions, right as they are, with their labels shuffled "
        f"{count(shuffled.get('repeats'))} times (seed {shown(shuffled.get('seed'))}): accuracy "
        f"{percent(sums['mean'])} on average, from {percent(sums['low'])} to "
        f"{percent(sums['high'])}."
    )
    if number(value.get("largest_distance")) is not None:
        gap = 100 * value["largest_distance"]
        said += (
            f" No printed precision, recall or F1 is further than {gap:.1f} points from the mean "
            "of the shuffles."
        )
    return said


def _printed_report(report: Record) -> Table:
    rows = [
        [
            name,
            *(figure(row.get(k), 2) for k in ("precision", "recall", "f1")),
            count(row["support"]),
        ]
        for name, row in report["per_class"].items()
    ]
    rows.append(["accuracy", "", "", figure(report.get("accuracy"), 2), ""])
    return Table(["class", "precision", "recall", "F1", "support"], rows)


_WHERE = ("in_training", "seen")


def _leakage(key: str, value: Record) -> Section:
    """How many CK+ test frames have a neighbour in training, for every random division."""
    each = list(value.get("each") or ())
    title = "CK+: how many test frames have a neighbour in training"
    if not each:
        return Section(f"extra-{slug(key)}", title, [Text(f"This count was {NOT_RUN}.")])
    header = [
        "division",
        "test frames",
        "same sequence in training",
        "… or validation",
        "same person in training",
        "… or validation",
    ]
    parts = [f"same_{what}_{where}" for what in ("sequence", "subject") for where in _WHERE]
    rows = [
        [f"seed {row['seed']}", count(row["test"]), *(_of(row[p], row["test"]) for p in parts)]
        for row in each
    ]
    said = (
        f"CK+ has {count(value.get('sequences'))} sequences of {count(value.get('subjects'))} "
        "people, three frames each. Drawn at random, the frames of one sequence fall on both sides."
    )
    return Section(f"extra-{slug(key)}", title, [Text(said), Table(header, rows)])


def _of(part: Any, whole: Any) -> str:
    """ "97 (98.0 %)"."""
    known, all_ = number(part), number(whole)
    return "–" if known is None or not all_ else f"{count(part)} ({100 * known / all_:.1f} %)"


def _folds(key: str, value: Record) -> Section:
    each = [v for v in map(number, value.get("each") or ()) if v is not None]
    title = "CK+: ten folds without common people"
    if not each:
        return Section(f"extra-{slug(key)}", title, [Text(f"These folds were {NOT_RUN}.")])
    numbers = list(value.get("folds") or range(len(each)))
    rows = [(f"fold {i}", [v]) for i, v in zip(numbers, each, strict=True)]
    svg = charts.bars(rows, "Accuracy of every fold", ("ours",))
    spread = number(value.get("std"))
    around = f" ± {100 * spread:.2f}" if spread is not None else ""
    said = f"{100 * (number(value.get('mean')) or 0.0):.2f}{around} % over {len(each)} folds."
    chart = Chart("ckplus-folds", svg, "Accuracy of every fold")
    return Section(f"extra-{slug(key)}", title, [Text(said), Charts([chart])])


def _twins(key: str, value: Record) -> Section:
    """Exact and near twins of the FERGIT test images in its training images, by source."""
    title = "FERGIT: test images with a twin in training"
    if number(value.get("test")) is None:
        return Section(f"extra-{slug(key)}", title, [Text(f"This count was {NOT_RUN}.")])
    parts = {"all": value, **(value.get("by_source") or {})}
    rows = [
        [
            name,
            count(part.get("test")),
            _of(part.get("exact_twin_in_training"), part.get("test")),
            _of(part.get("near_twin_in_training"), part.get("test")),
        ]
        for name, part in parts.items()
    ]
    said = (
        f"Our FERGIT has {count(value.get('images'))} images, the paper's "
        f"{count(value.get('paper_images'))}. A near twin is the same picture in another encoding "
        "or brightness; an exact twin is one too."
    )
    header = ["source", "test images", "exact twin in training", "near twin in training"]
    return Section(f"extra-{slug(key)}", title, [Text(said), Table(header, rows)])


_FORMS: dict[str, Callable[[str, Any], Section]] = {
    "mislabelled_report": _mislabelled,
    "ckplus_leakage": _leakage,
    "ckplus_folds": _folds,
    "fergit_twins": _twins,
    "grid": grid_section,
}
