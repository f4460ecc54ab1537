"""``mien ensemble MEMBER…``: average trained networks, choose on PublicTest, score once."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli import _options as opt
from mien.cli._console import command_line, say, wrote
from mien.cli._options import argument, option
from mien.cli._training import begin, cluster_of, resolved
from mien.errors import RecipeError

if TYPE_CHECKING:
    from mien.data.dataset import FaceDataset
    from mien.train.jobs import Options
    from mien.train.recipe import Recipe


def ensemble(
    members: Annotated[
        list[Path] | None, argument("Run folders, checkpoints or ensembles.")
    ] = None,
    recipe: Annotated[str | None, option("Train members by this recipe.")] = None,
    seeds: Annotated[int, option("How many of them: seeds 0, 1, …", min=1)] = 5,
    set_: opt.Set = None,
    runs: opt.Runs = Path("runs"),
    data: opt.Data = None,
    name: opt.Name = None,
    protocol: Annotated[str | None, option("Named split (default: recipe's or members').")] = None,
    tta: opt.Tta = "flip",
    views: opt.Views = "",
    choose: Annotated[str, option("Shares: equal, or greedy on PublicTest.")] = "equal",
    test: Annotated[bool, option("Score the test split, once.", "--test")] = False,
    out: Annotated[Path, option("Folder of the ensemble.")] = Path("out/ensemble"),
    device: opt.TrainDevice = "auto",
    engine: opt.TrainEngine = "local",
    address: opt.Address = None,
    cpus: opt.Cpus = 1,
    gpus: opt.Gpus = 0,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
) -> None:
    """Average the probabilities of several networks; train those that are missing.

    Called again, trainings that are done are taken, killed ones resumed, and members' probabilities
    read from the folder. The test split is scored once: another choice needs another --out.
    """
    if not members and recipe is None:
        raise RecipeError("Name members (run folders or checkpoints) or a --recipe to train.")
    begin("ensemble", device, relaunch=recipe is not None)
    from mien.data import make_splits, read_for_protocol
    from mien.train.ensemble import (
        build_ensemble,
        check_choice,
        checked_members,
        common_draw,
        common_protocol,
        to_markdown,
    )
    from mien.train.jobs import Options

    paths = list(members or ())
    wanted = None if recipe is None else resolved(recipe, set_, protocol=protocol)
    by = protocol or (wanted.protocol if wanted else common_protocol(paths))
    dataset = read_for_protocol(data, by, name)
    seed, fold = common_draw(paths, by) if paths else (0, None)
    splits = make_splits(dataset, by, seed=seed, fold=fold)
    tta = views or tta
    if wanted is not None:
        check_choice(splits, choose, tta, test)
        if paths:
            checked_members(paths, splits)
        cluster = cluster_of(engine, address, cpus, gpus)
        how = Options(device, dry_run, splits=splits, cluster=cluster)
        paths += _trained(wanted, seeds, runs, dataset, how)
    record = build_ensemble(
        paths,
        dataset,
        splits,
        out,
        tta=tta,
        choose=choose,
        test=test,
        device=device,
        command=command_line(),
        say=say,
    )
    wrote(out / "ensemble.json")
    typer.echo(dumps(record) if json else to_markdown(record))


def _trained(
    recipe: Recipe, seeds: int, runs: Path, dataset: FaceDataset, how: Options
) -> list[Path]:
    """The run folders of ``recipe``, one a seed; what is missing is trained.

    One split for all: members that trained on each other's validation images could not be averaged
    on them.
    """
    from mien.train.folder import run_home
    from mien.train.jobs import jobs_of, raise_first, run_jobs

    jobs = jobs_of(recipe, range(seeds), run_home(runs, how.dry_run))
    raise_first(run_jobs(jobs, dataset, how, attempts=2, say=say))
    return [job.folder for job in jobs]
