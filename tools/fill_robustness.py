"""Fill the tables of docs/robustness.md and docs/blend.md from results/: ``make docs``.

``--check`` changes nothing and exits with 1 if a file is out of date.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from fill_docs import ROOT, filled, write_or_compare

from mien.report.document import percent
from mien.report.markdown import markdown_table
from mien.robustness import CORRUPTIONS, SEVERITIES

#: The model of the FER2013 benchmark.
MODEL = "mien_distilled"
RESULTS = ROOT / "results" / MODEL


def _read(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return record


def corruptions() -> str:
    """What each corruption is and how strong."""
    rows = [
        [c.title, c.unit, *(f"{s:g}" for s in c.strengths), ", ".join(v for v in c.variants if v)]
        for c in CORRUPTIONS.values()
    ]
    header = ["corruption", "strength is", *map(str, SEVERITIES), "variants, averaged"]
    return markdown_table(header, rows, left=2)


def grid() -> str:
    """Accuracy by corruption and severity of the shipped model."""
    record = _read("robustness/robustness.json")
    rows = []
    for name, c in record["corruptions"].items():
        levels = [percent(s["accuracy"], 1) for s in c["severities"].values()]
        mean, kept = percent(c["accuracy"], 1), percent(c["retained"], 0)
        rows.append([CORRUPTIONS[name].title, *levels, mean, kept])
    blank = [""] * len(SEVERITIES)
    mean = record["mean"]
    rows.append(["all", *blank, percent(mean["accuracy"], 1), percent(mean["retained"], 0)])
    header = ["corruption", *map(str, SEVERITIES), "mean", "of clean"]
    return f"{_said(record)}\n\n{markdown_table(header, rows)}"


def _said(record: dict[str, Any]) -> str:
    run, clean = record["run"], record["clean"]
    return (
        f"{run['model']['name']} ({run['model']['precision']}), {run['split']}, {run['n']:,} "
        f"faces, {run['version']}. Clean: {percent(clean['accuracy'], 1)} ± "
        f"{200 * clean['se']:.1f} (twice the standard error). `{record['command']}`"
    )


def framing() -> str:
    """What a crop that misses costs the shipped model."""
    record = _read("robustness/robustness.json")
    rows = [["as published", percent(record["clean"]["accuracy"], 1), ""]]
    for name, f in record["framing"].items():
        points = f"{-100 * f['loss']:+.1f} ± {200 * f['loss_se']:.1f}"
        rows.append([name, percent(f["accuracy"], 1), points])
    return markdown_table(["crop", "accuracy", "points"], rows)


def blend() -> str:
    """The shipped model's probabilities beside the votes."""
    record = _read("blend.json")
    one = record["one_rater"]
    rows = []
    for name, value in sorted(one["kl"].items(), key=lambda item: item[1]):
        whole = record["kl"].get(name)
        cells = ["–", "–"] if whole is None else [f"{whole:.3f}", f"{record['js'][name]:.3f}"]
        rows.append([name, *cells, f"{value:.3f}", f"{one['js'][name]:.3f}"])
    header = ["against the votes, nats", "KL", "JS", "KL, other raters", "JS, other raters"]
    said = (
        f"{record['model']['name']}, {record['data']['split']}: {record['kept']:,} of "
        f"{record['images']:,} images have two votes left; {percent(record['votes_dropped'], 1)} "
        f"of their votes are for contempt, unknown or no face. `{record['command']}`"
    )
    return f"{said}\n\n{markdown_table(header, rows)}"


def temperatures() -> str:
    """KL by temperature."""
    table = _read("blend.json")["kl_by_temperature"]
    return markdown_table(["temperature", *table], [["KL", *(f"{v:.3f}" for v in table.values())]])


def agreement() -> str:
    """Agreement with a random rater, the leading two, and the rule of Face.blend."""
    record = _read("blend.json")
    agree, pair, rule = record["agreement"], record["top2"], record["blend"]
    rows = [
        ["a random rater agrees with the model's answer", percent(agree["model"], 1)],
        ["… with another rater", percent(agree["rater"], 1)],
        ["… with the most voted class (the most that can be had)", percent(agree["most_voted"], 1)],
        [
            f"people's first is among the model's two ({pair['images_with_one_leader']:,} images)",
            percent(pair["leader_in_two"], 1),
        ],
        [
            f"the same two leading classes ({pair['images']:,} images with a clear second)",
            percent(pair["same_pair"], 1),
        ],
        ["votes are split (second class ≥ 30 %)", percent(rule["split"], 1)],
        ["`Face.blend` is not None", percent(rule["said"], 1)],
        ["… and the votes are split (precision)", percent(rule["precision"], 1)],
        ["split votes that `Face.blend` finds (recall)", percent(rule["recall"], 1)],
        ["where both, the same pair", percent(rule["same_pair_where_both"], 1)],
    ]
    return markdown_table(["figure", "share"], rows)


BLOCKS = {
    "docs/robustness.md": {"corruptions": corruptions, "grid": grid, "framing": framing},
    "docs/blend.md": {"blend": blend, "temperatures": temperatures, "agreement": agreement},
}


if __name__ == "__main__":
    texts = {ROOT / name: filled(ROOT / name, blocks) for name, blocks in BLOCKS.items()}
    curves = (RESULTS / "robustness" / "curves.svg").read_text(encoding="utf-8")
    texts[ROOT / "docs" / "images" / "robustness.svg"] = curves
    sys.exit(write_or_compare(texts, sys.argv[1:]))
