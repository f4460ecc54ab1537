"""Classes of one's own from one's own photos: ``mien finetune``."""

from mien.own.result import FinetuneResult
from mien.own.run import finetune

__all__ = ["FinetuneResult", "finetune"]
