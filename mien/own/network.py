"""The whole network trained further, from the linear head on; needs the extra "train"."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from mien.atomic import make_folder, write_bytes
from mien.data.dataset import FaceDataset, Splits
from mien.errors import ModelError, OutputError, RecipeError
from mien.modelinfo import ModelInfo
from mien.train.recipe import (
    AugmentConfig,
    LossConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
)

#: Modules that training a network needs.
NEEDED = ("torch", "onnx", "onnxscript")
#: Most epochs; early stopping ends sooner.
EPOCHS = 10
#: The file that a work folder begins with.
_HEAD = "head.onnx"


def recipe_for(head: Path, faces: int, epochs: int) -> Recipe:
    """Everything trained at a low rate from the linear head on, with mien's usual augmentation."""
    return Recipe(
        model=os.fspath(head),
        name="finetune",
        protocol="own",
        batch_size=max(8, min(64, faces // 8)),
        epochs=epochs,
        optimizer=OptimizerConfig(name="adamw", lr=3e-4, weight_decay=0.02, eps=1e-8),
        schedule=ScheduleConfig(name="cosine", warmup=0.15, final=0.02),
        loss=LossConfig(label_smoothing=0.1, class_weights="balanced"),
        augment=AugmentConfig(
            flip=0.5,
            rotation=15,
            scale=0.15,
            shift=0.08,
            brightness=0.2,
            contrast=0.2,
            erasing=0.3,
            degraded=0.3,
        ),
        ema=0.98,
        clean_epochs=2,
        early_stopping=5,
    )


def is_work_folder(folder: Path) -> bool:
    """Whether ``folder`` is one that :func:`train_network` made: what else it is, it stays."""
    return not folder.is_symlink() and (folder / _HEAD).is_file()


def train_network(
    head: bytes,
    info: ModelInfo,
    dataset: FaceDataset,
    splits: Splits,
    folder: Path,
    *,
    seed: int,
    quiet: bool,
    epochs: int,
) -> tuple[bytes, float]:
    """Train on from a linear head; a killed run goes on where it was.

    Args:
        head: a model file whose head was fitted on the training part alone.
        info: the record of the file to come; its temperature is fitted anew.
        folder: the run's, which is left for the caller to remove.

    Returns:
        the file, int8 where that costs nothing, and its accuracy on the validation part.
    """
    from mien.export.onnx import export_onnx
    from mien.train.checkpoint import load_checkpoint
    from mien.train.fit import fit

    others = folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir())
    if folder.is_symlink() or (others and not is_work_folder(folder)):
        raise OutputError(f"{folder} is no finetuning's folder; move it, or choose another --out.")
    start = make_folder(folder) / _HEAD
    if start.is_file() and start.read_bytes() != head:  # of another --from, say
        shutil.rmtree(folder / "run", ignore_errors=True)
    write_bytes(start, head)
    recipe = recipe_for(start, len(splits.ids["train"]), epochs)

    def run() -> Any:
        return fit(recipe, dataset, splits, folder / "run", seed=seed, resume=True, quiet=quiet)

    try:
        done = run()
    except RecipeError:  # of other photos or settings: what it began is of no use
        shutil.rmtree(folder / "run", ignore_errors=True)
        done = run()
    trained = load_checkpoint(done.checkpoint)
    network: Any = trained.model
    network.standardise = False  # onnxruntime's caller does it, by the record
    trained.info = replace(info, temperature=1.0)
    train, val = splits.select(dataset, "train"), splits.select(dataset, "val")
    target = folder / "network.onnx"
    try:
        made = export_onnx(trained, target, train, val, int8=True)
    except ModelError:  # int8 costs too much here
        made = export_onnx(trained, target, train, val)
    return target.read_bytes(), made.accuracy
