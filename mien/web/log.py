"""A log that clients cannot fill."""

from __future__ import annotations

import logging
import time


class OncePerMinute(logging.Filter):
    """Lets one warning of a kind through a minute, with the count of those it held back.

    A kind is a logger with a message before its values are filled in. What is below a warning
    passes: it is logged only where it was asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind, now = (record.name, str(record.msg)), time.monotonic()
        last, held = self._kinds.get(kind, (-60.0, 0))
        if now - last < 60:
            self._kinds[kind] = (last, held + 1)
            return False
        self._kinds[kind] = (now, 0)
        if held:
            record.msg = f"{record.msg} (and {held} more of this kind)"
        return True
