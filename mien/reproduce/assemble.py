"""From run folders to the record of a reproduction: our figures beside the paper's."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mien.atomic import make_folder, write_text
from mien.data import FaceDataset, Splits, make_splits
from mien.errors import DataError
from mien.reproduce.datasets import Datasets
from mien.reproduce.plan import NOT_COMPARED, Plan, Say, Task, paper_recipe
from mien.reproduce.record import (
    Compared,
    Data,
    Mark,
    Photo,
    PhotosRun,
    Printed,
    PrintedRow,
    Record,
)
from mien.reproduce.run import (
    DONE,
    NOT_RUN,
    PARTIAL,
    Counts,
    Deviation,
    Environment,
    Parameters,
    Run,
    Seconds,
    Seed,
    from_json,
    mean,
    std,
)
from mien.reproduce.scoring import score_run
from mien.reproduce.spec import Headline, PrintedEpochs, Remark, RunSpec, System
from mien.train.folder import CURVES, RESULT, RUN, SPLITS, read_curves, read_json
from mien.train.recipe import flat

#: Where the columns of a comparison table stand; see :meth:`mien.reproduce.run.Seed.measure`.
COLUMNS = {
    "train_loss": "last.train_loss",
    "train_accuracy": "last.train_accuracy",
    "val_loss": "last.val_loss",
    "val_accuracy": "last.val_accuracy",
    "test_loss": "test.nll",
    "test_accuracy": "test",
}

_DRY = Remark(
    "A dry run",
    "Two epochs on 64 images: this proves that everything runs. No figure means a thing.",
)


@dataclasses.dataclass
class Assembly:
    """What the parts of a record are made from; ``runs`` fills up in the order of the system's."""

    plan: Plan
    datasets: Datasets
    device: str = "cpu"
    runs: dict[str, Run] = dataclasses.field(default_factory=dict)

    def dataset(self, name: str) -> FaceDataset | None:
        """The dataset, or None where it cannot be had."""
        return None if self.datasets.missing(name) else self.datasets.get(name)

    def kept(self, key: str, make: Callable[[], Any]) -> Any:
        """A slow count about a dataset (a dataclass), made once and kept in the folder of runs."""
        path = self.plan.runs / "cache" / f"{key}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = dataclasses.asdict(make())
            make_folder(path.parent)
            write_text(path, json.dumps(found, indent=2) + "\n")
            return found


def assemble(
    plan: Plan,
    datasets: Datasets,
    device: str = "cpu",
    failed: Mapping[str, str] | None = None,
    command: str = "",
    say: Say = lambda _: None,
) -> Record:
    """Score what is finished (once) and put the whole record together.

    Args:
        device: "cpu" or "cuda", for scoring.
        failed: run folder's name -> why its training failed just now.
        command: said in the record.
        say: called with one line before something slow.

    Raises:
        DataError, ModelError, RecipeError: a run folder is damaged.
    """
    from mien.train.folder import environment

    system, failed = plan.system, dict(failed or {})
    made = Assembly(plan, datasets, device)
    for run in system.runs:
        made.runs[run.id] = _run(made, run, failed, say)
    printed = system.printed_epochs
    photos, photos_run = _photos(made, say)
    extras = {extra.key: extra.make(made) for extra in system.extras}
    return Record(
        system=system.name,
        title=system.title,
        citation=system.citation,
        budget=plan.budget + (" (dry run)" if plan.dry else ""),
        runs=tuple(made.runs.values()),
        headlines=tuple(
            mark(h, made.runs[h.run], plan.budget, dry=plan.dry) for h in system.headlines
        ),
        command=command,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        environment=from_json(Environment, environment()),
        data=_data(made),
        failed=failed,
        printed_epochs=set_beside(printed, made.runs[printed.run]) if printed else None,
        comparison=comparison(system, made.runs),
        photos=photos,
        photos_run=photos_run,
        extra={k: dataclasses.asdict(v) for k, v in extras.items() if v is not None},
        remarks=(_DRY, *system.remarks) if plan.dry else system.remarks,
        earlier=tuple(e for e in system.earlier if e.budget == plan.budget),
    )


def _run(made: Assembly, run: RunSpec, failed: Mapping[str, str], say: Say) -> Run:
    tasks = made.plan.of(run.id)
    seeds = tuple(_seed(made, task, i == 0 and not run.folds, say) for i, task in enumerate(tasks))
    states = {task.state for task in tasks}
    theirs, recipe = paper_recipe(run), tasks[0].job.recipe if tasks else None
    why = (failed[name] for t in tasks if (name := t.job.folder.name) in failed)
    spent = tuple(s.seconds for s in seeds if s.state == DONE and s.seconds is not None)
    figures = {spec.key for spec in run.scores}
    found = Run(
        id=run.id,
        label=run.label,
        state=DONE if states == {DONE} else NOT_RUN if states <= {NOT_RUN} else PARTIAL,
        dataset=run.dataset,
        protocol=run.protocol,
        why_not_run=made.plan.missing.get(run.id) or next(why, ""),
        recipe=None if recipe is None else recipe.to_dict(),
        paper_recipe=None if theirs is None else theirs.to_dict(),
        deviations=deviations(run, theirs, recipe),
        seconds=Seconds(mean(spent), spent),
        paper_seconds=run.seconds,
        paper_hardware=run.hardware,
        paper_report=run.report,
        paper_accuracy={  # the paper's figure on the same set, by the headlines
            h.figure: h.paper
            for h in reversed(made.plan.system.headlines)
            if h.run == run.id and h.figure in figures and h.paper is not None
        },
        seeds=seeds,
        **_network(run, recipe or theirs, layers=recipe is not None),
    )
    return dataclasses.replace(found, summary={k: found.summarised(k) for k in found.keys})


def deviations(run: RunSpec, theirs: Any | None, ours: Any | None) -> tuple[Deviation, ...]:
    """The fields in which ``ours`` differs from the paper's recipe, then the run's readings."""
    paper, mine = ({} if r is None else flat(r.to_dict()) for r in (theirs, ours))
    found = [
        Deviation(key, paper.get(key), mine.get(key), run.whys.get(key, ""))
        for key in (dict.fromkeys([*paper, *mine]) if paper and mine else ())
        if key not in NOT_COMPARED and paper.get(key) != mine.get(key)
    ]
    return (*found, *run.readings)


def _network(run: RunSpec, recipe: Any | None, *, layers: bool) -> dict[str, Any]:
    """Parameters, multiply-adds and (if asked for) the layer table of the run's network."""
    if recipe is None:
        return {"parameters": Parameters(paper_total=run.parameters)}
    from mien.models.registry import get_spec
    from mien.models.summary import layers_of, summarise

    summary = summarise(get_spec(recipe.model))
    return {
        "parameters": Parameters(summary.parameters, summary.trainable, run.parameters),
        "multiply_adds": summary.multiply_adds,
        # A run that this budget leaves out is named with its size; its layers are dead weight.
        "layers": layers_of(recipe.model) if layers else (),
    }


def _seed(made: Assembly, task: Task, with_roc: bool, say: Say) -> Seed:
    """One seed or fold: curves, scores and where it was trained."""
    job = task.job
    if task.state == NOT_RUN:
        return Seed(job.seed, NOT_RUN, job.fold)
    curves = tuple(read_curves(job.folder / CURVES))
    about = read_json(job.folder / RUN)
    try:
        where = from_json(Environment, about)
    except (TypeError, ValueError, AttributeError):
        raise DataError(f"{job.folder / RUN} is damaged; train the run again.") from None
    found = Seed(
        job.seed,
        task.state,
        job.fold,
        epochs=len(curves),
        seconds=round(sum(row.get("seconds", 0) for row in curves), 1),
        command=str(about.get("command", "")),
        started=str(about.get("started", "")),
        environment=where,
        curves=curves,
    )
    if task.state != DONE:
        best = max(curves, key=lambda row: row.get("val_accuracy", row["epoch"]), default=None)
        return dataclasses.replace(found, best_epoch=int(best["epoch"]) if best else None)
    dataset = made.datasets.get(task.run.dataset)
    say(f"scoring {job.folder.name}")
    scores = score_run(
        job.folder,
        task.run.scores,
        dataset,
        own_splits(task, dataset),
        device=made.device,
        with_roc=with_roc,
        dry=made.plan.dry,
    )
    best_epoch = read_json(job.folder / RESULT).get("best_epoch")
    return dataclasses.replace(found, best_epoch=best_epoch, scores=scores)


def own_splits(task: Task, dataset: FaceDataset) -> Splits:
    """The run's own split of the data, which must be the one its protocol gives today."""
    job = task.job
    made = make_splits(dataset, job.recipe.protocol, seed=job.seed, fold=job.fold)
    saved = Splits.load(job.folder / SPLITS)
    if any(set(saved.ids[r].tolist()) != set(made.ids[r].tolist()) for r in made.ids):
        raise DataError(
            f"{job.folder} was trained on another split than {job.recipe.protocol!r} makes of this "
            "data; move it away and train it again."
        )
    return made


#: Protocols whose parts are the publisher's own, or change with every fold.
_PUBLISHED = ("fer2013", "fer2013-folder", "ckplus-subjects")
_ORDER = ("Training", "PublicTest", "PrivateTest")


def _data(made: Assembly) -> tuple[Data, ...]:
    """The datasets of the system's runs with their class counts by split."""
    found = []
    runs = made.plan.system.runs
    for name in dict.fromkeys(run.dataset for run in runs):
        dataset = made.dataset(name)
        if dataset is None:
            continue
        drawn = dict.fromkeys(run.protocol for run in runs if run.dataset == name)
        divisions = {}
        for protocol in (p for p in drawn if p not in _PUBLISHED):
            splits = make_splits(dataset, protocol, seed=0)
            parts = {role: splits.select(dataset, role) for role in splits.ids}
            divisions[protocol] = {role: p.counts for role, p in parts.items() if len(p)}
        classes = tuple(c.value for c in dataset.classes)
        counts = _counts(dataset)
        found.append(Data(dataset.name, dataset.sha256, len(dataset), classes, counts, divisions))
    return tuple(found)


def _counts(dataset: FaceDataset) -> dict[str, Counts]:
    """Class counts of each published split, of FERGIT of each source."""
    if dataset.name == "fergit":
        parts = np.char.partition(dataset.ids, ":")[:, 0]
    elif (dataset.splits != "").all():
        parts = dataset.splits
    else:
        return {"all": dataset.counts}
    names = [str(name) for name in np.unique(parts)]
    names.sort(key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    return {name: dataset.take(np.flatnonzero(parts == name)).counts for name in names}


def _photos(made: Assembly, say: Say) -> tuple[tuple[Photo, ...], PhotosRun | None]:
    run_id = made.plan.system.photos
    if not run_id:
        return (), None
    from mien.reproduce.photos import about, predict_portraits

    tasks = made.plan.of(run_id)
    said = PhotosRun(
        run_id, about(made.plan.system.run(run_id), tasks[0].job.folder.name if tasks else "")
    )
    done = [t for t in tasks if t.state == DONE]
    if not done:
        return (), said
    from mien.train import load_checkpoint

    say("predicting on photos")
    classifier = load_checkpoint(done[0].job.folder / "best.ckpt", made.device)
    return predict_portraits(classifier, made.dataset("fer2013")), said


def mark(headline: Headline, run: Run, budget: str, *, dry: bool = False) -> Mark:
    """The paper's figure, ours (the mean over seeds or folds), and whether the mark is met."""
    values, paper = run.measured(headline.figure), headline.paper
    remarks = [headline.remark, headline.fast_remark if budget == "fast" else ""]
    found = Mark(
        **{**vars(headline), "remark": " ".join(r for r in remarks if r), "fast_remark": ""},
        ours=mean(values),
        ours_text=NOT_RUN,
    )
    if found.ours is None:
        return found
    unit = "fold" if any(s.fold is not None for s in run.seeds) else "seed"
    many = f"{len(values)} {unit}{'s' if len(values) > 1 else ''}"
    many += f" of {len(run.seeds)}" if len(values) < len(run.seeds) else ""
    spread = std(values)
    around = "" if spread is None else f" ± {100 * spread:.2f}"
    asked = None if dry else headline.target
    return dataclasses.replace(
        found,
        ours_text=f"{100 * float(np.mean(values)):.2f}{around} % ({many})",
        difference=None if paper is None else round(found.ours - paper, 6),
        # To the hundredth of a point that is printed.
        met=None if asked is None else round(found.ours, 4) >= asked,
    )


def set_beside(printed: PrintedEpochs, run: Run) -> Printed:
    """The paper's table of epochs with ours beside it: the mean of the finished seeds.

    Where our training is shorter, the paper's epoch ``e`` of ``E`` stands beside ours at the same
    fraction of the training; where we have an epoch of the same number, it is given too.
    """
    curves = [{int(row["epoch"]): row for row in seed.curves} for seed in run.done]
    # Early stopping may end seeds at different epochs: an epoch counts if every seed has it.
    last = min((max(c) for c in curves if c), default=0)
    columns = tuple(dict.fromkeys(k for row in printed.rows.values() for k in row))

    def ours(epoch: int | None) -> dict[str, float | None]:
        rows = [c[epoch] for c in curves if epoch in c]
        return {column: mean([row[column] for row in rows if column in row]) for column in columns}

    places = {e: max(1, round(e * last / printed.epochs)) if last else None for e in printed.rows}
    rows = []
    for epoch, paper in printed.rows.items():
        place = places[epoch]
        # Of several paper epochs beside one of ours, one is at the same place.
        exact = (place or 0) * printed.epochs / max(last, 1)
        beside = [e for e in places if places[e] == place]
        nearest = epoch == min(beside, key=lambda e: abs(e - exact))
        same = ours(epoch) if epoch <= last else None
        rows.append(PrintedRow(epoch, paper, place, ours(place), same, nearest))
    note = printed.note
    if last not in (0, printed.epochs):
        note = (
            f"Our training has {last} epochs and the paper's {printed.epochs}: an epoch of the "
            "paper stands beside ours at the same fraction of the training, and where several do, "
            f"the nearest has the difference. {note}"
        ).strip()
    named = (printed.source, printed.epochs, last or None, note)
    return Printed(printed.run, columns, tuple(rows), *named)


def comparison(system: System, runs: Mapping[str, Run]) -> tuple[Compared, ...]:
    """Model against model: the paper's figures and the means of ours."""
    specs = [system.run(run_id) for run_id in system.comparison]
    columns = [c for c in COLUMNS if any(c in spec.printed for spec in specs)]
    columns += ["test_accuracy"] if columns and "test_accuracy" not in columns else []
    return tuple(
        Compared(
            spec.id,
            spec.label,
            {c: spec.printed.get(c) for c in columns},
            {c: mean(runs[spec.id].measured(COLUMNS[c])) for c in columns},
        )
        for spec in specs
    )
