"""Evaluation: metrics, predictions joined by sample id, and reports. No torch."""

from __future__ import annotations

from mien.evaluate.page import to_markdown, write_report
from mien.evaluate.predictions import Joined, PredictionCache, Predictions
from mien.evaluate.report import Mistake, Report, describe_model
from mien.evaluate.runner import evaluate
from mien.evaluate.scores import Scores, score

__all__ = [
    "Joined",
    "Mistake",
    "PredictionCache",
    "Predictions",
    "Report",
    "Scores",
    "describe_model",
    "evaluate",
    "score",
    "to_markdown",
    "write_report",
]
