"""The speed run: a whole training in one loop without a trainer, timed from first to last step.

What is timed: fresh weights, every epoch with its augmentation, the averaged weights. What is not:
reading the data, moving it to the device, a warm-up that is thrown away (on a GPU, where the first
steps choose their kernels), and scoring afterwards. The schedule is fixed beforehand: the accuracy
is the last epoch's, not the first crossing of a mark.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mien._system import processor
from mien.data.dataset import FaceDataset, Splits
from mien.data.loaders import EpochBatches
from mien.errors import RecipeError
from mien.evaluate.runner import predict
from mien.modelinfo import ModelInfo
from mien.train import loop
from mien.train.checkpoint import TorchClassifier, write_weights
from mien.train.fit import check_votes, class_weights, environment, pixel_statistics
from mien.train.learner import Learner
from mien.train.loop import State
from mien.train.optimizers import make_optimizer
from mien.train.precision import choose_precision
from mien.train.recipe import Recipe
from mien.train.selection import check_teaching, training_set

WARM_UP = 3


class Others:
    """How much of the processors other processes take meanwhile: timings beside work are no claim.

    Known on Linux alone.
    """

    def __init__(self) -> None:
        self._begun = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        try:
            line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
        except OSError:
            return None
        ticks = [int(v) for v in line[1:9]]  # user, nice, system, idle, iowait, irqs, stolen
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        return busy, time.process_time(), time.perf_counter()

    def share(self) -> float | None:
        """Their share of all processors since the beginning, 0 to 1; None where it is unknown."""
        now = self._now()
        if now is None or self._begun is None:
            return None
        busy, own, wall = (b - a for a, b in zip(self._begun, now, strict=True))
        return round(max(busy - own, 0.0) / max(wall * (os.cpu_count() or 1), 1e-9), 3)


def hardware(device: str) -> str:
    """E.g. "one NVIDIA H100 80GB HBM3" or "2 cores of Intel(R) Xeon(R) …"."""
    if device == "cuda":
        return f"one {torch.cuda.get_device_name()}"
    return f"{torch.get_num_threads()} cores of {processor()}"


def _sync(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed_run(
    recipe: Recipe,
    dataset: FaceDataset,
    splits: Splits,
    *,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "32",
) -> tuple[TorchClassifier, float]:
    """Train once; returns the classifier and the seconds.

    Raises:
        RecipeError: the recipe needs teachers, or its schedule the validation score.
    """
    if recipe.schedule.name == "plateau" or recipe.early_stopping:
        raise RecipeError("A speed run's schedule is fixed: no plateau and no early stopping.")
    check_teaching(recipe, dataset, None, None)
    train = splits.select(dataset, "train")
    check_votes(recipe, train)
    chosen, weights = training_set(recipe, train)
    mean, std = pixel_statistics(recipe, train)
    first = torch.from_numpy(train.images[:4096]).unsqueeze(1).to(device)
    batches = EpochBatches(
        chosen, recipe.batch_size, seed=seed, shuffle=True, device=device, weights=weights
    )

    def fresh() -> tuple[Learner, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        made = Learner(recipe, dataset.classes, mean, std, class_weights(recipe, train), seed=seed)
        made.to(device)
        made.initialise(first)
        batches.epoch = lambda: made.picture_epoch
        return made, make_optimizer(recipe, made.trained())

    if device == "cuda":
        torch.backends.cudnn.benchmark = True
        for share, _ in recipe.progressive or ((0.0, 48),):
            state = State(math.ceil(share * recipe.epochs))
            loop.train(
                *fresh(), batches, state=state, device=device, precision=precision, steps=WARM_UP
            )
    _sync(device)
    start = time.perf_counter()
    learner, optimizer = fresh()
    loop.train(learner, optimizer, batches, device=device, precision=precision)
    _sync(device)
    seconds = time.perf_counter() - start
    info = ModelInfo(name=recipe.name, labels=dataset.classes, mean=mean, std=std, seed=seed)
    return TorchClassifier(learner.deployed.eval(), info, device), seconds


def accuracy(
    classifier: TorchClassifier, dataset: FaceDataset, splits: Splits, role: str, views: str
) -> float:
    """Share of ``role``'s images that are named rightly, averaged over ``views``."""
    split = splits.select(dataset, role)
    found, _ = predict(classifier.predict_proba, split, classifier.info.labels, views=views)
    return round(found.join(split).accuracy, 6)


def speedrun(
    recipe: Recipe,
    dataset: FaceDataset,
    splits: Splits,
    *,
    seeds: Sequence[int] = (0,),
    device: str = "cpu",
    views: str = "none",
    test: bool = False,
    write: Callable[[dict[str, Any]], None] = lambda record: None,
    keep: Callable[[int, TorchClassifier], None] = lambda seed, classifier: None,
) -> dict[str, Any]:
    """Train once a seed; ``write`` gets the record after every run, ``keep`` the network.

    Args:
        test: score the test split too; otherwise the validation split alone. A protocol without
            one, like the papers' folder release, needs it. :func:`add_test` scores it later.

    Raises:
        RecipeError: nothing to score; or as :func:`timed_run`.
    """
    roles = [role for role in ("val", "test") if len(splits.ids[role]) and (role == "val" or test)]
    if not roles:
        raise RecipeError(
            f"Protocol {splits.protocol!r} has no validation split; score its test split (--test)."
        )
    choice = choose_precision(recipe.precision, device)
    runs: list[dict[str, Any]] = []
    record: dict[str, Any] = {}
    for seed in seeds:
        others = Others()
        classifier, seconds = timed_run(
            recipe, dataset, splits, seed=seed, device=device, precision=choice.precision
        )
        busy = others.share()
        keep(seed, classifier)
        scores = {role: accuracy(classifier, dataset, splits, role, views) for role in roles}
        runs.append({"seed": seed, "seconds": round(seconds, 2), "others": busy, **scores})
        record = joined([_record(recipe, splits, runs, roles[-1], device, views, choice.precision)])
        write(record)
    return record


def add_test(
    record: dict[str, Any],
    network: Callable[[int], TorchClassifier],
    dataset: FaceDataset,
    splits: Splits,
) -> dict[str, Any]:
    """The record with the test split's accuracy of every run: nothing is trained again.

    Args:
        network: seed -> what ``keep`` was given.
    """
    each = [
        {**run, "test": accuracy(network(run["seed"]), dataset, splits, "test", record["views"])}
        for run in record["each"]
    ]
    return joined([{**record, "split": _split_name(splits, "test"), "each": each}])


def save_network(
    classifier: TorchClassifier, recipe: Recipe, dataset: FaceDataset, splits: Splits, path: Path
) -> None:
    """Write a timed network as a checkpoint that ``mien evaluate`` and ``mien export`` take."""
    data = {"name": dataset.name, "sha256": dataset.sha256, "protocol": splits.protocol}
    info = classifier.info
    record = {
        "recipe": recipe.to_dict(),
        "classes": [c.value for c in info.labels],
        "mean": info.mean,
        "std": info.std,
        "seed": info.seed,
        "data": {**data, "fold": splits.fold},
    }
    state = {f"model.{k}": v.cpu() for k, v in classifier.model.state_dict().items()}
    write_weights(path, {"mien": record, "state_dict": state})


def _split_name(splits: Splits, role: str) -> str:
    if splits.protocol == "fer2013-folder":
        return "PublicTest and PrivateTest"
    return splits.published_name(role)


def _record(
    recipe: Recipe,
    splits: Splits,
    runs: list[dict[str, Any]],
    role: str,
    device: str,
    views: str,
    precision: str,
) -> dict[str, Any]:
    return {
        # A claim is of earlier runs: in this record it would pass for a result.
        "recipe": replace(recipe, claim="").to_dict(),
        "hardware": hardware(device),
        "precision": precision,
        "views": views,
        "split": _split_name(splits, role),
        "each": list(runs),
        "timed": "fresh weights to the end of the last epoch; reading and scoring are not",
        **environment(),
    }


def joined(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One record from several of the same speed run, each of one seed or more."""
    each = [run for record in records for run in record["each"]]
    scores = [run.get("test", run.get("val")) for run in each]
    return {
        **records[-1],
        "runs": len(each),
        "seconds": round(statistics.mean(run["seconds"] for run in each), 2),
        "accuracy": round(statistics.mean(scores), 6),
        "accuracy_sd": round(statistics.stdev(scores), 6) if len(scores) > 1 else None,
        "each": each,
    }
