"""From run folders to the record of a reproduction: our figures beside the paper's.

The record is plain JSON (docs/reproduce.md describes it); what was not run says "not run".
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._records import RESULT, RUN
from mien.atomic import make_folder, write_text
from mien.data import FaceDataset, Splits, make_splits
from mien.errors import DataError
from mien.evaluate.curves import read_curves
from mien.reproduce.datasets import Datasets
from mien.reproduce.figures import (
    comparison,
    headlines,
    mean,
    printed_epochs,
    std,
)
from mien.reproduce.mislabelled import as_report
from mien.reproduce.plan import DONE, NOT_RUN, PARTIAL, Plan, Task
from mien.reproduce.recipes import deviations, network, paper_recipe
from mien.reproduce.runs import Say, call
from mien.reproduce.scoring import score_run
from mien.reproduce.spec import RunSpec

SCHEMA = 1


class Assembly:
    """What the parts of a record are made from: the plan, the datasets and the scored seeds.

    Attributes:
        plan, datasets, device: as given.
        seeds: run id -> the records of its seeds or folds.
    """

    def __init__(self, plan: Plan, datasets: Datasets, device: str = "cpu") -> None:
        self.plan, self.datasets, self.device = plan, datasets, device
        self.seeds: dict[str, list[dict[str, Any]]] = {}

    def dataset(self, name: str) -> FaceDataset | None:
        """The dataset, or None where it cannot be had."""
        return None if self.datasets.missing(name) else self.datasets.get(name)

    def done(self, run_id: str) -> list[dict[str, Any]]:
        """The records of the finished seeds or folds of a run."""
        return [s for s in self.seeds.get(run_id, []) if s["state"] == DONE]

    def score(self, run_id: str, key: str) -> dict[str, Any] | None:
        """The first finished seed's score called ``key``, or None."""
        for seed in self.done(run_id):
            for entry in seed["scores"]:
                if entry["key"] == key:
                    found: dict[str, Any] = entry
                    return found
        return None

    def accuracies(self, run_id: str, key: str) -> list[float]:
        """The accuracy of every finished seed or fold under the score ``key``."""
        return [
            float(entry["scores"]["accuracy"])
            for seed in self.done(run_id)
            for entry in seed["scores"]
            if entry["key"] == key
        ]

    def kept(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A slow count about a dataset, made once and kept in the folder of runs."""
        path = self.plan.runs / "cache" / f"{key}.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            found = make()
            make_folder(path.parent)
            write_text(path, json.dumps(found, indent=2) + "\n")
        return found


def assemble(
    plan: Plan,
    datasets: Datasets,
    failed: Mapping[str, str] | None = None,
    *,
    command: str = "",
    device: str = "cpu",
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Score what is finished (once) and put the whole record together.

    Args:
        failed: run folder's name -> why its training failed just now.
        command: said in the record.
        device: "cpu" or "cuda", for scoring.
        say: called with one line before something slow.

    Returns:
        The record, ready for JSON.

    Raises:
        DataError, ModelError: a run folder is damaged.
    """
    from mien.train.fit import environment

    system = plan.system
    made = Assembly(plan, datasets, device)
    for run in system.runs:
        made.seeds[run.id] = [_seed(made, task, i, say) for i, task in enumerate(plan.of(run.id))]
    remarks = [{"title": r.title, "text": r.text} for r in system.remarks]
    if plan.dry:
        said = "Two epochs on 64 images: this proves that everything runs. No figure means a thing."
        remarks.insert(0, {"title": "A dry run", "text": said})
    return {
        "schema": SCHEMA,
        "system": system.name,
        "title": system.title,
        "citation": system.citation,
        "budget": plan.budget + (" (dry run)" if plan.dry else ""),
        "command": command,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": environment(),
        "data": _data(made),
        "headlines": headlines(system, made.seeds, plan.budget, dry=plan.dry),
        "failed": dict(failed or {}),
        "runs": [_run(made, run, failed or {}) for run in system.runs],
        "printed_epochs": printed_epochs(system.printed_epochs, made.seeds),
        "comparison": comparison(system, made.seeds),
        "photos": _photos(made, say),
        "photos_run": _photos_text(made),
        "extra": call(system.extra)(made) if system.extra else {},
        "remarks": remarks,
        "earlier": [vars(e) for e in system.earlier if e.budget == plan.budget],
    }


def _seed(made: Assembly, task: Task, index: int, say: Say) -> dict[str, Any]:
    """One seed or fold: curves, scores and where it was trained."""
    record: dict[str, Any] = {
        "seed": task.seed,
        "fold": task.fold,
        "state": task.state,
        "best_epoch": None,
        "epochs": 0,
        "seconds": None,
        "command": "",
        "environment": {},
        "curves": [],
        "scores": [],
    }
    if task.state == NOT_RUN:
        return record
    curves = read_curves(task.folder / "curves.csv")
    about = _read(task, RUN)
    record |= {
        "best_epoch": _best_epoch(curves),
        "epochs": len(curves),
        "seconds": round(sum(row.get("seconds", 0) for row in curves), 1),
        "command": about.pop("command", ""),
        "environment": {k: about[k] for k in _ENVIRONMENT if k in about},
        "started": about.get("started", ""),
        "curves": curves,
    }
    if task.state != DONE:
        return record
    record["best_epoch"] = _read(task, RESULT).get("best_epoch")
    dataset = made.datasets.get(task.run.dataset)
    splits = _splits(task, dataset)
    say(f"scoring {task.folder.name}")
    record["scores"] = score_run(
        task.folder,
        task.run.scores,
        dataset,
        splits,
        device=made.device,
        with_roc=index == 0 and not task.run.folds,
        dry=made.plan.dry,
    )
    return record


_ENVIRONMENT = (
    "mien",
    "commit",
    "python",
    "versions",
    "cpu",
    "threads",
    "gpu",
    "precision",
    "precision_why",
    "resumed",
)


def _read(task: Task, name: str) -> dict[str, Any]:
    path = task.folder / name
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        return record
    except (OSError, ValueError):
        raise DataError(f"{path} is damaged; move the run away and train it again.") from None


def _splits(task: Task, dataset: FaceDataset) -> Splits:
    """The run's own division, which must be the one its protocol gives today."""
    made = make_splits(dataset, task.recipe.protocol, seed=task.seed, fold=task.fold)
    saved = Splits.load(task.folder / "splits.json")
    if any(set(saved.ids[r].tolist()) != set(made.ids[r].tolist()) for r in made.ids):
        raise DataError(
            f"{task.folder} was trained on another division than {task.recipe.protocol!r} makes "
            "of this data; move it away and train it again."
        )
    return made


def _best_epoch(curves: list[dict[str, float]]) -> int | None:
    scored = [row for row in curves if "val_accuracy" in row]
    if not scored:
        return int(curves[-1]["epoch"]) if curves else None
    return int(max(scored, key=lambda row: row["val_accuracy"])["epoch"])


def _run(made: Assembly, run: RunSpec, failed: Mapping[str, str]) -> dict[str, Any]:
    """One run of the record: recipes, network, seeds and their summary."""
    tasks, seeds = made.plan.of(run.id), made.seeds[run.id]
    states = {task.state for task in tasks}
    state = DONE if states == {DONE} else NOT_RUN if states <= {NOT_RUN} else PARTIAL
    theirs = paper_recipe(run)
    recipe = tasks[0].recipe if tasks else None
    why = made.plan.missing.get(run.id, "")
    why = why or next((failed[t.folder.name] for t in tasks if t.folder.name in failed), "")
    spent = [s["seconds"] for s in seeds if s["state"] == DONE]
    return {
        "id": run.id,
        "label": run.label,
        "state": state,
        "why_not_run": why,
        "dataset": run.dataset,
        "protocol": run.protocol,
        "recipe": recipe.to_dict() if recipe else None,
        "paper_recipe": theirs.to_dict() if theirs else None,
        "deviations": deviations(run, theirs, recipe),
        # A run that this budget leaves out is named with its size; its layers would be dead weight.
        **network(run, recipe or theirs, layers=recipe is not None),
        "seconds": {"mean": mean(spent), "each": spent},
        "paper_seconds": run.seconds,
        "paper_hardware": run.hardware,
        "paper_report": as_report(run.report),
        "paper_accuracy": _paper_accuracy(made, run),
        "seeds": seeds,
        "summary": _summary(made, run),
    }


def _paper_accuracy(made: Assembly, run: RunSpec) -> dict[str, float]:
    """Score key -> the paper's figure on the same set, by the headlines."""
    keys = {spec.key for spec in run.scores}
    return {
        h.figure: h.paper
        for h in reversed(made.plan.system.headlines)
        if h.run == run.id and h.figure in keys and h.paper is not None
    }


def _summary(made: Assembly, run: RunSpec) -> dict[str, Any]:
    """Score key -> number of seeds (or folds), mean, standard deviation and each accuracy."""
    keys = dict.fromkeys(e["key"] for seed in made.done(run.id) for e in seed["scores"])
    found = {}
    for key in keys:
        each = made.accuracies(run.id, key)
        found[key] = {
            "n_seeds": len(each),
            "mean": mean(each),
            "std": std(each),
            "each": each,
        }
    return found


def _data(made: Assembly) -> list[dict[str, Any]]:
    """The datasets of the system's runs with their class counts by split."""
    found = []
    for name in dict.fromkeys(run.dataset for run in made.plan.system.runs):
        dataset = made.dataset(name)
        if dataset is None:
            continue
        found.append(
            {
                "name": dataset.name,
                "sha256": dataset.sha256,
                "n": len(dataset),
                "classes": [c.value for c in dataset.classes],
                "counts": _counts(dataset),
                "divisions": _divided(made, name, dataset),
            }
        )
    return found


#: Protocols whose parts are the publisher's own, or change with every fold.
_PUBLISHED = ("fer2013", "fer2013-folder", "ckplus-subjects")


def _divided(
    made: Assembly, name: str, dataset: FaceDataset
) -> dict[str, dict[str, dict[str, int]]]:
    """Protocol -> part -> class counts, of the runs' own protocols with the first seed."""
    protocols = dict.fromkeys(run.protocol for run in made.plan.system.runs if run.dataset == name)
    found = {}
    for protocol in (p for p in protocols if p not in _PUBLISHED):
        splits = make_splits(dataset, protocol, seed=0)
        parts = {role: splits.select(dataset, role) for role in splits.ids}
        found[protocol] = {
            role: _by_class(part, np.ones(len(part), bool))
            for role, part in parts.items()
            if len(part)
        }
    return found


def _by_class(dataset: FaceDataset, mask: NDArray[np.bool_]) -> dict[str, int]:
    counts = np.bincount(dataset.labels[mask], minlength=len(dataset.classes))
    return {c.value: int(n) for c, n in zip(dataset.classes, counts, strict=True)}


def _counts(dataset: FaceDataset) -> dict[str, dict[str, int]]:
    parts: Mapping[str, Any]
    if dataset.name == "fergit":
        sources = np.char.partition(dataset.ids, ":")[:, 0]
        parts = {str(s): sources == s for s in np.unique(sources)}
    elif (dataset.splits != "").all():
        order = {"Training": 0, "PublicTest": 1, "PrivateTest": 2}
        names = sorted(np.unique(dataset.splits).tolist(), key=lambda n: order.get(n, 3))
        parts = {name: dataset.splits == name for name in names}
    else:
        parts = {"all": np.ones(len(dataset), dtype=bool)}
    return {name: _by_class(dataset, mask) for name, mask in parts.items()}


def _photos(made: Assembly, say: Say) -> list[dict[str, Any]]:
    run_id = made.plan.system.photos
    tasks = [t for t in made.plan.of(run_id) if t.state == DONE] if run_id else []
    if not tasks:
        return []
    from mien.reproduce.portraits import predict_portraits
    from mien.train import load_checkpoint

    say("predicting on photos")
    classifier = load_checkpoint(tasks[0].folder / "best.ckpt", made.device)
    return predict_portraits(classifier, made.dataset("fer2013"))


def _photos_text(made: Assembly) -> dict[str, str]:
    run_id = made.plan.system.photos
    if not run_id:
        return {}
    label = made.plan.system.run(run_id).label
    tasks = made.plan.of(run_id)
    own = ""
    if tasks:  # "runs/…" stands for the folder of runs: the report names none of this machine
        own = (
            f" On your own photos: mien export runs/{tasks[0].folder.name}/best.ckpt --out "
            f"{run_id}.onnx, then mien predict PHOTO --model {run_id}.onnx, and in front of a "
            f"webcam mien live --model {run_id}.onnx."
        )
    return {
        "run": run_id,
        "text": f"{label}, first seed, chosen epoch. The faces of the papers' own photos are not "
        "free to show: the portrait is in the public domain, and an average face is nobody's. An "
        "average is smoother than any face that the network learned from, so its answers there are "
        f"a curiosity and no measure.{own}",
    }
