"""Write docs/results.md, the table of the five papers, from results/NAME/reproduction.json.

Part of ``make docs``. ``--check`` only compares and exits with 1 if the page is out of date.
"""

from __future__ import annotations

import sys

from fill_readme import ROOT, write_or_compare

from mien.reproduce.table import results_page

if __name__ == "__main__":
    page = {ROOT / "docs" / "results.md": results_page(ROOT / "results")}
    sys.exit(write_or_compare(page, sys.argv[1:]))
