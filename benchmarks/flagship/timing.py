"""Records of speed runs: several seeds, the machine beside them, the claim of a recipe."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from timed_run import timed_run

from mien._system import processor
from mien.data.dataset import FaceDataset, Splits
from mien.errors import RecipeError
from mien.evaluate.runner import predict
from mien.train.checkpoint import TorchClassifier, write_weights
from mien.train.folder import environment
from mien.train.precision import choose_precision
from mien.train.recipe import Recipe

#: What was measured; written by ``speedrun.py --claim``, and repeated in the recipes.
FILE = Path(__file__).with_name("claims.json")


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


def sentence(record: dict[str, Any]) -> str:
    """E.g. "300 s on 2 cores of ..., bfloat16: 70.12 % on PrivateTest (7 runs, standard deviation
    .21)"."""
    how = ", bfloat16" if record.get("precision") == "bf16" else ""
    tta = record.get("tta", "none")
    words = {"flip": "a face and its mirror image", "ten": "ten crops"}
    averaged = f", averaged over {words[tta]}" if tta in words else ""
    spread = ""
    if record["runs"] > 1:
        spread = f", standard deviation {100 * record['accuracy_sd']:.2f}"
    runs = f"{record['runs']} run" + ("s" if record["runs"] != 1 else "")
    return (
        f"{record['seconds']:.1f} s on {record['hardware']}{how}: "
        f"{100 * record['accuracy']:.2f} % on {record['split']}{averaged} ({runs}{spread})"
    )


def claim(recipe: str) -> str:
    """What was measured of a recipe, one sentence a kind of hardware; "" where nothing was."""
    records = json.loads(FILE.read_text(encoding="utf-8")).get(recipe, {})
    return "; ".join(sentence(records[hardware]) for hardware in sorted(records))


def accuracy(
    classifier: TorchClassifier, dataset: FaceDataset, splits: Splits, role: str, tta: str
) -> float:
    """Share of ``role``'s images that are correctly classified, with test-time augmentation."""
    split = splits.select(dataset, role)
    found, _ = predict(classifier.predict_proba, split, classifier.info.labels, tta=tta)
    return round(found.join(split).accuracy, 6)


def speedrun(
    recipe: Recipe,
    dataset: FaceDataset,
    splits: Splits,
    *,
    seeds: Sequence[int] = (0,),
    device: str = "cpu",
    tta: str = "none",
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
        scores = {role: accuracy(classifier, dataset, splits, role, tta) for role in roles}
        runs.append({"seed": seed, "seconds": round(seconds, 2), "others": busy, **scores})
        record = joined([_record(recipe, splits, runs, roles[-1], device, tta, choice.precision)])
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
        {**run, "test": accuracy(network(run["seed"]), dataset, splits, "test", record["tta"])}
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
    tta: str,
    precision: str,
) -> dict[str, Any]:
    return {
        # A claim is of earlier runs: in this record it would pass for a result.
        "recipe": replace(recipe, claim="").to_dict(),
        "hardware": hardware(device),
        "precision": precision,
        "tta": tta,
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
