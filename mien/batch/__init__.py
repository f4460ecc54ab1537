"""Archives of photos and videos -> Parquet tables, each source once, on all cores or a cluster.

    import mien
    mien.batch(["archive/", "interviews/*.mp4"], out="rows")

``mien batch`` is the same on the command line. :mod:`mien.batch.dataset` says how a killed run
goes on.
"""

from __future__ import annotations

import sys
from types import ModuleType

from mien.batch.estimate import Estimate, estimate
from mien.batch.fill import Summary
from mien.batch.run import batch, join
from mien.batch.worker import Options

__all__ = ["Estimate", "Options", "Summary", "batch", "estimate", "join"]


class _Package(ModuleType):
    """Importing a package makes it an attribute of mien's: it has to be the function, too."""

    __call__ = staticmethod(batch)


sys.modules[__name__].__class__ = _Package
