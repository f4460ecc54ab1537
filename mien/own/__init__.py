"""Classes of one's own from one's own photos: ``mien finetune`` and ``mien calibrate``."""

from mien.own.calibrate import CalibrationResult, calibrate
from mien.own.result import FinetuneResult
from mien.own.run import finetune

__all__ = ["CalibrationResult", "FinetuneResult", "calibrate", "finetune"]
