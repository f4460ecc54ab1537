"""``mien sweep ahmed2024``: the grid of backbones, optimisers, batch sizes and data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mien.atomic import write_text
from mien.cli import _options as opt
from mien.cli._console import print_table, say, wrote
from mien.cli._options import argument, option
from mien.cli._training import begin, check_choice, check_machine, cluster_of
from mien.errors import RecipeError, require_extra
from mien.reproduce.spec import BUDGETS

if TYPE_CHECKING:
    from mien.reproduce.sweep import Row


_NAME = "ahmed2024"


def sweep(
    name: Annotated[str, argument("The grid; there is one: ahmed2024.")],
    budget: Annotated[
        str, option("fast: 17 cells, half a day on two cores; paper: all 128 cells.")
    ] = "fast",
    init: Annotated[
        str | None,
        option("imagenet, random, a file or folder of weights (default: the budget's)."),
    ] = None,
    only: Annotated[list[str] | None, option("backbone=resnet50,batch=64; repeated: or.")] = None,
    grid: Annotated[bool, option("The whole grid, not only the budget's plan.", "--grid")] = False,
    best: Annotated[
        bool, option("The paper's best cell of every row of its tables.", "--best")
    ] = False,
    runs: opt.Runs = Path("runs"),
    data: Annotated[Path | None, option("FER2013 in any published form.")] = None,
    seeds: Annotated[int, option("Seeds of every cell.")] = 1,
    jobs: Annotated[int, option("Processes at a time; 0: one for each GPU, else one.")] = 0,
    device: opt.TrainDevice = "auto",
    engine: opt.TrainEngine = "local",
    address: opt.Address = None,
    cpus: opt.Cpus = 1,
    gpus: opt.Gpus = 0,
    precision: opt.Precision = "auto",
    list_: Annotated[
        bool, option("Train nothing; print the table as it stands.", "--list")
    ] = False,
    dry_run: Annotated[
        bool, option("Two epochs of every cell on a few images.", "--dry-run")
    ] = False,
    out: Annotated[Path | None, option("Write the table: .csv, .json or .md.")] = None,
    form: Annotated[
        str | None, option("Print the table: csv, json or markdown.", "--format")
    ] = None,
    worker: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Train the cells of Ahmed & Murshid's grid that are missing, and print one table.

    Stopped anywhere and called again, it goes on where it was; several processes, also started by
    hand with the same --runs, share the work. A failed cell is tried once more, then reported, and
    tried again by the next call. Exit code 1 says that cells failed.
    """
    _check(name, budget, device, precision, seeds, jobs, out, form)
    from mien.reproduce import sweep as cells_of

    if grid and best:
        raise RecipeError("Give --grid or --best, not both: the grid holds the best cells.")
    cells = cells_of.planned(budget, init)
    if grid or best:
        cells = (cells_of.grid if grid else cells_of.best)(init or "imagenet")
    cells = cells_of.choose(cells, only or [])
    begin("sweep", device, relaunch=not list_)
    require_extra("transfer", ("timm", "torchvision"), "`mien sweep`")
    from mien.reproduce.datasets import Datasets
    from mien.reproduce.plan import TrainOptions
    from mien.train.jobs import share_out
    from mien.train.precision import gpu_count

    cluster = cluster_of(engine, address, cpus, gpus)
    options = TrainOptions(device, precision, dry_run, cluster=cluster)
    datasets = Datasets(data, cache=runs, build=False, dry=dry_run, say=say)
    made = cells_of.Sweep(cells, budget, runs, datasets, options, seeds, say)
    ended = True
    if not list_:
        many = jobs or (1 if device == "cpu" else max(1, gpu_count()))
        if many > 1 and not worker and cluster is None:
            made.plan()  # what is wrong with the data is said once
            arguments = [*sys.argv[1:], "--jobs", "1", "--worker"]
            ended = share_out(arguments, many, device=device, say=say)
        else:
            made.run()
    if worker:
        return
    rows = made.table()
    _show(rows, f"ahmed2024, {budget}" + (" (dry run)" if dry_run else ""))
    _write(rows, out, form)
    if not ended or any(row.state == "failed" for row in rows):
        raise typer.Exit(1)


def _check(
    name: str,
    budget: str,
    device: str,
    precision: str,
    seeds: int,
    jobs: int,
    out: Path | None,
    form: str | None,
) -> None:
    if name != _NAME:
        raise RecipeError(f"Unknown sweep {name!r}; there is one: {_NAME}.")
    check_choice("budget", budget, BUDGETS)
    check_machine(device, precision)
    check_choice("format", form, (None, *_FORMS.values()))
    for key, number, least in (("seeds", seeds, 1), ("jobs", jobs, 0)):
        if number < least:
            raise RecipeError(f"--{key} must be {least} or more, not {number}.")
    if out is not None and out.suffix not in _FORMS:
        raise RecipeError(f"--out {out}: give a name ending in {', '.join(_FORMS)}.")


_FORMS = {".csv": "csv", ".json": "json", ".md": "markdown"}


def _show(rows: list[Row], title: str) -> None:
    """The table for people, on standard error."""
    from mien.reproduce.sweep import table_of

    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = 160  # in a log nothing needs to fit a screen
    print_table(table_of(rows), title, console)
    for row in rows:
        if row.why and row.state == "failed":
            say(f"failed: {row.backbone}, {row.optimizer} {row.batch}, {row.data}: {row.why}")


def _write(rows: list[Row], out: Path | None, form: str | None) -> None:
    from mien.reproduce.sweep import render

    if out is not None:
        write_text(out, render(rows, _FORMS[out.suffix]))
        wrote(out)
    if form is not None:
        sys.stdout.write(render(rows, form))
