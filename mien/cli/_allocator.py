"""glibc's allocator: for trainings it keeps big blocks, for videos it gives them back."""

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


def give_large_blocks_back() -> None:
    """Let glibc return every freed block of 4 MiB or more to the system at once.

    By default it raises that limit to the largest block freed so far, and keeps holes of decoded
    pictures: a 1080p film then takes 600 MiB instead of 320. Does nothing with another C library.
    """
    import ctypes

    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    m_mmap_threshold = -3  # from malloc.h
    mallopt(m_mmap_threshold, 4 << 20)
