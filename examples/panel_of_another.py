"""Another package on the photo panel: ``panel_of_another.py PHOTOS [CONDITION …]``.

PHOTOS holds folders named by expression (``happy/``, ``sad/`` …). Replace ``ask`` by calls of the
package that you want to compare; here it is mien itself, through its public results.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mien
from mien.panel import Answer, document, read_class_folders, run_panel
from mien.report.markdown import to_markdown


def ask(image: NDArray[np.uint8], crop: bool) -> list[Answer]:
    """Every face of ``image``, uint8 (H, W, 3) BGR; ``crop``: it already is one face."""
    faces = mien.predict(image, color="bgr", faces=crop).faces
    return [Answer(*face.box.center, face.probabilities) for face in faces]


def main(photos: str, conditions: list[str]) -> None:
    """Print the report as Markdown."""
    sets = [read_class_folders(Path(photos))]
    report = run_panel(ask, sets, model="another", half="all", conditions=conditions or None)
    print(to_markdown(document(report)))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
