"""glibc's allocator, set so that it does not halve the speed of training on a CPU."""

from __future__ import annotations

import os
import sys

# glibc hands big blocks back to the system after each step, which halves training speed on a CPU.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


def relaunch_with_allocator() -> None:
    """Start this process anew with the allocator's settings, which glibc reads only at start."""
    if not sys.platform.startswith("linux") or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return
    if "PYTEST_CURRENT_TEST" in os.environ or sys.argv[0].endswith("pytest"):
        return
    arguments = [sys.executable, "-m", "mien", *sys.argv[1:]]
    os.execve(sys.executable, arguments, {**os.environ, **ALLOCATOR})
