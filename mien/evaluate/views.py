"""Test-time augmentation: a face, its mirror image and small shifts, to average over."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mien.errors import DataError

#: Names of the sets of views: the face alone; with its mirror image; both, at five places.
VIEWS = ("none", "flip", "ten")

#: Shift of the four outer places of "ten", in pixels of a 48 px face (4 %).
SHIFT = 2


def check_views(views: str) -> str:
    """``views`` itself. Raises DataError for a name that is not in ``VIEWS``."""
    if views not in VIEWS:
        raise DataError(f"Test-time augmentation must be one of {', '.join(VIEWS)}, not {views!r}.")
    return views


def shifted(faces: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Faces moved by whole pixels, their edges repeated; uint8 (N, H, W)."""
    rows = np.clip(np.arange(faces.shape[1]) - down, 0, faces.shape[1] - 1)
    columns = np.clip(np.arange(faces.shape[2]) - right, 0, faces.shape[2] - 1)
    return faces[:, rows[:, None], columns[None, :]]


def views_of(faces: NDArray[np.uint8], views: str) -> Iterator[NDArray[np.uint8]]:
    """Each view of a batch in turn: 1, 2 or 10 arrays uint8 (N, H, W).

    "ten" is the classic ten-crop (Krizhevsky et al. 2012) for a net that takes the whole face: the
    face and four copies moved diagonally by ``SHIFT`` of 48 pixels, each with its mirror image.
    """
    check_views(views)
    places = [(0, 0)]
    if views == "ten":
        step = max(1, round(SHIFT * faces.shape[1] / 48))
        places += [(step, step), (step, -step), (-step, step), (-step, -step)]
    for down, right in places:
        moved = shifted(faces, down, right) if (down, right) != (0, 0) else faces
        yield np.ascontiguousarray(moved)
        if views != "none":
            yield np.ascontiguousarray(moved[:, :, ::-1])
