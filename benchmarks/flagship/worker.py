"""One training of the GPU pack, in a process of its own: ``worker.py TASK``, a task as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mien.atomic import atomic_path, write_text
from mien.data.dataset import FaceDataset
from mien.emotions import Emotion
from mien.errors import MienError


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def save_dataset(dataset: FaceDataset, path: Path) -> None:
    """Every array of ``dataset`` in one uncompressed .npz."""
    arrays = {k: getattr(dataset, k) for k in ("images", "labels", "ids", "splits", "groups")}
    if dataset.votes is not None:
        arrays["votes"] = dataset.votes
    classes = np.array([c.value for c in dataset.classes])
    facts = np.array([dataset.name, dataset.source, dataset.sha256])
    with atomic_path(path) as partial:
        np.savez(partial, classes=classes, facts=facts, **arrays)


def load_dataset(path: Path) -> FaceDataset:
    """What :func:`save_dataset` wrote."""
    with np.load(path) as kept:
        names = ("images", "labels", "ids", "splits", "groups")
        name, source, sha256 = kept["facts"].tolist()
        return FaceDataset(
            **{k: kept[k] for k in names},
            classes=tuple(Emotion(c) for c in kept["classes"].tolist()),
            name=name,
            votes=kept.get("votes"),
            source=source,
            sha256=sha256,
        )


def work_on(task: dict[str, Any]) -> None:
    """Train one run to its end, or go on with it, and write ``summary.json`` into its folder."""
    from mien.data import make_splits
    from mien.data.ferplus import NAME, majority_view
    from mien.train.checkpoint import load_checkpoint
    from mien.train.distill import load_teachers
    from mien.train.jobs import Job, result_of, train_jobs
    from mien.train.recipe import override
    from mien.train.recipes import get_recipe
    from mien.train.speedrun import accuracy

    recipe = override(get_recipe(task["recipe"]), [*task["set"], *task["more"]])
    recipe = replace(recipe, name=task["as_name"])
    if task["steps"]:
        recipe = replace(recipe, epochs=2, batch_size=16, clean_epochs=min(recipe.clean_epochs, 1))
    dataset = load_dataset(Path(task["dataset"]))
    if recipe.protocol == NAME:
        dataset = majority_view(dataset)
    splits = make_splits(dataset, recipe.protocol)
    folder = Path(task["folder"])
    teachers = load_teachers([Path(t) for t in task["teachers"]]) if task["teachers"] else None
    train_jobs(
        [Job(recipe, task["seed"], folder)],
        dataset,
        device=task["device"],
        teachers=teachers,
        say=say,
    )
    classifier = load_checkpoint(folder / "best.ckpt", task["device"])
    summary = {"name": task["name"], "recipe": recipe.to_dict(), "seed": task["seed"]}
    summary |= result_of(folder)
    summary["parameters"] = classifier.info.parameters
    summary["multiply_adds"] = classifier.info.multiply_adds
    roles = ["val", "test"] if task["test"] else ["val"]
    for role in (r for r in roles if len(splits.ids[r])):
        for views in ("none", "flip", "ten"):
            score = accuracy(classifier, dataset, splits, role, views)
            summary[f"{splits.published_name(role)} {views}"] = score
    write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")


def half(source: Path, target: Path) -> int:
    """Write a checkpoint with the deployed weights alone, in half precision; returns its bytes."""
    import torch

    checkpoint = torch.load(source, map_location="cpu", weights_only=True)
    state = checkpoint["state_dict"]
    prefix = "averaged." if any(k.startswith("averaged.") for k in state) else "model."
    kept = {
        f"model.{k.removeprefix(prefix)}": v.half() if v.is_floating_point() else v
        for k, v in state.items()
        if k.startswith(prefix)
    }
    with atomic_path(target) as partial:
        torch.save({"mien": checkpoint["mien"], "state_dict": kept}, partial)
    return target.stat().st_size


if __name__ == "__main__":
    try:
        work_on(json.loads(sys.argv[1]))
    except MienError as error:
        sys.exit(f"error: {error}")
