"""``fit``: from a recipe and a dataset to a run folder with checkpoints, curves and a report."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import platform
import shlex
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mien._system import processor, versions
from mien._version import __version__
from mien.atomic import remove_leftovers, write_text
from mien.data.dataset import FaceDataset, Splits
from mien.data.loaders import EpochBatches
from mien.errors import RecipeError
from mien.models.registry import get_spec
from mien.models.weights import initial_weights
from mien.train._lightning import L
from mien.train.callbacks import BEST, LAST, AtomicCheckpointIO, ProgressLine, Run
from mien.train.distill import Teachers
from mien.train.folder import RESULT, RUN, SPLITS
from mien.train.module import ExpressionModule
from mien.train.precision import PrecisionChoice, choose_device, choose_precision
from mien.train.recipe import Recipe
from mien.train.selection import check_teaching, training_set

PACKAGES = ("torch", "lightning", "numpy", "opencv-python-headless", "onnxruntime")


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


def _record(folder: Path, recipe: Recipe, dataset: FaceDataset, splits: Splits, run: Any) -> None:
    write_text(folder / "recipe.json", recipe.to_json() + "\n")
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
        **run,
    }
    write_text(folder / RUN, json.dumps(record, indent=2, sort_keys=True) + "\n")


def _resumed_precision(folder: Path, recipe: Recipe, device: str) -> PrecisionChoice | None:
    """The precision that an "auto" run began with, where it works here; None for another choice."""
    begun = json.loads((folder / RUN).read_text()).get("precision", "auto")
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
    record = json.loads((folder / RUN).read_text())
    whole = environment()
    here = {key: whole[key] for key in ("mien", "commit", "cpu", "threads", "gpu")}
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    entry = {**here, "device": device, "precision": precision.precision, "started": started}
    record["resumed"] = [*record.get("resumed", ()), entry]
    write_text(folder / RUN, json.dumps(record, indent=2, sort_keys=True) + "\n")


def check_folder(
    folder: Path,
    recipe: Recipe,
    seed: int,
    resume: bool,
    teachers: Teachers | None,
    dataset: FaceDataset,
    splits: Splits,
    unlabelled: FaceDataset | None = None,
) -> Path | None:
    """The checkpoint to resume from, or None for a fresh run.

    Raises:
        RecipeError: the folder holds a run already, or a different one than is resumed: of another
            recipe, seed, dataset or division, or with other teachers, votes or extra images.
    """
    last = folder / LAST
    if not resume:
        if last.exists():
            raise RecipeError(
                f"{folder} already holds a run; give --resume to continue it or another --out."
            )
        return None
    if not last.exists():
        return None
    old = Recipe.from_dict(json.loads((folder / "recipe.json").read_text()))
    record = json.loads((folder / RUN).read_text())
    other = old.differences(recipe) + ([] if record.get("seed") == seed else ["seed"])
    if other:
        raise RecipeError(
            f"{folder} holds a run with another {', '.join(other)}; repeat its settings (--set) or "
            "use another --out."
        )
    if record["data"]["sha256"] != dataset.sha256:
        raise RecipeError(
            f"{folder} holds a run on other data ({record['data']['name']}); use another --out."
        )
    if not _same_division(Splits.load(folder / SPLITS), splits):
        raise RecipeError(f"{folder} holds a run on another division or fold; use another --out.")
    if _taught(record.get("teachers")) != _taught(teachers.record if teachers else None):
        raise RecipeError(f"{folder} holds a run with other teachers; use another --out.")
    beside = _beside(recipe, dataset, unlabelled)
    for key, value in record.get("beside", {}).items():
        if beside.get(key) != value:
            raise RecipeError(f"{folder} holds a run with other {key}; use another --out.")
    for name in (LAST, BEST):
        remove_leftovers(folder / name)  # of a kill in the middle of a write
    return last


def _beside(recipe: Recipe, dataset: FaceDataset, unlabelled: FaceDataset | None) -> dict[str, str]:
    """SHA-256 of what is learned from besides the labelled images: votes and extra images."""
    found = {}
    if dataset.votes is not None and (recipe.loss.ferplus_auxiliary or recipe.loss.ferplus_blend):
        order = np.argsort(dataset.ids, kind="stable")
        found["votes"] = hashlib.sha256(dataset.votes[order].tobytes()).hexdigest()
    if unlabelled is not None:
        found["extra images"] = unlabelled.sha256
    return found


def _same_division(one: Splits, other: Splits) -> bool:
    return one.ids.keys() == other.ids.keys() and all(
        np.array_equal(np.sort(ids), np.sort(other.ids[role])) for role, ids in one.ids.items()
    )


def check_votes(recipe: Recipe, train: FaceDataset) -> None:
    """Raise RecipeError where a recipe uses FER+ votes that the data has not."""
    keys = [k for k in ("ferplus_auxiliary", "ferplus_blend") if getattr(recipe.loss, k)]
    if keys and train.votes is None:
        settings = " ".join(f"--set loss.{key}=0" for key in keys)
        raise RecipeError(
            f"Recipe {recipe.name!r} uses FER+ votes, and the data has none: add fer2013new.csv "
            f"beside the CSV, or train with {settings}."
        )


def _taught(record: Any) -> list[tuple[str, float]]:
    return [(member["sha256"], member["share"]) for member in record or ()]


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
        RecipeError: the folder is taken, or the recipe does not fit the data.
        WeightsError: the weights that ``recipe.init`` names cannot be had.
    """
    if dry_run:
        recipe = dry(recipe)
    checkpoint = check_folder(folder, recipe, seed, resume, teachers, dataset, splits, unlabelled)
    train, val = splits.select(dataset, "train"), splits.select(dataset, "val")
    if dry_run:
        train, val = _few(train, 64), _few(val, 64)
        unlabelled = None if unlabelled is None else _few(unlabelled, 32)
    _, *wanted = get_spec(recipe.model).input
    if list(train.images.shape[1:]) != wanted:
        sides = "×".join(map(str, train.images.shape[1:]))
        raise RecipeError(
            f"The pictures of {dataset.source or dataset.name} are {sides}, and {recipe.model} "
            f"takes {wanted[0]}×{wanted[1]}; resize them."
        )
    if not len(train):
        raise RecipeError(f"Protocol {splits.protocol!r} leaves no training images.")
    check_votes(recipe, train)
    check_teaching(recipe, dataset, teachers, unlabelled)
    chosen, weights = training_set(recipe, train, unlabelled)
    device = choose_device(device)
    precision = _resumed_precision(folder, recipe, device) if checkpoint else None
    precision = precision or choose_precision(recipe.precision, device)
    # Fetched before anything is written: where there are none, the run stops here.
    start = None if checkpoint else initial_weights(recipe.model, recipe.init)
    folder.mkdir(parents=True, exist_ok=True)
    extra: dict[str, Any] = {"seed": seed, "precision": precision.precision}
    extra["precision_why"] = precision.reason
    if teachers is not None:
        extra["teachers"] = list(teachers.record)
    beside = _beside(recipe, dataset, unlabelled)
    if beside:
        extra["beside"] = beside
    if chosen is not train:
        extra["training_images"] = {"split": len(train), "used": len(chosen)}
    if start is not None:
        extra["init"] = start.record()
    if checkpoint is None:
        _record(folder, recipe, dataset, splits, extra)
    else:
        _record_resumption(folder, precision, device)

    torch.manual_seed(seed)
    mean, std = pixel_statistics(recipe, train)
    module = ExpressionModule(recipe, dataset.classes, mean, std, class_weights(recipe, train))
    module.run_seed = seed
    module.training_rows = len(chosen)
    if start is not None:
        for network in filter(None, (module.model, module.averaged)):
            start.load_into(network)
    if teachers is not None:
        module.teacher = teachers.to(device)
    if checkpoint is None:
        module.initialise(torch.from_numpy(train.images[:4096]).unsqueeze(1))
    module.data_record = {
        "name": dataset.name + (f" + {unlabelled.name} (unlabelled)" if unlabelled else ""),
        "sha256": dataset.sha256,
        "protocol": splits.protocol,
        "fold": splits.fold,
    }
    run = Run(folder, _tensorboard(folder))
    callbacks: list[L.Callback] = [run] if quiet else [run, ProgressLine(run)]
    with _lightning_quiet():
        trainer = L.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if precision.precision == "bf16" else "32-true",
            max_epochs=recipe.epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
        )
        batches = EpochBatches(
            chosen,
            recipe.batch_size,
            seed=seed,
            shuffle=True,
            epoch=lambda: module.picture_epoch,
            device=device,
            weights=weights,
        )
        judge = EpochBatches(val, 256, device=device) if len(val) else None
        try:
            trainer.fit(module, batches, judge, ckpt_path=checkpoint, weights_only=False)
        except SystemExit as stop:  # Lightning's word for a signal, with a code of success
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise SystemExit(128 + signal.SIGTERM) from None
    if trainer.interrupted:
        raise KeyboardInterrupt
    return FitResult(folder, run.best_epoch, run.best, run.seconds, folder / BEST)


@contextlib.contextmanager
def _lightning_quiet() -> Iterator[None]:
    """Lightning's advice on workers, loggers and devices does not apply to in-memory data."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
