"""Face detectors behind one protocol: YuNet (default) and Haar (the papers')."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mien.errors import ModelError, nearest

if TYPE_CHECKING:
    from mien.detect.base import Detection, Detector

DETECTORS: tuple[str, ...] = ("yunet", "haar")

#: The smallest face in videos, whose every frame is looked at once and quickly.
VIDEO_MIN_FACE = 0.08

__all__ = ["DETECTORS", "Detection", "Detector", "load_detector"]


def __getattr__(name: str) -> object:
    if name in ("Detection", "Detector"):
        from mien.detect import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_detector(
    name: str = "yunet",
    min_face: float | None = None,
    min_score: float | None = None,
    turns: bool = True,
) -> Detector:
    """Load a detector by name.

    Args:
        name: "yunet" or "haar".
        min_face: side of the smallest face to find, as a fraction of the image's long side,
            0.005..1. Half the fraction costs about four times the time. None suits still photos:
            yunet looks as closely as is cheap, haar takes 0.05.
        min_score: lowest confidence to report, 0..1; None takes the detector's default. Haar
            gives no score and refuses it.
        turns: where no face is surely upright, look at the turned image too (yunet alone).

    Raises:
        ModelError: unknown name, value out of range, or the detector's file is missing.
    """
    if min_face is not None and not 0.005 <= min_face <= 1:
        raise ModelError(f"min_face is {min_face}; expected a fraction from 0.005 to 1.")
    if min_score is not None and not 0 <= min_score <= 1:
        raise ModelError(f"min_score is {min_score}; expected 0 to 1.")
    if name == "yunet":
        from mien.detect.yunet import YuNet

        return YuNet(min_face, 0.6 if min_score is None else min_score, turns)
    if name == "haar":
        from mien.detect.haar import Haar

        if min_score is not None:
            raise ModelError("The haar detector gives no score; leave min_score out.")
        return Haar(0.05 if min_face is None else min_face)
    raise ModelError(f"Unknown detector {name!r}{nearest(name, DETECTORS)}")
