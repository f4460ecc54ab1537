"""Which precision to train in: bfloat16 where it works and pays, float32 elsewhere.

Processor flags do not tell. Some hypervisors advertise AMX tiles and hide what oneDNN needs to use
them, so that the first bfloat16 product ends in SIGILL; and without such units bfloat16 is slower
than float32. So a child process times one training step in both; if it dies, only the child is
lost. What it found is kept in the user's cache folder.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from mien import atomic
from mien._system import child_environment, processor
from mien.errors import MienError, RecipeError

#: bfloat16 is chosen when it is this many times as fast as float32; it costs some accuracy.
MIN_GAIN = 1.2

#: Environment variables that change what oneDNN does, and so whether a finding holds.
DECISIVE = ("ONEDNN_MAX_CPU_ISA", "LD_PRELOAD")

#: Keeps oneDNN off AMX tiles, but not off AVX-512's bfloat16 instructions.
WITHOUT_AMX = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}

_TIMEOUT_S = 120
_STEPS = 7


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision for this process, and why in one sentence."""

    precision: Literal["32", "bf16"]
    reason: str


def choose_precision(
    requested: str, device: str, cache_dir: Path | str | None = None
) -> PrecisionChoice:
    """Choose the precision of a training process.

    Args:
        requested: "auto", "32" or "bf16".
        device: "cpu" or "cuda".
        cache_dir: folder for what was found; ``mien`` in the user's cache folder
            (``XDG_CACHE_HOME``, else ``~/.cache``) by default. If it cannot be written, the trial
            runs again next time.

    Raises:
        RecipeError: unknown values, or "bf16" was asked for and does not work here.
    """
    if requested not in ("auto", "32", "bf16"):
        raise RecipeError(f"Unknown precision {requested!r}; use auto, 32 or bf16.")
    if device not in ("cpu", "cuda"):
        raise RecipeError(f"Unknown device {device!r}; use cpu or cuda.")
    if requested == "32":
        return PrecisionChoice("32", "float32 was asked for.")
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return PrecisionChoice("bf16", "the GPU has bfloat16 units.")
        if requested == "bf16":
            raise RecipeError("This GPU has no bfloat16 units; set precision to 32 or auto.")
        return PrecisionChoice("32", "the GPU has no bfloat16 units.")
    found = _find(_cache_folder(cache_dir) / "precision.json")
    if isinstance(found, str):
        if requested == "auto":
            return PrecisionChoice("32", f"bfloat16 does not work in this process ({found}).")
        ((name, value),) = WITHOUT_AMX.items()
        advice = (
            "" if os.environ.get(name) else f", or try it with {name}={value} in the environment"
        )
        raise RecipeError(
            f"Training in bf16 does not work on this machine ({found}); set precision to 32 or "
            f"auto{advice}."
        )
    gain = f"{found:.1f} times as fast as float32."
    if requested == "bf16":
        return PrecisionChoice("bf16", f"bfloat16 was asked for; it is {gain}")
    if found >= MIN_GAIN:
        return PrecisionChoice("bf16", f"bfloat16 is {gain}")
    return PrecisionChoice("32", f"bfloat16 is only {gain}")


def _find(cache: Path) -> float | str:
    """How many times as fast bfloat16 is, or why it fails: the cached finding, else a trial's."""
    variables = (os.environ.get(name, "") for name in DECISIVE)
    key = json.dumps([processor(), torch.__version__, *variables])
    findings = {}
    with suppress(OSError, ValueError):
        read = json.loads(cache.read_text(encoding="utf-8"))
        findings = read if isinstance(read, dict) else {}
    known = findings.get(key)
    if isinstance(known, str) or (isinstance(known, float) and known > 0):
        return known
    found, lasting = _try_out()
    if lasting:
        with suppress(OSError, MienError):
            atomic.write_text(cache, json.dumps({**findings, key: found}, indent=2))
    return found


#: Signals that a processor or a library answers with; others (a full memory, a user) may pass.
_LASTING = ("SIGILL", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGABRT")


def _try_out() -> tuple[float | str, bool]:
    """A trial's finding, and whether it holds for good; the other kind is not to be kept."""
    env, command = child_environment(), _trial_command()
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"a trial step took more than {_TIMEOUT_S} s", False
    except OSError as error:
        return f"the trial did not start: {error.strerror or error}", False
    if done.returncode < 0:
        name = {s.value: s.name for s in signal.Signals}.get(-done.returncode, "a signal")
        return f"a trial step died of {name}", name in _LASTING
    if done.returncode > 0:
        last = done.stderr.strip().rpartition("\n")[2]
        return f"a trial step failed: {last[:200].rstrip('.')}", False
    try:
        times = json.loads(done.stdout.strip().rpartition("\n")[2])
        return float(times["float32"]) / float(times["bfloat16"]), True
    except (ArithmeticError, KeyError, TypeError, ValueError):
        return "the trial gave no times", False


def _trial_command() -> list[str]:
    code = "from mien.train.precision import time_steps; time_steps()"
    return [sys.executable, "-P", "-c", code]


def time_steps() -> None:
    """Print {"float32": seconds, "bfloat16": seconds} of a training step on the CPU: medians.

    For a process of its own: the first bfloat16 operation may kill it.
    """
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must leave no core file
    torch.manual_seed(0)
    steps = {"float32": _step(False), "bfloat16": _step(True)}
    for run in steps.values():
        run()  # to warm up
    # In turns, so that another busy process slows both alike.
    rounds = [{name: run() for name, run in steps.items()} for _ in range(_STEPS)]
    print(json.dumps({name: statistics.median(r[name] for r in rounds) for name in steps}))


def _step(bf16: bool) -> Callable[[], float]:
    """A forward and backward pass of a convolution and a dense layer; the call returns seconds."""
    images = torch.randn(64, 64, 24, 24).to(memory_format=torch.channels_last)
    images.requires_grad_(True)
    layers = (torch.nn.Conv2d(64, 64, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten())
    network = torch.nn.Sequential(*layers, torch.nn.Linear(64 * 24 * 24, 32))

    def run() -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = network(images).float().square().mean()
        loss.backward()
        return time.perf_counter() - start

    return run


def _cache_folder(cache_dir: Path | str | None) -> Path:
    if cache_dir is not None:
        return Path(cache_dir)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # noqa: PTH117 - relative values are to be ignored (XDG specification)
        return Path(base) / "mien"
    # Not Path.home(), which raises where there is no home.
    return Path(os.path.expanduser("~/.cache/mien"))  # noqa: PTH111


def choose_device(device: str) -> str:
    """ "cpu" or "cuda"; "auto" is the GPU where torch can use one.

    Raises:
        RecipeError: "cuda" was asked for, and there is none.
    """
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise RecipeError("There is no GPU that torch can use; leave --device out or give cpu.")
    return device if device != "auto" else "cuda" if there else "cpu"


def gpu_count() -> int:
    """Number of CUDA devices that torch sees."""
    return int(torch.cuda.device_count())
