"""Write docs/lessons.md and its plots, docs/images/lessons/, from results/: part of ``make docs``.

``--check`` only compares and exits with 1 if the page or a plot is out of date.
"""

from __future__ import annotations

import sys

from fill_readme import ROOT, write_or_compare

from mien.atomic import make_folder
from mien.reproduce.lessons import FOLDER, lessons_page


def main(arguments: list[str]) -> int:
    """Write or compare; the exit code."""
    page, plots = lessons_page(ROOT / "results")
    folder = ROOT / "docs" / FOLDER
    texts = {ROOT / "docs" / "lessons.md": page} | {folder / n: svg for n, svg in plots.items()}
    stale = [path for path in sorted(folder.glob("*.svg")) if path not in texts]
    if "--check" in arguments:
        if stale:
            print(f"no lesson shows {stale[0].name}; run `make docs`", file=sys.stderr)
        return write_or_compare(texts, arguments) or int(bool(stale))
    for path in stale:
        path.unlink()
    if plots:
        make_folder(folder)
    return write_or_compare(texts, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
