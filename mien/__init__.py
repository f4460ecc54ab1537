"""mien: facial-expression recognition, accurate, small, fast, offline.

    import mien
    result = mien.predict("photo.jpg")
    print(result.faces[0].emotion, result.faces[0].confidence)

The names below are loaded on first use: importing mien imports neither numpy nor OpenCV.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mien._version import __version__

if TYPE_CHECKING:
    from mien.batch import batch
    from mien.classify import load_classifier
    from mien.emotions import Emotion
    from mien.errors import MienError
    from mien.images import read_image
    from mien.own.calibrate import calibrate
    from mien.own.result import FinetuneResult
    from mien.own.run import finetune
    from mien.pipeline import Analyzer, predict
    from mien.results import Box, Face, Result

__all__ = [
    "Analyzer",
    "Box",
    "Emotion",
    "Face",
    "FinetuneResult",
    "MienError",
    "Result",
    "__version__",
    "batch",
    "calibrate",
    "finetune",
    "load_classifier",
    "predict",
    "read_image",
]

_HOMES = {
    "Analyzer": "mien.pipeline",
    "Box": "mien.results",
    "Emotion": "mien.emotions",
    "Face": "mien.results",
    "MienError": "mien.errors",
    "Result": "mien.results",
    "calibrate": "mien.own.calibrate",
    "FinetuneResult": "mien.own.result",
    "finetune": "mien.own.run",
    "batch": "mien.batch",
    "load_classifier": "mien.classify",
    "predict": "mien.pipeline",
    "read_image": "mien.images",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        try:
            value = getattr(importlib.import_module(_HOMES[name]), name)
        except (ImportError, AttributeError) as error:
            from mien.errors import package_problem

            raise package_problem(error) or error from None
        globals()[name] = value
        return value
    raise AttributeError(f"module 'mien' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
