"""``mien ablate TABLE``: train the rows of an ablation table and compare them seed by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.cli._console import say
from mien.cli._options import (
    Address,
    Cpus,
    Data,
    DryRun,
    Gpus,
    Json,
    Name,
    TrainDevice,
    TrainEngine,
    argument,
    option,
)
from mien.cli._training import begin, cluster_of


def ablate(
    table: Annotated[Path, argument("TOML file: recipe, set, seeds and the table of rows.")],
    data: Data = None,
    name: Name = None,
    out: Annotated[Path | None, option("Folder (default: out/TABLE).")] = None,
    minutes: Annotated[float | None, option("Start no further run after so long.", min=0)] = None,
    device: TrainDevice = "auto",
    engine: TrainEngine = "local",
    address: Address = None,
    cpus: Cpus = 1,
    gpus: Gpus = 0,
    dry_run: DryRun = False,
    json: Json = False,
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
    if json:
        from json import dumps

        typer.echo(dumps(record))
    else:
        typer.echo(to_markdown(record))
    if not record["complete"]:
        raise typer.Exit(1)
