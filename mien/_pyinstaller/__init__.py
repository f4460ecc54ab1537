"""What PyInstaller must know to freeze an application that uses mien; found by entry point."""

from __future__ import annotations

from pathlib import Path


def hook_folders() -> list[str]:
    """Where the hooks lie (entry point ``pyinstaller40``, ``hook-dirs``)."""
    return [str(Path(__file__).parent)]
