"""Writing an image that a verb made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.atomic import make_folder, write_bytes
from mien.errors import OutputError

SUFFIXES = (".png", ".jpg", ".jpeg")


def check_name(path: Path) -> None:
    """Raise OutputError, before any work, for a name that is no image's."""
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"Cannot write {str(path)!r}: name it .png or .jpg.")


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write uint8 (H, W) grey or (H, W, 3) BGR; the folder is made if need be."""
    import cv2

    check_name(path)
    done, data = cv2.imencode(path.suffix.lower(), image)
    if not done:
        raise OutputError(f"Cannot write {str(path)!r}: {image.shape} is no image's shape.")
    make_folder(path.parent)
    write_bytes(path, data.tobytes())
