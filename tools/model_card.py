"""Write the card of every shipped model from its own metadata and its committed reports.

Part of ``make docs``: fills ``model_card.md`` into ``mien/zoo/NAME.md``. ``--check`` only compares
and exits with 1 if a card is out of date.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

from fill_docs import ROOT, write_or_compare

from mien import zoo
from mien.classify import load_classifier

TEMPLATE = Path(__file__).with_suffix(".md")


def read(path: Path) -> dict[str, Any]:
    """One JSON object."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def percent(record: dict[str, Any]) -> str:
    """ "71.23 % (69.70–72.70)" of a report or of its part without exact duplicates."""
    low, high = record["accuracy_ci"]
    return (
        f"{100 * record['accuracy']:.2f} % ({100 * low:.2f}–{100 * high:.2f}), n = {record['n']:,}"
    )


def taught(run: dict[str, Any], recipe: dict[str, Any]) -> str:
    """The paragraph on a student's teachers, which its own training time does not hold; or ""."""
    teachers, how = run.get("teachers") or [], recipe.get("distill") or {}
    if not teachers:
        return ""
    each = "; ".join(
        f"`{t['name']}` (share {t['share']:.2f}, SHA-256 `{t['sha256'][:12]}…`"
        + (f", {t['epochs']} epochs, {t['minutes']:.0f} minutes)" if "minutes" in t else ")")
        for t in teachers
    )
    return (
        f"\nIt learned from teachers: {100 * how['weight']:.0f} % of its loss is their averaged "
        f"answer at temperature {how['temperature']:g}, the rest FER2013's labels and FER+'s "
        "votes. "
        f"The teachers, trained on the same images: {each}. Their time comes on top.\n"
    )


def written(name: str) -> bool:
    """Whether the card is generated: the others, of models made otherwise, are kept by hand."""
    record = ROOT / "results" / name / "run.json"
    return record.is_file() and read(record)["data"]["name"] == "fer2013"


def card(name: str) -> str:
    """The text of one model's card."""
    entry, info = zoo.MODELS[name], load_classifier(name).info
    folder = ROOT / "results" / name
    reports = {s: read(folder / f"{s}.json") for s in ("PublicTest", "PrivateTest")}
    run, recipe = read(folder / "run.json"), read(folder / "recipe.json")
    with (folder / "curves.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    seconds = sum(float(row["seconds"]) for row in rows)
    scores = [
        "| split | accuracy | without exact duplicates | macro F1 | ECE |",
        "|---|---|---|---:|---:|",
    ]
    for split, r in reports.items():
        scores.append(
            f"| {split} | {percent(r)} | {percent(r['twin_free'])} "
            f"| {r['macro_f1']:.4f} | {r['ece']:.4f} |"
        )
    test = reports["PrivateTest"]["per_class"]
    per_class = ["| PrivateTest | precision | recall | F1 | support |", "|---|---:|---:|---:|---:|"]
    for label, r in test.items():
        per_class.append(
            f"| {label} | {r['precision']:.3f} | {r['recall']:.3f} | {r['f1']:.3f} "
            f"| {r['support']} |"
        )
    path = zoo.model_path(name)
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=name,
        description=entry.description,
        n_labels=len(info.labels),
        labels=", ".join(label.value for label in info.labels),
        size=info.input_size,
        architecture=info.architecture,
        parameters=info.parameters / 1e6,
        macs=info.multiply_adds / 1e6,
        file=entry.file,
        precision=info.precision,
        bytes=path.stat().st_size / 1e6,
        sha=entry.sha256,
        mean=info.mean,
        std=info.std,
        temperature=info.temperature,
        data=info.training_data,
        licence=info.licence,
        scores="\n".join(scores),
        per_class="\n".join(per_class),
        epochs=recipe["epochs"],
        command=run["command"],
        seconds=seconds / 60,
        cpu=run["cpu"],
        precision_train={"bf16": "bfloat16", "32": "float32"}[run["precision"]],
        rate=len(rows) * 28709 / seconds,
        torch=run["versions"]["torch"],
        extra=run.get("note", ""),
        taught=taught(run, recipe),
    )


if __name__ == "__main__":
    cards = {
        ROOT / "mien" / "zoo" / f"{name}.md": card(name) for name in zoo.MODELS if written(name)
    }
    sys.exit(write_or_compare(cards, sys.argv[1:]))
