"""An invented reproduction, complete in every field; none of its figures was measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from mien.data.dataset import FaceDataset
from mien.emotions import FER2013
from mien.evaluate.scores import score

CLASSES = [c.value for c in FER2013]


def scores_of(seed: int, n: int = 210, sharpness: float = 1.6) -> dict[str, Any]:
    """Scores of random answers, with curves, in the form of a record."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 7, n)
    logits = rng.normal(size=(n, 7)) + sharpness * np.eye(7)[labels]
    p = np.exp(logits)
    found = score(labels.astype(np.int64), p / p.sum(1, keepdims=True), FER2013, bootstrap=50)
    return {**found.to_dict(), "roc": found.curves_to_dict()["roc"]}


def curves_of(seed: int, epochs: int = 12) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    rows = []
    for e in range(1, epochs + 1):
        train = 0.9 * (1 - np.exp(-e / 5)) + rng.normal(0, 0.004)
        val = 0.62 * (1 - np.exp(-e / 2.5)) + rng.normal(0, 0.006)
        rows.append(
            {
                "epoch": e,
                "train_loss": 1.9 * float(np.exp(-e / 6)),
                "train_accuracy": float(train),
                "val_loss": 1.0 + 0.7 * float(np.exp(-e / 2)) + 0.002 * e * e,
                "val_accuracy": float(val),
                "learning_rate": 0.001,
                "seconds": 40.0,
            }
        )
    return rows


def seed_record(seed: int, fold: int | None = None, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    splits = {"val": "PublicTest", "paper": "PublicTest + PrivateTest"}
    return {
        "seed": seed,
        "fold": fold,
        "state": "done",
        "best_epoch": 9,
        "epochs": 12,
        "seconds": 408.0 + seed,
        "command": f"mien train shape --data /home/a/faces --seed {seed} --out /tmp/x/s{seed}",
        "environment": {
            "cpu": "Some Processor",
            "threads": 2,
            "commit": "abc1234",
            "precision": "bf16",
        },
        "curves": curves_of(seed + 10 * (fold or 0)),
        "scores": [
            {
                "key": key,
                "checkpoint": "last" if key == "paper" else "best",
                "split": splits.get(key, "PrivateTest"),
                "why": f"Why {key}.",
                "n": 210,
                "scores": scores_of(100 * i + seed + 7 * (fold or 0)),
            }
            for i, key in enumerate(keys)
        ],
    }


def summary_of(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, list[float]] = {}
    for seed in seeds:
        for entry in seed["scores"]:
            found.setdefault(entry["key"], []).append(entry["scores"]["accuracy"])
    return {
        key: {
            "n_seeds": len(each),
            "mean": float(np.mean(each)),
            "std": float(np.std(each, ddof=1)) if len(each) > 1 else None,
            "each": each,
        }
        for key, each in found.items()
    }


def run_record(run_id: str = "shape", label: str = "Shape <A>", **changes: Any) -> dict[str, Any]:
    keys = ("val", "test", "test_twin_free", "paper")
    seeds = [seed_record(i, keys=keys) for i in range(3)]
    run = {
        "id": run_id,
        "label": label,
        "state": "done",
        "dataset": "fer2013",
        "protocol": "fer2013",
        "recipe": {"epochs": 12, "optimizer": {"name": "adam", "lr": 0.0005}},
        "paper_recipe": {"epochs": 30, "optimizer": {"name": "adam", "lr": 0.0005}},
        "deviations": [{"field": "epochs", "paper": 30, "ours": 12, "why": "It is | faster."}],
        "parameters": {"total": 5160199, "trainable": 5155079, "paper_total": 5160199},
        "multiply_adds": 429000000,
        "layers": [
            {"name": "conv1", "type": "Conv2d", "output_shape": [64, 48, 48], "parameters": 640},
            {"name": "dense", "type": "Linear", "output_shape": [7], "parameters": 3591},
        ],
        "seconds": {"mean": 409.0, "each": [408.0, 409.0, 410.0]},
        "paper_seconds": 61200,
        "paper_hardware": "CPU, not named",
        "seeds": seeds,
        "summary": summary_of(seeds),
    }
    return {**run, **changes}


def not_run(run_id: str, label: str) -> dict[str, Any]:
    """A run as it stands in a record before it is trained."""
    return run_record(
        run_id,
        label,
        state="not run",
        seeds=[],
        summary={},
        seconds={"mean": None, "each": []},
        layers=[],
        parameters={},
        paper_seconds=None,
        deviations=None,
        recipe={},
        paper_recipe={},
    )


def record(runs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A whole record; by default one run with three seeds."""
    runs = [run_record()] if runs is None else runs
    first = runs[0]["id"]
    paper = {"train_accuracy": 0.965, "val_accuracy": 0.6505}
    return {
        "schema": 1,
        "system": "debnath2021",
        "title": "Shapes & faces: an invented paper",
        "citation": "Nobody et al. 2021",
        "budget": "fast",
        "command": "mien reproduce debnath2021 --data /home/somebody/faces --out 'C:\\runs\\rep'",
        "created": "2026-01-02T03:04:05Z",
        "environment": {"mien": "0.1.0", "commit": "abc1234", "versions": {"torch": "2.13.0"}},
        "data": [
            {
                "name": "fer2013",
                "sha256": "ab" * 32,
                "n": 35887,
                "classes": CLASSES,
                "counts": {
                    "Training": dict(
                        zip(CLASSES, (3995, 436, 4097, 7215, 4830, 3171, 4965), strict=True)
                    ),
                    "PublicTest": dict(
                        zip(CLASSES, (467, 56, 496, 895, 653, 415, 607), strict=True)
                    ),
                    "PrivateTest": dict(
                        zip(CLASSES, (491, 55, 528, 879, 594, 416, 626), strict=True)
                    ),
                },
            }
        ],
        "headlines": [
            {
                "key": "val_accuracy",
                "label": "Validation accuracy",
                "run": first,
                "paper": 0.6505,
                "paper_text": "65.05 % (table 2)",
                "target": 0.6305,
                "ours": 0.64,
                "ours_text": "64.00 ± 0.30 % (3 seeds)",
                "difference": -0.0105,
                "met": True,
                "remark": "Within <two> points | or better.",
            },
            {
                "key": "train_accuracy",
                "label": "Training accuracy",
                "run": first,
                "paper": 0.965,
                "paper_text": None,
                "target": 0.945,
                "ours": 0.9012,
                "ours_text": None,
                "difference": -0.0638,
                "met": False,
                "remark": "",
            },
            {
                "key": "unseen",
                "label": "People not seen",
                "run": runs[-1]["id"],
                "paper": None,
                "paper_text": "not in the paper",
                "target": None,
                "ours": None,
                "ours_text": None,
                "difference": None,
                "met": None,
                "remark": "",
            },
        ],
        "runs": runs,
        "printed_epochs": {
            "run": first,
            "columns": ["train_accuracy", "val_accuracy"],
            "rows": [
                {
                    "epoch": e,
                    "paper": {"train_accuracy": 0.03 * e, "val_accuracy": 0.44 + 0.007 * e},
                    "ours": {"train_accuracy": 0.3 + 0.05 * o, "val_accuracy": 0.5 + 0.01 * o},
                    "ours_epoch": o,
                }
                for e, o in ((1, 1), (8, 3), (15, 6), (30, 12))
            ],
        },
        "comparison": [
            {
                "label": run["label"],
                "run": run["id"],
                "paper": paper,
                "ours": dict.fromkeys(paper, None)
                if run["state"] == "not run"
                else {"train_accuracy": 0.9012, "val_accuracy": 0.64},
            }
            for run in runs
        ],
        "photos": [
            {
                "name": "astronaut.jpg",
                "faces": [
                    {
                        "box": [175, 70, 95, 125],
                        "probabilities": dict(
                            zip(CLASSES, (0.01, 0.0, 0.01, 0.9, 0.02, 0.02, 0.04), strict=True)
                        ),
                        "emotion": "happy",
                    }
                ],
            }
        ],
        "extra": {},
        "remarks": [{"title": "96 % is <training>", "text": "By table 2."}],
    }


def faces(n: int = 140) -> FaceDataset:
    """Drawn images with the seven classes."""
    rng = np.random.default_rng(0)
    blank = np.full(n, "", dtype=np.str_)
    return FaceDataset(
        rng.integers(0, 255, (n, 48, 48), dtype=np.uint8),
        (np.arange(n) % 7).astype(np.int64),
        np.array([f"drawn:{i:05d}" for i in range(n)]),
        FER2013,
        "drawn",
        blank,
        blank,
    )
