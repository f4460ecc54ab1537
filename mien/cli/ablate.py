"""``mien ablate TABLE``: train the rows of an ablation table and compare them seed by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.cli._allocator import relaunch_with_allocator
from mien.cli._training import DEVICES, check_choice, printer
from mien.errors import require_extra

app = typer.Typer(add_completion=False)


@app.command()
def ablate(
    table: Annotated[
        Path, typer.Argument(help="TOML file: recipe, set, seeds and the table of rows.")
    ],
    data: Annotated[Path | None, typer.Option(help="Dataset in any published form.")] = None,
    name: Annotated[str | None, typer.Option(help="Which dataset of a folder of several.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder (default: out/TABLE).")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Start no further run after so long.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Two epochs on 64 samples.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Mean, spread and paired difference of every row on the validation split.

    Stopped anywhere and called again, it goes on where it was; table and plot follow every run. The
    figure is the last epoch's, which nothing was chosen by; the test split is not read.
    """
    check_choice("device", device, DEVICES)
    require_extra("train", ("torch", "pyarrow"), "`mien ablate`")
    relaunch_with_allocator()
    from mien.data import read_for_protocol
    from mien.train.ablation import ablate as run
    from mien.train.ablation import read_table, to_markdown

    read = read_table(table)
    record = run(
        read,
        read_for_protocol(data, read.recipe_of("base").protocol, name),
        out or Path("out") / read.name,
        device=device,
        dry_run=dry_run,
        budget_s=None if minutes is None else 60 * minutes,
        say=printer(),
    )
    if json:
        from json import dumps

        typer.echo(dumps(record))
    else:
        typer.echo(to_markdown(record))
    if not record["complete"]:
        raise typer.Exit(1)
