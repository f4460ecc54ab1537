"""``mien train RECIPE``: train a named recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from mien.cli import _options as opt
from mien.cli._options import argument, option
from mien.cli._training import begin, resolved, train_one


def train(
    recipe: Annotated[str | None, argument("Recipe name; none lists them all.")] = None,
    data: opt.Data = None,
    name: opt.Name = None,
    protocol: Annotated[str | None, option("Named split; default: recipe's.")] = None,
    fold: opt.Fold = None,
    seed: opt.Seed = 0,
    set_: opt.Set = None,
    init: Annotated[
        str | None,
        option("imagenet, random, a file or folder of weights (default: the recipe's)."),
    ] = None,
    out: opt.RunFolder = None,
    resume: opt.Resume = False,
    dry_run: opt.DryRun = False,
    device: opt.TrainDevice = "auto",
    show: Annotated[bool, option("Print the resolved recipe; stop.", "--show")] = False,
) -> None:
    """Train a named recipe; the run folder holds everything needed to resume and to trust it.

    The epoch is chosen on the protocol's validation split; the test split is not touched.
    """
    if recipe is None:
        from mien.train.recipes import RECIPES

        for known, make in RECIPES.items():
            doc = " ".join((make.__doc__ or "").split())
            typer.echo(f"{known:18s} {doc}")
        return
    wanted = resolved(recipe, set_, protocol=protocol, init=init)
    if show:
        typer.echo(wanted.to_json())
        return
    begin("train", device)
    from mien.data import make_splits, read_for_protocol

    dataset = read_for_protocol(data, wanted.protocol, name)
    splits = make_splits(dataset, wanted.protocol, seed=seed, fold=fold)
    train_one(
        wanted, dataset, splits, out, seed=seed, resume=resume, dry_run=dry_run, device=device
    )
