"""The stages that run in the process of the GPU pack itself: ensembles and speed runs."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from deliver import plain, report
from worker import load_dataset, say, sha256_of

from mien.atomic import make_folder, write_text
from mien.errors import RecipeError

#: Seconds without which nothing that cannot be interrupted is begun.
LEAST = 20.0
#: How much longer than the longest so far the next one may take.
MARGIN = 1.3


def enough(options: argparse.Namespace, longest: float) -> bool:
    """Whether the time left is enough for what took ``longest`` seconds at most so far."""
    return options.deadline - time.monotonic() >= max(LEAST, MARGIN * longest)


def better(accuracies: dict[str, float]) -> str:
    """The choice with the higher accuracy on PublicTest; equal shares where both are as good."""
    return max(sorted(accuracies), key=lambda choose: accuracies[choose])


def combine(options: argparse.Namespace, runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The ensembles of all runs, equal and greedy; None when the time was up before.

    The slow part, the members' probabilities, is made member by member and kept; both share it.
    """
    from mien.data import make_splits
    from mien.train.distill import find_members
    from mien.train.ensemble import build_ensemble, member_predictions

    dataset = load_dataset(options.dataset)
    splits = make_splits(dataset, "fer2013")
    paths = [options.work / "runs" / run["name"] for run in runs]
    cache = make_folder(options.work / "probabilities")

    def score(role: str) -> bool:
        """Fill the cache; False when the time is up."""
        longest = 0.0
        for member in find_members(paths):
            if not enough(options, longest):
                return False
            start = time.monotonic()
            part = splits.select(dataset, role)
            member_predictions(member, part, "ten", cache, options.device)
            longest = max(longest, time.monotonic() - start)
        return True

    def build(choose: str, test: bool) -> dict[str, Any]:
        out = make_folder(options.work / f"ensemble-{choose}")
        link = out / "probabilities"
        if not link.exists():
            link.symlink_to(Path("..") / cache.name)
        args: dict[str, Any] = {"tta": "ten", "choose": choose, "device": options.device}
        return build_ensemble(paths, dataset, splits, out, say=say, test=test, **args)

    if not score("val"):
        return None
    records: dict[str, Any] = {}
    longest = 0.0
    for choose in ("equal", "greedy"):
        if not enough(options, longest):
            return None
        start = time.monotonic()
        records[choose] = build(choose, False)
        longest = max(longest, time.monotonic() - start)
    # The test split is for one of them: the one that is better on PublicTest.
    best = better({choose: made["val"]["accuracy"] for choose, made in records.items()})
    if options.test:
        if not score("test") or not enough(options, 2 * longest):
            return None
        records[best] = build(best, True)
    return {"best": best, **records}


def speed(options: argparse.Namespace) -> bool:
    """The speed runs, alone on the machine; whether all seeds are done.

    Every run is kept in the work folder, so the next call begins with the first seed that is left.
    """
    from timing import hardware, joined, speedrun

    from mien.data import make_splits
    from mien.train.fit import dry
    from mien.train.recipe import override
    from mien.train.recipes import get_recipe

    dataset = load_dataset(options.dataset)
    path = options.work / "speedruns.json"
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    shown: dict[str, Any] = {}
    complete = True
    for name in ("mien_fast", "mien_fast_folder"):
        recipe = override(get_recipe(name), options.set)
        recipe = dry(recipe) if options.steps else recipe
        # The folder release's one test set holds PrivateTest: without --test, PublicTest alone.
        protocol = recipe.protocol if options.test else "fer2013"
        if protocol != recipe.protocol:
            say(f"{name}: without --test it is scored on PublicTest alone")
        task = {
            "recipe": plain(recipe),
            "data": sha256_of(options.dataset),
            "hardware": hardware(options.device),
        }
        entry = kept.setdefault(f"{name} {'test' if options.test else 'val'}", {**task, "runs": []})
        other = [key for key, value in task.items() if entry[key] != value]
        if other:
            raise RecipeError(
                f"{path} holds {name} with another {' and '.join(other)}; move it away or use "
                "another --work."
            )
        done = {record["each"][0]["seed"] for record in entry["runs"]}
        for seed in (s for s in range(options.seeds) if s not in done):
            longest = max((record["wall"] for record in entry["runs"]), default=0.0)
            if not enough(options, longest):
                complete = False
                break
            start = time.monotonic()
            record = speedrun(
                recipe,
                dataset,
                make_splits(dataset, protocol),
                seeds=[seed],
                device=options.device,
                test=options.test,
            )
            entry["runs"].append({**record, "wall": round(time.monotonic() - start, 1)})
            write_text(path, json.dumps(kept, indent=1) + "\n")
            shown[name] = joined(entry["runs"])
            report(options, [], speedruns=shown, complete=False)
        if entry["runs"]:
            shown[name] = joined(entry["runs"])
            figures = f"{shown[name]['seconds']} s, {100 * shown[name]['accuracy']:.2f} %"
            say(f"{name}: {figures} ({shown[name]['runs']} runs)")
    report(options, [], speedruns=shown, complete=complete)
    return complete
