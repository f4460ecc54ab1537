"""Fill the ablation of docs/flagship.md and its plot from results/ablation_cpu.json: ``make docs``.

``--check`` changes nothing and exits with 1 if a file is out of date.
"""

from __future__ import annotations

import json
import sys

from fill_readme import ROOT, filled, write_or_compare

from mien.train.ablation import to_markdown
from mien.train.ablation_chart import picture

if __name__ == "__main__":
    record = json.loads((ROOT / "results" / "ablation_cpu.json").read_text(encoding="utf-8"))
    page = ROOT / "docs" / "flagship.md"
    plot = ROOT / "docs" / "images" / "ablation.svg"
    texts = {
        page: filled(page, {"ablation": lambda: to_markdown(record).rstrip()}),
        plot: picture(record),
    }
    sys.exit(write_or_compare(texts, sys.argv[1:]))
