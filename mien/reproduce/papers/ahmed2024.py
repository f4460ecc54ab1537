"""Ahmed & Murshid 2024: seven ImageNet backbones on all of FER2013 and on a balanced part."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from mien.report import charts
from mien.report import document as doc
from mien.report.document import NOT_RUN, Block, Section, percent, points, shown
from mien.reproduce.plan import TrainOptions
from mien.reproduce.run import DONE
from mien.reproduce.spec import Extra, Headline, RunSpec, load
from mien.reproduce.sweep import (
    ATTEMPTS,
    DATA_TITLES,
    FORMS,
    Cell,
    Row,
    Sweep,
    best,
    grid,
    planned,
)
from mien.train.ahmed import BEST, TITLES, best_place

if TYPE_CHECKING:
    from mien.reproduce.assemble import Assembly


def _run(backbone: str, data: str) -> RunSpec:
    """One backbone on one form of the data: the paper's best cell, and the fast budget's."""
    paper = Cell(backbone, *best_place(backbone, data), data)
    # Of EfficientNet-Lite0's two the one that starts as the paper's do.
    cells = [c for c in planned("fast") if (c.backbone, c.data) == (backbone, data)]
    fast = min(cells, key=lambda c: c.init != "imagenet")
    recipes = {"paper": partial(paper.recipe, fast=False), "fast": partial(fast.recipe, fast=True)}
    costly = data == "all"  # up to three hours a seed
    return replace(
        FORMS[data],
        id=f"{backbone}_{data}",
        label=f"{TITLES[backbone]}, {DATA_TITLES[data].lower()}",
        recipes=recipes,
        seeds={"fast": 1 if costly else 3},
    )


_LITE0_RANDOM = Cell("efficientnet_lite0", "adam", 64, "balanced", "random")


_TAUGHT = (
    "Taught by mien's five networks beside the labels, the same training reaches 60.31 % "
    "(results/ahmed2024/distilled)."
)


def _headline(backbone: str, data: str) -> Headline:
    theirs = BEST[(backbone, data)]
    table = "table 2" if data == "all" else "table 3"
    place = f"{table}, best of eight: {theirs.optimizer}, batch {theirs.batch}"
    return Headline(
        f"{backbone}_{data}",
        f"{TITLES[backbone]}, {DATA_TITLES[data].lower()}: accuracy",
        f"{backbone}_{data}",
        "paper",
        theirs.accuracy,
        paper_text=f"{100 * theirs.accuracy:.2f} % ({place})",
        remark=_TAUGHT if (backbone, data) == ("mobilenetv2", "all") else "",
        fast_remark="The fast budget starts from random weights, the paper from ImageNet's.",
    )


def _lite0(data: str, run_id: str, start: str) -> Headline:
    remark = "The eighth backbone, whose ImageNet weights install as a package."
    if data == "all":
        remark += " One seed: it takes over 20 minutes."
    label = f"EfficientNet-Lite0, {DATA_TITLES[data].lower()}, {start} weights: accuracy"
    return Headline(run_id, label, run_id, "paper", paper_text="not in the paper", remark=remark)


@dataclass(frozen=True)
class Rates:
    """The four figures that the paper prints of a cell."""

    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


@dataclass(frozen=True)
class BestRow:
    """The paper's best cell of a backbone, and the training of ours that stands for it."""

    backbone: str
    optimizer: str
    batch: int | None
    paper: Rates
    ours: Rates | None = None
    cell: str = ""

    @property
    def accuracy(self) -> float | None:
        """Ours."""
        return self.ours.accuracy if self.ours else None


@dataclass(frozen=True)
class BestTable:
    """The paper's table of one form of the data."""

    data: str
    title: str
    rows: tuple[BestRow, ...]


@dataclass(frozen=True)
class GridCell:
    """One cell: "done", "failed" (why) or "not run"."""

    data: str
    backbone: str
    optimizer: str
    batch: int
    state: str
    accuracy: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Grid:
    """The paper's two tables with ours beside, and every cell."""

    tables: tuple[BestTable, ...]
    cells: tuple[GridCell, ...]


def shown_cells(budget: str, trained: Collection[Cell] = ()) -> tuple[Cell, ...]:
    """The whole grid as a report shows it, in its order.

    In a cell's place stands what the budget plans there and what was ``trained``, from whatever
    start; else the cell from ImageNet weights, as in the paper.
    """
    there = dict.fromkeys((*planned(budget), *trained))
    places = {cell.place for cell in there}
    order = {cell.place: i for i, cell in enumerate(grid())}
    rest = (cell for cell in grid() if cell.place not in places)
    return tuple(sorted((*there, *rest), key=lambda cell: order[cell.place]))


def _grid(assembly: Assembly) -> Grid | None:
    """Cells that started from a file of weights are not looked for: which file is not known."""
    plan = assembly.plan
    if plan.dry or assembly.dataset("fer2013") is None:
        return None
    seeds = 1 + max((task.job.seed for task in plan.tasks), default=0)
    starts = (*grid(), *grid("random"))
    options = TrainOptions(assembly.device)
    every = Sweep(starts, plan.budget, plan.runs, assembly.datasets, options, seeds)
    # A folder with another run in a cell's place: that cell was not run.
    states = every.plan(need_data=False)
    trained = [c for c in starts if any(t.state != NOT_RUN for t in states.of(c.id))]
    chosen = shown_cells(plan.budget, trained)
    rows = replace(every, cells=chosen).table(need_data=False)
    by_cell = dict(zip(chosen, rows, strict=True))
    tables = tuple(
        BestTable(data, title, tuple(_best_rows(plan.budget, data, by_cell)))
        for data, title in DATA_TITLES.items()
    )
    return Grid(tables, tuple(_cell(cell, row) for cell, row in by_cell.items()))


def _named(cell: Cell) -> str:
    return str(TITLES[cell.backbone]) + ("" if cell.init == "imagenet" else f", {cell.start}")


def _cell(cell: Cell, row: Row) -> GridCell:
    state = row.state if row.state in (DONE, "failed") else NOT_RUN
    if row.accuracy is not None and state != "failed":  # another seed hides no failed one
        state = DONE
    where = (cell.data, _named(cell), cell.optimizer, cell.batch)
    return GridCell(*where, state, row.accuracy, row.why)


def _best_rows(budget: str, data: str, by_cell: Mapping[Cell, Row]) -> list[BestRow]:
    """The paper's table: a row for each cell of ours that stands for a backbone: the fast budget's
    own cells and the paper's best cell if we have it, else that one alone."""
    places = {c.place for c in best()}
    rows = []
    for backbone in TITLES:
        mine = [c for c in by_cell if (c.backbone, c.data) == (backbone, data)]
        fast = [c for c in mine if budget == "fast" and c in planned("fast")]
        theirs = [c for c in mine if c.place in places and c not in fast]
        chosen = [*fast, *(c for c in theirs if by_cell[c].accuracy is not None)] or theirs[:1]
        for cell in chosen:
            row = by_cell[cell]
            ours = None if row.accuracy is None else Rates(*row.rates())
            name = _named(cell) if len(chosen) > 1 else TITLES[backbone]
            paper = (row.paper_optimizer or "", row.paper_batch, Rates(*row.rates("paper_")))
            rows.append(BestRow(name, *paper, ours, row.setting if ours else ""))
    return rows


def _grid_section(value: Grid) -> Section:
    """The tables of the best cells, then the heat maps of all cells, then what failed."""
    blocks: list[Block] = []
    for table in value.tables:
        blocks.append(doc.Text("The paper's best cell of each backbone, and ours.", table.title))
        blocks.append(_best_table(table))
        pairs = [(r.backbone, [r.paper.accuracy, r.accuracy]) for r in table.rows]
        title = f"Accuracy of each backbone, {table.title}"
        svg = charts.bars(pairs, title)
        drawn = [doc.Chart(f"grid-{table.data}-accuracy", svg, f"Accuracy, {table.title}")]
        mine = [cell for cell in value.cells if cell.data == table.data]
        if any(cell.accuracy is not None for cell in mine):
            drawn.append(_heat_chart(mine, table))
        blocks.append(doc.Charts(drawn))
    done = sum(cell.state == DONE for cell in value.cells)
    failed = [c for c in value.cells if c.state == "failed"]
    said = f"{done} of {len(value.cells)} cells were run, {len(failed)} failed; the others are "
    blocks.append(doc.Text(f"{said}{NOT_RUN}."))
    if failed:
        rows = [[c.data, c.backbone, c.optimizer, shown(c.batch), c.why] for c in failed]
        header = ["data", "backbone", "optimiser", "batch", "why it failed"]
        blocks.append(doc.Table(header, rows, left=4, wrap=(4,)))
    return Section("extra-grid", "The grid", blocks)


def _best_table(table: BestTable) -> doc.Table:
    """The paper's table, our figures in the same row."""
    header = ["backbone", "the paper's best"]
    for name in ("accuracy", "precision", "recall", "F1"):
        header += [f"{name}, paper", "ours"]
    header += ["difference in accuracy", "our training"]
    rows = []
    for row in table.rows:
        cells = [row.backbone, f"{row.optimizer}, {row.batch}" if row.optimizer else "–"]
        for key in ("accuracy", "precision", "recall", "f1"):
            ours = NOT_RUN if row.ours is None else percent(getattr(row.ours, key))
            cells += [percent(getattr(row.paper, key)), ours]
        theirs, mine = row.paper.accuracy, row.accuracy
        gap = None if theirs is None or mine is None else mine - theirs
        rows.append([*cells, points(gap), shown(row.cell)])
    return doc.Table(header, rows, left=2, wrap=(len(header) - 1,))


def _heat_chart(cells: Sequence[GridCell], table: BestTable) -> doc.Chart:
    columns = sorted({(cell.optimizer, cell.batch) for cell in cells})
    known = {(c.backbone, c.optimizer, c.batch): c.accuracy for c in cells}
    names = list(dict.fromkeys(cell.backbone for cell in cells))
    # A backbone has a row for each start that was trained, or one where none was.
    full = {c.backbone for c in cells if c.accuracy is not None}
    started = {name.partition(", ")[0] for name in full}
    rows = [name for name in names if name in full or name.partition(", ")[0] not in started]
    values = [[known.get((row, *column)) for column in columns] for row in rows]
    heads = [f"{optimizer}\n{batch}" for optimizer, batch in columns]
    svg = charts.heat_map(rows, heads, values, f"Our accuracy in every cell, {table.title}")
    said = f"Percent; optimiser and batch size above; a dot is {NOT_RUN} or failed."
    return doc.Chart(f"grid-{table.data}-cells", svg, f"Every cell, {table.title}", said)


SYSTEM = replace(
    load("ahmed2024"),
    runs=(
        *(_run(backbone, data) for data in DATA_TITLES for backbone in TITLES),
        replace(
            FORMS["balanced"],
            id=_LITE0_RANDOM.id,
            label="EfficientNet-Lite0, balanced data, random weights",
            recipes={"fast": partial(_LITE0_RANDOM.recipe, fast=True)},
            against=partial(replace(_LITE0_RANDOM, init="imagenet").recipe, fast=False),
            seeds={"fast": 3},
        ),
    ),
    headlines=(
        *(_headline(backbone, data) for backbone, data in BEST),
        _lite0("all", "efficientnet_lite0_all", "ImageNet"),
        _lite0("balanced", "efficientnet_lite0_balanced", "ImageNet"),
        _lite0("balanced", _LITE0_RANDOM.id, "random"),
    ),
    extras=(Extra("grid", Grid, _grid, _grid_section),),
    attempts=ATTEMPTS,
)
