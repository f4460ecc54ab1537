"""Callbacks of a run: schedule, curves, best and last checkpoints, early stopping, progress.

They all act at the end of an epoch, before the checkpoint is written, and keep their state in it:
a killed run that is resumed ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mien.atomic import atomic_path, write_text
from mien.train._lightning import L, TorchCheckpointIO
from mien.train.module import ExpressionModule
from mien.train.recipe import ScheduleConfig

LAST, BEST, CURVES = "last.ckpt", "best.ckpt", "curves.csv"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a kill leaves the old checkpoint whole."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        with atomic_path(path) as partial:
            super().save_checkpoint(checkpoint, partial, storage_options)


def learning_rate(schedule: ScheduleConfig, base: float, step: int, steps: int) -> float:
    """The rate at ``step`` of ``steps`` for the schedules that are functions of the step."""
    if schedule.name not in ("onecycle", "cosine"):
        return base
    warm = schedule.warmup * steps
    if step < warm:
        return base * (step + 1) / (warm + 1)
    t = min((step - warm) / max(steps - warm, 1), 1.0)
    fall = 1 - t if schedule.name == "onecycle" else (1 + math.cos(math.pi * t)) / 2
    return base * (schedule.final + (1 - schedule.final) * fall)


class Run(L.Callback):
    """Schedule, curves and checkpoints of one run, in one callback so that their order is fixed.

    Args:
        folder: where ``last.ckpt``, ``best.ckpt`` and ``curves.csv`` go.
        tensorboard: a torch SummaryWriter or None.
    """

    def __init__(self, folder: Path, tensorboard: Any = None) -> None:
        self.folder = folder
        self.tensorboard = tensorboard
        self.rows: list[dict[str, float]] = []
        self.best: float | None = None
        self.best_epoch = -1
        self.factor = 1.0  # of the plateau schedule
        self.plateau_best = -1.0
        self.waited = 0
        self.seconds = 0.0
        self._started = 0.0

    def state_dict(self) -> dict[str, Any]:
        keys = ("rows", "best", "best_epoch", "factor", "plateau_best", "waited", "seconds")
        return {key: getattr(self, key) for key in keys}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for key, value in state_dict.items():
            setattr(self, key, value)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning forgets in a checkpoint that a run was to stop.
        assert isinstance(pl_module, ExpressionModule)
        if self.rows and self._waited_enough(pl_module, int(self.rows[-1]["epoch"])):
            trainer.should_stop = True

    def _waited_enough(self, module: ExpressionModule, epoch: int) -> bool:
        """Whether ``epoch``, from 1, is the last one of early stopping."""
        patience = module.recipe.early_stopping
        return bool(patience) and epoch - self.best_epoch >= patience

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ExpressionModule)
        recipe = pl_module.recipe
        steps = recipe.epochs * int(trainer.num_training_batches)
        rate = learning_rate(recipe.schedule, recipe.optimizer.lr, trainer.global_step, steps)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = rate * self.factor * group.get("lr_scale", 1.0)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ExpressionModule)
        metrics = pl_module.epoch_metrics()
        spent = time.monotonic() - self._started
        self.seconds += spent
        epoch = trainer.current_epoch
        row = {
            "epoch": epoch + 1,
            **{k: round(v, 6) for k, v in metrics.items()},
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(spent, 2),
        }
        self.rows = [r for r in self.rows if r["epoch"] <= epoch] + [row]
        score = metrics.get("val_accuracy")
        if score is not None:
            self._plateau(pl_module.recipe.schedule, pl_module.recipe.optimizer.lr, score)
        # Without a validation split nothing may be chosen: the last epoch counts.
        improved = score is None or self.best is None or score > self.best
        if improved:
            self.best, self.best_epoch = score, epoch + 1
        if self._waited_enough(pl_module, epoch + 1):
            trainer.should_stop = True
        self._write(row)
        # best first: a kill between the two leaves a best that the resumed epoch writes again
        if improved:
            trainer.save_checkpoint(self.folder / BEST)
        trainer.save_checkpoint(self.folder / LAST)

    def _plateau(self, schedule: ScheduleConfig, base: float, score: float) -> None:
        """torch's ReduceLROnPlateau (mode max, threshold 1e-4 absolute, as Keras' min_delta)."""
        if schedule.name != "plateau":
            return
        if score > self.plateau_best + 1e-4:
            self.plateau_best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited >= schedule.patience:
            self.factor = max(self.factor * schedule.factor, schedule.min_lr / base)
            self.waited = 0

    def _write(self, row: dict[str, float]) -> None:
        text = io.StringIO()
        fields = list(dict.fromkeys(key for r in self.rows for key in r))
        writer = csv.DictWriter(text, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.folder / CURVES, text.getvalue())
        if self.tensorboard is not None:
            for key, value in row.items():
                if key != "epoch":
                    self.tensorboard.add_scalar(key, value, int(row["epoch"]))
            self.tensorboard.flush()


class ProgressLine(L.Callback):
    """A rich bar with images/s and the time left of the whole run; a line an epoch in a log."""

    def __init__(self, run: Run, console: Console | None = None) -> None:
        self.run = run
        self.console = console or Console(stderr=True)
        self.live = self.console.is_terminal
        self.progress: Progress | None = None
        self.task: Any = None
        self._t0 = 0.0
        self._seen = 0
        self._epochs = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._t0 = time.monotonic()
        if self.live and sys.stderr.isatty():
            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self.progress.start()
            assert isinstance(pl_module, ExpressionModule)
            total = pl_module.recipe.epochs * int(trainer.num_training_batches)
            self.task = self.progress.add_task(
                "training", total=total, completed=trainer.global_step, rate=""
            )

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, i: int
    ) -> None:
        self._seen += len(batch.labels)
        if self.progress is not None:
            rate = self._seen / (time.monotonic() - self._t0)
            self.progress.update(
                self.task,
                completed=trainer.global_step,
                description=f"epoch {trainer.current_epoch + 1}",
                rate=f"{rate:,.0f} images/s",
            )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, ExpressionModule)
        row = self.run.rows[-1]
        self._epochs += 1
        spent = time.monotonic() - self._t0
        left = (pl_module.recipe.epochs - row["epoch"]) * spent / self._epochs
        parts = [f"epoch {int(row['epoch']):3d}/{pl_module.recipe.epochs}"]
        parts += [f"{k} {row[k]:.4f}" for k in ("train_loss", "train_accuracy") if k in row]
        parts += [f"{k} {row[k]:.4f}" for k in ("val_loss", "val_accuracy") if k in row]
        parts += [f"{self._seen / spent:,.0f} images/s", f"{left / 60:.1f} min left"]
        self.console.print("  ".join(parts), highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
