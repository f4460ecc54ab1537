"""What a reproduction is made of: a paper's system, its runs, its scores and its printed figures.

A paper is ``papers/NAME.toml`` (what it prints, and how it was read), ``papers/NAME.md`` (what in
it could not be right) and, where only code can say more, :mod:`mien.reproduce.papers.NAME`:
:mod:`mien.reproduce.plan` finds or trains its runs, :mod:`mien.reproduce.scoring` scores them
once, :mod:`mien.reproduce.assemble` sets our figures beside the paper's.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any

from mien.errors import RecipeError, nearest
from mien.report.document import Section
from mien.reproduce.run import ClassRow, Deviation, from_json

#: "paper" is the paper's own recipe; "fast" aims at the same headline in a fraction of the time.
BUDGETS = ("fast", "paper")

#: Datasets that a run may need.
DATASETS = ("fer2013", "fergit", "ckplus")


@dataclass(frozen=True)
class ScoreSpec:
    """One scoring of one checkpoint.

    Attributes:
        key: "val", "test" or "paper"; unique in its run.
        checkpoint: "best" (the epoch chosen on the validation split) or "last".
        roles: the splits scored, as one set: ("val", "test") is FER2013's 7,178.
        why: one sentence: what was chosen on what.
        split: what the set is called; the publisher's names by default.
        twin_free: score also the samples without an exact duplicate in the splits that were
            trained or chosen on, as "<key>_twin_free".
        subsets: name -> prefix of the sample ids; each is scored too, as "<key>_<name>".
    """

    key: str
    checkpoint: str
    roles: tuple[str, ...]
    why: str
    split: str = ""
    twin_free: bool = False
    subsets: Mapping[str, str] = field(default_factory=dict)


#: The house rule: the epoch chosen on the validation split, the test split scored once.
HOUSE_SCORES = (
    ScoreSpec("val", "best", ("val",), "The epoch was chosen on this split."),
    ScoreSpec(
        "test",
        "best",
        ("test",),
        "Scored once, at the epoch chosen on the validation split.",
        twin_free=True,
    ),
)


@dataclass(frozen=True)
class Earlier:
    """A recipe that a run had before, or that was tried and not taken, with what it reached:
    figures are replaced, never forgotten.

    Attributes:
        run: the network or networks that had it, for people.
        budget: of which it was the recipe.
        recipe: in which it differed from today's, in words.
        figures: what it reached, in words, with the splits.
        why: why it was replaced or not taken, and what was known of scores at the time.
        commit: that replaced it, or that had it.
    """

    run: str
    budget: str
    recipe: str
    figures: str
    why: str
    commit: str


@dataclass(frozen=True)
class RunSpec:
    """One network trained one way, for some seeds or folds.

    Attributes:
        id: unique in its system; stable, it stands in reports and in ``--only``.
        label: for people.
        recipes: budget -> name of a recipe, or a function without arguments that returns one. A
            budget that is missing does not have this run: its report says "not run".
        against: where there is no "paper" recipe, a function that returns the one whose
            differences are listed.
        protocol: data protocol; replaces the recipe's where they differ.
        dataset: one of :data:`DATASETS`.
        suffix: stands in the folder's name where the recipe's own data was replaced.
        seeds: budget -> number of seeds (0, 1, …); 1 where it is missing.
        folds: number of folds of a cross-validation protocol, each trained once; 0 = none.
        scores: what is scored, in order.
        readings: what the recipe cannot say; differences of recipe keys are found by themselves.
        whys: recipe key -> why the fast recipe differs there from the paper's.
        parameters: the paper's total (Keras count), or None.
        seconds: the paper's wall-clock time, or None; ``hardware`` on what.
        report: the paper's classification report, by class, "accuracy", "macro" or "weighted";
            accuracy stands in the place of F1, as scikit-learn prints it.
        printed: figures that the paper prints for this run, for its row in comparison tables.
    """

    id: str
    label: str
    recipes: Mapping[str, str | Callable[[], Any]]
    protocol: str = "fer2013"
    dataset: str = "fer2013"
    suffix: str = ""
    seeds: Mapping[str, int] = field(default_factory=dict)
    folds: int = 0
    scores: tuple[ScoreSpec, ...] = HOUSE_SCORES
    readings: tuple[Deviation, ...] = ()
    whys: Mapping[str, str] = field(default_factory=dict)
    parameters: int | None = None
    seconds: float | None = None
    hardware: str = ""
    report: Mapping[str, ClassRow] = field(default_factory=dict)
    printed: Mapping[str, float] = field(default_factory=dict)
    against: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Headline:
    """One figure that the paper is known for, and the mark that ours must reach.

    Attributes:
        key, label: unique name, and for people.
        run: id of the run.
        figure: where ours stands: "last.train_accuracy" or "best.val_accuracy" (a column of the
            curves at the last or the chosen epoch), or the key of a score, "test" (its accuracy)
            or "test.macro_f1". The mean over seeds (or folds) counts.
        paper: the paper's figure as a fraction; None where the paper has no such figure.
        target: ours must be at least this; None where nothing was asked.
        paper_text: as the paper prints it, with its place ("65.38 %, section 5").
        remark: one sentence, or "".
        fast_remark: one that holds of the fast budget's figure alone.
    """

    key: str
    label: str
    run: str
    figure: str = ""
    paper: float | None = None
    target: float | None = None
    paper_text: str | None = None
    remark: str = ""
    fast_remark: str = ""


@dataclass(frozen=True)
class PrintedEpochs:
    """The table of epochs that a paper prints.

    Attributes:
        run: id of the run.
        source: where in the paper.
        epochs: of the paper's training, to map its epochs onto a shorter one.
        rows: epoch (from 1) -> column of curves.csv -> value.
        note: what sets the paper's figures apart from ours, if they are of other images.
    """

    run: str
    source: str
    epochs: int
    rows: Mapping[int, Mapping[str, float]]
    note: str = ""


@dataclass(frozen=True)
class Remark:
    """What in the paper could not be right, or is worth knowing, and why."""

    title: str
    text: str


@dataclass(frozen=True)
class Extra:
    """What one paper alone has in its report.

    Attributes:
        key: in the record's "extra".
        kind: the dataclass that holds it; the record has it as plain JSON.
        make: makes it from a :class:`mien.reproduce.assemble.Assembly`; where it depends on
            trained runs or data it must say so itself.
        section: shows it.
    """

    key: str
    kind: type[Any]
    make: Callable[[Any], Any]
    section: Callable[[Any], Section]


@dataclass(frozen=True)
class System:
    """A paper's whole reproduction.

    Attributes:
        name: "debnath2021"; title and citation of the paper.
        runs: in the order of the report.
        headlines: in the order of the report.
        printed_epochs: the paper's table of epochs, if any.
        comparison: ids of the runs in the model-comparison table; () = none.
        photos: id of the run that predicts on public-domain photos; "" = none.
        extras: what this paper alone has, in the order of the report.
        attempts: times that a training is tried in one call.
        remarks: in the order of the report.
        earlier: recipes that were replaced after they had been scored, or tried and not taken.
        readings, whys: of every run, before its own.
        tables: other reports that the paper prints, by name.
    """

    name: str
    title: str
    citation: str
    runs: tuple[RunSpec, ...] = ()
    headlines: tuple[Headline, ...] = ()
    printed_epochs: PrintedEpochs | None = None
    comparison: tuple[str, ...] = ()
    photos: str = ""
    extras: tuple[Extra, ...] = ()
    attempts: int = 1
    remarks: tuple[Remark, ...] = ()
    earlier: tuple[Earlier, ...] = ()
    readings: tuple[Deviation, ...] = ()
    whys: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, ClassRow]] = field(default_factory=dict)

    def run(self, run_id: str) -> RunSpec:
        """The run called ``run_id``. Raises KeyError."""
        for run in self.runs:
            if run.id == run_id:
                return run
        raise KeyError(run_id)


def load(name: str) -> System:
    """The paper of ``papers/NAME.toml`` and ``papers/NAME.md``, without what only code can say.

    Of why a fast recipe differs, ``papers/common.toml`` says what holds of every paper.
    """

    def text(file: str) -> str:
        return resources.files("mien.reproduce.papers").joinpath(file).read_text(encoding="utf-8")

    parts = text(f"{name}.md").split("\n## ")[1:]
    remarks = tuple(Remark(*part.strip().split("\n\n", 1)) for part in parts)
    found: System = from_json(System, tomllib.loads(text(f"{name}.toml")))
    whys = {**tomllib.loads(text("common.toml"))["whys"], **found.whys}
    runs = [
        replace(run, readings=(*found.readings, *run.readings), whys={**whys, **run.whys})
        for run in found.runs
    ]
    return replace(found, runs=tuple(runs), remarks=remarks)


#: The papers, in the order of the results page, and those with a module of their own.
PAPERS = ("debnath2021", "njoku2024", "ahmed2024", "bah2022", "mondal2022")
_CODED = ("njoku2024", "ahmed2024", "bah2022")


def get_system(name: str) -> System:
    """The system of a paper; its module is imported when it is asked for.

    Raises:
        RecipeError: there is none; the nearest name is offered.
    """
    if name not in PAPERS:
        raise RecipeError(f"Unknown system {name!r}{nearest(name, PAPERS)}")
    if name not in _CODED:
        return load(name)
    system: System = importlib.import_module(f"mien.reproduce.papers.{name}").SYSTEM
    return system
