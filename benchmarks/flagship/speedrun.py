"""Time a recipe from fresh weights to its last epoch and score it: the claim of mien_fast.

python benchmarks/flagship/speedrun.py mien_fast --data fer2013.parquet --runs 3 --test --claim
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from mien.cli._allocator import ALLOCATOR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="mien_fast")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=int, default=3, help="seeds 0, 1, ...")
    parser.add_argument("--set", action="append", default=[], help="key=value")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--views", choices=("none", "flip", "ten"), default="none")
    parser.add_argument("--test", action="store_true", help="score the test split, when decided")
    parser.add_argument("--claim", action="store_true", help="write the recipe's claim")
    parser.add_argument("--out", type=Path, default=Path("out/speedrun.json"))
    options = parser.parse_args()
    if sys.platform.startswith("linux") and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})

    from mien.atomic import make_folder, write_text
    from mien.data import make_splits, read_for_protocol
    from mien.errors import MienError, RecipeError
    from mien.train.claims import FILE, sentence
    from mien.train.precision import choose_device
    from mien.train.recipe import override
    from mien.train.recipes import get_recipe
    from mien.train.speedrun import speedrun

    def write(record: dict[str, Any]) -> None:
        write_text(options.out, json.dumps(record, indent=2) + "\n")
        print(sentence(record), file=sys.stderr)

    try:
        if options.claim and options.set:
            raise RecipeError("--claim is for the recipe as it is; leave --set out.")
        recipe = override(get_recipe(options.recipe), options.set)
        dataset = read_for_protocol(options.data, recipe.protocol)
        device = choose_device(options.device)
        make_folder(options.out.parent)
        record = speedrun(
            recipe,
            dataset,
            make_splits(dataset, recipe.protocol),
            seeds=range(max(options.runs, 1)),
            device=device,
            views=options.views,
            test=options.test,
            write=write,
        )
    except MienError as error:
        sys.exit(f"error: {error}")
    if options.claim:
        claims = json.loads(FILE.read_text(encoding="utf-8"))
        keys = ("hardware", "split", "runs", "seconds", "accuracy", "accuracy_sd", "views")
        kind = "gpu" if device == "cuda" else "cpu"
        claims.setdefault(recipe.name, {})[kind] = {key: record[key] for key in keys}
        write_text(FILE, json.dumps(claims, indent=2, sort_keys=True) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
