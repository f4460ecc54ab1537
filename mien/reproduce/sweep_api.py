"""A sweep from its cells to its table: in this process, or shared out over several."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from mien.errors import RecipeError
from mien.reproduce.datasets import Datasets
from mien.reproduce.plan import Plan, make_plan
from mien.reproduce.runs import Say, TrainOptions
from mien.reproduce.sweep import Cell, system_of
from mien.reproduce.sweep_study import JOURNAL, failures, home, open_study, run_tasks
from mien.reproduce.sweep_table import Row, table

#: Exit code of a process that was asked for what cannot be done.
_USAGE = 2


class Sweep:
    """Some cells of the grid under one budget.

    Args:
        cells: what is trained, in order.
        runs: folder of the run folders, the study and its locks.
        datasets: gives FER2013.
        seeds: of every cell; all cells are trained with the first before the second begins.
        say: called with one line on what is going on.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        budget: str,
        runs: Any,
        datasets: Datasets,
        options: TrainOptions,
        seeds: int = 1,
        say: Say = lambda _: None,
    ) -> None:
        self.cells, self.budget, self.runs = tuple(cells), budget, runs
        self.datasets, self.options, self.seeds, self.say = datasets, options, seeds, say

    @property
    def title(self) -> str:
        """ "ahmed2024, fast"."""
        return f"ahmed2024, {self.budget}" + (" (dry run)" if self.options.dry else "")

    def plan(self) -> Plan:
        """The cells with what is in the folder of runs now.

        Raises:
            DataError: FER2013 is missing.
        """
        return make_plan(
            system_of(self.cells, self.budget),
            self.budget,
            self.runs,
            self.datasets,
            seeds=self.seeds,
            dry=self.options.dry,
        )

    def run(self) -> None:
        """Train what is missing, in this process.

        Raises:
            WeightsError: weights to start from cannot be had.
        """
        plan = self.plan()
        tasks = sorted(plan.tasks, key=lambda t: t.seed)
        run_tasks(plan, self.datasets, self.options, self.say, tasks)

    def devices(self) -> int:
        """Number of GPUs that are to be used, at least 1."""
        if self.options.device == "cpu":
            return 1
        from mien.train.precision import gpu_count

        return max(1, int(gpu_count()))

    def run_in(self, jobs: int, arguments: Sequence[str]) -> bool:
        """Train in ``jobs`` processes that share the study: GPUs in turn, or the cores divided.

        Args:
            arguments: of ``mien`` for each process.

        Returns:
            Whether they came to their end. Where one was killed, one more process trains what is
            left, alone; False says that this one did not end well either.

        Raises:
            RecipeError: a process ended with a usage error; it has said which.
        """
        self.plan()  # what is wrong with the data is said once
        gpus = self.devices() if self.options.device != "cpu" else 0
        children = []
        for number in range(jobs):
            env = dict(os.environ)
            if gpus > 1:
                env["CUDA_VISIBLE_DEVICES"] = _visible(number % gpus)
            else:
                env["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
            command = [sys.executable, "-m", "mien", *arguments]
            children.append(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL))
        try:
            codes = [child.wait() for child in children]
        except BaseException:
            for child in children:
                child.terminate()
            for child in children:
                child.wait()
            raise
        if _USAGE in codes:
            raise RecipeError(
                f"{codes.count(_USAGE)} of {jobs} processes stopped; what they said stands above."
            )
        if any(codes):  # killed, say for want of memory: one more process has what they left
            self.say(f"{sum(map(bool, codes))} of {jobs} processes ended early: one more goes on.")
            return not subprocess.call(command, env=env, stdin=subprocess.DEVNULL)
        return True

    def table(self) -> list[Row]:
        """One row a cell, as things stand."""
        plan = self.plan()
        failed = {}
        if (home(plan) / JOURNAL).exists():
            failed = failures(open_study(home(plan), self.budget))
        device = "cuda" if self.options.device == "cuda" else "cpu"
        return table(plan, self.cells, self.datasets, failed, device)


def _visible(number: int) -> str:
    """The GPU of that number among those this process may see."""
    mine = os.environ.get("CUDA_VISIBLE_DEVICES")
    return mine.split(",")[number] if mine else str(number)
