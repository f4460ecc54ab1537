"""Which precision to train in: bfloat16 where it works and pays, float32 elsewhere.

Processor flags do not tell. Some hypervisors advertise AMX tiles and hide what oneDNN needs to use
them, so that the first bfloat16 product ends in SIGILL; and without such units bfloat16 is slower
than float32. So a child process tries one training step in both and reports the times; if it dies,
only the child is lost. The finding is kept in the user's cache folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from mien import atomic
from mien._system import processor
from mien.errors import MienError, RecipeError

#: bfloat16 is chosen when it is this many times as fast as float32; it costs some accuracy.
MIN_GAIN = 1.2

#: Environment variables that change what oneDNN does, and so whether a finding holds.
DECISIVE = ("ONEDNN_MAX_CPU_ISA", "LD_PRELOAD")

#: Keeps oneDNN off AMX tiles, but not off AVX-512's bfloat16 instructions.
WITHOUT_AMX = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}

_TIMEOUT_S = 120


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision for this process, and why.

    Attributes:
        precision: "32" or "bf16"; safe to use in this process as it is.
        reason: one sentence.
        env: environment variables with which a new process could use bf16 and would be faster by
            `MIN_GAIN` or more; empty when none are known or needed. They act only when set before
            the process starts.
    """

    precision: Literal["32", "bf16"]
    reason: str
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Finding:
    """What one child process found: seconds a step, or how it failed."""

    float32: float = 0.0
    bfloat16: float = 0.0
    failure: str = ""

    @property
    def gain(self) -> float:
        return 0.0 if self.failure else self.float32 / self.bfloat16


def choose_precision(
    requested: str, device: str, cache_dir: Path | str | None = None
) -> PrecisionChoice:
    """Choose the precision of a training process.

    Args:
        requested: "auto", "32" or "bf16".
        device: "cpu" or "cuda".
        cache_dir: folder for the findings; ``mien`` in the user's cache folder
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
        return _choose_on_cuda(requested)
    finding = _find({}, cache_dir)
    if requested == "bf16":
        return _insist(finding, cache_dir)
    if finding.gain >= MIN_GAIN:
        return PrecisionChoice("bf16", f"bfloat16 is {finding.gain:.1f} times as fast as float32.")
    if not finding.failure:
        return PrecisionChoice(
            "32", f"bfloat16 is only {finding.gain:.1f} times as fast as float32."
        )
    reason = f"bfloat16 does not work in this process ({finding.failure})."
    env = _way_out(cache_dir, MIN_GAIN)
    return PrecisionChoice("32", reason, env)


def _choose_on_cuda(requested: str) -> PrecisionChoice:
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return PrecisionChoice("bf16", "the GPU has bfloat16 units.")
    if requested == "bf16":
        raise RecipeError("This GPU has no bfloat16 units; set precision to 32 or auto.")
    return PrecisionChoice("32", "the GPU has no bfloat16 units.")


def _insist(finding: _Finding, cache_dir: Path | str | None) -> PrecisionChoice:
    """bfloat16 was asked for: obey, or say what to do."""
    if not finding.failure:
        return PrecisionChoice(
            "bf16", f"bfloat16 was asked for; it is {finding.gain:.1f} times as fast as float32."
        )
    env = _way_out(cache_dir, 0.0)
    advice = "".join(f", or start mien with {key}={value}" for key, value in env.items())
    raise RecipeError(
        f"Training in bf16 does not work on this machine ({finding.failure}); set precision to "
        f"32 or auto{advice}."
    )


def _way_out(cache_dir: Path | str | None, least_gain: float) -> dict[str, str]:
    """Variables with which bfloat16 works and gains more than ``least_gain``, tried out."""
    if any(os.environ.get(name) for name in WITHOUT_AMX):
        return {}  # The user has decided already, and it fails.
    finding = _find(WITHOUT_AMX, cache_dir)
    return {} if finding.failure or finding.gain < least_gain else dict(WITHOUT_AMX)


def _find(env: Mapping[str, str], cache_dir: Path | str | None) -> _Finding:
    """The cached finding for this machine with ``env`` added, else a new trial's."""
    path = _cache_folder(cache_dir) / "precision.json"
    settings = {**os.environ, **env}
    key = json.dumps(
        [processor(), torch.__version__, *(settings.get(name, "") for name in DECISIVE)]
    )
    findings = _read(path)
    with suppress(KeyError, TypeError, ValueError):
        known = _Finding(**findings[key])
        if known.failure or (known.float32 > 0 and known.bfloat16 > 0):
            return known
    finding, lasting = _try_out(settings)
    if not lasting:
        return finding
    findings[key] = vars(finding)
    with suppress(OSError, MienError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, json.dumps(findings, indent=2))
    return finding


#: Signals that a processor or a library answers with; others (a full memory, a user) may pass.
_LASTING = tuple(
    getattr(signal, name)
    for name in ("SIGILL", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGABRT")
    if hasattr(signal, name)  # Windows has no SIGBUS
)


def _try_out(env: Mapping[str, str]) -> tuple[_Finding, bool]:
    """A trial's finding, and whether it holds for good; the other kind is not to be kept."""
    try:
        done = subprocess.run(
            _probe_command(),
            env=dict(env),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _Finding(failure=f"a trial step took more than {_TIMEOUT_S} s"), False
    except OSError as error:
        return _Finding(failure=f"the trial did not start: {error.strerror or error}"), False
    if done.returncode < 0:
        failure = f"a trial step died of {_signal_name(-done.returncode)}"
        return _Finding(failure=failure), -done.returncode in _LASTING
    if done.returncode > 0:
        last = done.stderr.strip().rpartition("\n")[2]
        return _Finding(failure=f"a trial step failed: {last[:200].rstrip('.')}"), False
    try:
        times = json.loads(done.stdout.strip().rpartition("\n")[2])
        return _Finding(float(times["float32"]), float(times["bfloat16"])), True
    except (KeyError, TypeError, ValueError):
        return _Finding(failure="the trial gave no times"), False


def _probe_command() -> list[str]:
    # -P: no modules from the script's folder, whose file names are everyday words.
    return [sys.executable, "-P", str(Path(__file__).with_name("precision_probe.py"))]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _cache_folder(cache_dir: Path | str | None) -> Path:
    if cache_dir is not None:
        return Path(cache_dir)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # noqa: PTH117 - relative values are to be ignored (XDG specification)
        return Path(base) / "mien"
    # Not Path.home(), which raises where there is no home.
    return Path(os.path.expanduser("~/.cache/mien"))  # noqa: PTH111


def _read(path: Path) -> dict[str, Any]:
    try:
        findings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return findings if isinstance(findings, dict) else {}


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
