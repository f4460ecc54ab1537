"""A forked child has its parent's locks and none of its threads.

OpenCV and onnxruntime take locks of their own, in thread pools and allocators. A child born while
another thread holds one waits for it for ever, so a fork waits until no thread of mien's is in
their code, and threads that mien starts are started anew in the child.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

#: Seconds that a fork waits for the threads in native code; then it goes on, as it would without.
PATIENCE = 10.0


class Renewable(Protocol):
    """Holds threads."""

    def after_fork(self) -> None:
        """Called in the child, before anything else runs there: start threads anew."""


class _Native:
    """``with native:`` around calls into OpenCV or onnxruntime; any number of threads at once.

    May be nested. Nothing inside may wait for another thread that enters it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._own = threading.local()
        self._inside = 0
        self._forking = False

    def __enter__(self) -> None:
        depth = getattr(self._own, "depth", 0)
        with self._changed:
            while self._forking and not depth:
                self._changed.wait()
            self._inside += 1
        self._own.depth = depth + 1

    def __exit__(self, *exc: object) -> None:
        self._own.depth -= 1
        with self._changed:
            self._inside -= 1
            if self._forking:
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Keep other threads out, and wait for those that are in."""
        own = getattr(self._own, "depth", 0)
        with self._changed:
            while self._forking:
                self._changed.wait()
            self._forking = True
            self._changed.wait_for(lambda: self._inside <= own, PATIENCE)

    def after_fork_in_parent(self) -> None:
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = getattr(self._own, "depth", 0)
        self._forking = False
        for thing in list(_living):
            thing.after_fork()


native = _Native()

_living: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_after_fork(thing: Renewable) -> None:
    """Have ``thing.after_fork()`` called in every forked child, as long as ``thing`` lives."""
    _living.add(thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=native.before_fork,
        after_in_parent=native.after_fork_in_parent,
        after_in_child=native.after_fork_in_child,
    )
