"""Reproductions of the papers: ``mien reproduce NAME``, their runs, scores and reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mien.errors import RecipeError, require_extra
from mien.reproduce.record import Record
from mien.reproduce.spec import BUDGETS, PAPERS, Headline, RunSpec, ScoreSpec, System, get_system

if TYPE_CHECKING:
    from mien.reproduce.plan import TrainOptions
    from mien.train.jobs import Outcome

__all__ = [
    "BUDGETS",
    "PAPERS",
    "Headline",
    "RunSpec",
    "ScoreSpec",
    "System",
    "get_system",
    "reproduce",
]


def _failures(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Run folder's name -> why it failed; where all that was to be done failed, the error."""
    from mien.train.jobs import raise_first

    failed = {o.job.folder.name: o.why for o in outcomes if o.error is not None}
    if failed and len(failed) == len(outcomes):
        raise_first(outcomes)
    return failed


def reproduce(
    name: str | System,
    out: Path,
    *,
    runs: Path = Path("runs"),
    budget: str = "fast",
    data: Path | None = None,
    fergit: Path | None = None,
    seeds: int | None = None,
    only: Sequence[str] = (),
    report_only: bool = False,
    options: TrainOptions | None = None,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Record, dict[str, Path]]:
    """Reproduce one paper: train what is missing, score it once, write the report.

    Stopped anywhere and called again, it goes on where it was; any number of processes can be
    given the same folder of runs.

    Args:
        name: one of :data:`mien.reproduce.spec.PAPERS`, or a system.
        out, runs: folders of the report and of run folders; those of ``mien train`` count.
        budget: "fast" or "paper".
        data, fergit: file or folder of the datasets (None: the default data folder), and FERGIT's
            file; else FERGIT is looked for, and built where it is needed.
        seeds: number of seeds of every run without folds, instead of its own.
        only: ids of the runs to train; what else is there is reported too.
        report_only: train nothing; what is not there reads "not run".
        command, say: said in the report; called with one line on what is going on.

    Returns:
        the record, whose ``failed`` names trainings that failed while others went on, and "json",
        "markdown", "html" -> path.

    Raises:
        RecipeError, DataError, ModelError: see the parts. Every training failed: the first error.
        MissingExtraError: the [train] extra is not installed.
    """
    require_extra("train", ("torch", "pyarrow"), "`mien reproduce`")
    from mien.reproduce.assemble import assemble
    from mien.reproduce.datasets import Datasets
    from mien.reproduce.plan import TrainOptions, make_plan, train
    from mien.reproduce.report import write_reproduction

    options = options or TrainOptions()
    if options.dry and report_only:
        raise RecipeError("--dry-run trains, and --report-only does not; leave one out.")
    system = get_system(name) if isinstance(name, str) else name
    # FERGIT takes minutes to build: not for a run that is not wanted.
    wanted = {run.dataset for run in system.runs if not only or run.id in only}
    build = not report_only and "fergit" in wanted
    datasets = Datasets(data, fergit, cache=runs, build=build, dry=options.dry, say=say)
    planned = partial(
        make_plan, system, budget, runs, datasets, seeds=seeds, only=only, dry=options.dry
    )
    plan, failed = planned(need_data=not report_only), {}
    for dataset in dict.fromkeys(run.dataset for run in system.runs if run.id in plan.missing):
        if why := datasets.missing(dataset):
            say(f"not run: {why}")
    if not report_only:
        failed = _failures(train(plan, datasets, options, say, only, attempts=system.attempts))
        plan = planned()
    record = assemble(plan, datasets, options.scoring_device, failed, command, say)
    names = dict.fromkeys(run.dataset for run in system.runs)
    shown = [datasets.get(name) for name in names if not datasets.missing(name)]
    return record, write_reproduction(record, out, shown, system.extras)
