"""What a training prints: a bar with images/s and the time left; one line per epoch in a log."""

from __future__ import annotations

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mien.train.loop import State

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
