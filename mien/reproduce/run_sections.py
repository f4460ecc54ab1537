"""The sections of one run: curves, printed epochs, scores, layers, deviations, recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mien._records import flat
from mien.report import charts
from mien.report.charts import PaperPoint
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
    millions,
    number,
    percent,
    points,
    shown,
    slug,
)
from mien.reproduce.score_sections import done_seeds, protocol_section, report_sections, section_id

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


def column_name(key: str) -> str:
    """ "val_accuracy" -> "validation accuracy"."""
    return COLUMNS.get(key, key.replace("_", " "))


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
        *report_sections(run),
        protocol_section(run),
        _layers(run, folded),
        _deviations(run),
        _recipe(run),
    ]
    return [section for section in found if section]


def _curves(run: Record, printed: Record | None, final: Record) -> Section | None:
    seeds = done_seeds(run)
    rows = [s.get("curves") or [] for s in seeds]
    marks = list((printed or {}).get("rows") or ())
    last = max((row["epoch"] for curve in rows for row in curve), default=None)
    if not marks and final and last is not None:
        marks = [{"epoch": last, "ours_epoch": last, "paper": final}]
    chosen = [s.get("best_epoch") for s in seeds]
    drawn = []
    marked = False
    for kind in ("accuracy", "loss"):
        paper = {part: _paper_points(marks, f"{part}_{kind}") for part in ("train", "val")}
        svg = charts.curves(kind, rows, chosen, paper)
        marked = marked or bool(svg and any(paper.values()))
        if svg:
            name = f"{slug(str(run['id']))}-{kind}"
            drawn.append(Chart(name, svg, f"{kind.capitalize()} of each epoch"))
    if not drawn:
        return None
    blocks: list[Block] = [Charts(drawn)]
    if marked:
        which = "" if printed else "Its final figures stand at our last epoch."
        said = f"Diamonds are the figures that the paper prints. {which}{_note(printed)}"
        blocks.append(Text(said.strip()))
    eased = easier(run)
    if eased:
        blocks.append(Text(f"Our training figures are {eased}, which lifts them."))
    beyond = objective(run)
    if beyond:
        blocks.append(Text(f"The training loss includes {beyond}; the validation loss does not."))
    return Section(section_id(run, "curves"), "Curves", blocks)


def objective(run: Record) -> str:
    """What our training loss has beyond plain cross-entropy, in words; "" if nothing.

    Validation and test losses are plain cross-entropy always.
    """
    loss = (run.get("recipe") or {}).get("loss") or {}
    found = []
    if loss.get("label_smoothing"):
        found.append(f"label smoothing of {loss['label_smoothing']}")
    if loss.get("class_weights", "none") != "none":
        found.append("class weights")
    if loss.get("name", "ce") != "ce":
        found.append(f"the loss {loss['name']!r}")
    return " and ".join(found)


def easier(run: Record) -> str:
    """Of what our training figures at the last epoch are, where that is easier than the paper's
    running accuracy with dropout and augmentation; "" if it is not."""
    recipe = run.get("recipe") or {}
    theirs = run.get("paper_recipe") or {}
    found = []
    epochs = int(recipe.get("epochs") or 0)
    for key, said in (
        ("dropout_off", "without dropout"),
        ("clean_epochs", "of pictures that are at most mirrored"),
    ):
        n = min(int(recipe.get(key) or 0), epochs)
        if n and not theirs.get(key):
            last = "the last epoch" if n == 1 else f"the last {n} epochs"
            found.append(f"{said} in {'every epoch' if n == epochs else last}")
    return " and ".join(found)


def _paper_points(rows: Sequence[Record], column: str) -> list[PaperPoint]:
    found = []
    for row in rows:
        value, epoch = number((row.get("paper") or {}).get(column)), number(row.get("epoch"))
        x = number(row.get("ours_epoch"))
        if value is not None and epoch is not None and x is not None:
            found.append((x, value, epoch))
    return found


def _note(printed: Record | None) -> str:
    """A sentence where the paper's epochs stand at other epochs of ours."""
    return str((printed or {}).get("note") or "")


def _printed(run: Record, printed: Record | None) -> Section | None:
    rows = (printed or {}).get("rows") or []
    if not printed or not rows:
        return None
    columns = list(printed.get("columns") or dict.fromkeys(k for r in rows for k in r["paper"]))
    moved = any(r.get("ours_epoch") not in (None, r.get("epoch")) for r in rows)
    same = moved and any(r.get("ours_same_epoch") for r in rows)
    header = ["epoch of the paper", "our epoch"]
    for column in columns:
        header += [f"{column_name(column)}, paper", "ours", "difference"]
        header += ["ours, same epoch"] if same else []
    table = []
    for row in rows:
        ours_epoch = row.get("ours_epoch")
        cells = [count(row["epoch"]), NOT_RUN if ours_epoch is None else count(ours_epoch)]
        for column in columns:
            sides = (number((row.get(side) or {}).get(column)) for side in ("paper", "ours"))
            paired = paired_cells(column, *sides)
            cells += paired if row.get("nearest", True) else [*paired[:2], "–"]
            if same:
                exact = number((row.get("ours_same_epoch") or {}).get(column))
                cells.append(figure(exact) if column.endswith("loss") else percent(exact))
        table.append(cells)
    source = printed.get("source")
    words = " ".join(w for w in (f"From {source}." if source else "", _note(printed)) if w)
    blocks: list[Block] = [Text(words)] if words else []
    blocks.append(Table(header, table, left=0))
    return Section(section_id(run, "epochs"), "The epochs that the paper prints", blocks)


def paired_cells(column: str, paper: float | None, ours: float | None) -> list[str]:
    """The cells paper, ours, difference of one column: losses as they are, shares in percent."""
    gap = None if paper is None or ours is None else ours - paper
    if column.endswith("loss"):
        signed = "–" if gap is None else f"{gap:+.3f}".replace("-", "−")
        return [figure(paper), NOT_RUN if ours is None else figure(ours), signed]
    return [percent(paper), NOT_RUN if ours is None else percent(ours), points(gap)]


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
                str(layer.get("settings", "")),
                "×".join(str(n) for n in layer.get("output_shape") or ()) or "–",
                count(layer.get("parameters")),
            ]
            for layer in layers
        ]
        blocks.append(Table(["layer", "type", "settings", "output", "parameters"], rows, left=3))
        blocks.append(Text(_ARITHMETIC))
    return Section(section_id(run, "layers"), "Layers", blocks, folded=folded)


_ARITHMETIC = (
    "How a row follows from the one before it: a k×k convolution or pooling with stride s and "
    "padding p turns a side of n pixels into (n − k + 2p) / s + 1, rounded down. A convolution has "
    "(k · k · channels before it + 1) · filters parameters and a dense layer (inputs + 1) · units, "
    "where the 1 is the bias, if there is one; batch normalisation has four a channel, two of them "
    "not trained."
)


def _deviations(run: Record) -> Section | None:
    found = run.get("deviations")
    if found is None:
        return None
    title = "Where we differ from the paper"
    if not found:
        same = Text("Nowhere: the recipe is the paper's.")
        return Section(section_id(run, "deviations"), title, [same])
    rows = [
        [str(d.get("field", "")), shown(d.get("paper")), shown(d.get("ours")), shown(d.get("why"))]
        for d in found
    ]
    table = Table(["field", "paper", "ours", "why"], rows, left=4, wrap=(1, 2, 3))
    return Section(section_id(run, "deviations"), title, [table])


def _recipe(run: Record) -> Section | None:
    ours, paper = flat(run.get("recipe") or {}), flat(run.get("paper_recipe") or {})
    if not ours:
        return None
    rows = [[key, shown(paper.get(key)), shown(value)] for key, value in ours.items()]
    table = Table(["field", "the paper's recipe", "this run"], rows, left=3)
    title = "The whole recipe"
    return Section(section_id(run, "recipe"), title, [table], folded=True, html_only=True)
