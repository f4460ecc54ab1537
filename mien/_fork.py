"""A forked child has its parent's locks and none of its threads: what must be made anew in it."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Holds locks, threads or a native session."""

    def after_fork(self) -> None:
        """Called in the child, before anything else runs there: make locks and threads anew."""


#: Held while a network is loaded, and by whoever forks: OpenCV and onnxruntime take locks of their
#: own while they load, and a child born in that moment would wait for them for ever.
loading = threading.RLock()

_living: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_after_fork(thing: Renewable) -> None:
    """Have ``thing.after_fork()`` called in every forked child, as long as ``thing`` lives."""
    _living.add(thing)


def _renew() -> None:
    loading.release()
    for thing in list(_living):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=loading.acquire, after_in_parent=loading.release, after_in_child=_renew
    )
