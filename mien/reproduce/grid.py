"""Ahmed & Murshid's grid in the report: their two tables with ours beside, and a heat map each.

``extra.grid`` of the record holds

* ``tables``: one for each form of the data: ``data`` ("all", "balanced"), ``title``, and ``rows``
  with ``backbone``, the paper's best cell as ``optimizer`` and ``batch``, its figures as ``paper``
  and ours as ``ours`` (``accuracy``, ``precision``, ``recall``, ``f1``; null = not run), and
  ``cell``, a few words on the training that ours is of;
* ``cells``: every cell with ``data``, ``backbone``, ``optimizer``, ``batch``, ``state`` ("done",
  "failed", "not run"), ``accuracy`` (null where there is none) and ``why`` it failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mien.report import charts
from mien.report.document import (
    NOT_RUN,
    Block,
    Chart,
    Charts,
    Section,
    Table,
    Text,
    number,
    percent,
    points,
    shown,
    slug,
)

Record = Mapping[str, Any]

_FIGURES = (
    ("accuracy", "accuracy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("f1", "F1"),
)


def grid_section(key: str, value: Record) -> Section:
    """The tables of the best cells, then the heat maps of all cells, then what failed."""
    blocks: list[Block] = []
    cells = list(value.get("cells") or ())
    for table in value.get("tables") or ():
        name = str(table.get("data", ""))
        title = str(table.get("title") or name)
        blocks.append(Text("The paper's best cell of each backbone, and ours.", title))
        blocks.append(_best(table))
        drawn = [_accuracy_chart(table, name, title)]
        mine = [cell for cell in cells if cell.get("data") == name]
        if any(number(cell.get("accuracy")) is not None for cell in mine):
            drawn.append(_heat_chart(mine, name, title))
        blocks.append(Charts(drawn))
    blocks += _counts(cells)
    return Section(f"extra-{slug(key)}", "The grid", blocks)


def _best(table: Record) -> Table:
    """The paper's table, our figures in the same row."""
    header = ["backbone", "the paper's best"]
    for _, name in _FIGURES:
        header += [f"{name}, paper", "ours"]
    header += ["difference in accuracy", "our training"]
    rows = []
    for row in table.get("rows") or ():
        paper, ours = row.get("paper") or {}, row.get("ours") or {}
        best = f"{row['optimizer']}, {row['batch']}" if row.get("optimizer") else "–"
        cells = [str(row["backbone"]), best]
        for part, _ in _FIGURES:
            mine = number(ours.get(part))
            cells += [percent(paper.get(part)), NOT_RUN if mine is None else percent(mine)]
        theirs, mine = number(paper.get("accuracy")), number(ours.get("accuracy"))
        gap = None if theirs is None or mine is None else mine - theirs
        rows.append([*cells, points(gap), shown(row.get("cell"))])
    return Table(header, rows, left=2, wrap=(len(header) - 1,))


def _accuracy_chart(table: Record, name: str, title: str) -> Chart:
    pairs = [
        (
            str(row["backbone"]),
            [number((row.get(side) or {}).get("accuracy")) for side in ("paper", "ours")],
        )
        for row in table.get("rows") or ()
    ]
    svg = charts.bars(pairs, f"Accuracy of each backbone, {title}")
    return Chart(f"grid-{slug(name)}-accuracy", svg, f"Accuracy, {title}")


def _heat_chart(cells: Sequence[Record], name: str, title: str) -> Chart:
    names = list(dict.fromkeys(str(cell["backbone"]) for cell in cells))
    columns = sorted({(str(cell["optimizer"]), int(cell["batch"])) for cell in cells})
    known = {
        (str(c["backbone"]), str(c["optimizer"]), int(c["batch"])): number(c.get("accuracy"))
        for c in cells
    }
    # A backbone has a row for each start that was trained, or one where none was.
    full = [name for name in names if any(known.get((name, *column)) for column in columns)]
    started = {name.partition(", ")[0] for name in full}
    rows = [name for name in names if name in full or name.partition(", ")[0] not in started]
    values = [[known.get((row, *column)) for column in columns] for row in rows]
    heads = [f"{optimizer}\n{batch}" for optimizer, batch in columns]
    svg = charts.heat_map(rows, heads, values, f"Our accuracy in every cell, {title}")
    said = f"Percent; optimiser and batch size above; a dot is {NOT_RUN} or failed."
    return Chart(f"grid-{slug(name)}-cells", svg, f"Every cell, {title}", said)


def _counts(cells: Sequence[Record]) -> list[Block]:
    """How many cells were run, and why others failed."""
    if not cells:
        return []
    done = sum(cell.get("state") == "done" for cell in cells)
    failed = [cell for cell in cells if cell.get("state") == "failed"]
    said = f"{done} of {len(cells)} cells were run, {len(failed)} failed; the others are {NOT_RUN}."
    if not failed:
        return [Text(said)]
    rows = [
        [
            *(shown(cell.get(k)) for k in ("data", "backbone", "optimizer", "batch")),
            shown(cell.get("why")),
        ]
        for cell in failed
    ]
    header = ["data", "backbone", "optimiser", "batch", "why it failed"]
    return [Text(said), Table(header, rows, left=4, wrap=(4,))]
