"""A forked child has its parent's locks and none of its threads: what must be made anew in it."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Holds locks, threads or a native session."""

    def after_fork(self) -> None:
        """Called in the child, before anything else runs there: make locks and threads anew."""


_living: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_after_fork(thing: Renewable) -> None:
    """Have ``thing.after_fork()`` called in every forked child, as long as ``thing`` lives."""
    _living.add(thing)


def _renew() -> None:
    for thing in list(_living):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
