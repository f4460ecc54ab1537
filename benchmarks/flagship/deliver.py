"""What comes out of the GPU pack: summaries, their report, weights, and the papers' run folders."""

from __future__ import annotations

import argparse
import json
import zipfile
from pathlib import Path
from typing import Any

from worker import FILE_BYTES, PACK, copy_file, half, recipe_of, say

from mien.atomic import atomic_path, write_text
from mien.errors import RecipeError

#: An archive's own table of contents.
ZIP_BYTES = 2**16


def plain(recipe: Any) -> dict[str, Any]:
    """A recipe as it stands in a JSON file, without its claim, which is no part of the training."""
    record: dict[str, Any] = json.loads(recipe.to_json())
    record.pop("claim", None)
    return record


def identity_of(
    run: dict[str, Any], steps: int, sha256: str, teachers: list[list[Any]]
) -> dict[str, Any]:
    """What makes a result that of a run: the recipe after --set, the trial, the data, teachers."""
    return {
        "recipe": plain(recipe_of(run, steps)),
        "steps": steps,
        "data": sha256,
        "teachers": teachers,
    }


def summary_of(
    options: argparse.Namespace, run: dict[str, Any], test: bool
) -> dict[str, Any] | None:
    """The summary of a finished run; None while it is not, or not scored on what is asked.

    Raises:
        RecipeError: the folder holds the result of something else.
    """
    path = options.work / "runs" / run["name"] / "summary.json"
    if not path.is_file():
        return None
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    wanted = {**run["identity"], "seed": run["seed"]}
    other = [key for key, value in wanted.items() if summary.get(key) != value]
    if other:
        raise RecipeError(
            f"{path.parent} holds a result with another {' and '.join(other)}; move it away or "
            "use another --work."
        )
    return summary if summary["tested"] or not test else None


def finished(options: argparse.Namespace, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The summaries of the runs that are done."""
    return [s for run in runs if (s := summary_of(options, run, False)) is not None]


def report(options: argparse.Namespace, runs: list[dict[str, Any]], **more: Any) -> None:
    """Write STAGE.json: every finished run, and whatever the stage adds."""
    record = {
        "stage": options.stage,
        "steps": options.steps,
        "of": len(runs),
        "runs": finished(options, runs),
        **more,
    }
    write_text(options.out / f"{options.stage}.json", json.dumps(record, indent=1) + "\n")


def last_lines(log: Path, n: int = 20) -> str:
    """The end of a log that stays behind in the work folder."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-n:])


def bring_back(options: argparse.Namespace, runs: list[dict[str, Any]]) -> list[str]:
    """Copy the best runs' weights to --out, as many as --files and --mib allow; their names."""
    found = sorted(finished(options, runs), key=lambda s: -(s["val_accuracy"] or 0))
    room = options.mib * 2**20
    brought: list[str] = []
    for summary in found[: options.files]:
        folder = options.work / "runs" / summary["name"]
        target = options.out / f"{summary['name']}.ckpt"
        size = half(folder / "best.ckpt", target)
        if size > min(room, FILE_BYTES):
            target.unlink()
            say(f"{target.name} stays in {folder}: {size / 2**20:.1f} MiB do not fit")
            continue
        room -= size
        brought.append(target.name)
    return brought


def bring_papers(options: argparse.Namespace, runs: list[dict[str, Any]]) -> list[str]:
    """Copy the papers' packs to --out/runs, or into archives; the runs that are whole there.

    Records and predictions of all runs go first: they are small and cannot be made again without
    scoring again. Then both checkpoints of one run after the other while --mib has room.
    """
    chosen: list[tuple[Path, str]] = []
    whole: list[str] = []
    room = options.mib * 2**20
    packs = {s["name"]: options.work / "runs" / s["name"] / PACK for s in finished(options, runs)}
    for weights in (False, True):
        for name, pack in packs.items():
            files = [p for p in sorted(pack.rglob("*")) if p.is_file()]
            files = [p for p in files if (p.suffix == ".ckpt") == weights]
            size = sum(p.stat().st_size for p in files)
            if size > room or (weights and not files):
                continue
            room -= size
            chosen += [(p, f"{name}/{p.relative_to(pack).as_posix()}") for p in files]
            if weights:
                whole.append(name)
    if options.archive:
        _archive(options.out, chosen)
    else:
        for source, name in chosen:
            target = options.out / "runs" / name
            if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
                copy_file(source, target)
    return whole


def _archive(out: Path, chosen: list[tuple[Path, str]]) -> None:
    """``papers-1.zip``, … of at most 16 MiB, each file in the first that has room for it."""
    volumes: list[list[tuple[Path, str]]] = []
    rooms: list[int] = []
    for source, name in sorted(chosen, key=lambda c: -c[0].stat().st_size):
        size = source.stat().st_size + 512
        fits = [i for i, room in enumerate(rooms) if size <= room]
        if not fits:
            volumes.append([])
            rooms.append(FILE_BYTES - ZIP_BYTES)
            fits = [len(volumes) - 1]
        volumes[fits[0]].append((source, name))
        rooms[fits[0]] -= size
    for number, volume in enumerate(volumes, 1):
        with (
            atomic_path(out / f"papers-{number}.zip") as partial,
            zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for source, name in volume:
                archive.write(source, name)
