"""``reproduce``: train what is missing, score it once, write the report beside the paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mien.errors import RecipeError, require_extra
from mien.reproduce.assemble import assemble
from mien.reproduce.datasets import Datasets
from mien.reproduce.plan import Plan, make_plan
from mien.reproduce.runs import Say, TrainOptions, train_all
from mien.reproduce.spec import System
from mien.reproduce.systems import get_system

DEFAULT = TrainOptions()


def plan_of(
    system: System,
    budget: str,
    runs: Path,
    datasets: Datasets,
    *,
    seeds: int | None,
    only: Sequence[str],
    options: TrainOptions,
    report_only: bool,
) -> Plan:
    """The plan with what is in ``runs`` now."""
    return make_plan(
        system,
        budget,
        runs,
        datasets,
        seeds=seeds,
        only=only,
        need_data=not report_only,
        dry=options.dry,
    )


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
    options: TrainOptions = DEFAULT,
    command: str = "",
    say: Say = lambda _: None,
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Reproduce one paper.

    Stopped anywhere and called again, it goes on where it was: finished runs are taken as they
    are, a killed one resumes at its last epoch, and what was scored is not scored again.

    Args:
        name: "debnath2021", "njoku2024", "ahmed2024", "bah2022", "mondal2022", or a system.
        out: folder of the report.
        runs: folder of run folders; runs made with ``mien train`` count.
        budget: "fast" or "paper".
        data: file or folder of the datasets; None takes the default data folder.
        fergit: FERGIT's file; else it is looked for, and built where it is needed.
        seeds: number of seeds of every run without folds, instead of its own.
        only: ids of the runs to train; what else is there is reported too.
        report_only: train nothing; what is not there reads "not run".
        options: how to train; ``dry`` runs two epochs of everything on a few images.
        command: said in the report.
        say: called with one line on what is going on.

    Returns:
        the record, whose "failed" names trainings that failed while others went on, and "json",
        "markdown", "html" -> path.

    Raises:
        RecipeError, DataError, ModelError: see the parts; each is one sentence.
        MissingExtraError: the [train] extra is not installed.
    """
    require_extra("train", ("torch", "pyarrow"), "`mien reproduce`")
    from mien.reproduce.report import write_reproduction

    if options.dry and report_only:
        raise RecipeError("--dry-run trains, and --report-only does not; leave one out.")
    system = get_system(name) if isinstance(name, str) else name
    # FERGIT takes minutes to build: not for a run that is not wanted.
    wanted = {run.dataset for run in system.runs if not only or run.id in only}
    build = not report_only and "fergit" in wanted
    datasets = Datasets(data, fergit, cache=runs, build=build, dry=options.dry, say=say)
    keep = {"seeds": seeds, "only": only, "options": options, "report_only": report_only}
    plan = plan_of(system, budget, runs, datasets, **keep)  # type: ignore[arg-type]
    for name_ in dict.fromkeys(run.dataset for run in system.runs if run.id in plan.missing):
        why = datasets.missing(name_)
        if why:
            say(f"not run: {why}")
    failed: dict[str, str] = {}
    if not report_only:
        failed = train_all(plan, datasets, options, tuple(only), say)
        plan = plan_of(system, budget, runs, datasets, **keep)  # type: ignore[arg-type]
    device = "cuda" if options.device == "cuda" else "cpu"
    record = assemble(plan, datasets, failed, command=command, device=device, say=say)
    names = dict.fromkeys(run.dataset for run in system.runs)
    shown = [datasets.get(key) for key in names if not datasets.missing(key)]
    return record, write_reproduction(record, out, shown)
