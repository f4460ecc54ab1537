"""``fit``: from a recipe and a dataset to a run folder with checkpoints, curves and a report."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.data.dataset import FaceDataset, Splits
from mien.data.loaders import EpochBatches
from mien.errors import RecipeError
from mien.models.weights import initial_weights
from mien.train import loop
from mien.train.checkpoint import resume_from, save_checkpoint
from mien.train.distill import Teachers
from mien.train.folder import BEST, LAST, RUN, hold, read_json
from mien.train.learner import Learner
from mien.train.loop import State
from mien.train.optimizers import make_optimizer
from mien.train.precision import PrecisionChoice, choose_device, choose_precision
from mien.train.progress import ProgressLine
from mien.train.recipe import Recipe
from mien.train.record import (
    beside,
    check_folder,
    record_resumption,
    record_start,
    write_curves,
)
from mien.train.selection import Material, select


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


def dry(recipe: Recipe) -> Recipe:
    """The same recipe on so little that every part runs once in seconds."""
    return dataclasses.replace(
        recipe,
        epochs=2,
        batch_size=min(recipe.batch_size, 16),
        clean_epochs=min(recipe.clean_epochs, 1),
        dropout_off=min(recipe.dropout_off, 1),
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
    recipe = dry(recipe) if dry_run else recipe
    begun = check_folder(folder, recipe, seed, resume, teachers, dataset, splits, unlabelled)
    material = select(recipe, dataset, splits, teachers, unlabelled, few=dry_run)
    device = choose_device(device)
    precision = _precision(folder, recipe, device, begun is not None)
    # Fetched before anything is written: where there are none, the run stops here.
    start = None if begun else initial_weights(recipe.model, recipe.init)
    learner = material.learner(recipe, seed, device, teachers)
    if begun is None:
        learner.initialise(material.first(), start)
    with hold(folder):
        if begun is None:
            record_start(
                folder,
                recipe,
                dataset,
                splits,
                seed=seed,
                precision=precision.precision,
                precision_why=precision.reason,
                teachers=None if teachers is None else list(teachers.record),
                beside=beside(recipe, dataset, unlabelled) or None,
                training_images=material.used,
                init=None if start is None else start.record(),
            )
        else:
            record_resumption(folder, precision.precision, device)
        name = dataset.name + (f" + {unlabelled.name} (unlabelled)" if unlabelled else "")
        facts = {"sha256": dataset.sha256, "protocol": splits.protocol, "fold": splits.fold}
        data = {"name": name, **facts}
        state = _train(learner, material, folder, begun, device, precision.precision, data, quiet)
    return FitResult(folder, state.best_epoch, state.best, state.seconds, folder / BEST)


def _precision(folder: Path, recipe: Recipe, device: str, resumed: bool) -> PrecisionChoice:
    """The recipe's precision; of "auto", that which a resumed run began with, if it works here."""
    begun = read_json(folder / RUN).get("precision", "auto") if resumed else "auto"
    if recipe.precision == "auto" and begun != "auto":
        with contextlib.suppress(RecipeError):
            return choose_precision(begun, device)
        print(
            f"warning: {folder} began in {begun}, which does not work here; it goes on in float32 "
            "and its record says so.",
            file=sys.stderr,
        )
    return choose_precision(recipe.precision, device)


def _train(
    learner: Learner,
    material: Material,
    folder: Path,
    begun: Path | None,
    device: str,
    precision: str,
    data: Mapping[str, Any],
    quiet: bool,
) -> State:
    """The loop with its files, from the beginning or from the checkpoint ``begun``."""
    batches = material.batches(learner.recipe, learner.seed, device)
    judge = EpochBatches(material.val, 256, device=device) if len(material.val) else None
    learner.to(device)
    optimizer = make_optimizer(learner.recipe, learner.trained())
    state = State() if begun is None else resume_from(begun, learner, optimizer)
    board = _tensorboard(folder)

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
        line.epoch(state)

    with ProgressLine(learner.recipe.epochs, len(batches), state, quiet) as line:
        return loop.train(
            learner,
            optimizer,
            batches,
            judge,
            state=state,
            device=device,
            precision=precision,
            after_step=line.step,
            after_epoch=keep,
        )


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
