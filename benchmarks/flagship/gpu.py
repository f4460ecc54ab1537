"""The flagship's trainings on one GPU, in stages that stop in time and go on when called again.

    PYTHONPATH=. python benchmarks/flagship/gpu.py --stage base-seeds --data fer2013.parquet

Stages: base-seeds, ensemble, ablation, speedrun, distill, ferplus, papers. The dataset is decoded
once into --work; a process a training (--jobs at a time) keeps it on the GPU, augments there in
batches, and trains in bfloat16 and channels_last. Results are written to --out ($OUT, else
out/flagship) as they come: STAGE.json, and the best checkpoints with their weights in half
precision, within --files and --mib; of the papers, run folders that `mien reproduce` takes.
--limit ends a call in time; --work keeps what was begun, so the same call later goes on where it
stopped. PrivateTest is scored with --test alone, when every choice was made. --steps N runs a
stage from end to end on N steps an epoch, on a CPU too, in folders stepsN of its own.
"""

from __future__ import annotations

import argparse
import hashlib
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
from deliver import (
    bring_back,
    bring_papers,
    finished,
    identity_of,
    last_lines,
    report,
    summary_of,
)
from stages import better, combine, speed
from worker import save_dataset, say, sha256_of

from mien._system import file_sha256
from mien.atomic import make_folder
from mien.cli._training import ALLOCATOR
from mien.data.dataset import FaceDataset
from mien.errors import MienError, RecipeError

HERE = Path(__file__).resolve().parent

#: Members of the ensemble beside the base seeds: what differs in build errs differently.
MEMBERS: dict[str, list[str]] = {
    "se": ["model_args.se=8"],
    "rep": ["model_args.block=rep", "model_args.blocks=[3,3,2]", "model_args.drop_path=0"],
    "sgd": [
        "optimizer.name=sgd",
        "optimizer.lr=0.2",
        "optimizer.momentum=0.9",
        "optimizer.rest_scale=1",
        "optimizer.renormalise=false",
    ],
    "mixup": ["loss.mixup=0.2"],
    "cutmix": ["loss.cutmix=1.0"],
    "votes": ["loss.ferplus_blend=0.3"],
    "narrow": ["model_args.widths=[96,192,384]", "model_args.blocks=[2,2,2]"],
}
#: The papers' runs on FER2013 itself, and their systems; other sets go by `mien reproduce`.
PAPERS = {
    "debnath_convnet": "debnath2021",
    "njoku_cnn": "njoku2024",
    "mondal_shallow": "mondal2022",
    "mondal_dropout": "mondal2022",
    "mondal_deep": "mondal2022",
}
STAGES = ("base-seeds", "ensemble", "ablation", "speedrun", "distill", "ferplus", "papers")


def shrink(dataset: FaceDataset, steps: int) -> FaceDataset:
    """``steps`` batches of 16 of Training and 32 images each of the other splits."""
    rows = []
    for split in np.unique(dataset.splits):
        few = np.flatnonzero(dataset.splits == split)
        rows.append(few[: 16 * steps if split == "Training" else 32])
    return dataset.take(np.concatenate(rows))


def mark_of(data: Path) -> str:
    """Twelve digits that change with the dataset: of a file's bytes and of CSVs beside it (FER+
    votes), of a folder's names, sizes and dates."""
    where = data.resolve()
    if where.is_file():
        beside = [where] if where.suffix != ".csv" else sorted(where.parent.glob("*.csv"))
        facts = [where.name, *(file_sha256(path) for path in beside)]
    else:
        found = [(p, p.stat()) for p in sorted(where.rglob("*")) if p.is_file()]
        facts = [str(where), *(f"{p} {s.st_size} {s.st_mtime_ns}" for p, s in found)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def decoded(options: argparse.Namespace) -> Path:
    """The dataset as .npz in the work folder, decoded by the first call; without --data the one
    that is there."""
    from mien.data import default_data_path, read_for_protocol

    kept = sorted(options.work.glob("fer2013-*.npz"))
    if options.data is None and len(kept) > 1:
        raise RecipeError(f"{options.work} holds {len(kept)} datasets; say which with --data.")
    if options.data is None and kept:
        return kept[0]
    source = default_data_path() if options.data is None else options.data
    path = options.work / f"fer2013-{mark_of(source)}.npz"
    if not path.is_file():
        start = time.monotonic()
        dataset = read_for_protocol(source, "fer2013")
        if options.steps:
            dataset = shrink(dataset, options.steps)
        save_dataset(dataset, path)
        say(f"decoded {len(dataset):,} images in {time.monotonic() - start:.1f} s")
    return path


# ---- what a stage trains ---------------------------------------------------------------------


def runs_of(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The trainings of a stage: name, recipe, settings with --set, seed, and what they are."""
    seeds, more = range(options.seeds), options.set
    base = [_run(f"{options.recipe}-seed{s}", options.recipe, more, s) for s in seeds]
    if options.stage == "base-seeds":
        return base
    if options.stage == "ensemble":
        members = {k: MEMBERS[k] for k in list(MEMBERS)[: options.members]}
        return base + [
            _run(f"{options.recipe}-{k}", options.recipe, [*v, *more], 100 + i)
            for i, (k, v) in enumerate(members.items())
        ]
    if options.stage == "ablation":
        table = table_of(options)
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
        return [_run(f"mien_distilled-seed{s}", "mien_distilled", more, s) for s in seeds]
    if options.stage == "ferplus":
        settings = ["protocol=ferplus-majority", *more]
        name = f"{options.recipe}-ferplus"
        return [_run(f"{name}-seed{s}", options.recipe, settings, s, name) for s in seeds]
    return [_paper(paper, seed, more) for paper in PAPERS for seed in seeds]


def table_of(options: argparse.Namespace) -> Any:
    """The ablation table; --set goes before the rows, so that a row stays what it says."""
    from mien.train.ablation import read_table

    table = read_table(options.table)
    return replace(table, settings=(*table.settings, *options.set))


def _paper(paper: str, seed: int, more: list[str]) -> dict[str, Any]:
    """A paper's own recipe as its reproduction runs it, which may be by another protocol: Njoku's
    test set is PublicTest and PrivateTest, and the reproduction has a validation split beside."""
    from mien.reproduce.spec import get_system

    protocol = get_system(PAPERS[paper]).run(paper).protocol
    run = _run(f"{paper}-seed{seed}", paper, [f"protocol={protocol}", *more], seed)
    return {**run, "paper": [PAPERS[paper], paper]}


def _run(
    name: str, recipe: str, settings: list[str], seed: int, as_name: str = ""
) -> dict[str, Any]:
    return {
        "name": name,
        "recipe": recipe,
        "set": settings,
        "seed": seed,
        "as_name": as_name or name.rsplit("-seed", 1)[0],
        "paper": None,
    }


def identified(
    options: argparse.Namespace, runs: list[dict[str, Any]], teachers: list[str]
) -> list[dict[str, Any]]:
    """The runs, each with what its result must be the result of."""
    from mien.train.distill import find_members

    members = find_members(Path(t) for t in teachers) if teachers else []
    taught = [[file_sha256(m.path), round(m.weight, 6)] for m in members]
    sha256 = sha256_of(options.dataset)
    return [{**r, "identity": identity_of(r, options.steps, sha256, taught)} for r in runs]


def train_all(
    options: argparse.Namespace,
    runs: list[dict[str, Any]],
    teachers: list[str],
    after: Callable[[], object],
) -> tuple[bool, list[str]]:
    """Keep --jobs processes busy until all runs are done or the time is up.

    Returns:
        whether all are done, and the names of those that failed.
    """
    folder = options.work / "runs"
    make_folder(folder)
    waiting = [r for r in runs if summary_of(options, r, options.test) is None]
    active: list[tuple[dict[str, Any], subprocess.Popen[bytes]]] = []
    failed: list[str] = []
    try:
        while (waiting or active) and time.monotonic() < options.deadline:
            while waiting and len(active) < max(options.jobs, 1):
                run = waiting.pop(0)
                active.append((run, _start(options, run, folder / run["name"], teachers)))
            time.sleep(0.2)
            for run, process in [pair for pair in active if pair[1].poll() is not None]:
                active.remove((run, process))
                if process.returncode:
                    failed.append(run["name"])
                    log = folder / f"{run['name']}.log"
                    say(f"{run['name']} failed; {log} ends:\n{last_lines(log)}")
                else:
                    say(f"{run['name']} done")
                    after()
    finally:
        for _, process in active:  # their last.ckpt is whole: the next call resumes them
            process.terminate()
        for _, process in active:
            process.wait()
    return not (waiting or active or failed), failed


def _start(
    options: argparse.Namespace, run: dict[str, Any], folder: Path, teachers: list[str]
) -> subprocess.Popen[bytes]:
    task = {
        **run,
        "steps": options.steps,
        "dataset": str(options.dataset),
        "folder": str(folder),
        "device": options.device,
        "test": options.test,
        "teachers": teachers,
        "command": sys.argv,
    }
    command = [sys.executable, str(HERE / "worker.py"), json.dumps(task)]
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env={**os.environ, **ALLOCATOR, "PYTHONUNBUFFERED": "1"},
        )


def teachers_of(options: argparse.Namespace) -> list[str]:
    """--teacher, else the work folder's ensemble (the better one), else every base seed there."""
    if options.teacher:
        return [str(path) for path in options.teacher]
    made = {choose: options.work / f"ensemble-{choose}" for choose in ("equal", "greedy")}
    scored = {}
    for choose, folder in made.items():
        path = folder / "ensemble.json"
        if path.is_file():
            scored[choose] = json.loads(path.read_text(encoding="utf-8"))["val"]["accuracy"]
    if scored:
        return [str(made[better(scored)])]
    found = sorted((options.work / "runs").glob(f"{options.recipe}-seed*/summary.json"))
    if not found:
        raise RecipeError("There is no teacher: run --stage base-seeds first, or give --teacher.")
    return [str(path.parent) for path in found]


def stage(options: argparse.Namespace) -> int:
    """Run one stage as far as the time allows; 0 when it is complete, 1 when some is left."""
    options.dataset = decoded(options)
    complete = speed(options) if options.stage == "speedrun" else _trained(options)
    say(f"{options.stage}: {'complete' if complete else 'call again for the rest'}")
    return 0 if complete else 1


def _trained(options: argparse.Namespace) -> bool:
    """A stage of trainings: what is finished is out before anything that may not end in time."""
    teachers = teachers_of(options) if options.stage == "distill" else []
    runs = identified(options, runs_of(options), teachers)

    def out(**more: Any) -> dict[str, Any]:
        if options.stage == "papers":
            more["weights"] = bring_papers(options, runs)
        report(options, runs, **more)
        return more

    out(complete=False)
    complete, failed = train_all(options, runs, teachers, lambda: out(complete=False))
    more = out(complete=complete and options.stage != "ensemble")  # which is not combined yet
    if options.stage == "ablation":
        from mien.train.ablation import summarise, write_pages

        sha256, dry_run = sha256_of(options.dataset), bool(options.steps)
        folder = options.work / "runs"
        more["table"] = summarise(table_of(options), folder, sha256=sha256, dry_run=dry_run)
        write_pages(more["table"], options.out, "ablation")
    elif options.stage == "papers":
        for summary in finished(options, runs):
            if summary["name"] not in more["weights"]:
                say(f"{summary['name']}: its weights do not fit and stay in {options.work}")
    else:
        more["weights"] = bring_back(options, runs)
    report(options, runs, **more)
    if failed:
        raise RecipeError(f"{len(failed)} runs failed: {', '.join(failed)}; see their last lines.")
    if complete and options.stage == "ensemble":
        made = combine(options, runs)
        complete = made is not None
        if made is None:
            say("too little time is left for the ensembles: they come with the next call")
        else:
            more["ensemble"] = made
        report(options, runs, **{**more, "complete": complete})
    return complete


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
    add("--archive", action="store_true", help="papers: archives of 16 MiB, not many small files")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--test", action="store_true", help="score PrivateTest: when every choice was made")
    add("--steps", type=int, default=0, help="a trial: so many steps an epoch, two epochs")
    return parser.parse_args()


def main() -> int:
    options = parse()
    try:
        from mien.train.precision import choose_device

        options.deadline = time.monotonic() + options.limit
        options.device = choose_device(options.device)
        options.work, options.out = options.work.resolve(), options.out.resolve()
        if options.steps:  # a trial's results and the real ones never meet
            options.work /= f"steps{options.steps}"
            options.out /= f"steps{options.steps}"
        make_folder(options.work)
        make_folder(options.out)
        return stage(options)
    except MienError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    if sys.platform.startswith("linux") and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    sys.exit(main())
