"""Messages to the user on standard error, safe to print whatever name they repeat."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

from mien.text import printable


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        safe = (printable(o, keep="\n") if isinstance(o, str) else o for o in objects)
        super().print(*safe, **options)


def messages() -> Console:
    """The console for messages: no markup, no highlighting, lines as long as they are."""
    return _Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def say(message: str) -> None:
    """Print a message on standard error, without rich."""
    print(printable(message), file=sys.stderr)
