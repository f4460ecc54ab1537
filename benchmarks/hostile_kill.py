"""SIGKILL at random moments: the next run must give what an undisturbed one gives, and tidy up."""

from __future__ import annotations

import argparse
import csv
import functools
import hashlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from skimage import data as skimage_data

KILLS = 50
#: Keys of JSON records that hold times, commands and places, not results.
VOLATILE = {
    "created", "started", "seconds", "command", "resumed", "environment", "images_per_s", "cpu",
    "mean", "each", "threads", "precision_why", "stopped", "time_seconds", "time", "minutes",
}  # fmt: skip


@dataclass(frozen=True)
class Verb:
    """One verb to kill: its command in a folder, and what it must leave there."""

    name: str
    command: Callable[[Path], list[str]]
    results: tuple[str, ...]
    resume: tuple[str, ...] = ()


def _inputs(folder: Path) -> None:
    """Photos, a video and a dataset, all drawn or in the public domain."""
    portrait = np.ascontiguousarray(skimage_data.astronaut()[:, :, ::-1])
    (folder / "photos").mkdir()
    for k in range(40):
        turned = np.roll(portrait[:384], 4 * k, axis=1)
        cv2.imwrite(str(folder / "photos" / f"{k:02d}.jpg"), turned)
    writer = cv2.VideoWriter(
        str(folder / "film.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (512, 384)
    )
    for k in range(150):
        writer.write(np.roll(portrait[:384], k % 40, axis=1))
    writer.release()
    rng = np.random.default_rng(0)
    rows = ["emotion,pixels,Usage"]
    for k in range(700):
        face = cv2.resize(rng.integers(0, 256, (6, 6)).astype(np.uint8), (48, 48))
        usage = ("Training", "Training", "Training", "PublicTest", "PrivateTest")[k % 5]
        rows.append(f"{k % 7},{' '.join(map(str, face.ravel()))},{usage}")
    for name in ("a", "b"):  # crops for finetune and label
        (folder / "crops" / name).mkdir(parents=True)
        for k in range(30):
            face = cv2.resize(rng.integers(0, 256, (6, 6)).astype(np.uint8), (48, 48))
            face[: 24 if name == "a" else 8] //= 3
            cv2.imwrite(str(folder / "crops" / name / f"{k:02d}.png"), face)
    (folder / "data.csv").write_text("\n".join(rows) + "\n")


def verbs(inputs: Path) -> list[Verb]:
    """Every verb that works for long and writes files."""
    data = str(inputs / "data.csv")
    fast = ["--set", "epochs=2", "--set", "batch_size=32", "--set", "precision=32"]
    fast += ["--set", "loss.ferplus_auxiliary=0"]
    return [
        Verb(
            "predict",
            lambda d: ["predict", str(inputs / "photos"), "--csv", str(d / "t.csv")],
            ("t.csv",),
        ),
        Verb(
            "annotate",
            lambda d: ["predict", str(inputs / "photos"), "--annotate", str(d / "drawn")],
            ("drawn",),
        ),
        Verb(
            "video",
            lambda d: [
                "video", str(inputs / "film.mp4"), "--out", str(d / "o.mp4"),
                "--csv", str(d / "o.csv"), "--plot", str(d / "o.html"),
            ],
            ("o.csv",),
            ("--resume",),
        ),
        Verb(
            "train",
            lambda d: [
                "train", "mien_fast", "--data", data, "--out", str(d / "run"), "--device", "cpu",
                *fast,
            ],
            ("run/best.ckpt", "run/curves.csv"),
            ("--resume",),
        ),
        Verb(
            "finetune",
            lambda d: [
                "finetune", str(inputs / "crops"), "--faces", "--method", "linear",
                "--out", str(d / "mine.onnx"),
            ],
            ("mine.onnx",),
        ),
        Verb(
            "convert",
            lambda d: ["data", "convert", data, str(d / "faces")],
            ("faces",),
        ),
        Verb(
            "reproduce",
            lambda d: [
                "reproduce", "mondal2022", "--data", data, "--runs", str(d / "runs"),
                "--out", str(d / "report"), "--dry-run", "--device", "cpu",
            ],
            ("report/reproduction.json",),
        ),
        Verb(
            "sweep",
            lambda d: [
                "sweep", "ahmed2024", "--data", data, "--runs", str(d / "runs"), "--init", "random",
                "--out", str(d / "sweep.json"), "--dry-run", "--device", "cpu", "--best",
                "--only", "backbone=mobilenetv2,batch=64",
            ],
            ("sweep.json",),
        ),
        Verb(
            "finetune network",
            lambda d: [
                "finetune", str(inputs / "crops"), "--faces", "--out", str(d / "mine.onnx"),
                "--method", "network", "--epochs", "2",
            ],
            ("mine.onnx",),
        ),
        Verb(
            "batch",
            lambda d: [
                "batch", str(inputs / "photos"), str(inputs / "film.mp4"), "--out",
                str(d / "tables"), "--workers", "1", "--checkpoint", "0.2",
            ],
            ("tables",),
        ),
    ]  # fmt: skip


def _run(arguments: list[str], kill_after: float | None = None) -> tuple[int, str]:
    environment = {**os.environ, "COLUMNS": "200"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mien", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, errors = process.communicate()
    return process.returncode, errors


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in VOLATILE}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _digest(path: Path) -> str:
    """What a result says, without times: files of a folder, values of JSON, weights."""
    if (path / "batch.json").exists():
        rows = [
            repr({k: v for k, v in row.items() if k != "seconds"})
            for table in ("sources", "frames", "faces")
            for file in (path / table).glob("*.parquet")
            for row in pq.read_table(file, partitioning=None).to_pylist()
        ]
        return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()
    if path.is_dir():
        parts = [
            f"{p.relative_to(path)} {_digest(p)}" for p in sorted(path.rglob("*")) if p.is_file()
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if path.suffix == ".json":
        text = json.dumps(_plain(json.loads(path.read_text())), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
    if path.suffix == ".ckpt":
        from mien.train import load_checkpoint

        state = load_checkpoint(path).model.state_dict()
        whole = b"".join(state[k].numpy().tobytes() for k in sorted(state))
        return hashlib.sha256(whole).hexdigest()
    if path.name == "curves.csv":  # its last column is seconds
        lines = [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hidden(folder: Path, whole: set[str]) -> list[str]:
    """Work files that are left over, and what else an undisturbed run does not leave; locks are
    empty and may stay."""
    names = [p for p in folder.rglob("*") if p.name.startswith(".") or ".part" in p.name]
    names += [p for p in folder.iterdir() if p.name not in whole and p not in names]
    return [str(p.relative_to(folder)) for p in names if p.is_dir() or p.stat().st_size]


def run_kill(options: argparse.Namespace) -> dict[str, Any]:
    """Kill every verb at random moments; the next run must leave what an undisturbed one does."""
    kills = options.count or KILLS
    rng = np.random.default_rng(options.seed)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as top:
        inputs = Path(top)
        _inputs(inputs)
        for verb in verbs(inputs):
            if options.verb and verb.name not in options.verb:
                continue
            found[verb.name] = _kill_verb(verb, inputs, kills, rng)
            print(f"  {verb.name}: {found[verb.name]}", file=sys.stderr, flush=True)
        if not options.verb or "label" in options.verb:
            found["label"] = _kill_label(inputs, kills, rng)
            print(f"  label: {found['label']}", file=sys.stderr, flush=True)
    met = all(not v["lost"] and not v["leftovers"] for v in found.values())
    return {"verbs": found, "met": met}


def _kill_verb(verb: Verb, inputs: Path, kills: int, rng: np.random.Generator) -> dict[str, Any]:
    out = inputs / "out"
    start = time.perf_counter()
    code, errors = _run(verb.command(_fresh(out)))
    seconds = time.perf_counter() - start
    if code:
        return {
            "kills": 0,
            "lost": 1,
            "leftovers": 0,
            "why": f"exit {code}: {errors.strip()[-300:]}",
        }
    wanted, whole = [_digest(out / name) for name in verb.results], {p.name for p in out.iterdir()}
    lost, leftovers, examples, killed = 0, 0, [], 0
    while killed < kills:
        _fresh(out)
        for _ in range(int(rng.integers(1, 6))):  # mostly what goes on is killed again
            code, _ = _run(_again(verb, out), float(rng.uniform(0.05, 1.0) * seconds))
            killed += code == -signal.SIGKILL
        code, errors = _run(_again(verb, out))
        try:
            same = [_digest(out / name) for name in verb.results] == wanted
        except OSError as error:
            same, errors = False, f"{errors} {error}"
        if code or not same:
            lost += 1
            examples.append(errors.strip()[-300:] or "another result")
        if hidden := _hidden(out, whole):
            leftovers += 1
            examples.append(", ".join(hidden[:5]))
    return {
        "seconds": round(seconds, 2),
        "kills": killed,
        "lost": lost,
        "leftovers": leftovers,
        "examples": examples[:5],
    }


def _ask(url: str, token: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}v1/label", data, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found


def _kill_label(inputs: Path, kills: int, rng: np.random.Generator) -> dict[str, Any]:
    """Answer one face after the other until the server is killed: every answer that it
    acknowledged must be in the table, in order, and the next server must go on behind it."""
    table, given, lost, examples = inputs / "labels.csv", [], 0, []
    command = [sys.executable, "-m", "mien", "label", str(inputs / "crops"), "--faces"]
    command += ["--classes", "a,b", "--no-browser", "--out", str(table)]
    for kill in range(kills):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        said = ""
        while "#token=" not in said:
            said += process.stderr.readline()
        ask = functools.partial(_ask, *said.split(" at ")[1].split()[0].split("#token="))
        try:
            state = ask()
            threading.Timer(float(rng.uniform(0, 0.4)), process.kill).start()
            for number in range(10**6):
                if state["face"] is None:
                    state = ask()
                    continue
                label = f"{kill}.{number}"
                state = ask({"face": state["face"]["number"], "label": label})
                given.append(label)
        except (OSError, http.client.HTTPException):
            process.wait()
        rows = list(csv.DictReader(table.open(newline=""))) if table.exists() else []
        written = [row["label"] for row in rows]
        # The answer that the kill took away may have been written already.
        if written[: len(given)] != given or len(written) > len(given) + 1:
            lost += 1
            examples.append(f"{len(given)} given, {len(written)} written")
        given = [] if len(written) > 40 else written
        if not given:
            table.unlink(missing_ok=True)
    return {"kills": kills, "lost": lost, "leftovers": 0, "examples": examples[:5]}


def _again(verb: Verb, out: Path) -> list[str]:
    begun = any(out.iterdir())
    return [*verb.command(out), *(verb.resume if begun else ())]


def _fresh(out: Path) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    return out
