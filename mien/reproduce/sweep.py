"""Ahmed & Murshid's grid: its cells, what a budget plans of them, training them, one table.

A cell is one backbone trained one way. Every cell is an ordinary run folder, found by its recipe,
so that a sweep, ``mien reproduce ahmed2024`` and ``mien train`` share what they have trained, and
any number of processes can share a sweep.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mien.errors import RecipeError, nearest
from mien.report.document import Table
from mien.report.markdown import markdown_table
from mien.reproduce.datasets import Datasets
from mien.reproduce.plan import Plan, Say, Task, TrainOptions, make_plan, train
from mien.reproduce.run import DONE, NOT_RUN, PARTIAL, Figures, mean, std
from mien.reproduce.spec import System, load
from mien.train.ahmed import BACKBONES, BATCHES, BEST, RATES, TITLES, ahmed_recipe, best_place
from mien.train.folder import failure, in_use

OPTIMIZERS = tuple(RATES)
#: What the runs on "all" data and on the "balanced" part share.
FORMS = {form.id: form for form in load("ahmed2024").runs}
DATA_TITLES = {key: form.label for key, form in FORMS.items()}
#: Times that a cell is tried in one call; a later call tries what failed again.
ATTEMPTS = 2
FIGURES = ("accuracy", "precision", "recall", "f1")
FORMATS = ("csv", "json", "markdown")


@dataclass(frozen=True)
class Cell:
    """One cell of the grid.

    Attributes:
        backbone: registry name; optimizer: "adam" or "sgd"; batch: batch size; data: "all" or
            "balanced"; init: "imagenet", "random" or a file of weights.
    """

    backbone: str
    optimizer: str
    batch: int
    data: str
    init: str = "imagenet"

    def recipe(self, *, fast: bool) -> Any:
        """The cell's :class:`mien.train.recipe.Recipe`."""
        return ahmed_recipe(*self.place, self.init, fast=fast)

    @property
    def place(self) -> tuple[str, str, int, str]:
        """Backbone, optimiser, batch, data: where it stands in the paper's grid."""
        return self.backbone, self.optimizer, self.batch, self.data

    @property
    def start(self) -> str:
        """ "ImageNet weights", "random weights" or "weights of a file"."""
        known = {"imagenet": "ImageNet weights", "random": "random weights"}
        return known.get(self.init, "weights of a file")

    @property
    def id(self) -> str:
        """ "resnet50_adam64_balanced", with "_random" or "_file" as in the recipe's name."""
        start = {"imagenet": "", "random": "_random"}.get(self.init, "_file")
        return f"{self.backbone}_{self.optimizer}{self.batch}_{self.data}{start}"


def planned(budget: str, init: str | None = None) -> tuple[Cell, ...]:
    """The cells that a budget trains.

    "paper": the whole grid from ImageNet weights. "fast": what two processor cores measure in
    half a day, at batch 64: every backbone from random weights, by Adam on the balanced set and by
    SGD on all data, and EfficientNet-Lite0, whose ImageNet weights install as a package, by Adam
    on both from those.

    Args:
        init: what every cell starts from instead.
    """
    if budget == "paper":
        return grid(init or "imagenet")
    cells = (
        *(Cell(backbone, "adam", 64, "balanced", "random") for backbone in BACKBONES),
        Cell("efficientnet_lite0", "adam", 64, "balanced"),
        *(Cell(b, "sgd", 64, "all", "random") for b in BACKBONES if b != "efficientnet_lite0"),
        Cell("efficientnet_lite0", "adam", 64, "all"),
    )
    return tuple(dict.fromkeys(replace(cell, init=init or cell.init) for cell in cells))


def best(init: str = "imagenet") -> tuple[Cell, ...]:
    """The cell of every row of the paper's two tables; Adam at batch 64 for EfficientNet-Lite0."""
    places = itertools.product(DATA_TITLES, BACKBONES)
    return tuple(Cell(name, *best_place(name, data), data, init) for data, name in places)


def grid(init: str = "imagenet") -> tuple[Cell, ...]:
    """All cells: 8 backbones × 2 optimisers × 4 batch sizes × 2 forms of the data."""
    made = itertools.product(DATA_TITLES, BACKBONES, OPTIMIZERS, BATCHES)
    return tuple(Cell(b, o, n, d, init) for d, b, o, n in made)


def choose(cells: Sequence[Cell], only: Sequence[str]) -> tuple[Cell, ...]:
    """The cells that one of ``only`` names: "backbone=resnet50,optimizer=adam".

    Raises:
        RecipeError: a key or value is unknown, or no cell is left.
    """
    filters = [_filter(text) for text in only] or [{}]
    left = tuple(
        cell
        for cell in cells
        if any(all(str(getattr(cell, k)) == v for k, v in f.items()) for f in filters)
    )
    if not left:
        raise RecipeError(
            f"--only {' --only '.join(only)} leaves no cell of this budget's plan; add --grid to "
            "choose from the whole grid."
        )
    return left


def _filter(text: str) -> dict[str, str]:
    batches = tuple(map(str, BATCHES))
    values = (BACKBONES, OPTIMIZERS, batches, tuple(DATA_TITLES), None)
    known = dict(zip(("backbone", "optimizer", "batch", "data", "init"), values, strict=True))
    found = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise RecipeError(f"--only {text}: write key=value[,key=value].")
        if key not in known:
            raise RecipeError(f"--only {text}: no key {key!r}{nearest(key, known)}")
        allowed = known[key]
        if allowed is not None and value not in allowed:
            raise RecipeError(f"--only {text}: no {key} {value!r}{nearest(value, allowed)}")
        found[key] = value
    return found


@dataclass(frozen=True)
class Sweep:
    """Some cells of the grid under one budget.

    Attributes:
        cells: what is trained, in order.
        runs: folder of the run folders.
        datasets: gives FER2013.
        seeds: of every cell; all cells are trained with the first before the second begins.
        say: called with one line on what is going on.
    """

    cells: tuple[Cell, ...]
    budget: str
    runs: Path
    datasets: Datasets
    options: TrainOptions
    seeds: int = 1
    say: Say = lambda _: None

    def plan(self, need_data: bool = True) -> Plan:
        """The cells with what is in the folder of runs now. Raises DataError: no FER2013."""
        runs = tuple(
            replace(
                FORMS[cell.data],
                id=cell.id,
                label=cell.id,
                recipes={self.budget: partial(cell.recipe, fast=self.budget == "fast")},
            )
            for cell in self.cells
        )
        system = System("ahmed2024", "The grid", "Ahmed & Murshid 2024", runs)
        return make_plan(
            system,
            self.budget,
            self.runs,
            self.datasets,
            seeds=self.seeds,
            need_data=need_data,
            dry=self.options.dry,
        )

    def run(self) -> None:
        """Train what is missing and what no other process trains; score what is done.

        Raises:
            WeightsError: weights to start from cannot be had.
        """
        train(self.plan(), self.datasets, self.options, self.say, by_seed=True, attempts=ATTEMPTS)
        self.table()

    def table(self, need_data: bool = True) -> list[Row]:
        """One row a cell, as things stand; figures are means over its finished seeds.

        Args:
            need_data: see :func:`mien.reproduce.plan.make_plan`.
        """
        plan = self.plan(need_data)
        return [self._row(cell, plan.of(cell.id)) for cell in self.cells]

    def _row(self, cell: Cell, tasks: Sequence[Task]) -> Row:
        from mien.train.jobs import result_of

        done = [t for t in tasks if t.state == DONE]
        left = [task for task in tasks if task.state != DONE]
        scores = [self._scores(task) for task in done]
        minutes = [float(result_of(t.job.folder)["seconds"]) / 60 for t in done]
        best = BEST.get((cell.backbone, cell.data))
        recipe = tasks[0].job.recipe if tasks else cell.recipe(fast=self.budget == "fast")

        def of(name: str) -> float | None:
            return mean([getattr(s, name) or 0.0 for s in scores])

        return Row(
            data=cell.data,
            backbone=TITLES[cell.backbone],
            optimizer=cell.optimizer,
            batch=cell.batch,
            start=cell.start,
            epochs=recipe.epochs,
            state=_state(tasks, left),
            seeds=len(done),
            accuracy=of("accuracy"),
            precision=of("macro_precision"),
            recall=of("macro_recall"),
            f1=mean([papers_f1(s) for s in scores]),
            macro_f1=of("macro_f1"),
            accuracy_std=std([s.accuracy for s in scores]),
            minutes=round(float(np.mean(minutes)), 1) if minutes else None,
            why=next((why for t in left if (why := failure(t.job.folder))), ""),
            **({} if best is None else {f"paper_{k}": v for k, v in vars(best).items()}),
        )

    def _scores(self, task: Task) -> Figures:
        """The paper's test set at the last epoch."""
        from mien.reproduce.assemble import own_splits
        from mien.reproduce.scoring import score_run

        dataset = self.datasets.get(task.run.dataset)
        specs = [spec for spec in task.run.scores if spec.key == "paper"]
        found = score_run(
            task.job.folder,
            specs,
            dataset,
            own_splits(task, dataset),
            device=self.options.scoring_device,
            with_roc=False,
            dry=self.options.dry,
        )
        return found[0].scores


def papers_f1(scores: Figures) -> float:
    """The harmonic mean of the two averages, which the paper prints (its equation 4)."""
    precision, recall = scores.macro_precision or 0.0, scores.macro_recall or 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _state(tasks: Sequence[Task], left: Sequence[Task]) -> str:
    if tasks and not left:
        return DONE
    if any(in_use(t.job.folder) for t in left):
        return "running"
    if any(failure(t.job.folder) for t in left):
        return "failed"
    return PARTIAL if len(left) < len(tasks) or any(t.state == PARTIAL for t in left) else NOT_RUN


@dataclass(frozen=True)
class Row:
    """One cell of the table: its setting, what it reached, and the paper's best cell.

    Figures are fractions, None where nothing was trained or the paper has none.
    """

    data: str
    backbone: str
    optimizer: str
    batch: int
    start: str
    epochs: int
    state: str
    seeds: int
    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    macro_f1: float | None = None
    accuracy_std: float | None = None
    minutes: float | None = None
    paper_optimizer: str | None = None
    paper_batch: int | None = None
    paper_accuracy: float | None = None
    paper_precision: float | None = None
    paper_recall: float | None = None
    paper_f1: float | None = None
    why: str = ""

    @property
    def setting(self) -> str:
        """ "adam 64, 12 epochs, random weights, 3 seeds"."""
        said = f"{self.optimizer} {self.batch}, {self.epochs} epochs, {self.start}"
        return said + (f", {self.seeds} seeds" if self.seeds > 1 else "")

    def rates(self, whose: str = "") -> list[float | None]:
        """Accuracy, precision, recall and F1: ours, or "paper_"."""
        return [getattr(self, f"{whose}{name}") for name in FIGURES]

    def cells(self) -> list[str]:
        """For people: data, backbone, cell, state, four figures, the paper's best."""
        best = " / ".join(f"{100 * v:.2f}" for v in self.rates("paper_") if v is not None)
        best = f"{self.paper_optimizer} {self.paper_batch}: {best}" if best else "–"
        shown = [NOT_RUN if v is None else f"{100 * v:.2f} %" for v in self.rates()]
        return [self.data, self.backbone, self.setting, self.state, *shown, best]


COLUMNS = tuple(column.name for column in fields(Row))


def render(rows: Sequence[Row], form: str) -> str:
    """The table as "csv", "json" or "markdown"; what was not run is empty, null or "not run"."""
    if form not in FORMATS:
        raise RecipeError(f"--format must be one of {', '.join(FORMATS)}, not {form!r}.")
    records = [asdict(row) for row in rows]
    if form == "json":
        return json.dumps(records, indent=2) + "\n"
    if form == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return text.getvalue()
    table = table_of(rows)
    return markdown_table(table.header, table.rows, table.left, table.wrap) + "\n"


def table_of(rows: Sequence[Row]) -> Table:
    """The table for people."""
    header = ["data", "backbone", "cell", "state", *FIGURES, "the paper's best cell"]
    return Table(header, [row.cells() for row in rows], left=4, wrap=(8,))
