"""The one table of a sweep, and the grid of the report: every cell, ours beside the paper's."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mien._records import RESULT
from mien.data import FaceDataset
from mien.errors import DataError, RecipeError
from mien.reproduce.datasets import Datasets
from mien.reproduce.figures import mean, std
from mien.reproduce.plan import DONE, NOT_RUN, PARTIAL, Plan, Task, folder_state, make_plan
from mien.reproduce.sweep import DATA_TITLES, Cell, best, grid, planned, system_of
from mien.reproduce.sweep_study import in_use, paper_scores
from mien.train.ahmed_table import BEST, TITLES

FIGURES = ("accuracy", "precision", "recall", "f1")
FORMATS = ("csv", "json", "markdown")

#: Columns of the table, in order.
COLUMNS = (
    "data",
    "backbone",
    "optimizer",
    "batch",
    "start",
    "epochs",
    "state",
    "seeds",
    *FIGURES,
    "macro_f1",
    "accuracy_std",
    "minutes",
    "paper_optimizer",
    "paper_batch",
    *(f"paper_{key}" for key in FIGURES),
    "why",
)

Row = dict[str, Any]


def paper_best(cell: Cell) -> Row:
    """The paper's best cell of this backbone and data; {} for EfficientNet-Lite0."""
    best = BEST.get((cell.backbone, cell.data))
    return {} if best is None else dict(vars(best))


def table(
    plan: Plan,
    cells: Sequence[Cell],
    datasets: Datasets,
    failed: Mapping[str, str],
    device: str = "cpu",
) -> list[Row]:
    """One row a cell; figures are means over its finished seeds, None where there are none.

    Args:
        plan: of :func:`mien.reproduce.sweep.system_of` the cells.
        failed: run folder's name -> why its last attempt failed.
    """
    return [_row(plan.of(cell.id), cell, plan.budget, datasets, failed, device) for cell in cells]


def _row(
    tasks: Sequence[Task],
    cell: Cell,
    budget: str,
    datasets: Datasets,
    failed: Mapping[str, str],
    device: str,
) -> Row:
    recipe = tasks[0].recipe if tasks else cell.recipe(fast=budget == "fast")
    done = [t for t in tasks if folder_state(t.folder) == DONE]
    scores = [paper_scores(t, datasets, device) for t in done]
    minutes = [_minutes(t) for t in done]
    row: Row = {
        "data": cell.data,
        "backbone": TITLES[cell.backbone],
        "optimizer": cell.optimizer,
        "batch": cell.batch,
        "start": cell.start,
        "epochs": recipe.epochs,
        "state": _state(tasks, done, failed),
        "seeds": len(done),
        "minutes": round(float(np.mean(minutes)), 1) if minutes else None,
        "why": next((failed[t.folder.name] for t in tasks if t.folder.name in failed), ""),
    }
    for key in (*FIGURES, "macro_f1"):
        row[key] = mean([s[key] for s in scores])
    accuracies = [s["accuracy"] for s in scores]
    row["accuracy_std"] = std(accuracies)
    best = paper_best(cell)
    for key in ("optimizer", "batch", *FIGURES):
        row[f"paper_{key}"] = best.get(key)
    return {key: row[key] for key in COLUMNS}


def _state(tasks: Sequence[Task], done: Sequence[Task], failed: Mapping[str, str]) -> str:
    if tasks and len(done) == len(tasks):
        return DONE
    left = [t for t in tasks if t not in done]
    if any(in_use(t.folder.parent, t.folder.name) for t in left):
        return "running"
    if any(t.folder.name in failed for t in left):
        return "failed"
    started = done or any(folder_state(t.folder) == PARTIAL for t in left)
    return PARTIAL if started else NOT_RUN


def _minutes(task: Task) -> float:
    path = task.folder / RESULT
    try:
        return float(json.loads(path.read_text())["seconds"]) / 60
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged; move its folder away and train it anew.") from error


def render(rows: Sequence[Row], form: str) -> str:
    """The table as "csv", "json" or "markdown"; what was not run is empty, null or "not run"."""
    if form not in FORMATS:
        raise RecipeError(f"--format must be one of {', '.join(FORMATS)}, not {form!r}.")
    if form == "json":
        return json.dumps(list(rows), indent=2) + "\n"
    if form == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()
    header = ["data", "backbone", "cell", "state", *FIGURES, "the paper's best cell"]
    lines = ["| " + " | ".join(header) + " |", "|---|---|---|---|" + "---:|" * 4 + "---|"]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cells(row: Row) -> list[str]:
    """A row for people: data, backbone, cell, state, four figures, the paper's best."""
    setting = f"{row['optimizer']} {row['batch']}, {row['epochs']} epochs, {row['start']}"
    if row["seeds"] > 1:
        setting += f", {row['seeds']} seeds"
    ours = [_percent(row[key]) for key in FIGURES]
    best = "–"
    if row["paper_accuracy"] is not None:
        best = f"{row['paper_optimizer']} {row['paper_batch']}: " + " / ".join(
            f"{100 * row[f'paper_{key}']:.2f}" for key in FIGURES
        )
    return [row["data"], row["backbone"], setting, row["state"], *ours, best]


def _percent(value: float | None) -> str:
    return NOT_RUN if value is None else f"{100 * value:.2f} %"


def shown_cells(budget: str, trained: Collection[Cell] = ()) -> tuple[Cell, ...]:
    """The whole grid as a report shows it, in its order.

    In a cell's place stands what the budget plans there and what was ``trained``, from whatever
    start; else the cell from ImageNet weights, as in the paper.
    """
    there = dict.fromkeys((*planned(budget), *trained))
    places = {cell.place for cell in there}
    rest = (cell for cell in grid() if cell.place not in places)
    order = {cell.place: i for i, cell in enumerate(grid())}
    return tuple(sorted((*there, *rest), key=lambda cell: order[cell.place]))


def grid_extra(made: Any) -> dict[str, Any]:
    """The report's ``extra``: the two tables and every cell; see :mod:`mien.reproduce.grid`.

    Cells that started from a file of weights are not looked for: which file is not known here.

    Args:
        made: the :class:`mien.reproduce.assemble.Assembly`.
    """
    plan: Plan = made.plan
    dataset: FaceDataset | None = made.dataset("fer2013")
    if plan.dry or dataset is None:
        return {}
    seeds = 1 + max((task.seed for task in plan.tasks), default=0)
    starts = [cell for init in ("imagenet", "random") for cell in grid(init)]
    every = make_plan(
        system_of(starts, plan.budget),
        plan.budget,
        plan.runs,
        made.datasets,
        seeds=seeds,
        need_data=False,  # a folder with another run in a cell's place: that cell was not run
    )
    trained = [c for c in starts if any(t.state != NOT_RUN for t in every.of(c.id))]
    chosen = shown_cells(plan.budget, trained)
    by_cell = dict(zip(chosen, table(every, chosen, made.datasets, _failed(plan)), strict=True))
    return {
        "grid": {
            "tables": [
                {"data": data, "title": title, "rows": _best_rows(plan.budget, data, by_cell)}
                for data, title in DATA_TITLES.items()
            ],
            "cells": [_record(cell, row) for cell, row in by_cell.items()],
        }
    }


def _failed(plan: Plan) -> dict[str, str]:
    from mien.reproduce.sweep_study import JOURNAL, failures, home, open_study

    # A report opens no study that nobody began.
    if not (home(plan) / JOURNAL).exists():
        return {}
    return failures(open_study(home(plan), plan.budget))


def _named(cell: Cell) -> str:
    return str(TITLES[cell.backbone]) + ("" if cell.init == "imagenet" else f", {cell.start}")


def _record(cell: Cell, row: Row) -> Row:
    state = row["state"] if row["state"] in (DONE, "failed") else NOT_RUN
    if row["accuracy"] is not None and state != "failed":  # a failed seed is not hidden by another
        state = DONE
    return {
        "data": cell.data,
        "backbone": _named(cell),
        "optimizer": cell.optimizer,
        "batch": cell.batch,
        "state": state,
        "accuracy": row["accuracy"],
        "why": row["why"],
    }


def _best_rows(budget: str, data: str, by_cell: Mapping[Cell, Row]) -> list[Row]:
    """The paper's table: one row a backbone, with the cell of ours that stands for it."""
    rows = []
    for backbone in TITLES:
        mine = {c: r for c, r in by_cell.items() if (c.backbone, c.data) == (backbone, data)}
        chosen = _representatives(budget, mine)
        for cell in chosen:
            row, theirs = by_cell[cell], paper_best(cell)
            trained = row["accuracy"] is not None
            rows.append(
                {
                    "backbone": _named(cell) if len(chosen) > 1 else TITLES[backbone],
                    "optimizer": theirs.get("optimizer", ""),
                    "batch": theirs.get("batch"),
                    "paper": {key: theirs.get(key) for key in FIGURES},
                    "ours": {key: row[key] for key in FIGURES} if trained else None,
                    "cell": cells(row)[2] if trained else "",
                }
            )
    return rows


def _representatives(budget: str, mine: Mapping[Cell, Row]) -> list[Cell]:
    """The fast budget's own cells and the paper's best cell if we have it; else that one alone."""
    fast = [c for c in mine if budget == "fast" and c in planned("fast")]
    places = {c.place for c in best()}
    theirs = [c for c in mine if c.place in places and c not in fast]
    trained = [c for c in theirs if mine[c]["accuracy"] is not None]
    return [*fast, *trained] or theirs[:1]
