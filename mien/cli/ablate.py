"""``mien ablate TABLE``: train the rows of an ablation table and compare them seed by seed."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from mien.cli import _options as opt
from mien.cli._console import say
from mien.cli._options import argument, option
from mien.cli._training import begin, cluster_of


def ablate(
    table: Annotated[Path, argument("TOML file: recipe, set, seeds and the table of rows.")],
    data: opt.Data = None,
    name: opt.Name = None,
    out: Annotated[Path | None, option("Folder (default: out/TABLE).")] = None,
    minutes: Annotated[float | None, option("Start no further run after so long.", min=0)] = None,
    device: opt.TrainDevice = "auto",
    engine: opt.TrainEngine = "local",
    address: opt.Address = None,
    cpus: opt.Cpus = 1,
    gpus: opt.Gpus = 0,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
) -> None:
    """Mean, spread and paired difference of every row on the validation split.

    Stopped anywhere and called again, it goes on where it was; table and plot are written at the
    end. The figure is the last epoch's, and no choice was made with it; the test split is not read.
    """
    begin("ablate", device)
    from mien.data import read_for_protocol
    from mien.train.ablation import ablate as run
    from mien.train.ablation import read_table, to_markdown

    read = read_table(table)
    record = run(
        read,
        read_for_protocol(data, read.recipe_of("base").protocol, name),
        out or Path("out") / read.name,
        device=device,
        cluster=cluster_of(engine, address, cpus, gpus),
        dry_run=dry_run,
        budget_s=None if minutes is None else 60 * minutes,
        say=say,
    )
    typer.echo(dumps(record) if json else to_markdown(record))
    if not record["complete"]:
        raise typer.Exit(1)
