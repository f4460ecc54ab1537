"""``mien train RECIPE``: train a named recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.cli._allocator import relaunch_with_allocator
from mien.cli._training import DEVICES, check_choice
from mien.errors import require_extra

app = typer.Typer(add_completion=False)


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="Recipe name; none lists them all.")] = None,
    data: Annotated[Path | None, typer.Option(help="Dataset in any published form.")] = None,
    name: Annotated[str | None, typer.Option(help="Which dataset of a folder of several.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Named split; default: recipe's.")] = None,
    fold: Annotated[int | None, typer.Option(help="Fold of a cross-validation protocol.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. optimizer.lr=0.05.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="imagenet, random or a file of weights (default: the recipe's)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder (default: runs/RECIPE-seedN).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Two epochs on 64 samples.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    show: Annotated[bool, typer.Option("--show", help="Print the resolved recipe; stop.")] = False,
) -> None:
    """Train a named recipe; the run folder holds everything needed to resume and to trust it.

    The epoch is chosen on the protocol's validation split; the test split is not touched.
    """
    check_choice("device", device, DEVICES)
    from mien.train.recipe import override
    from mien.train.recipes import RECIPES, get_recipe

    if recipe is None:
        for known, make in RECIPES.items():
            doc = " ".join((make.__doc__ or "").split())
            typer.echo(f"{known:18s} {doc}")
        return
    resolved = override(get_recipe(recipe), set_ or [])
    if protocol:
        resolved = override(resolved, [f"protocol={protocol}"])
    if init:
        resolved = override(resolved, [f"init={init}"])
    if show:
        typer.echo(resolved.to_json())
        return

    require_extra("train", ("torch", "pyarrow"), "`mien train`")
    relaunch_with_allocator()
    from rich.console import Console

    from mien.data import make_splits, read_for_protocol
    from mien.train.fit import fit
    from mien.train.folder import default_folder
    from mien.train.jobs import run_name

    console = Console(stderr=True)
    dataset = read_for_protocol(data, resolved.protocol, name)
    splits = make_splits(dataset, resolved.protocol, seed=seed, fold=fold)
    folder = out or default_folder(Path("runs"), run_name(resolved, seed), dry_run)
    result = fit(
        resolved,
        dataset,
        splits,
        folder,
        seed=seed,
        resume=resume,
        dry_run=dry_run,
        device=device,
    )
    from mien.train.report import write_run_report

    write_run_report(result, dataset, splits)
    chosen = "the last, for there is no validation split"
    if result.val_accuracy is not None:
        chosen = f"val accuracy {result.val_accuracy:.4f}"
    console.print(
        f"epoch {result.best_epoch} ({chosen}); "
        f"{result.seconds / 60:.1f} min of training; {result.checkpoint}",
        highlight=False,
        soft_wrap=True,
    )
