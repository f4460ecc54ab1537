"""One scored cell of the grid, as a file, so that a run can be resumed and read again."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import atomic
from mien.errors import DataError
from mien.robustness.corruptions import CellKey


@dataclass(frozen=True)
class Cell:
    """The answers to one corruption at one severity in one variant.

    Attributes:
        key: which.
        correct: bool (N,), in the order of the sample ids.
        confidence: mean probability of the class answered.
        ece: expected calibration error (15 bins).
        seconds: time in the model.
    """

    key: CellKey
    correct: NDArray[np.bool_]
    confidence: float
    ece: float
    seconds: float

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; ``correct`` is one bit a sample, base64, first sample in the highest bit."""
        bits = base64.b64encode(np.packbits(self.correct).tobytes()).decode("ascii")
        return {
            "corruption": self.key.corruption,
            "severity": self.key.severity,
            "variant": self.key.variant,
            "n": len(self.correct),
            "accuracy": round(self.accuracy, 6),
            "confidence": round(self.confidence, 6),
            "ece": round(self.ece, 6),
            "seconds": round(self.seconds, 3),
            "correct": bits,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Cell:
        packed = np.frombuffer(base64.b64decode(data["correct"], validate=True), np.uint8)
        return cls(
            key=CellKey(str(data["corruption"]), int(data["severity"]), str(data["variant"])),
            correct=np.unpackbits(packed, count=int(data["n"])).astype(np.bool_),
            confidence=float(data["confidence"]),
            ece=float(data["ece"]),
            seconds=float(data["seconds"]),
        )


class CellFolder:
    """The cell files of one run: a JSON file for every corruption and severity.

    Args:
        folder: where; made if need be.
        run: what the run is of. A cell of another run is refused, never mixed in.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        self.folder = atomic.make_folder(folder)
        self.run = json.loads(json.dumps(run))

    def _path(self, corruption: str, severity: int) -> Path:
        return self.folder / f"{corruption}-{severity}.json"

    def load(self, corruption: str, severity: int, variants: tuple[str, ...]) -> list[Cell] | None:
        """The cell's variants in order, or None where the file is not there yet.

        Raises:
            DataError: the file is damaged or belongs to another model, dataset or version.
        """
        path = self._path(corruption, severity)
        if not path.is_file():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            run, cells = record["run"], [Cell.from_dict(c) for c in record["cells"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no cell of a robustness run; delete it: {error}.") from None
        differs = sorted(k for k in self.run.keys() | run.keys() if self.run.get(k) != run.get(k))
        if differs:
            raise DataError(
                f"{path} is of another run ({', '.join(differs)} differ); give another --out, or "
                "delete that folder."
            )
        expected = [CellKey(corruption, severity, v) for v in variants]
        if [c.key for c in cells] != expected or any(
            len(c.correct) != self.run["n"] for c in cells
        ):
            raise DataError(f"{path} does not hold the cell of its name; delete it.")
        return cells

    def save(self, cells: list[Cell]) -> None:
        key = cells[0].key
        record = {"run": self.run, "cells": [c.to_dict() for c in cells]}
        atomic.write_text(
            self._path(key.corruption, key.severity), json.dumps(record, indent=1) + "\n"
        )
