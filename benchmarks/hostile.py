"""What hostile hands can do to mien: damaged files by the thousand, kills, bombs to the server.

    python benchmarks/hostile.py images videos datasets models checkpoints
    python benchmarks/hostile.py kill server memory
    python benchmarks/hostile.py all --out results/hostile.json      # `make hostile`

Everything is made here, from a seed; the portrait is scikit-image's, in the public domain. Damaged
files are read in child processes, so that a crash is seen and counted: a sentence of mien's is the
right answer, any other exception, a crash, more than 2 s or more than 600 MiB is a failure.
Exit code 1: a target was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile_files import MAKERS, write_bombs

from mien._system import processor, versions
from mien.atomic import write_text

#: Files of each kind in a full run.
COUNTS = {"images": 12_000, "videos": 1_000, "datasets": 5_000, "models": 500, "checkpoints": 500}
SECONDS, MIB = 2.0, 600.0
BATCH = {"images": 400, "videos": 40, "datasets": 200, "models": 50, "checkpoints": 50}


class Hang(Exception):  # noqa: N818 - an alarm
    """The alarm rang."""


def _ring(*_: Any) -> None:
    raise Hang


def child(kind: str, seed: int, first: int, count: int) -> None:
    """Read ``count`` damaged files in this process; one JSON line a failure, one at the end."""
    from mien.errors import MienError

    make, read = MAKERS[kind]
    signal.signal(signal.SIGALRM, _ring)
    worst, outcomes = 0.0, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            path, what = make(np.random.default_rng([seed, number]), Path(folder))
            print(json.dumps({"at": number, "what": what}), flush=True)
            start = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)
            try:
                read(path)
                outcomes["read"] += 1
            except MienError:
                outcomes["refused"] += 1
            except Hang:
                print(json.dumps({"failed": number, "what": what, "how": "hangs"}), flush=True)
            except BaseException:
                how = traceback.format_exc().strip().splitlines()[-1]
                print(json.dumps({"failed": number, "what": what, "how": how}), flush=True)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            took = time.perf_counter() - start
            if SECONDS < took < 2 * SECONDS:
                how = f"took {took:.1f} s"
                print(json.dumps({"failed": number, "what": what, "how": how}), flush=True)
            worst = max(worst, took)
    # Not ru_maxrss: a child's begins at the size of the process that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    end = {"outcomes": outcomes, "worst_seconds": round(worst, 3), "peak_mib": round(peak, 1)}
    print(json.dumps({"end": end}), flush=True)


def damaged(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Read so many damaged files of a kind in child processes."""
    count = options.count or COUNTS[kind]
    write_bombs()
    outcomes, failures = Counter[str](), []
    worst, peak, first = 0.0, 0.0, 0
    start = time.perf_counter()
    while first < count:
        n = min(BATCH[kind], count - first)
        command = [sys.executable, __file__, "--child", kind, "--seed", str(options.seed)]
        command += ["--first", str(first), "--count", str(n)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 4 * n)
            output, code = done.stdout, done.returncode
        except subprocess.TimeoutExpired as slow:
            output, code = (slow.stdout or b"").decode(errors="replace"), -signal.SIGKILL
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        failures += [line for line in lines if "failed" in line]
        end = next((line["end"] for line in lines if "end" in line), None)
        if end is None:  # it died: count the file it was at, and go on behind it
            at = [line for line in lines if "at" in line][-1]
            failures.append({"failed": at["at"], "what": at["what"], "how": f"exit code {code}"})
            first = at["at"] + 1
            continue
        outcomes.update(end["outcomes"])
        worst, peak = max(worst, end["worst_seconds"]), max(peak, end["peak_mib"])
        if end["peak_mib"] > MIB:
            how = f"{end['peak_mib']:.0f} MiB"
            failures.append({"failed": first, "what": f"among {n}", "how": how})
        first += n
    return {
        "files": count,
        "outcomes": dict(outcomes),
        "failures": len(failures),
        "examples": failures[:20],
        "worst_seconds": worst,
        "peak_mib": peak,
        "seconds": round(time.perf_counter() - start, 1),
        "met": not failures,
    }


def main() -> int:
    """Measure what was asked for; JSON on standard output, or added to --out."""
    from hostile_kill import run_kill
    from hostile_server import run_memory, run_server

    runs: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        **{kind: (lambda options, kind=kind: damaged(kind, options)) for kind in COUNTS},
        "kill": run_kill,
        "server": run_server,
        "memory": run_memory,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", choices=[*runs, "all", []])
    parser.add_argument("--count", type=int, help="files of each kind, or kills of each verb")
    parser.add_argument("--seconds", type=float, default=60.0, help="of bombs against the server")
    parser.add_argument("--requests", type=int, default=20_000, help="of the memory run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verb", action="append", help="kill only this verb; may be repeated")
    parser.add_argument("--out", type=Path, help="JSON file; what is not measured now is kept")
    parser.add_argument("--child", choices=list(COUNTS), help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.seed, options.first, options.count)
        return 0
    wanted = list(runs) if "all" in options.what else options.what
    report: dict[str, Any] = {}
    if options.out and options.out.exists():
        report = json.loads(options.out.read_text(encoding="utf-8"))
    met = True
    for name in wanted:
        print(f"{name} …", file=sys.stderr, flush=True)
        report[name] = runs[name](options)
        met = met and report[name]["met"]
    report["system"] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        **versions(("onnxruntime", "numpy", "pillow", "opencv-python-headless")),
    }
    text = json.dumps(report, indent=1) + "\n"
    if options.out:
        write_text(options.out, text)
    else:
        sys.stdout.write(text)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
