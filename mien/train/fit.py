"""``fit``: from a recipe and a dataset to a run folder with checkpoints, curves and a report."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mien.atomic import make_folder, write_text
from mien.data.dataset import FaceDataset, Splits, sha256_of_ids
from mien.errors import RecipeError
from mien.evaluate import describe_model, evaluate, to_markdown
from mien.models.weights import initial_weights
from mien.report.plots import training_curves
from mien.report.svg import standalone
from mien.train import loop, processes
from mien.train.batches import EpochBatches
from mien.train.checkpoint import load_checkpoint, resume_from, save_checkpoint
from mien.train.distill import Teachers
from mien.train.folder import (
    BEST,
    CURVES,
    LAST,
    RESULT,
    RUN,
    beside,
    check_folder,
    hold,
    read_curves,
    read_json,
    record_resumption,
    record_start,
    write_curves,
)
from mien.train.learner import Learner
from mien.train.loop import State
from mien.train.optimizers import make_optimizer
from mien.train.precision import PrecisionChoice, choose_device, choose_precision
from mien.train.processes import from_first
from mien.train.recipe import Recipe
from mien.train.selection import Material, select

_SCORES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


class ProgressLine:
    """Shows a run of ``epochs`` × ``batches`` steps on standard error, unless ``quiet``."""

    def __init__(self, epochs: int, batches: int, state: State, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.epochs = epochs
        self._begun, self._seen, self._first = time.monotonic(), 0, state.epoch
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not sys.stderr.isatty(),
        )
        steps = epochs * batches
        self._task = self._bar.add_task("training", total=steps, completed=state.step, rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    @property
    def _rate(self) -> str:
        return f"{self._seen / max(time.monotonic() - self._begun, 1e-9):,.0f} images/s"

    def step(self, state: State, images: int) -> None:
        """A step on so many images is done."""
        self._seen += images
        if not self._bar.disable:
            now = f"epoch {state.epoch + 1}"
            self._bar.update(self._task, completed=state.step, description=now, rate=self._rate)

    def epoch(self, state: State) -> None:
        """An epoch is scored."""
        row = state.rows[-1]
        spent = time.monotonic() - self._begun
        left = (self.epochs - state.epoch) * spent / (state.epoch - self._first)
        parts = [f"epoch {state.epoch:3d}/{self.epochs}"]
        parts += [f"{key} {row[key]:.4f}" for key in _SCORES if key in row]
        parts += [self._rate, f"{left / 60:.1f} min left"]
        self.console.print("  ".join(parts), highlight=False, soft_wrap=True)


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

    In processes that torchrun started, together: see :mod:`mien.train.processes`.

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
    device = choose_device(device)
    recipe = dry(recipe) if dry_run else recipe
    with processes.joined(device, recipe.batch_size), ExitStack() as held:
        taught = None if teachers is None else list(teachers.record)
        checked = (folder, recipe, seed, resume, taught, dataset, splits, unlabelled)
        begun = from_first(lambda: check_folder(*checked))
        material = select(recipe, dataset, splits, teachers, unlabelled, few=dry_run)
        precision = from_first(lambda: _precision(folder, recipe, device, begun is not None))
        learner = material.learner(recipe, seed, device, teachers)

        def make_ready() -> None:
            # Fetched before anything is written: where there are none, the run stops here.
            start = None if begun else initial_weights(recipe.model, recipe.init)
            held.enter_context(hold(folder))
            if begun is not None:
                record_resumption(folder, precision.precision, device)
                return
            learner.initialise(material.first(), start)
            facts = {
                "seed": seed,
                "precision": precision.precision,
                "precision_why": precision.reason,
                "teachers": taught,
                "beside": beside(recipe, dataset, unlabelled) or None,
                "training_images": material.used,
                "init": None if start is None else start.record(),
            }
            record_start(folder, recipe, dataset, splits, **facts)

        from_first(make_ready)
        data = _described(dataset, splits, unlabelled)
        state = _train(learner, material, folder, begun, device, precision.precision, data, quiet)
    return FitResult(folder, state.best_epoch, state.best, state.seconds, folder / BEST)


def _described(
    dataset: FaceDataset, splits: Splits, unlabelled: FaceDataset | None
) -> dict[str, Any]:
    name = dataset.name + (f" + {unlabelled.name} (unlabelled)" if unlabelled else "")
    return {
        "name": name,
        "sha256": dataset.sha256,
        "train_ids_sha256": sha256_of_ids(splits.ids["train"]),
        "protocol": splits.protocol,
        "fold": splits.fold,
    }


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
    state = from_first(lambda: State() if begun is None else resume_from(begun, learner, optimizer))
    processes.follow_first(learner, optimizer)
    first = processes.number() == 0
    board = _tensorboard(folder) if first else None

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

    with ProgressLine(learner.recipe.epochs, len(batches), state, quiet or not first) as line:
        return loop.train(
            learner,
            optimizer,
            batches,
            judge,
            state=state,
            device=device,
            precision=precision,
            after_step=line.step,
            after_epoch=keep if first else lambda state, improved: None,
        )


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))


def write_run_report(result: FitResult, dataset: FaceDataset, splits: Splits) -> Path:
    """Write ``report/`` (JSON, Markdown), ``curves.svg`` and ``result.json`` into the run.

    The report is of the validation split, on which the epoch was chosen, and says so; ``mien
    evaluate`` draws the page of any split, and scores the test split, once. Without a validation
    split there is no report.
    """
    folder = result.folder
    write_text(folder / "curves.svg", standalone(training_curves(read_curves(folder / CURVES))))
    record = {
        "best_epoch": result.best_epoch,
        "val_accuracy": result.val_accuracy,
        "seconds": round(result.seconds, 1),
        "checkpoint": result.checkpoint.name,
    }
    val = splits.select(dataset, "val")
    if len(val):
        _write_report(result, val, splits)
    # Last: it says that everything else is there.
    write_text(folder / RESULT, json.dumps(record, indent=2) + "\n")
    return folder / "report" if len(val) else folder


def _write_report(result: FitResult, val: FaceDataset, splits: Splits) -> None:
    classifier = load_checkpoint(result.checkpoint)
    report = evaluate(
        classifier.predict_proba,
        val,
        classes=classifier.info.labels,
        model={**describe_model(classifier.info), "epoch": result.best_epoch},
        protocol=splits.protocol,
        split=f"{splits.published_name('val')} (the epoch was chosen on it)",
    )
    folder = make_folder(result.folder / "report")
    write_text(folder / "report.json", report.to_json() + "\n")
    write_text(folder / "report.md", to_markdown(report))
