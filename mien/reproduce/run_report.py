"""The sections of one run: curves, printed epochs, scores, layers, deviations, recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mien.emotions import parse_emotion
from mien.evaluate.metrics import averages, precision_recall_f1
from mien.report import charts
from mien.report import document as doc
from mien.report.document import NOT_RUN, Block, Section, count, figure, percent, shown, slug
from mien.report.plots import confusion_matrix, roc_plot
from mien.reproduce.record import Printed, PrintedRow
from mien.reproduce.run import ClassRow, Run
from mien.train.recipe import flat

#: Columns of curves.csv, for people.
COLUMNS = {
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
}

#: Keys of scores, for people.
SCORES = {
    "val": "validation",
    "test": "test",
    "paper": "the paper's way",
    "train": "training images",
}


def score_name(key: str) -> str:
    """ "test_twin_free" -> "test, no exact duplicates"; "test_muxspace" -> "test, muxspace"."""
    head, _, rest = key.partition("_")
    part = "no exact duplicates" if rest == "twin_free" else rest
    return f"{SCORES[head]}, {part}" if rest else SCORES[head]


def run_sections(
    run: Run, printed: Printed | None, final: Mapping[str, float | None], folded: bool
) -> list[Section]:
    """Every section of one run, in reading order.

    Args:
        printed: the paper's table of epochs if it belongs to this run.
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


def _id(run: Run, part: str) -> str:
    return f"{slug(run.id)}-{part}"


_CAVEAT = (
    "Training figures are measured while training, with dropout and augmentation; a recipe that "
    "leaves these out in its last epochs (dropout_off, clean_epochs) lifts them. A training loss "
    "includes the recipe's label smoothing and class weights, a validation loss never does."
)


def _curves(run: Run, printed: Printed | None, final: Mapping[str, float | None]) -> Section | None:
    rows = [seed.curves for seed in run.done]
    last = max((int(row["epoch"]) for curve in rows for row in curve), default=None)
    if last is None:
        return None
    theirs = {k: v for k, v in final.items() if v is not None}
    marks = printed.rows if printed else (PrintedRow(last, theirs, last, {}),)
    chosen = [seed.best_epoch for seed in run.done]
    drawn, marked = [], False
    for kind in ("accuracy", "loss"):
        paper = {part: _paper_points(marks, f"{part}_{kind}") for part in ("train", "val")}
        svg = charts.curves(kind, rows, chosen, paper)
        if svg:
            marked |= any(paper.values())
            title = f"{kind.capitalize()} of each epoch"
            drawn.append(doc.Chart(_id(run, kind), svg, title))
    blocks: list[Block] = [doc.Charts(drawn)]
    if marked:
        where = printed.note if printed else "Its final figures stand at our last epoch."
        blocks.append(doc.Text(f"Diamonds are the figures that the paper prints. {where}".strip()))
    blocks.append(doc.Text(_CAVEAT))
    return Section(_id(run, "curves"), "Curves", blocks)


def _paper_points(rows: Sequence[PrintedRow], column: str) -> list[charts.PaperPoint]:
    return [
        (float(row.ours_epoch), row.paper[column], float(row.epoch))
        for row in rows
        if column in row.paper and row.ours_epoch is not None
    ]


def _printed(run: Run, printed: Printed | None) -> Section | None:
    """A table for each figure: all in one would be wider than a page."""
    if printed is None:
        return None
    same = any(r.ours_same_epoch and r.ours_epoch != r.epoch for r in printed.rows)
    said = f"From {printed.source}. {printed.note}" if printed.source else printed.note
    blocks: list[Block] = [doc.Text(said.strip())] if said else []
    for column in printed.columns:
        header = ["epoch of the paper", "our epoch", f"{COLUMNS[column]}, paper", "ours"]
        rows = []
        for row in printed.rows:
            cells = [count(row.epoch), NOT_RUN if row.ours_epoch is None else count(row.ours_epoch)]
            paired = paired_cells(column, row.paper.get(column), row.ours.get(column))
            cells += paired if row.nearest else [*paired[:2], "–"]
            exact = (row.ours_same_epoch or {}).get(column)
            cells.append(figure(exact) if column.endswith("loss") else percent(exact))
            rows.append(cells if same else cells[:-1])
        last = ["difference", "ours, same epoch"] if same else ["difference"]
        blocks.append(doc.Table([*header, *last], rows, left=0))
    return Section(_id(run, "epochs"), "The epochs that the paper prints", blocks)


def paired_cells(column: str, paper: float | None, ours: float | None) -> list[str]:
    """The cells paper, ours, difference of one column: losses as they are, shares in percent."""
    gap = None if paper is None or ours is None else ours - paper
    if column.endswith("loss"):
        signed = "–" if gap is None else f"{gap:+.3f}".replace("-", "−")
        return [figure(paper), NOT_RUN if ours is None else figure(ours), signed]
    return [percent(paper), NOT_RUN if ours is None else percent(ours), doc.points(gap)]


def _reports(run: Run) -> list[Section]:
    """Classification report, confusion matrix and ROC curves of the scores that matter."""
    keys = [key for key in ("paper", "test") if run.scored(key)]
    keys = keys or [key for key in ("val",) if run.scored(key)]
    return [_report(run, key, keys) for key in keys]


def _report(run: Run, key: str, keys: Sequence[str]) -> Section:
    scored = run.scored(key)
    seed, score = scored[0]
    folds = len(scored) > 1 and all(s.fold is not None for s, _ in scored)
    matrices = np.array([s.scores.confusion for _, s in scored], dtype=np.int64)
    confusion = matrices.sum(axis=0) if folds else matrices[0]
    said = f"{score.split}, {score.scores.n:,} samples, {score.checkpoint} epoch, {seed.name}."
    if folds:
        said = f"{len(scored)} of {len(run.seeds)} folds together; each sample was tested once."
    elif len(scored) > 1:
        said += " The other seeds are in reproduction.json."
    names = score.scores.classes
    prefix = f"{slug(run.id)}-{key}"
    image = confusion_matrix(names, confusion)
    drawn = [doc.Chart(f"{prefix}-confusion", image, "Confusion matrix")]
    curves = {} if folds else score.scores.roc or {}
    roc = [(parse_emotion(n).value, c.fpr, c.tpr, c.area or 0.0) for n, c in curves.items() if c]
    if roc:
        drawn.append(doc.Chart(f"{prefix}-roc", roc_plot(roc), "ROC, one class against the rest"))
    title = "What it gets right" + (f": {score_name(key)}" if len(keys) > 1 else "")
    # The paper's report is of the paper's test set, which comes first.
    paper = run.paper_report if key == keys[0] else {}
    table = _class_table(names, confusion, paper, {} if folds else score.scores.per_class)
    notes = [doc.Text(note, "Warning", note=True) for note in score.notes]
    blocks: list[Block] = [doc.Text(said), *notes, table, doc.Charts(drawn)]
    return Section(_id(run, f"{key}-report"), title, blocks)


def _class_table(
    names: Sequence[str],
    confusion: Any,
    paper: Mapping[str, ClassRow],
    ours: Mapping[str, ClassRow],
) -> doc.Table:
    """Precision, recall, F1 and support of each class and their means; the paper's beside ours."""
    parts = ("precision", "recall", "F1")
    means = averages(confusion)
    areas = {name: row.roc_auc for name, row in ours.items()}
    header = ["class"]
    for part in parts:
        header += [part, "paper"] if paper else [part]
    header += ["ROC area"] if areas else []
    header += ["support", "paper"] if paper else ["support"]

    def row(key: str, name: str, values: Sequence[float | None], n: int) -> list[str]:
        theirs = paper.get(key, ClassRow())
        printed = (theirs.precision, theirs.recall, theirs.f1)
        cells = [name]
        for value, rate in zip(values, printed, strict=True):
            cells.append("" if value is None else percent(value, 1))
            # As papers print it: two decimals of 1 stay two digits of a percent.
            cells += ["–" if rate is None else f"{100 * rate:.4g} %"] if paper else []
        if areas:
            cells.append(figure(areas[key]) if key in areas else "")
        return [*cells, count(n), *([count(theirs.support)] if paper else [])]

    rates = precision_recall_f1(confusion)
    support, total = confusion.sum(axis=1), int(confusion.sum())
    rows = [row(c, c, [float(r[k]) for r in rates], int(support[k])) for k, c in enumerate(names)]
    rows.append(row("accuracy", "accuracy", [None, None, float(means["accuracy"])], total))
    for name in ("macro", "weighted"):
        values = [float(means[f"{name}_{part.lower()}"]) for part in parts]
        rows.append(row(name, f"{name} mean", values, total))
    return doc.Table(header, rows)


def _protocol(run: Run) -> Section | None:
    """Accuracy of every score: mean and spread, every seed or fold as a dot."""
    if not run.keys:
        return None
    rows, dots = [], []
    reasons: dict[str, str] = {}
    folds = any(seed.fold is not None for seed in run.done)
    for key in run.keys:
        sums, scored = run.summarised(key), run.scored(key)
        score = scored[0][1]
        band = () if folds else score.scores.accuracy_ci or ()
        sizes = sorted({s.scores.n for _, s in scored})
        rows.append(
            [
                score_name(key),
                score.split,
                score.checkpoint,
                "–".join(count(n) for n in dict.fromkeys((sizes[0], sizes[-1]))),
                percent(sums.mean),
                percent(sums.std) if len(sums.each) > 1 else "–",
                ", ".join(f"{100 * v:.2f}" for v in sums.each),
                "–".join(f"{100 * v:.2f}" for v in band) or "–",
            ]
        )
        each = [(str(seed.number), s.scores.accuracy) for seed, s in scored]
        dots.append((score_name(key), each, run.paper_accuracy.get(key)))
        # A part of a split has its split's reason: once is enough.
        reasons.setdefault(score.why, score_name(key).capitalize())
    what = "fold" if folds else "seed"
    header = ["accuracy", "split", "epoch", "n", "mean", "spread", f"each {what}", "95 % interval"]
    caption = f"The spread is the standard deviation over the {what}s."
    caption += "" if folds else " The interval is of the first seed, over samples."
    svg = charts.seed_dots(dots, what)
    chart = doc.Chart(_id(run, f"{what}s"), svg, f"Every {what}", caption)
    said = [doc.Text(why, name) for why, name in reasons.items()]
    table = doc.Table(header, rows, left=3, wrap=(6,) if folds else ())
    return Section(_id(run, "protocol"), "Our protocol", [*said, table, doc.Charts([chart])])


_ARITHMETIC = (
    "How a row follows from the one before it: a k×k convolution or pooling with stride s and "
    "padding p turns a side of n pixels into (n − k + 2p) / s + 1, rounded down. A convolution has "
    "(k · k · channels before it + 1) · filters parameters and a dense layer (inputs + 1) · units, "
    "where the 1 is the bias, if there is one; batch normalisation has four a channel, two of them "
    "not trained."
)


def _layers(run: Run, folded: bool) -> Section | None:
    sums = run.parameters
    if sums is None:
        return None
    numbers = (
        ("parameters", sums.total),
        ("parameters in the paper", sums.paper_total),
        ("of ours trainable", sums.trainable),
    )
    said = [f"{count(n)} {what}" for what, n in numbers if n is not None]
    said += [f"{doc.millions(run.multiply_adds)} MACs for one face"] if run.multiply_adds else []
    blocks: list[Block] = [doc.Text(f"{'; '.join(said)}.")] if said else []
    if run.layers:
        rows = [
            [
                layer.name,
                layer.type,
                layer.settings,
                "×".join(map(str, layer.output_shape)) or "–",
                count(layer.parameters),
            ]
            for layer in run.layers
        ]
        header = ["layer", "type", "settings", "output", "parameters"]
        blocks += [doc.Table(header, rows, left=3), doc.Text(_ARITHMETIC)]
    return Section(_id(run, "layers"), "Layers", blocks, folded=folded)


def _deviations(run: Run) -> Section | None:
    if run.deviations is None:
        return None
    rows = [[d.field, shown(d.paper), shown(d.ours), shown(d.why)] for d in run.deviations]
    block: Block = doc.Table(["field", "paper", "ours", "why"], rows, left=4, wrap=(1, 2, 3))
    if not rows:
        block = doc.Text("Nowhere: the recipe is the paper's.")
    return Section(_id(run, "deviations"), "Where we differ from the paper", [block])


def _recipe(run: Run) -> Section | None:
    if not run.recipe:
        return None
    ours, paper = flat(run.recipe), flat(run.paper_recipe or {})
    rows = [[key, shown(paper.get(key)), shown(value)] for key, value in ours.items()]
    table = doc.Table(["field", "the paper's recipe", "this run"], rows, left=3)
    title = "The whole recipe"
    return Section(_id(run, "recipe"), title, [table], folded=True, html_only=True)
