"""Write the model card of every shipped model from its own metadata and its committed reports.

``python examples/model_card.py`` (part of ``make docs``) writes ``mien/zoo/NAME.md``; ``--check`` changes
nothing and exits with 1 if a card is out of date.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

from mien import zoo
from mien.atomic import write_text
from mien.classify import load_classifier

ROOT = Path(__file__).resolve().parent.parent

CARD = """# Model card: {name}

{description}

| | |
|---|---|
| task | one of {n_labels} expressions ({labels}) for a grey {size}×{size} face |
| network | `{architecture}`: {parameters:.2f} M parameters, {macs:.0f} M multiply-adds a face |
| file | `{file}`, {precision}, {bytes:.2f} MB, SHA-256 `{sha}` |
| preprocessing | (pixel / 255 − {mean}) / {std}; softmax at temperature {temperature} |
| trained on | {data} Training (28,709 faces), with the FER+ votes of those rows as an auxiliary target |
| weights' licence | {licence} |

## Scores

{scores}

Accuracy with its 95 % bootstrap interval over the split's images; "without twins" leaves out the images that have a
byte-identical copy in a split that was trained or chosen on. One training run, so the spread over seeds is not in these figures: the
binomial standard error alone is about 0.75 points. The epoch (of {epochs}) and the softmax temperature were chosen on PublicTest, so its
figures flatter; PrivateTest was scored once, with this file, after every choice was made. No test-time augmentation.

{per_class}

## How it was made

`{command}`, then `mien export --int8`. {seconds:.0f} minutes of training on two cores of {cpu} in {precision_train} at
{rate:.0f} images/s, with other work beside it. torch {torch}. {extra}Recipe, environment, curves and the reports are in
[results/{name}](../../results/{name}).

## Limits

- **An expression is not a feeling.** The model says which word the labellers of FER2013 would give a face. It does not know
  what anyone feels, intends or will do, and it reads one moment without context.
- FER2013's labels are noisy: people agree with them on about 65 ± 5 % of the images, and FER+'s ten raters side with the
  original label on 63 % of PrivateTest. Fear and disgust are rare and are missed most: see the table.
- The pictures came from web searches in 2013. Their balance of age, sex, skin colour and culture is unknown, and
  errors will not be spread evenly. Nobody has measured this model's fairness.
- Frontal faces, framed as FER2013 frames them. Profiles, masks, hands before the face and faces under about 20 pixels are outside
  what it saw.
- Probabilities are calibrated on FER2013; other pictures can be answered too surely.

## Must not be used for

Judging people: hiring, work, school, insurance, credit, policing, borders, or medical decisions. In the European Union the AI Act
(Regulation (EU) 2024/1689, Article 5(1)(f)) bans systems that infer emotions of people at work and in education, except for
medical or safety reasons, and other uses of emotion recognition carry duties of transparency.
"""


def read(path: Path) -> dict[str, Any]:
    """One JSON object."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def percent(record: dict[str, Any]) -> str:
    """ "71.23 % (69.70–72.70)" of a report or its twin-free part."""
    low, high = record["accuracy_ci"]
    return (
        f"{100 * record['accuracy']:.2f} % ({100 * low:.2f}–{100 * high:.2f}), n = {record['n']:,}"
    )


def card(name: str) -> str:
    """The text of one model's card."""
    entry, info = zoo.MODELS[name], load_classifier(name).info
    folder = ROOT / "results" / name
    reports = {s: read(folder / f"{s}.json") for s in ("PublicTest", "PrivateTest")}
    run, recipe = read(folder / "run.json"), read(folder / "recipe.json")
    with (folder / "curves.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    seconds = sum(float(row["seconds"]) for row in rows)
    scores = ["| split | accuracy | without twins | macro F1 | ECE |", "|---|---|---|---:|---:|"]
    for split, r in reports.items():
        scores.append(
            f"| {split} | {percent(r)} | {percent(r['twin_free'])} "
            f"| {r['macro_f1']:.4f} | {r['ece']:.4f} |"
        )
    test = reports["PrivateTest"]["per_class"]
    per_class = ["| PrivateTest | precision | recall | F1 | support |", "|---|---:|---:|---:|---:|"]
    for label, r in test.items():
        per_class.append(
            f"| {label} | {r['precision']:.3f} | {r['recall']:.3f} | {r['f1']:.3f} | {r['support']} |"
        )
    path = zoo.model_path(name)
    return CARD.format(
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
    )


def main(arguments: list[str]) -> int:
    """Write the cards, or only compare them."""
    stale = []
    for name in zoo.MODELS:
        path, text = ROOT / "mien" / "zoo" / f"{name}.md", card(name)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if "--check" not in arguments:
                write_text(path, text)
                print(f"wrote {path.relative_to(ROOT)}")
    if stale and "--check" in arguments:
        print(f"out of date: {', '.join(stale)}; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
