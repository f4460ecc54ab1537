"""The most memory that a process has held, on Linux.

``ru_maxrss`` will not do: a child's begins at the size of the process that started it, and a
test process is large.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STATUS = Path("/proc/self/status")
needs_proc = pytest.mark.skipif(not STATUS.exists(), reason="reads memory from /proc")


def _mib(field: str) -> float:
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) / 1024


def peak() -> float:
    """MiB of this process's peak so far."""
    return _mib("VmHWM")


def growth(call: Callable[[], Any]) -> float:
    """MiB by which ``call`` takes the process, at most, beyond what it holds now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is what is held now
    before = _mib("VmRSS")
    call()
    return peak() - before
