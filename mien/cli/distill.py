"""``mien distill TEACHER…``: train a small network on the answers of larger ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from mien.cli import _options as opt
from mien.cli._console import say
from mien.cli._options import argument, option
from mien.cli._training import begin, resolved, train_one


def distill(
    teachers: Annotated[list[Path], argument("Run folders, checkpoints or an ensemble's folder.")],
    recipe: Annotated[str, option("The student's recipe.")] = "mien_distilled",
    data: opt.Data = None,
    name: opt.Name = None,
    unlabelled: Annotated[
        Path | None, option("Extra images, for a recipe that takes some: FERGIT.")
    ] = None,
    seed: opt.Seed = 0,
    set_: opt.Set = None,
    out: opt.RunFolder = None,
    resume: opt.Resume = False,
    dry_run: opt.DryRun = False,
    device: opt.TrainDevice = "auto",
) -> None:
    """Train a student on its teachers' averaged probabilities for the same augmented batch.

    The folder is that of mien train; the run's record names every teacher by its SHA-256, and a
    run is resumed with the same teachers alone.
    """
    begin("distill", device)
    from mien.data import make_splits, read_dataset, read_for_protocol
    from mien.data.splits import refuse_seen
    from mien.train.distill import dropped, find_members, load_teachers
    from mien.train.selection import extra_images

    student = resolved(recipe, set_)
    loaded = load_teachers(teachers)
    if silent := dropped(teachers):
        asked = ", ".join(f"{t['name']} {t['share']:.2f}" for t in loaded.record)
        say(
            f"{', '.join(silent)} had too small a share of the ensemble to be asked; {asked} teach."
        )
    dataset = read_for_protocol(data, student.protocol, name)
    splits = make_splits(dataset, student.protocol, seed=seed)
    for member in find_members(teachers, leading=True):
        refuse_seen(member.path, splits, ("val", "test"))
    extra = None
    if unlabelled is not None:
        extra = extra_images(read_dataset(unlabelled), student.distill.unlabelled, dataset)
    train_one(
        student,
        dataset,
        splits,
        out,
        seed=seed,
        resume=resume,
        dry_run=dry_run,
        device=device,
        teachers=loaded,
        unlabelled=extra,
    )
