"""``mien reproduce NAME``: a paper's system, trained, scored, and set beside the paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli import _options as opt
from mien.cli._console import command_line, print_table, say, wrote
from mien.cli._options import argument, option
from mien.cli._training import begin, check_machine, cluster_of
from mien.report.document import Table

if TYPE_CHECKING:
    from mien.reproduce.record import Record


def reproduce(
    name: Annotated[str | None, argument("The paper; none lists them all.")] = None,
    budget: Annotated[
        str, option("paper: the full recipe; fast: aims at the same headlines, sooner.")
    ] = "fast",
    out: Annotated[
        Path | None,
        option("Folder of the report (default: out/NAME, of a dry run out/NAME-dry-run)."),
    ] = None,
    runs: opt.Runs = Path("runs"),
    data: Annotated[
        Path | None, option("Folder of FER2013, muxspace and CK+, or FER2013 alone.")
    ] = None,
    fergit: Annotated[Path | None, option("FERGIT, where it is built.")] = None,
    seeds: Annotated[int | None, option("Seeds of every run (default: the run's own).")] = None,
    only: Annotated[list[str] | None, option("Train this run alone; may be repeated.")] = None,
    device: opt.TrainDevice = "auto",
    engine: opt.TrainEngine = "local",
    address: opt.Address = None,
    cpus: opt.Cpus = 1,
    gpus: opt.Gpus = 0,
    precision: opt.Precision = "auto",
    report_only: Annotated[
        bool, option("Train nothing; report what is there.", "--report-only")
    ] = False,
    dry_run: Annotated[
        bool, option("Two epochs of everything on a few images.", "--dry-run")
    ] = False,
    json: opt.Json = False,
) -> None:
    """Train a paper's system as the paper does and report the paper's figures beside ours.

    Stopped anywhere and called again, it goes on where it was. Trainings made with `mien train` and
    found in --runs are taken. Exit code 1 says that some failed and the rest was done. The HTML
    page shows sample images of your data: keep it to yourself.
    """
    from mien.reproduce.spec import PAPERS, get_system

    check_machine(device, precision)
    if name is None:
        for system in map(get_system, PAPERS):
            ids = ", ".join(run.id for run in system.runs)
            typer.echo(f"{system.name:12s} {system.citation}: {ids}")
        return
    get_system(name)  # an unknown name fails before anything heavy is loaded
    begin("reproduce", device)
    from mien.reproduce import reproduce as run
    from mien.reproduce.plan import TrainOptions

    record, paths = run(
        name,
        out or Path("out") / (f"{name}-dry-run" if dry_run else name),
        runs=runs,
        budget=budget,
        data=data,
        fergit=fergit,
        seeds=seeds,
        only=only or [],
        report_only=report_only,
        options=TrainOptions(
            device, precision, dry_run, cluster=cluster_of(engine, address, cpus, gpus)
        ),
        command=command_line(),
        say=say,
    )
    wrote(*paths.values())
    if json:
        typer.echo(record.to_json(), nl=False)
    else:
        _print(record)
    if record.failed:
        say(f"{len(record.failed)} failed, see above; the next call tries again.")
        raise typer.Exit(1)


def _print(record: Record) -> None:
    words = {True: "met", False: "missed", None: ""}
    rows = [
        [m.label, m.paper_text or "", m.ours_text or "", words[m.met]] for m in record.headlines
    ]
    table = Table(["figure", "paper", "ours", ""], rows, left=4)
    print_table(table, f"{record.system}, {record.budget}")
