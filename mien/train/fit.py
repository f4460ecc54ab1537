"""``fit``: from a recipe and a dataset to a run folder with checkpoints, curves and a report."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mien._system import processor, versions
from mien._version import __version__
from mien.atomic import write_text
from mien.data.dataset import FaceDataset, Splits
from mien.data.loaders import EpochBatches
from mien.errors import RecipeError
from mien.models.registry import get_spec
from mien.models.weights import initial_weights
from mien.train import loop
from mien.train.checkpoint import resume_from, save_checkpoint
from mien.train.distill import Teachers
from mien.train.folder import BEST, LAST, RECIPE, RESULT, RUN, SPLITS, hold, read_json
from mien.train.learner import Learner
from mien.train.loop import State
from mien.train.optimizers import make_optimizer
from mien.train.precision import PrecisionChoice, choose_device, choose_precision
from mien.train.progress import ProgressLine
from mien.train.recipe import Recipe
from mien.train.resume import beside_of, check_folder, write_curves
from mien.train.selection import check_teaching, refuse_held_out, training_set

PACKAGES = ("torch", "numpy", "opencv-python-headless", "onnxruntime")


@dataclass(frozen=True)
class FitResult:
    """Where a run ended: its folder, best epoch, best val accuracy and training seconds.

    Without a validation split ``val_accuracy`` is None and the last epoch is the best one.
    """

    folder: Path
    best_epoch: int
    val_accuracy: float | None
    seconds: float
    checkpoint: Path


def pixel_statistics(recipe: Recipe, train: FaceDataset) -> tuple[float, float]:
    """Mean and standard deviation on the 0..1 scale, of the training images alone."""
    if recipe.pixels == "unit":
        return 0.0, 1.0
    pixels = train.images.astype(np.float64) / 255
    return round(float(pixels.mean()), 6), round(float(pixels.std()), 6)


def class_weights(recipe: Recipe, train: FaceDataset) -> torch.Tensor | None:
    """n / (classes × n_class), as scikit-learn's "balanced"; None where the recipe has none."""
    if recipe.loss.class_weights == "none":
        return None
    counts = np.bincount(train.labels, minlength=len(train.classes))
    weights = len(train) / (len(train.classes) * np.maximum(counts, 1))
    return torch.tensor(weights, dtype=torch.float32)


def environment() -> dict[str, Any]:
    """Versions, commit and hardware, for the record of a run."""
    try:
        commit = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    return {
        "mien": __version__,
        "commit": commit,
        "python": platform.python_version(),
        "versions": versions(PACKAGES),
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def dry(recipe: Recipe) -> Recipe:
    """The same recipe on so little that every part runs once in seconds."""
    return dataclasses.replace(
        recipe,
        epochs=2,
        batch_size=min(recipe.batch_size, 16),
        clean_epochs=min(recipe.clean_epochs, 1),
        dropout_off=min(recipe.dropout_off, 1),
    )


def _few(dataset: FaceDataset, n: int) -> FaceDataset:
    return dataset.take(np.arange(min(n, len(dataset))))


def _record(
    folder: Path,
    recipe: Recipe,
    dataset: FaceDataset,
    splits: Splits,
    facts: Mapping[str, Any],
) -> None:
    write_text(folder / RECIPE, recipe.to_json() + "\n")
    write_text(folder / SPLITS, splits.to_json() + "\n")
    record = {
        **environment(),
        "command": shlex.join(
            [Path(sys.argv[0]).name.replace("__main__.py", "mien"), *sys.argv[1:]]
        ),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data": {"name": dataset.name, "sha256": dataset.sha256, "n": len(dataset)},
        "protocol": splits.protocol,
        "fold": splits.fold,
        **{key: value for key, value in facts.items() if value is not None},
    }
    write_text(folder / RUN, json.dumps(record, indent=2, sort_keys=True) + "\n")


def _resumed_precision(folder: Path, recipe: Recipe, device: str) -> PrecisionChoice | None:
    """The precision that an "auto" run began with, where it works here; None for another choice."""
    begun = read_json(folder / RUN).get("precision", "auto")
    if recipe.precision != "auto" or begun == "auto":
        return None
    with contextlib.suppress(RecipeError):
        return choose_precision(begun, device)
    print(
        f"warning: {folder} began in {begun}, which does not work here; it goes on in float32 and "
        "its record says so.",
        file=sys.stderr,
    )
    return None


def _record_resumption(folder: Path, precision: PrecisionChoice, device: str) -> None:
    """Add to the run's record where, how and by which code it goes on; a finished run is left."""
    if (folder / RESULT).exists():
        return
    record = read_json(folder / RUN)
    whole = environment()
    here = {key: whole[key] for key in ("mien", "commit", "cpu", "threads", "gpu")}
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    entry = {**here, "device": device, "precision": precision.precision, "started": started}
    record["resumed"] = [*record.get("resumed", ()), entry]
    write_text(folder / RUN, json.dumps(record, indent=2, sort_keys=True) + "\n")


def check_votes(recipe: Recipe, train: FaceDataset) -> None:
    """Raise RecipeError where a recipe uses FER+ votes that the data has not."""
    keys = [k for k in ("ferplus_auxiliary", "ferplus_blend") if getattr(recipe.loss, k)]
    if keys and train.votes is None:
        settings = " ".join(f"--set loss.{key}=0" for key in keys)
        raise RecipeError(
            f"Recipe {recipe.name!r} uses FER+ votes, and the data has none: add fer2013new.csv "
            f"beside the CSV, or train with {settings}."
        )


def fit(
    recipe: Recipe,
    dataset: FaceDataset,
    splits: Splits,
    folder: Path,
    *,
    seed: int = 0,
    resume: bool = False,
    dry_run: bool = False,
    device: str = "auto",
    quiet: bool = False,
    teachers: Teachers | None = None,
    unlabelled: FaceDataset | None = None,
) -> FitResult:
    """Train ``recipe`` on the protocol's train split; choose the epoch on its val split.

    Args:
        folder: run folder; created. Holds recipe.json, run.json, splits.json, curves.csv,
            best.ckpt, last.ckpt and, for TensorBoard, an events file.
        resume: continue from ``last.ckpt`` if there is one.
        dry_run: two epochs on a few samples, to prove that everything fits together.
        device: "auto", "cpu" or "cuda".
        teachers: for a recipe with ``distill.weight``, and only there.
        unlabelled: extra images for a recipe with ``distill.unlabelled``, and only there; their
            labels are not looked at.

    Raises:
        RecipeError: the folder is taken, the recipe does not fit the data, or an extra image is
            one of the validation or test split.
        WeightsError: the weights that ``recipe.init`` names cannot be had.
    """
    if dry_run:
        recipe = dry(recipe)
    begun = check_folder(folder, recipe, seed, resume, teachers, dataset, splits, unlabelled)
    train, val = splits.select(dataset, "train"), splits.select(dataset, "val")
    if dry_run:
        train, val = _few(train, 64), _few(val, 64)
        unlabelled = None if unlabelled is None else _few(unlabelled, 32)
    _check_images(recipe, dataset, splits, train)
    check_votes(recipe, train)
    check_teaching(recipe, dataset, teachers, unlabelled)
    if unlabelled is not None:
        refuse_held_out(unlabelled, dataset, splits)
    device = choose_device(device)
    precision = _resumed_precision(folder, recipe, device) if begun else None
    precision = precision or choose_precision(recipe.precision, device)
    # Fetched before anything is written: where there are none, the run stops here.
    start = None if begun else initial_weights(recipe.model, recipe.init)
    chosen, weights = training_set(recipe, train, unlabelled)
    torch.manual_seed(seed)
    learner = Learner(
        recipe,
        dataset.classes,
        *pixel_statistics(recipe, train),
        class_weights(recipe, train),
        seed=seed,
        rows=len(chosen),
        teacher=None if teachers is None else teachers.to(device),
    )
    if start is not None:
        for network in filter(None, (learner.model, learner.averaged)):
            start.load_into(network)
    if begun is None:
        learner.initialise(torch.from_numpy(train.images[:4096]).unsqueeze(1))
    with hold(folder):
        if begun is None:
            beside = beside_of(recipe, dataset, unlabelled)
            used = {"split": len(train), "used": len(chosen)}
            facts = {
                "seed": seed,
                "precision": precision.precision,
                "precision_why": precision.reason,
                "teachers": None if teachers is None else list(teachers.record),
                "beside": beside or None,
                "training_images": None if chosen is train else used,
                "init": None if start is None else start.record(),
            }
            _record(folder, recipe, dataset, splits, facts)
        else:
            _record_resumption(folder, precision, device)
        data = {
            "name": dataset.name + (f" + {unlabelled.name} (unlabelled)" if unlabelled else ""),
            "sha256": dataset.sha256,
            "protocol": splits.protocol,
            "fold": splits.fold,
        }
        batches = EpochBatches(
            chosen,
            recipe.batch_size,
            seed=seed,
            shuffle=True,
            epoch=lambda: learner.picture_epoch,
            device=device,
            weights=weights,
        )
        judge = EpochBatches(val, 256, device=device) if len(val) else None
        state = _train(folder, learner, batches, judge, begun, device, precision, data, quiet)
    return FitResult(folder, state.best_epoch, state.best, state.seconds, folder / BEST)


def _check_images(recipe: Recipe, dataset: FaceDataset, splits: Splits, train: FaceDataset) -> None:
    """Raise RecipeError where there are none, or of another size than the network takes."""
    _, *wanted = get_spec(recipe.model).input
    if list(train.images.shape[1:]) != wanted:
        sides = "×".join(map(str, train.images.shape[1:]))
        raise RecipeError(
            f"The images of {dataset.source or dataset.name} are {sides}, and {recipe.model} "
            f"takes {wanted[0]}×{wanted[1]}; resize them."
        )
    if not len(train):
        raise RecipeError(f"Protocol {splits.protocol!r} leaves no training images.")


def _train(
    folder: Path,
    learner: Learner,
    batches: EpochBatches,
    judge: EpochBatches | None,
    begun: Path | None,
    device: str,
    precision: PrecisionChoice,
    data: Mapping[str, Any],
    quiet: bool,
) -> State:
    """The loop with its files, from the beginning or from the checkpoint ``begun``."""
    learner.to(device)
    optimizer = make_optimizer(learner.recipe, learner.trained())
    state = State() if begun is None else resume_from(begun, learner, optimizer)
    board = _tensorboard(folder)
    line = None if quiet else ProgressLine(learner.recipe.epochs, len(batches), state)

    def keep(state: State, improved: bool) -> None:
        # best before last: a kill between the two leaves a best that comes again
        write_curves(folder, state.rows)
        if improved:
            save_checkpoint(folder / BEST, learner, data)
        save_checkpoint(folder / LAST, learner, data, (state, optimizer))
        if board is not None:
            for key, value in state.rows[-1].items():
                board.add_scalar(key, value, state.epoch)
            board.flush()
        if line is not None:
            line.epoch(state)

    with line or contextlib.nullcontext():
        return loop.train(
            learner,
            optimizer,
            batches,
            judge,
            state=state,
            device=device,
            precision=precision.precision,
            after_step=line.step if line else lambda state, images: None,
            after_epoch=keep,
        )


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
