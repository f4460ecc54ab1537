"""What :func:`mien.finetune` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mien.data.dataset import Splits
from mien.data.own_faces import Findings
from mien.evaluate import Report
from mien.modelinfo import ModelInfo


@dataclass(frozen=True)
class FinetuneResult:
    """What :func:`finetune` made.

    Attributes:
        path: the model file. info: its record.
        findings: what was in the photos.
        method: "linear" (a head on frozen features) or "network" (the whole network).
        report: the figures on the part that was scored once.
        splits: sample ids by role.
        curve: (faces learned from, accuracy on others) by cross-validation, linear head.
        validated: accuracy of the linear head by cross-validation.
        warnings: one sentence each.
        seconds: by the clock.
        pages: "json", "markdown", "html" -> the report's files, if they were wanted.
    """

    path: Path
    info: ModelInfo
    findings: Findings
    method: str
    report: Report
    splits: Splits = field(repr=False)
    curve: tuple[tuple[int, float], ...]
    validated: float
    warnings: tuple[str, ...]
    seconds: float
    pages: dict[str, Path] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """On the scored part, 0..1."""
        return self.report.accuracy

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        low, high = self.report.scores.intervals["accuracy"]
        return {
            "path": str(self.path),
            "method": self.method,
            "labels": [label.value for label in self.info.labels],
            "accuracy": round(self.accuracy, 6),
            "accuracy_ci": [round(low, 6), round(high, 6)],
            "n": self.report.n,
            "split": self.report.split,
            "validated": round(self.validated, 6),
            "curve": [[n, round(value, 6)] for n, value in self.curve],
            "splits": {role: len(ids) for role, ids in self.splits.ids.items()},
            "findings": self.findings.to_dict(),
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 2),
            "pages": {kind: str(path) for kind, path in self.pages.items()},
        }
