"""What a run's scores say: classification report, confusion matrix, ROC, seeds and splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mien.emotions import parse_emotion
from mien.evaluate.metrics import averages, precision_recall_f1
from mien.report import charts
from mien.report.document import (
    NOT_RUN,
    Block,
    Chart,
    Charts,
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
from mien.report.plots import ClassCurve, confusion_matrix, roc_plot

Record = Mapping[str, Any]

#: Keys of scores, for people; a key that is not here is shown as it is.
SCORES = {
    "val": "validation",
    "test": "test",
    "paper": "the paper's way",
    "train": "training images",
}


def score_name(key: str) -> str:
    """ "test_twin_free" -> "test, no twins"; "test_muxspace" -> "test, muxspace"."""
    if key in SCORES:
        return SCORES[key]
    head, _, rest = key.partition("_")
    part = "no twins" if rest == "twin_free" else rest.replace("_", " ")
    return f"{SCORES.get(head, head)}, {part}" if rest else key


def done_seeds(run: Record) -> list[Record]:
    """The finished seeds (or folds) of a run; one that was killed on its way has no figures yet."""
    return [s for s in run.get("seeds") or () if s.get("state") == "done"]


def seed_name(seed: Record) -> str:
    """ "seed 0", "fold 3"."""
    fold = seed.get("fold")
    return f"seed {seed.get('seed', 0)}" if fold is None else f"fold {fold}"


def section_id(run: Record, part: str) -> str:
    """The anchor of one part of a run."""
    return f"{slug(str(run['id']))}-{part}"


def report_sections(run: Record) -> list[Section]:
    """Classification report, confusion matrix and ROC curves of the scores that matter."""
    keys = [key for key in ("paper", "test") if _entries(run, key)]
    keys = keys or [key for key in ("val",) if _entries(run, key)]
    return [_report(run, key, keys) for key in keys]


def _entries(run: Record, key: str) -> list[tuple[Record, Record]]:
    """(seed, score) of every seed that has the score ``key``."""
    return [
        (seed, score)
        for seed in done_seeds(run)
        for score in seed.get("scores") or ()
        if score.get("key") == key and score.get("scores")
    ]


def _report(run: Record, key: str, keys: Sequence[str]) -> Section:
    entries = _entries(run, key)
    seed, entry = entries[0]
    scores = entry["scores"]
    folds = len(entries) > 1 and all(s.get("fold") is not None for s, _ in entries)
    confusion = np.array(scores["confusion"], dtype=np.int64)
    if folds:
        confusion = sum((np.array(e["scores"]["confusion"]) for _, e in entries[1:]), confusion)
    names = list(scores["classes"])
    prefix = f"{slug(str(run['id']))}-{slug(key)}"
    drawn = [Chart(f"{prefix}-confusion", confusion_matrix(names, confusion), "Confusion matrix")]
    roc = [] if folds else _roc(scores)
    if roc:
        drawn.append(Chart(f"{prefix}-roc", roc_plot(roc), "ROC, one class against the rest"))
    if folds:
        planned = len(run.get("seeds") or ())
        said = f"{len(entries)} of {planned} folds together; the others were {NOT_RUN}."
        if len(entries) == planned:
            said = f"All {planned} folds together: every sample was tested once."
    else:
        said = f"{shown(entry.get('split'))}, {int(confusion.sum()):,} samples, "
        said += f"{shown(entry.get('checkpoint'))} epoch, {seed_name(seed)}."
        if len(entries) > 1:
            said += " The other seeds are in reproduction.json."
    title = "What it gets right" + (f": {score_name(key)}" if len(keys) > 1 else "")
    # The paper's report is of the paper's test set, which comes first.
    paper = (run.get("paper_report") or {}) if key == keys[0] else {}
    table = _class_table(names, confusion, paper, {} if folds else scores)
    notes = [Text(str(note), "Warning", note=True) for note in entry.get("notes") or ()]
    blocks: list[Block] = [Text(said), *notes, table, Charts(drawn)]
    return Section(section_id(run, f"{slug(key)}-report"), title, blocks)


def _roc(scores: Record) -> list[ClassCurve]:
    curves = scores.get("roc") or (scores.get("curves") or {}).get("roc") or {}
    return [
        (parse_emotion(name).value, curve["fpr"], curve["tpr"], number(curve.get("area")) or 0.0)
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


def protocol_section(run: Record) -> Section | None:
    """Accuracy of every score: mean and spread, every seed or fold as a dot."""
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
                _samples([e for _, e in entries]),
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
            whys.append((why, score_name(key).capitalize()))
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
    first: dict[str, str] = {}
    for why, name in whys:  # A part of a split has its split's reason: once is enough.
        first.setdefault(why, name)
    said = [Text(why, name) for why, name in first.items()]
    table = Table(header, rows, left=3, wrap=(6,) if folds else ())
    return Section(section_id(run, "protocol"), "Our protocol", [*said, table, Charts([chart])])


def _samples(entries: Sequence[Record]) -> str:
    """How many samples were scored: of one seed, or from the smallest to the largest fold."""
    each = [
        n
        for e in entries
        if (n := number((e.get("scores") or {}).get("n") or e.get("n"))) is not None
    ]
    if not each or min(each) == max(each):
        return count(each[0] if each else None)
    return f"{count(min(each))}–{count(max(each))}"


def _paper_of(run: Record, key: str) -> float | None:
    return number((run.get("paper_accuracy") or {}).get(key))
