"""``mien distill TEACHER…``: train a small network on the answers of larger ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.cli._allocator import relaunch_with_allocator
from mien.cli._training import DEVICES, check_choice
from mien.errors import require_extra

app = typer.Typer(add_completion=False)


@app.command()
def distill(
    teachers: Annotated[
        list[Path], typer.Argument(help="Run folders, checkpoints or an ensemble's folder.")
    ],
    recipe: Annotated[str, typer.Option(help="The student's recipe.")] = "mien_distilled",
    data: Annotated[Path | None, typer.Option(help="Dataset in any published form.")] = None,
    name: Annotated[str | None, typer.Option(help="Which dataset of a folder of several.")] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="Extra images, for a recipe that takes some: FERGIT.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. distill.temperature=4.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder (default: runs/RECIPE-seedN).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Two epochs on 64 samples.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a student on its teachers' averaged probabilities for the same augmented batch.

    The folder is that of mien train; the run's record names every teacher by its SHA-256, and a
    run is resumed with the same teachers alone.
    """
    check_choice("device", device, DEVICES)
    require_extra("train", ("torch", "pyarrow"), "`mien distill`")
    relaunch_with_allocator()
    from rich.console import Console

    from mien.data import make_splits, read_dataset, read_for_protocol
    from mien.evaluate.guard import refuse_seen
    from mien.train.distill import dropped, find_members, load_teachers
    from mien.train.fit import fit
    from mien.train.folder import default_folder
    from mien.train.jobs import run_name
    from mien.train.recipe import override
    from mien.train.recipes import get_recipe
    from mien.train.report import write_run_report
    from mien.train.selection import extra_images

    console = Console(stderr=True)
    resolved = override(get_recipe(recipe), set_ or [])
    loaded = load_teachers(teachers)
    silent = dropped(teachers)
    if silent:
        asked = ", ".join(f"{t['name']} {t['share']:.2f}" for t in loaded.record)
        console.print(
            f"{', '.join(silent)} had too small a share of the ensemble to be asked; "
            f"{asked} teach.",
            highlight=False,
            soft_wrap=True,
        )
    dataset = read_for_protocol(data, resolved.protocol, name)
    splits = make_splits(dataset, resolved.protocol, seed=seed)
    for member in find_members(teachers):
        refuse_seen(member.path, splits, ("val", "test"))
    extra = None
    if unlabelled is not None:
        extra = extra_images(read_dataset(unlabelled), resolved.distill.unlabelled, dataset)
    result = fit(
        resolved,
        dataset,
        splits,
        out or default_folder(Path("runs"), run_name(resolved, seed), dry_run),
        seed=seed,
        resume=resume,
        dry_run=dry_run,
        device=device,
        teachers=loaded,
        unlabelled=extra,
    )
    write_run_report(result, dataset, splits)
    score = "" if result.val_accuracy is None else f" (val accuracy {result.val_accuracy:.4f})"
    console.print(
        f"epoch {result.best_epoch}{score}; {len(loaded.members)} teachers; "
        f"{result.seconds / 60:.1f} min of training; {result.checkpoint}",
        highlight=False,
        soft_wrap=True,
    )
