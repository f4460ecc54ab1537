"""Time a recipe from fresh weights to its last epoch and score it: the claim of mien_fast.

python benchmarks/flagship/speedrun.py mien_fast --data fer2013.parquet --runs 3 --test --claim

Every finished run is kept in --out, its weights beside it, and the same call goes on with the seeds
that are left; --test afterwards scores the test split and trains nothing again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from mien.cli._training import ALLOCATOR

#: A claim's runs had the machine to themselves but for this share of it.
OTHERS = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="mien_fast")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=int, default=3, help="seeds 0, 1, ...")
    parser.add_argument("--set", action="append", default=[], help="key=value")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    tta = parser.add_argument("--tta", choices=("none", "flip", "ten"), default="none")
    tta.help = "test-time augmentation"
    parser.add_argument("--views", dest="tta", choices=tta.choices, help=argparse.SUPPRESS)
    parser.add_argument("--test", action="store_true", help="score the test split, when decided")
    parser.add_argument("--claim", action="store_true", help="write the recipe's claim")
    parser.add_argument("--out", type=Path, help="[out/speedrun-RECIPE.json]")
    options = parser.parse_args()
    if sys.platform.startswith("linux") and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})

    from timing import FILE, add_test, hardware, joined, save_network, sentence, speedrun

    from mien.atomic import make_folder, write_text
    from mien.data import make_splits, read_for_protocol
    from mien.errors import MienError, RecipeError
    from mien.train.checkpoint import load_checkpoint
    from mien.train.precision import choose_device, choose_precision
    from mien.train.recipe import override
    from mien.train.recipes import get_recipe

    out = options.out or Path(f"out/speedrun-{options.recipe}.json")
    try:
        if options.claim and options.set:
            raise RecipeError("--claim is for the recipe as it is; leave --set out.")
        recipe = override(get_recipe(options.recipe), options.set)
        # The folder release's one test set holds PrivateTest: without --test, PublicTest alone.
        protocol = recipe.protocol if options.test else "fer2013"
        if options.claim and protocol != recipe.protocol:
            raise RecipeError(f"--claim needs --test: {recipe.name} has a test set alone.")
        dataset = read_for_protocol(options.data, protocol)
        device = choose_device(options.device)
        record = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
        same = {
            "recipe": json.loads(json.dumps(recipe.to_dict() | {"claim": ""})),
            "hardware": hardware(device),
            "precision": choose_precision(recipe.precision, device).precision,
            "tta": options.tta,
            "data": dataset.sha256,
        }
        if record and record.get("same") != same:
            raise RecipeError(f"{out} holds another speed run; move it away or give --out.")
        make_folder(out.parent)
        splits = make_splits(dataset, protocol)

        def weights(seed: int) -> Path:
            return out.with_name(f"{out.stem}-seed{seed}.ckpt")

        if options.test and record and "test" not in record["each"][0]:
            # The training images are the same under both of a release's protocols.
            record = add_test(
                record, lambda seed: load_checkpoint(weights(seed), device), dataset, splits
            )
            write_text(out, json.dumps(record, indent=2) + "\n")
        done = {run["seed"] for run in record.get("each", ())}
        for seed in (seed for seed in range(max(options.runs, 1)) if seed not in done):
            more = speedrun(
                recipe,
                dataset,
                splits,
                seeds=[seed],
                device=device,
                tta=options.tta,
                test=options.test,
                keep=lambda seed, network: save_network(
                    network, recipe, dataset, splits, weights(seed)
                ),
            )
            record = joined([record, more] if record else [more]) | {"same": same}
            write_text(out, json.dumps(record, indent=2) + "\n")
            print(sentence(record), file=sys.stderr)
    except MienError as error:
        sys.exit(f"error: {error}")
    if options.claim:
        busy = max(run.get("others") or 0.0 for run in record["each"])
        if busy > OTHERS:
            sys.exit(
                f"error: other processes took {100 * busy:.0f} % of the processors during a run; "
                f"no claim was written. Move {out} away and time it alone."
            )
        claims = json.loads(FILE.read_text(encoding="utf-8"))
        keys = ("hardware", "precision", "split", "runs", "seconds", "accuracy", "accuracy_sd")
        kind = "gpu" if device == "cuda" else "cpu"
        claims.setdefault(recipe.name, {})[kind] = {key: record[key] for key in (*keys, "tta")}
        write_text(FILE, json.dumps(claims, indent=2, sort_keys=True) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
