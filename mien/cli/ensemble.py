"""``mien ensemble MEMBER…``: average trained networks, choose on PublicTest, score once."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mien.cli._allocator import relaunch_with_allocator
from mien.cli._training import DEVICES, check_choice, printer
from mien.errors import RecipeError, require_extra

app = typer.Typer(add_completion=False)


@app.command()
def ensemble(
    members: Annotated[
        list[Path] | None, typer.Argument(help="Run folders, checkpoints or ensembles.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Train members by this recipe.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many of them: seeds 0, 1, …")] = 5,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, as in mien train.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the trainings.")] = Path("runs"),
    data: Annotated[Path | None, typer.Option(help="Dataset in any published form.")] = None,
    name: Annotated[str | None, typer.Option(help="Which dataset of a folder of several.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Named split (default: the recipe's or the members').")
    ] = None,
    views: Annotated[str, typer.Option(help="Average over: none, flip or ten.")] = "flip",
    choose: Annotated[str, typer.Option(help="Shares: equal, or greedy on PublicTest.")] = "equal",
    test: Annotated[bool, typer.Option("--test", help="Score the test split, once.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the ensemble.")] = Path("out/ensemble"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train on 64 samples.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Average the probabilities of several networks; train those that are missing.

    Called again, trainings that are done are taken, killed ones resumed, and members' probabilities
    read from the folder. The test split is scored once: another choice needs another --out.
    """
    check_choice("device", device, DEVICES)
    if not members and recipe is None:
        raise RecipeError("Name members (run folders or checkpoints) or a --recipe to train.")
    require_extra("train", ("torch", "pyarrow"), "`mien ensemble`")
    if recipe is not None:
        relaunch_with_allocator()
    from mien.data import make_splits, read_for_protocol
    from mien.train.ensemble import build_ensemble, common_protocol, to_markdown
    from mien.train.folder import run_home
    from mien.train.jobs import Options, jobs_of, raise_first, run_jobs
    from mien.train.recipe import override
    from mien.train.recipes import get_recipe

    say = printer()
    paths = list(members or [])
    resolved = None if recipe is None else override(get_recipe(recipe), set_ or [])
    if resolved is not None and protocol:
        resolved = override(resolved, [f"protocol={protocol}"])
    division = protocol or (resolved.protocol if resolved else common_protocol(paths))
    dataset = read_for_protocol(data, division, name)
    splits = make_splits(dataset, division)
    if resolved is not None:
        jobs = jobs_of(resolved, range(seeds), run_home(runs, dry_run))
        # One division for all: members that trained on each other's validation images could not be
        # averaged on them.
        raise_first(run_jobs(jobs, dataset, Options(device, dry_run, splits=splits), say=say))
        paths += [job.folder for job in jobs]
    record = build_ensemble(
        paths,
        dataset,
        splits,
        out,
        views=views,
        choose=choose,
        test=test,
        device=device,
        command=shlex.join(["mien", *sys.argv[1:]]),
        say=say,
    )
    say(f"wrote {out / 'ensemble.json'}")
    if json:
        from json import dumps

        typer.echo(dumps(record))
    else:
        typer.echo(to_markdown(record))
