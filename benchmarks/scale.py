"""How well does `mien batch` scale, and does it keep every row?

    python benchmarks/scale.py photos DATA [--count 20000]    one process, two, two Ray actors
    python benchmarks/scale.py video [--minutes 60]           mien video against mien batch
    python benchmarks/scale.py kills [--count 30] [--engine ray]
    python benchmarks/scale.py nodes                          two Ray nodes, one of them killed

``DATA`` is a folder with muxspace.parquet, whose photos are written out and copied up to
``--count``. The video is a clip of the public-domain portrait, looped. Each figure comes as wall
time and as processor time of all processes, for a busy machine; start-up is measured alone.
docs/scale.md holds the outcome. Ray has to be installed for its parts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from video import make_video

TICKS = os.sysconf("SC_CLK_TCK")


class Tree:
    """Processor seconds of a process and all its descendants, orphans among them, by sampling."""

    def __init__(self, root: int) -> None:
        self._known, self._seconds = {root}, dict[int, float]()

    def sample(self) -> float:
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            pid = int(path.parent.name)
            if pid in self._known or int(fields[1]) in self._known:
                self._known.add(pid)
                self._seconds[pid] = (int(fields[11]) + int(fields[12])) / TICKS
        return sum(self._seconds.values())


def run(*arguments: object, kill_after: float | None = None) -> dict[str, float]:
    """Run mien; its exit code, wall and processor seconds."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mien", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    tree = Tree(process.pid)
    while process.poll() is None:
        tree.sample()
        if kill_after is not None and time.perf_counter() - begun > kill_after:
            process.kill()
            process.wait()
        time.sleep(0.1)
    wall = time.perf_counter() - begun
    return {"code": process.returncode, "wall": round(wall, 1), "cpu": round(tree.sample(), 1)}


def rows(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The tables without what differs from run to run, in order."""
    found = {}
    for name in ("sources", "frames", "faces"):
        table = pq.read_table(out / name, partitioning=None).to_pylist()
        for row in table:
            row.pop("seconds", None)
        table.sort(key=lambda r: (r["source"], r.get("frame") or 0, r.get("face") or 0))
        found[name] = table
    return found


def write_photos(folder: Path, parquet: Path, count: int) -> Path:
    """``count`` photos of the data set, copied where it has fewer."""
    folder.mkdir()
    done = 0
    while done < count:
        for batch in pq.ParquetFile(parquet).iter_batches(1024, columns=["image"]):
            for image in batch.column(0).to_pylist():
                if done < count:
                    (folder / f"{done:06d}.jpg").write_bytes(image["bytes"])
                    done += 1
    return folder


def write_video(path: Path, seconds: int, loops: int = 1) -> Path:
    """A 640x480 clip of a face that moves, ``loops`` times."""
    clip = path.with_stem(f"{path.stem}-clip")
    make_video(clip, seconds)
    loop = ["ffmpeg", "-v", "error", "-y", "-stream_loop", str(loops - 1), "-i", str(clip)]
    subprocess.run([*loop, "-c", "copy", str(path)], check=True)
    clip.unlink()
    return path


def engines(ray: bool) -> dict[str, Sequence[str]]:
    found = {"one process": ("--workers", "1"), "two processes": ("--workers", "2")}
    return found | ({"Ray, two actors": ("--engine", "ray", "--workers", "2")} if ray else {})


def photos(options: argparse.Namespace, top: Path) -> dict[str, Any]:
    """Wall and processor seconds of the engines, and those of sixteen photos, the start-up."""
    many = write_photos(top / "photos", options.data / "muxspace.parquet", options.count)
    few = write_photos(top / "few", options.data / "muxspace.parquet", 16)
    found: dict[str, Any] = {"photos": options.count}
    for name, more in engines(has_ray()).items():
        out = top / name
        start = run("batch", few, "--out", top / f"few {name}", *more)
        whole = run("batch", many, "--out", out, *more)
        found[name] = whole | {"start": start}
        if name != "one process":
            found[name]["same rows"] = rows(out) == rows(top / "one process")
        print(name, found[name], file=sys.stderr)
    return found


def video(options: argparse.Namespace, top: Path) -> dict[str, Any]:
    """`mien video` against `mien batch` with two processes, on one long video."""
    video = write_video(top / "long.mp4", 60, options.minutes)
    found: dict[str, Any] = {"minutes": options.minutes}
    found["video"] = run("video", video, "--parquet", top / "video.parquet")
    found["batch"] = run("batch", video, "--out", top / "out", "--workers", "2")
    one = pq.read_table(top / "video.parquet").to_pylist()
    two = pq.read_table(top / "out" / "faces", partitioning=None).to_pylist()
    names = one[0].keys() & two[0].keys()
    one = [{k: r[k] for k in names} for r in one if r["face"]]
    found["faces"] = len(one)
    found["same rows"] = one == [{k: r[k] for k in names} for r in two]
    return found


def kills(options: argparse.Namespace, top: Path) -> dict[str, Any]:
    """SIGKILL at random moments, again and again, until the batch is done."""
    folder = write_photos(top / "photos", options.data / "muxspace.parquet", 120)
    (folder / "bad.jpg").write_bytes(b"no image")
    sources = [folder, write_video(top / "video.mp4", 50)]
    command = ["batch", *sources, "--checkpoint", "0", "--workers", "2", "--engine", options.engine]
    whole = run(*command, "--out", top / "whole")
    wanted, rng = rows(top / "whole"), np.random.default_rng(options.seed)
    killed = runs = lost = 0
    while killed < options.count:
        out = top / f"out{runs}"
        while run(*command, "--out", out, kill_after=rng.uniform(1, whole["wall"]))["code"] < 0:
            killed += 1
        runs += 1
        lost += rows(out) != wanted or any(p.name.startswith(".") for p in out.rglob("*"))
        print(f"{killed} kills, {runs} batches, {lost} differ", file=sys.stderr)
    return {"engine": options.engine, "kills": killed, "batches": runs, "differ": lost}


def nodes(options: argparse.Namespace, top: Path) -> dict[str, Any]:
    """Two Ray nodes of one CPU each; the second is killed in the middle."""
    folder = write_photos(top / "photos", options.data / "muxspace.parquet", options.count)
    program, address = str(Path(sys.executable).with_name("ray")), "127.0.0.1:6397"
    common = ["--num-cpus", "1", "--block", "--disable-usage-stats"]
    head = [program, "start", "--head", "--port", "6397", "--include-dashboard", "false", *common]
    running: list[subprocess.Popen[bytes]] = []
    here = {**os.environ, "RAY_AUTH_MODE": "disabled"}  # alike for all, whatever token lies about
    for command in (head, [program, "start", "--address", address, *common]):
        running.append(subprocess.Popen(command, env=here, start_new_session=True))
        time.sleep(20)
    arguments = ["--out", str(top / "out"), "--engine", "ray", "--address", address]
    batch = [sys.executable, "-m", "mien", "batch", str(folder), "--checkpoint", "0", *arguments]
    try:
        driver = subprocess.Popen(batch, env=here)
        while len(list((top / "out" / "sources").glob("[!.]*.parquet"))) < 3:
            if driver.poll() is not None:
                raise SystemExit("the batch ended before a node could be killed")
            time.sleep(0.1)
        os.killpg(running[1].pid, signal.SIGKILL)
        code = driver.wait()
    finally:
        for node in running:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGTERM)
                node.wait()
    run("batch", folder, "--out", top / "local")
    return {"code": code, "same rows": rows(top / "out") == rows(top / "local")}


def has_ray() -> bool:
    try:
        import ray  # noqa: F401
    except ImportError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[part.__name__ for part in PARTS])
    parser.add_argument(
        "data", type=Path, nargs="?", default=Path(os.environ.get("MIEN_DATA", "."))
    )
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--engine", default="local")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.count = options.count or {"photos": 20_000, "kills": 30}.get(options.part, 400)
    top = Path(tempfile.mkdtemp(prefix="mien-scale-"))
    try:
        part = next(part for part in PARTS if part.__name__ == options.part)
        print(json.dumps(part(options, top), indent=2))
    finally:
        shutil.rmtree(top, ignore_errors=True)


PARTS = (photos, video, kills, nodes)

if __name__ == "__main__":
    main()
