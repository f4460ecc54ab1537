"""Do the tests notice when the code is wrong? Small changes to it, one at a time (mutmut 3).

    pip install 'mutmut>=3.8,<4'
    python tools/mutants.py atomic draw --out out/mutants.json
    make mutants                            # every module below
    make mutants MODULES="draw sinks" SAMPLE=500

Of every module one mutant of each function is tried, and more of them, drawn with a seed, up to
``--sample``; each against those of the named test files' tests that reach its function. Works on a
copy in ``out/mutants``, one process at a time. The score is what the tests noticed out of what was
tried: a change that alters nothing (a message's wording, an equivalent expression) counts against
it. mutmut takes the quick ones first, so that of a sample cut off by ``--minutes`` these are known.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "out" / "mutants"
#: Module: the files that are changed, and the tests that shall notice.
MODULES: dict[str, tuple[list[str], list[str]]] = {
    "pipeline": (["pipeline.py"], ["test_pipeline.py", "test_inputs.py"]),
    "classify": (["classify.py"], ["test_classify.py", "test_hostile_models.py"]),
    "preprocess": (["preprocess.py"], ["test_pipeline.py", "test_quality.py", "test_explain.py"]),
    "detect": (["detect/*.py"], ["test_detect.py", "test_neighbours.py"]),
    "sinks": (["sinks/__init__.py"], ["test_sinks.py", "test_predict_cli.py"]),
    "draw": (["draw/__init__.py"], ["test_draw.py", "test_quality.py"]),
    "atomic": (["atomic.py"], ["test_atomic.py", "test_sinks.py"]),
    "guard": (["web/guard.py"], ["test_web_api.py", "test_web_hostile.py"]),
    "loop": (["train/loop.py"], ["test_train.py"]),
    "metrics": (["evaluate/metrics.py"], ["test_evaluate.py"]),
    "demo": (
        ["cli/demo.py", "cli/_image.py"],
        ["test_predict_cli.py::test_demo_with_the_shipped_model"],
    ),
}
#: Of those, the tests that are tried: the others take most of the time, and measure time or run
#: other processes, which a change does not reach.
CHOSEN = {
    "detect": "not without_faces and not threads_share and not made_up",
    "guard": "not never_end and not pace and not never_read and not bomb and not sigterm "
    "and not command_line and not held and not ambiguous "
    "and not no_file_and",
    "loop": "rate_schedules or plateau or fit_learns or without_validation or stopped_early",
}
#: mutmut's exit codes: killed by a failing test, and by none of them.
KILLED, SURVIVED, UNREACHED = {1, 3}, {0}, {5, 33}


def prepare(name: str) -> Path:
    """A copy of the tracked files, and of the tests as they are now, told what to change."""
    files, tests = MODULES[name]
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for path in filter(None, tracked):
        if (ROOT / path).is_file():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, folder / path)
    others = sorted(p.name for p in folder.iterdir() if p.name != "mien")
    # Python never looks again at an entry of PYTHONPATH that was not there when it began.
    (folder / "mutants").mkdir()
    config = {
        "source_paths": ["mien"],
        "only_mutate": [f"mien/{file}" for file in files],
        "also_copy": others,
        "pytest_add_cli_args_test_selection": [f"tests/{test}" for test in tests],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-k", CHOSEN.get(name, "")],
        # A child of the process that ran the tests would inherit torch's and onnxruntime's threads.
        "process_isolation": "forkserver",
        "timeout_multiplier": 4.0,
        "timeout_constant": 4.0,
        "use_git_change_detection": False,
    }
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items())
    with (folder / "pyproject.toml").open("a", encoding="utf-8") as project:
        project.write(f"\n[tool.mutmut]\n{text}")
    return folder


def mutmut(folder: Path, mutants: Sequence[str], seconds: float) -> bool:
    """Try these mutants; whether it ended in time. What was tried until then is kept."""
    # Without the datasets: their tests take long, and most of those who measure have none.
    environment = {**os.environ, "PYTHONPATH": str(folder / "mutants"), "MIEN_DATA": os.devnull}
    # Not `python -m mutmut`: its fork server would import the module again, beside __main__.
    program = str(Path(sys.executable).with_name("mutmut"))
    command = [program, "run", "--max-children", "1", *mutants]
    with (folder / "mutmut.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            return False
    if process.returncode:
        raise RuntimeError(f"mutmut ended with {process.returncode}: see {folder}/mutmut.log")
    return True


def outcomes(folder: Path) -> dict[str, int | None]:
    """Every mutant there is and mutmut's exit code; None: not tried."""
    found: dict[str, int | None] = {}
    for path in sorted((folder / "mutants" / "mien").rglob("*.meta")):
        found |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The score of one module and the mutants that nobody noticed."""
    start = time.monotonic()
    stop = start + 60 * options.minutes
    folder = prepare(name)
    whole = mutmut(folder, ["*__mutmut_1"], stop - time.monotonic())
    left = sorted(key for key, code in outcomes(folder).items() if code is None)
    more = max(0, options.sample - (len(outcomes(folder)) - len(left)))
    drawn = random.Random(options.seed).sample(left, min(more, len(left)))
    if whole and drawn:
        whole = mutmut(folder, drawn, max(1.0, stop - time.monotonic()))
    tried = {key: code for key, code in outcomes(folder).items() if code is not None}
    kinds = Counter(
        "killed"
        if code in KILLED
        else "survived"
        if code in SURVIVED
        else "unreached"
        if code in UNREACHED
        else "stopped"  # by its time limit, or dead: noticed
        for code in tried.values()
    )
    noticed = kinds["killed"] + kinds["stopped"]
    return {
        "mutants": len(outcomes(folder)),
        "tried": len(tried),
        "sample": options.sample,
        "seed": options.seed,
        "whole_sample": whole,
        **{kind: kinds[kind] for kind in ("killed", "stopped", "survived", "unreached")},
        "score": round(noticed / max(1, len(tried)), 3),
        "seconds": round(time.monotonic() - start, 1),
        "tests": MODULES[name][1],
        "mutmut": version("mutmut"),
        "left": sorted(k for k, code in tried.items() if code in SURVIVED | UNREACHED),
    }


def main() -> int:
    """Measure the modules named; JSON to --out, whose other modules stay, and a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(MODULES)}; without any: all")
    parser.add_argument("--sample", type=int, default=60, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10.0, help="at most, for each module")
    parser.add_argument("--out", type=Path, default=WORK / "mutants.json")
    options = parser.parse_args()
    if unknown := sorted(set(options.modules) - set(MODULES)):
        parser.error(f"no such module: {', '.join(unknown)}; there are {', '.join(MODULES)}")
    report: dict[str, Any] = {}
    if options.out.exists():
        report = json.loads(options.out.read_text(encoding="utf-8"))
    code = 0
    for name in options.modules or MODULES:
        try:
            found = report[name] = measure(name, options)
        except RuntimeError as error:
            print(f"{name}: {error}", file=sys.stderr)
            code = 1
            continue
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        noticed = found["killed"] + found["stopped"]
        print(
            f"{name}: {noticed} of {found['tried']} noticed ({100 * found['score']:.0f} %), "
            f"{found['mutants']} there are, {found['seconds']:.0f} s",
            flush=True,
        )
    return code


if __name__ == "__main__":
    raise SystemExit(main())
