"""The one table of a sweep, and the grid of the report: every cell, ours beside the paper's."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mien.data import FaceDataset
from mien.errors import RecipeError
from mien.reproduce.datasets import Datasets
from mien.reproduce.figures import mean, std
from mien.reproduce.plan import DONE, NOT_RUN, PARTIAL, Plan, Task, make_plan
from mien.reproduce.sweep import DATA_TITLES, Cell, grid, planned, system_of
from mien.reproduce.sweep_study import folder_state, in_use, paper_scores
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
    record = json.loads((task.folder / "result.json").read_text())
    return float(record["seconds"]) / 60


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


def shown_cells(budget: str) -> tuple[Cell, ...]:
    """The whole grid as a report shows it: what the budget plans stands in its place."""
    plan = planned(budget)
    places = {cell.place for cell in plan}
    starts = {cell.backbone: cell.init for cell in reversed(plan)}
    rest = (
        Cell(*cell.place, starts.get(cell.backbone, "imagenet"))
        for cell in grid()
        if cell.place not in places
    )
    order = {cell.place: i for i, cell in enumerate(grid())}
    return tuple(sorted((*plan, *rest), key=lambda cell: order[cell.place]))


def grid_extra(made: Any) -> dict[str, Any]:
    """The report's ``extra``: the two tables and every cell; see :mod:`mien.reproduce.grid`.

    Args:
        made: the :class:`mien.reproduce.assemble.Assembly`.
    """
    plan: Plan = made.plan
    chosen = shown_cells(plan.budget)
    whole = plan
    dataset: FaceDataset | None = made.dataset("fer2013")
    if dataset is not None:
        system = system_of(chosen, plan.budget)
        seeds = 1 if plan.dry else 3
        whole = make_plan(system, plan.budget, plan.runs, made.datasets, seeds=seeds, dry=plan.dry)
    rows = [] if plan.dry or dataset is None else table(whole, chosen, made.datasets, _failed(plan))
    if not rows:
        return {}
    by_cell = dict(zip(chosen, rows, strict=True))
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
    if row["accuracy"] is not None:
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
        mine = [c for c in by_cell if c.backbone == backbone and c.data == data]
        chosen = _representatives(budget, mine)
        for cell in chosen:
            row, best = by_cell[cell], paper_best(cell)
            trained = row["accuracy"] is not None
            rows.append(
                {
                    "backbone": _named(cell) if len(chosen) > 1 else TITLES[backbone],
                    "optimizer": best.get("optimizer", ""),
                    "batch": best.get("batch"),
                    "paper": {key: best.get(key) for key in FIGURES},
                    "ours": {key: row[key] for key in FIGURES} if trained else None,
                    "cell": cells(row)[2] if trained else "",
                }
            )
    return rows


def _representatives(budget: str, mine: Sequence[Cell]) -> list[Cell]:
    """The fast budget's own cells; else the paper's best cell, or Adam 64 where it has none."""
    fast = [c for c in mine if budget == "fast" and c in planned("fast")]
    if fast:
        return fast
    best = paper_best(mine[0])
    place = (best.get("optimizer", "adam"), best.get("batch", 64))
    same: Callable[[Cell], bool] = lambda c: (c.optimizer, c.batch) == place  # noqa: E731
    return [c for c in mine if same(c)][:1]
