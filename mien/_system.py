"""What a figure was measured on: the processor and the versions of packages."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path


def processor() -> str:
    """The processor's name as the system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n"):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those of ``packages`` that are installed, without importing any."""
    found = {}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
