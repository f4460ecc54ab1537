"""The sections of one run: curves, printed epochs, what it gets right, protocol, layers, recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mien.emotions import parse_emotion
from mien.evaluate.metrics import averages, precision_recall_f1
from mien.evaluate.plots import ClassCurve, confusion_heat_map, roc_plot
from mien.evaluate.report import figure, percent
from mien.reproduce import charts
from mien.reproduce.charts import PaperPoint
from mien.reproduce.document import (
    NOT_RUN,
    Block,
    Chart,
    Charts,
    Section,
    Table,
    Text,
    count,
    millions,
    number,
    points,
    shown,
    slug,
)

Record = Mapping[str, Any]

#: Columns of curves.csv, for people.
COLUMNS = {
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
}

#: Keys of scores, for people; a key that is not here is shown as it is.
SCORES = {
    "val": "the split of the choice",
    "test": "test, scored once",
    "test_twin_free": "test without twins",
    "paper": "the paper's way",
    "paper_twin_free": "the paper's way, without twins",
}


def column_name(key: str) -> str:
    """ "val_accuracy" -> "validation accuracy"."""
    return COLUMNS.get(key, key.replace("_", " "))


def score_name(key: str) -> str:
    """ "test_twin_free" -> "test without twins"."""
    if key in SCORES:
        return SCORES[key]
    head, _, rest = key.partition("_")
    return f"{SCORES.get(head, head)}: {rest.replace('_', ' ')}" if rest else key


def done_seeds(run: Record) -> list[Record]:
    """The seeds (or folds) of a run that have curves or scores."""
    return [s for s in run.get("seeds") or () if s.get("curves") or s.get("scores")]


def seed_name(seed: Record) -> str:
    """ "seed 0", "fold 3"."""
    fold = seed.get("fold")
    return f"seed {seed.get('seed', 0)}" if fold is None else f"fold {fold}"


def run_sections(run: Record, printed: Record | None, final: Record, folded: bool) -> list[Section]:
    """Every section of one run, in reading order.

    Args:
        run: one of the record's runs.
        printed: the record's ``printed_epochs`` if it belongs to this run.
        final: the paper's figures of this run in the comparison table, if any: where no epochs are
            printed, they are drawn at our last one.
        folded: whether long tables start closed.
    """
    found = [
        _curves(run, printed, final),
        _printed(run, printed),
        *_reports(run),
        _protocol(run),
        _layers(run, folded),
        _deviations(run),
        _recipe(run),
    ]
    return [section for section in found if section]


def _id(run: Record, part: str) -> str:
    return f"{slug(str(run['id']))}-{part}"


def _curves(run: Record, printed: Record | None, final: Record) -> Section | None:
    seeds = done_seeds(run)
    rows = [s.get("curves") or [] for s in seeds]
    marks = list((printed or {}).get("rows") or ())
    last = max((row["epoch"] for curve in rows for row in curve), default=None)
    if not marks and final and last is not None:
        marks = [{"epoch": last, "ours_epoch": last, "paper": final}]
    chosen = [s.get("best_epoch") for s in seeds]
    drawn = []
    for kind in ("accuracy", "loss"):
        paper = {part: _paper_points(marks, f"{part}_{kind}") for part in ("train", "val")}
        svg = charts.curves(kind, rows, chosen, paper)
        if svg:
            name = f"{slug(str(run['id']))}-{kind}"
            drawn.append(Chart(name, svg, f"{kind.capitalize()} of each epoch"))
    if not drawn:
        return None
    blocks: list[Block] = [Charts(drawn)]
    if marks:
        which = "" if printed else "Its final figures stand at our last epoch."
        said = f"Diamonds are the figures that the paper prints. {which}{_mapping(printed)}"
        blocks.append(Text(said.strip()))
    return Section(_id(run, "curves"), "Curves", blocks)


def _paper_points(rows: Sequence[Record], column: str) -> list[PaperPoint]:
    found = []
    for row in rows:
        value, epoch = number((row.get("paper") or {}).get(column)), number(row.get("epoch"))
        x = number(row.get("ours_epoch"))
        if value is not None and epoch is not None and x is not None:
            found.append((x, value, epoch))
    return found


def _mapping(printed: Record | None) -> str:
    """A sentence where the paper's epochs stand at other epochs of ours."""
    rows = (printed or {}).get("rows") or ()
    moved = [r for r in rows if r.get("ours_epoch") not in (None, r.get("epoch"))]
    if not moved:
        return ""
    return (
        "Our training has another number of epochs: the paper's epoch stands beside ours at the "
        "same share of the whole."
    )


def _printed(run: Record, printed: Record | None) -> Section | None:
    rows = (printed or {}).get("rows") or []
    if not printed or not rows:
        return None
    columns = list(printed.get("columns") or dict.fromkeys(k for r in rows for k in r["paper"]))
    header = ["epoch of the paper", "our epoch"]
    for column in columns:
        header += [f"{column_name(column)}, paper", "ours", "difference"]
    table = []
    for row in rows:
        ours_epoch = row.get("ours_epoch")
        cells = [count(row["epoch"]), NOT_RUN if ours_epoch is None else count(ours_epoch)]
        for column in columns:
            cells += _pair(column, (row.get("paper") or {}), (row.get("ours") or {}))
        table.append(cells)
    blocks: list[Block] = [Table(header, table, left=0)]
    words = " ".join(w for w in (shown(printed.get("source")).strip("–"), _mapping(printed)) if w)
    if words:
        blocks.append(Text(words))
    return Section(_id(run, "epochs"), "The epochs that the paper prints", blocks)


def _pair(column: str, paper: Record, ours: Record) -> list[str]:
    """The cells paper, ours, difference of one column."""
    theirs, mine = number(paper.get(column)), number(ours.get(column))
    gap = None if theirs is None or mine is None else mine - theirs
    if column.endswith("loss"):
        signed = "–" if gap is None else f"{gap:+.3f}".replace("-", "−")
        return [figure(theirs), NOT_RUN if mine is None else figure(mine), signed]
    return [percent(theirs), NOT_RUN if mine is None else percent(mine), points(gap)]


def _reports(run: Record) -> list[Section]:
    """Classification report, confusion matrix and ROC curves of the scores that matter."""
    keys = [key for key in ("paper", "test") if _entries(run, key)]
    keys = keys or [key for key in ("val",) if _entries(run, key)]
    return [_report(run, key, _entries(run, key), titled=len(keys) > 1) for key in keys]


def _entries(run: Record, key: str) -> list[tuple[Record, Record]]:
    """(seed, score) of every seed that has the score ``key``."""
    return [
        (seed, score)
        for seed in done_seeds(run)
        for score in seed.get("scores") or ()
        if score.get("key") == key and score.get("scores")
    ]


def _report(
    run: Record, key: str, entries: Sequence[tuple[Record, Record]], titled: bool
) -> Section:
    seed, entry = entries[0]
    scores = entry["scores"]
    folds = len(entries) > 1 and all(s.get("fold") is not None for s, _ in entries)
    confusion = np.array(scores["confusion"], dtype=np.int64)
    if folds:
        confusion = sum((np.array(e["scores"]["confusion"]) for _, e in entries[1:]), confusion)
    names = list(scores["classes"])
    prefix = f"{slug(str(run['id']))}-{slug(key)}"
    drawn = [Chart(f"{prefix}-confusion", confusion_heat_map(names, confusion), "Confusion matrix")]
    roc = [] if folds else _roc(scores)
    if roc:
        drawn.append(Chart(f"{prefix}-roc", roc_plot(roc), "ROC, one class against the rest"))
    if folds:
        said = f"All {len(entries)} folds together: every sample was tested once."
    else:
        said = f"{shown(entry.get('split'))}, {int(confusion.sum()):,} samples, "
        said += f"{shown(entry.get('checkpoint'))} epoch, {seed_name(seed)}."
        if len(entries) > 1:
            said += " The other seeds are in reproduction.json."
    title = "What it gets right" + (f": {score_name(key)}" if titled else "")
    table = _class_table(names, confusion, run.get("paper_report") or {}, {} if folds else scores)
    blocks: list[Block] = [Text(said), table, Charts(drawn)]
    return Section(_id(run, f"{slug(key)}-report"), title, blocks)


def _roc(scores: Record) -> list[ClassCurve]:
    curves = scores.get("roc") or (scores.get("curves") or {}).get("roc") or {}
    return [
        (parse_emotion(name), curve["fpr"], curve["tpr"], number(curve.get("area")) or 0.0)
        for name, curve in curves.items()
        if curve
    ]


def _class_table(names: Sequence[str], confusion: Any, paper: Record, scores: Record) -> Table:
    """Precision, recall, F1 and support of each class and their means; the paper's beside ours."""
    parts = ("precision", "recall", "F1")
    rates = precision_recall_f1(confusion)
    means = averages(confusion)
    support = confusion.sum(axis=1)
    areas = {
        name: number((record or {}).get("roc_auc"))
        for name, record in (scores.get("per_class") or {}).items()
    }
    with_area = any(v is not None for v in areas.values())
    header = ["class"]
    for part in parts:
        header += [part, "paper"] if paper else [part]
    header += (["ROC area"] if with_area else []) + ["support"] + (["paper"] if paper else [])

    def row(name: str, ours: Sequence[float | None], area: str, n: int, key: str) -> list[str]:
        theirs = _printed_row(paper.get(key))
        cells = [name]
        for part, value in zip(parts, ours, strict=True):
            blank = value is None
            cells.append("" if blank else percent(value, 1))
            cells += [_printed_rate(theirs.get(part.lower()))] if paper else []
        cells += [area] if with_area else []
        return [*cells, count(n), *([count(theirs.get("support"))] if paper else [])]

    rows = [
        row(name, [float(r[k]) for r in rates], figure(areas.get(name)), int(support[k]), name)
        for k, name in enumerate(names)
    ]
    total = int(confusion.sum())
    rows.append(row("accuracy", [None, None, float(means["accuracy"])], "", total, "accuracy"))
    for name in ("macro", "weighted"):
        ours = [float(means[f"{name}_{part.lower()}"]) for part in parts]
        rows.append(row(f"{name} mean", ours, "", total, name))
    return Table(header, rows)


def _printed_row(row: Any) -> Record:
    """The paper's row of a class, given as a mapping or in the order of its table."""
    if isinstance(row, Mapping):
        return row
    return dict(zip(("precision", "recall", "f1", "support"), row or (), strict=False))


def _printed_rate(value: Any) -> str:
    """A rate as papers print it: two decimals of 1 stay two digits of a percent."""
    return "–" if number(value) is None else f"{100 * value:.4g} %"


def _protocol(run: Record) -> Section | None:
    summary = {k: v for k, v in (run.get("summary") or {}).items() if v and v.get("each")}
    rows, dots, whys = [], [], []
    folds = any(s.get("fold") is not None for s in done_seeds(run))
    for key, sums in summary.items():
        entries = _entries(run, key)
        score: Record = entries[0][1] if entries else {}
        scores: Record = score.get("scores") or {}
        each = [v for v in map(number, sums["each"]) if v is not None]
        low, high = map(number, scores.get("accuracy_ci") or (None, None))
        band = "–" if low is None or high is None else f"{100 * low:.2f}–{100 * high:.2f}"
        rows.append(
            [
                score_name(key),
                shown(score.get("split")),
                shown(score.get("checkpoint")),
                count(scores.get("n") or score.get("n")),
                percent(sums.get("mean")),
                percent(sums.get("std")) if len(each) > 1 else "–",
                ", ".join(f"{100 * v:.2f}" for v in each),
                "–" if folds else band,
            ]
        )
        names = [seed_name(s).split()[1] for s, _ in entries]
        names += [str(i) for i in range(len(names), len(each))]
        dots.append((score_name(key), list(zip(names, each, strict=False)), _paper_of(run, key)))
        why = shown(score.get("why"))
        if why != "–":
            whys.append(f"{score_name(key).capitalize()}: {why}")
    if not rows:
        return None
    what = "fold" if folds else "seed"
    header = ["accuracy", "split", "epoch", "n", "mean", "spread", f"each {what}", "95 % interval"]
    chart = Chart(
        f"{slug(str(run['id']))}-{what}s",
        charts.seed_dots(dots, what),
        f"Every {what}",
        "The spread is the standard deviation. The interval is of the first seed, over samples."
        if not folds
        else "The spread is the standard deviation over the folds.",
    )
    said = [Text(words) for words in dict.fromkeys(whys)]
    table = Table(header, rows, left=3, wrap=(6,) if folds else ())
    return Section(_id(run, "protocol"), "Our protocol", [*said, table, Charts([chart])])


def _paper_of(run: Record, key: str) -> float | None:
    return number((run.get("paper_accuracy") or {}).get(key))


def _layers(run: Record, folded: bool) -> Section | None:
    layers, sums = run.get("layers") or [], run.get("parameters") or {}
    if not layers and not sums:
        return None
    said = f"{count(sums.get('total'))} parameters"
    theirs = number(sums.get("paper_total"))
    if theirs is not None:
        same = theirs == number(sums.get("total"))
        said += ", as many as in the paper" if same else f" (the paper: {count(theirs)})"
    if number(sums.get("trainable")) is not None:
        said += f"; {count(sums['trainable'])} of them trainable"
    if number(run.get("multiply_adds")) is not None:
        said += f"; {millions(run['multiply_adds'])} multiply-adds for one face"
    blocks: list[Block] = [Text(f"{said}.")]
    if layers:
        rows = [
            [
                str(layer.get("name", "")),
                str(layer.get("type", "")),
                "×".join(str(n) for n in layer.get("output_shape") or ()) or "–",
                count(layer.get("parameters")),
            ]
            for layer in layers
        ]
        blocks.append(Table(["layer", "type", "output", "parameters"], rows, left=2))
    return Section(_id(run, "layers"), "Layers", blocks, folded=folded)


def _deviations(run: Record) -> Section | None:
    found = run.get("deviations")
    if found is None:
        return None
    title = "Where we differ from the paper"
    if not found:
        same = Text("Nowhere: the recipe is the paper's.")
        return Section(_id(run, "deviations"), title, [same])
    rows = [
        [str(d.get("field", "")), shown(d.get("paper")), shown(d.get("ours")), shown(d.get("why"))]
        for d in found
    ]
    table = Table(["field", "paper", "ours", "why"], rows, left=4, wrap=(1, 2, 3))
    return Section(_id(run, "deviations"), title, [table])


def _flat(record: Record, before: str = "") -> dict[str, Any]:
    """Nested mappings as "optimizer.lr" keys."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[f"{before}{key}"] = value
    return flat


def _recipe(run: Record) -> Section | None:
    ours, paper = _flat(run.get("recipe") or {}), _flat(run.get("paper_recipe") or {})
    if not ours:
        return None
    rows = [[key, shown(paper.get(key)), shown(value)] for key, value in ours.items()]
    table = Table(["field", "the paper's recipe", "this run"], rows, left=3)
    title = "The whole recipe"
    return Section(_id(run, "recipe"), title, [table], folded=True, html_only=True)
