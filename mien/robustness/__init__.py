"""FER2013-C: how a classifier stands up to bad photos and to crops that miss. No torch."""

from __future__ import annotations

from mien.robustness.baseline import corruption_error, read_report
from mien.robustness.corruptions import CORRUPTIONS, FRAMING, SEVERITIES, VERSION, corrupt
from mien.robustness.page import to_markdown, write_report
from mien.robustness.report import RobustnessReport
from mien.robustness.runner import robustness

__all__ = [
    "CORRUPTIONS",
    "FRAMING",
    "SEVERITIES",
    "VERSION",
    "RobustnessReport",
    "corrupt",
    "corruption_error",
    "read_report",
    "robustness",
    "to_markdown",
    "write_report",
]
