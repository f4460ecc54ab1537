"""One training of the GPU pack, in a process of its own: ``worker.py TASK``, a task as JSON."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mien.atomic import atomic_path, make_folder, write_text
from mien.data.dataset import FaceDataset, Splits
from mien.emotions import Emotion
from mien.errors import MienError

#: The largest file that is delivered.
FILE_BYTES = 16 * 2**20
#: What `mien reproduce` reads of a run beside its checkpoints and predictions.
RECORDS = ("run.json", "recipe.json", "splits.json", "curves.csv", "result.json")
#: In a run's folder: what of it is delivered.
PACK = "pack"


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


def sha256_of(path: Path) -> str:
    """The SHA-256 of the dataset that :func:`save_dataset` wrote, without its images."""
    with np.load(path) as kept:
        return str(kept["facts"].tolist()[2])


def recipe_of(run: dict[str, Any], steps: int) -> Any:
    """The recipe that a run trains: its settings applied, cut short in a trial."""
    from mien.train.fit import dry
    from mien.train.recipe import override
    from mien.train.recipes import get_recipe

    recipe = replace(override(get_recipe(run["recipe"]), run["set"]), name=run["as_name"])
    return dry(recipe) if steps else recipe


def work_on(task: dict[str, Any]) -> None:
    """Train one run to its end, or go on with it, and write ``summary.json`` into its folder."""
    from timing import accuracy

    from mien.data import make_splits
    from mien.data.ferplus import NAME, majority_view
    from mien.train.checkpoint import load_checkpoint
    from mien.train.distill import load_teachers
    from mien.train.folder import read_curves
    from mien.train.jobs import Job, Options, raise_first, result_of, run_jobs

    recipe = recipe_of(task, task["steps"])
    dataset = load_dataset(Path(task["dataset"]))
    if recipe.protocol == NAME:
        dataset = majority_view(dataset)
    splits = make_splits(dataset, recipe.protocol, seed=task["seed"])
    folder = Path(task["folder"])
    teachers = load_teachers([Path(t) for t in task["teachers"]]) if task["teachers"] else None
    options = Options(task["device"], teachers=teachers, splits=splits)
    raise_first(run_jobs([Job(recipe, task["seed"], folder)], dataset, options, say=say))
    classifier = load_checkpoint(folder / "best.ckpt", task["device"])
    summary = {"name": task["name"], "seed": task["seed"], **task["identity"]}
    summary |= {"tested": task["test"], **result_of(folder)}
    summary["last"] = read_curves(folder / "curves.csv")[-1]
    summary["parameters"] = classifier.info.parameters
    summary["multiply_adds"] = classifier.info.multiply_adds
    if task["paper"]:
        summary |= score_paper(task, folder, dataset, splits)
    else:
        roles = ["val", "test"] if task["test"] else ["val"]
        for role in (r for r in roles if len(splits.ids[r])):
            for tta in ("none", "flip", "ten"):
                score = accuracy(classifier, dataset, splits, role, tta)
                summary[f"{splits.published_name(role)} {tta}"] = score
    write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")


def score_paper(
    task: dict[str, Any], folder: Path, dataset: FaceDataset, splits: Splits
) -> dict[str, Any]:
    """Fill the run's pack and score it as its paper's reproduction does.

    The weights that are scored are those that are delivered, in half precision: `mien reproduce`
    keeps predictions under their checkpoint's SHA-256, so it takes these and scores nothing again.
    Where they are too large to deliver, the run's own are scored, and only the figures travel.
    """
    from mien.reproduce.scoring import FOLDER, LIST, score_run
    from mien.reproduce.spec import get_system

    pack = make_folder(folder / PACK)
    for name in RECORDS:
        copy_file(folder / name, pack / name)
    weights = ("best.ckpt", "last.ckpt")
    for name in weights:
        if not (pack / name).is_file():  # written once: predictions are kept by its SHA-256
            half(folder / name, pack / name)
    fits = all((pack / name).stat().st_size <= FILE_BYTES for name in weights)
    system, run_id = task["paper"]
    specs = get_system(system).run(run_id).scores
    if not task["test"]:  # PrivateTest stays closed, also as a part of a larger set
        specs = tuple(spec for spec in specs if "test" not in spec.roles)
    scored = pack if fits else folder
    entries = score_run(scored, specs, dataset, splits, device=task["device"], with_roc=False)
    if not fits:
        for name in weights:
            (pack / name).unlink()
        for path in (folder / LIST, *sorted((folder / FOLDER).glob("*.npz"))):
            copy_file(path, pack / path.relative_to(folder))
    keys = ("key", "checkpoint", "epoch", "split", "n")
    figures = ("accuracy", "macro_f1")
    return {
        "weights": "half precision" if fits else "too large to deliver",
        "scores": [
            {k: getattr(e, k) for k in keys} | {k: getattr(e.scores, k) for k in figures}
            for e in entries
        ],
    }


def copy_file(source: Path, target: Path) -> None:
    make_folder(target.parent)
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)


def half(source: Path, target: Path) -> int:
    """Write a checkpoint with the deployed weights alone, in half precision; returns its bytes.

    Only matrices and filters: they are nearly all of the bytes, and a running variance can be too
    large for half precision.
    """
    import torch

    checkpoint = torch.load(source, map_location="cpu", weights_only=True)
    state = checkpoint["state_dict"]
    prefix = "averaged." if any(k.startswith("averaged.") for k in state) else "model."
    kept = {
        f"model.{k.removeprefix(prefix)}": v.half() if v.is_floating_point() and v.ndim > 1 else v
        for k, v in state.items()
        if k.startswith(prefix)
    }
    with atomic_path(target) as partial:
        torch.save({"mien": checkpoint["mien"], "state_dict": kept}, partial)
    return target.stat().st_size


if __name__ == "__main__":
    work = json.loads(sys.argv[1])
    sys.argv = work["command"]  # what a run records as the command that made it
    try:
        work_on(work)
    except MienError as error:
        sys.exit(f"error: {error}")
