"""The flagship's trainings on one GPU, in stages that stop in time and go on when called again.

    PYTHONPATH=. python benchmarks/flagship/gpu.py --stage base-seeds --data fer2013.parquet

Stages: base-seeds, ensemble, ablation, speedrun, distill, ferplus, papers. The dataset is decoded
once into --work; a process a training (--jobs at a time) keeps it on the GPU, augments there in
batches, and trains in bfloat16 and channels_last. Results are written to --out ($OUT, else
out/flagship) as they come: STAGE.json, and the best checkpoints with their weights in half
precision, within --files and --mib. --limit ends a call in time; --work keeps what was begun, so
the same call later goes on where it stopped. PrivateTest is scored with --test alone, when every
choice was made. --steps N runs a stage from end to end on N steps an epoch, on a CPU too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from worker import half, load_dataset, save_dataset, say

from mien.atomic import make_folder, write_text
from mien.cli._allocator import ALLOCATOR
from mien.data.dataset import FaceDataset
from mien.errors import MienError, RecipeError

HERE = Path(__file__).resolve().parent

#: Members of the ensemble beside the base seeds: what differs in build errs differently.
MEMBERS: dict[str, list[str]] = {
    "se": ["model_args.se=8"],
    "rep": ["model_args.block=rep", "model_args.blocks=[3,3,2]"],
    "muon": [
        "optimizer.name=muon",
        "optimizer.lr=0.02",
        "optimizer.momentum=0.95",
        "optimizer.rest_scale=5",
        "optimizer.renormalise=true",
    ],
    "mixup": ["loss.mixup=0.2"],
    "cutmix": ["loss.cutmix=1.0"],
    "votes": ["loss.ferplus_blend=0.3"],
    "narrow": ["model_args.widths=[96,192,384]", "model_args.blocks=[2,2,2]"],
}
#: The papers' recipes on FER2013 itself; those on other sets go by `mien reproduce`.
PAPERS = (
    "debnath_convnet",
    "njoku_cnn",
    "mondal_shallow",
    "mondal_dropout",
    "mondal_deep",
)
STAGES = ("base-seeds", "ensemble", "ablation", "speedrun", "distill", "ferplus", "papers")


def shrink(dataset: FaceDataset, steps: int) -> FaceDataset:
    """``steps`` batches of 16 of Training and 32 images each of the other splits."""
    rows = []
    for split in np.unique(dataset.splits):
        few = np.flatnonzero(dataset.splits == split)
        rows.append(few[: 16 * steps if split == "Training" else 32])
    return dataset.take(np.concatenate(rows))


def decoded(options: argparse.Namespace) -> Path:
    """The dataset as .npz in the work folder; decoded by the first call."""
    path = options.work / ("few.npz" if options.steps else "fer2013.npz")
    if not path.is_file():
        from mien.data import read_for_protocol

        start = time.monotonic()
        dataset = read_for_protocol(options.data, "fer2013")
        if options.steps:
            dataset = shrink(dataset, options.steps)
        save_dataset(dataset, path)
        say(f"decoded {len(dataset):,} images in {time.monotonic() - start:.1f} s")
    return path


# ---- what a stage trains ---------------------------------------------------------------------


def runs_of(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The trainings of a stage: name, recipe, settings, seed."""
    seeds = range(options.seeds)
    base = [_run(f"{options.recipe}-seed{s}", options.recipe, [], s) for s in seeds]
    if options.stage == "base-seeds":
        return base
    if options.stage == "ensemble":
        members = {k: MEMBERS[k] for k in list(MEMBERS)[: options.members]}
        return base + [
            _run(f"{options.recipe}-{k}", options.recipe, v, 100 + i)
            for i, (k, v) in enumerate(members.items())
        ]
    if options.stage == "ablation":
        from mien.train.ablation import read_table

        table = read_table(options.table)
        rows = list(table.rows)[: options.rows]
        return [
            _run(
                f"{table.name}-{row}-seed{seed}",
                table.recipe,
                [*table.settings, *table.rows[row]],
                seed,
                as_name=f"{table.name}-{row}",
            )
            for seed in table.seeds[: options.seeds]
            for row in rows
        ]
    if options.stage == "distill":
        return [_run(f"mien_distilled-seed{s}", "mien_distilled", [], s) for s in seeds]
    if options.stage == "ferplus":
        settings = ["protocol=ferplus-majority"]
        name = f"{options.recipe}-ferplus"
        return [_run(f"{name}-seed{s}", options.recipe, settings, s, name) for s in seeds]
    return [_run(f"{paper}-seed{s}", paper, [], s) for paper in PAPERS for s in seeds]


def _run(
    name: str, recipe: str, settings: list[str], seed: int, as_name: str = ""
) -> dict[str, Any]:
    return {
        "name": name,
        "recipe": recipe,
        "set": settings,
        "seed": seed,
        "as_name": as_name or name.rsplit("-seed", 1)[0],
    }


def summary_of(folder: Path, test: bool) -> dict[str, Any] | None:
    """The summary of a finished run; None while it is not, or not scored on what is asked."""
    path = folder / "summary.json"
    if not path.is_file():
        return None
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    scored = any(key.startswith(("PrivateTest", "test")) for key in summary)
    return summary if scored or not test else None


def train_all(
    options: argparse.Namespace,
    runs: list[dict[str, Any]],
    teachers: list[str],
    after: Callable[[], None],
) -> bool:
    """Keep --jobs processes busy until all runs are done or the time is up; whether all are."""
    folder = options.work / "runs"
    make_folder(folder)
    waiting = [r for r in runs if summary_of(folder / r["name"], options.test) is None]
    active: list[tuple[dict[str, Any], subprocess.Popen[bytes]]] = []
    failed: list[str] = []
    try:
        while (waiting or active) and time.monotonic() < options.deadline:
            while waiting and len(active) < options.jobs:
                run = waiting.pop(0)
                active.append((run, _start(options, run, folder / run["name"], teachers)))
            time.sleep(0.2)
            for run, process in [pair for pair in active if pair[1].poll() is not None]:
                active.remove((run, process))
                if process.returncode:
                    failed.append(run["name"])
                    say(f"{run['name']} failed; see {folder / run['name']}.log")
                else:
                    say(f"{run['name']} done")
                    after()
    finally:
        for _, process in active:  # their last.ckpt is whole: the next call resumes them
            process.terminate()
        for _, process in active:
            process.wait()
    if failed:
        raise RecipeError(f"{len(failed)} runs failed: {', '.join(failed)}; their logs say why.")
    return not waiting and not active


def _start(
    options: argparse.Namespace, run: dict[str, Any], folder: Path, teachers: list[str]
) -> subprocess.Popen[bytes]:
    task = {
        **run,
        "more": options.set,
        "steps": options.steps,
        "dataset": str(options.dataset),
        "folder": str(folder),
        "device": options.device,
        "test": options.test,
        "teachers": teachers,
    }
    command = [sys.executable, str(HERE / "worker.py"), json.dumps(task)]
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env={**os.environ, **ALLOCATOR, "PYTHONUNBUFFERED": "1"},
        )


# ---- what comes out ----------------------------------------------------------------------------


def report(options: argparse.Namespace, runs: list[dict[str, Any]], **more: Any) -> None:
    """Write STAGE.json: every finished run, and whatever the stage adds."""
    folder = options.work / "runs"
    found = [s for r in runs if (s := summary_of(folder / r["name"], False)) is not None]
    record = {
        "stage": options.stage,
        "steps": options.steps,
        "of": len(runs),
        "runs": found,
        **more,
    }
    write_text(options.out / f"{options.stage}.json", json.dumps(record, indent=1) + "\n")


def bring_back(options: argparse.Namespace, runs: list[dict[str, Any]]) -> list[str]:
    """Copy the best runs' weights to --out, as many as --files and --mib allow; their names."""
    folder = options.work / "runs"
    found = [s for r in runs if (s := summary_of(folder / r["name"], False)) is not None]
    found.sort(key=lambda s: -(s["val_accuracy"] or 0))
    room = options.mib * 2**20
    brought: list[str] = []
    for summary in found[: options.files]:
        target = options.out / f"{summary['name']}.ckpt"
        size = half(folder / summary["name"] / "best.ckpt", target)
        room -= size
        if room < 0 or size > 16 * 2**20:
            target.unlink()
            say(f"{target.name} is left in {folder}: {size / 2**20:.1f} MiB do not fit")
            break
        brought.append(target.name)
    return brought


def combine(options: argparse.Namespace, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The ensembles of all runs, equal and greedy; the greedy one's folder teaches."""
    from mien.data import make_splits
    from mien.train.ensemble import build_ensemble

    dataset = load_dataset(options.dataset)
    splits = make_splits(dataset, "fer2013")
    paths = [options.work / "runs" / run["name"] for run in runs]
    records = {}
    for choose in ("equal", "greedy"):
        # The test split is for one of them: the one that is better on PublicTest.
        out = options.work / f"ensemble-{choose}"
        args = {"views": "ten", "choose": choose, "device": options.device, "say": say}
        records[choose] = build_ensemble(paths, dataset, splits, out, **args)
    best = max(records, key=lambda c: records[c]["val"]["accuracy"])
    if options.test:
        out = options.work / f"ensemble-{best}"
        args |= {"choose": best, "test": True}
        records[best] = build_ensemble(paths, dataset, splits, out, **args)
    return {"best": best, **records}


def teachers_of(options: argparse.Namespace) -> list[str]:
    """--teacher, else the ensemble in the work folder, else every base seed that is there."""
    if options.teacher:
        return [str(path) for path in options.teacher]
    for choose in ("greedy", "equal"):
        if (options.work / f"ensemble-{choose}" / "ensemble.json").is_file():
            return [str(options.work / f"ensemble-{choose}")]
    found = sorted((options.work / "runs").glob(f"{options.recipe}-seed*/summary.json"))
    if not found:
        raise RecipeError("There is no teacher: run --stage base-seeds first, or give --teacher.")
    return [str(path.parent) for path in found]


def speed(options: argparse.Namespace) -> None:
    """The speed runs, alone on the machine, in this process."""
    from mien.data import make_splits
    from mien.train.recipe import override
    from mien.train.recipes import get_recipe
    from mien.train.speedrun import speedrun

    dataset = load_dataset(options.dataset)
    records: dict[str, Any] = {}
    for name in ("mien_fast", "mien_fast_folder"):
        recipe = override(get_recipe(name), options.set)
        if options.steps:
            recipe = replace(recipe, epochs=2, batch_size=16, clean_epochs=1)
        test = options.test or recipe.protocol == "fer2013-folder"

        def write(record: dict[str, Any], name: str = name) -> None:
            records[name] = record
            report(options, [], speedruns=records)

        speedrun(
            recipe,
            dataset,
            make_splits(dataset, recipe.protocol),
            seeds=range(options.seeds),
            device=options.device,
            test=test,
            write=write,
        )
        say(f"{name}: {records[name]['seconds']} s, {100 * records[name]['accuracy']:.2f} %")


def stage(options: argparse.Namespace) -> int:
    """Run one stage as far as the time allows; 0 when it is complete, 1 when some is left."""
    options.dataset = decoded(options)
    if options.stage == "speedrun":
        speed(options)
        return 0
    runs = runs_of(options)
    teachers = teachers_of(options) if options.stage == "distill" else []
    report(options, runs)
    complete = train_all(options, runs, teachers, lambda: report(options, runs))
    more: dict[str, Any] = {"complete": complete}
    if complete and options.stage == "ensemble":
        more["ensemble"] = combine(options, runs)
    if options.stage == "ablation":
        from mien.train.ablation import read_table, summarise, to_markdown

        more["table"] = summarise(read_table(options.table), options.work / "runs")
        write_text(options.out / "ablation.md", to_markdown(more["table"]))
    elif options.stage != "papers":
        more["weights"] = bring_back(options, runs)
    report(options, runs, **more)
    say(f"{options.stage}: {'complete' if complete else 'call again for the rest'}")
    return 0 if complete else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--stage", choices=STAGES, required=True)
    add("--data", type=Path, help="FER2013 with FER+ votes in any published form")
    add("--work", type=Path, default=Path("out/flagship-work"), help="trainings; kept")
    add("--out", type=Path, default=Path(os.environ.get("OUT") or "out/flagship"))
    add("--recipe", default="mien_wide", help="the single network")
    add("--set", action="append", default=[], help="key=value, for every run")
    add("--seeds", type=int, default=5)
    add("--members", type=int, default=len(MEMBERS), help="ensemble: beside the base seeds")
    add("--rows", type=int, help="ablation: the first so many rows")
    add("--table", type=Path, default=HERE / "ablation.toml")
    add("--teacher", type=Path, action="append", default=[])
    add("--jobs", type=int, default=4, help="trainings at a time")
    add("--limit", type=float, default=540, help="seconds, decoding included")
    add("--files", type=int, default=4, help="checkpoints to write to --out")
    add("--mib", type=float, default=56, help="room for them")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--test", action="store_true", help="score PrivateTest: when every choice was made")
    add("--steps", type=int, default=0, help="a trial: so many steps an epoch, two epochs")
    return parser.parse_args()


def main() -> int:
    options = parse()
    try:
        options.deadline = time.monotonic() + options.limit
        if options.device == "auto":
            import torch

            options.device = "cuda" if torch.cuda.is_available() else "cpu"
        options.work, options.out = options.work.resolve(), options.out.resolve()
        make_folder(options.work)
        make_folder(options.out)
        return stage(options)
    except MienError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
