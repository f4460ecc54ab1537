"""``mien blend MODEL``: a model's mixed expressions beside the votes of FER+'s raters."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from mien.atomic import write_text
from mien.cli import _options as opt
from mien.cli._console import command_line, print_report, wrote
from mien.cli._options import load_model, option


def blend(
    model: opt.ScoredModel,
    data: opt.Data = None,
    name: opt.Name = None,
    split: opt.Split = "val",
    flip: opt.Flip = False,
    temperature: Annotated[
        float | None,
        option("The softening to compare (default: PublicTest's best).", min=0.05, max=20),
    ] = None,
    batch_size: opt.BatchSize = 256,
    as_json: opt.Json = False,
    out: opt.OutJson = None,
) -> None:
    """Compare the probabilities, taken as a mixture, with what ten people voted (FER+)."""
    from mien.evaluate.blend import blend as score
    from mien.evaluate.report import facts_of
    from mien.evaluate.samples import samples_of

    classifier = load_model(model)
    record = score(
        classifier,
        samples_of(classifier, data, name, split),
        temperature=temperature,
        flip=flip,
        batch_size=batch_size,
        progress=True,
        model=facts_of(classifier, model),
        command=command_line(),
    ).to_dict()
    text = json.dumps(record, indent=1, allow_nan=False)
    if out is not None:
        write_text(out, text + "\n")
        wrote(out)
    if as_json:
        typer.echo(text)
    else:
        _print(record)


def _print(record: dict[str, Any]) -> None:
    from mien.report.document import Table, figure, percent
    from mien.results import BLEND_GAP

    others = "" if "contempt" in record["classes"] else "contempt, "  # that no model's class is
    title = (
        f"{record['model']['name']}, {record['data']['split']}: "
        f"{record['kept']:,} of {record['images']:,} images have two votes left; "
        f"{100 * record['votes_dropped']:.1f} % of their votes are for {others}unknown or no face"
    )
    rows = [
        [key, figure(record["kl"].get(key)), figure(record["js"].get(key)), figure(value)]
        for key, value in record["one_rater"]["kl"].items()
    ]
    header = ["nats", "KL of all votes", "JS", "KL of the other raters"]
    print_report(title, [Table(header, rows)], record["notes"])
    agree, pair, rule = record["agreement"], record["top2"], record["blend"]
    typer.echo(
        f"agrees with a random rater: model {percent(agree['model'], 1)}, another rater "
        f"{percent(agree['rater'], 1)}, the most voted class {percent(agree['most_voted'], 1)}"
    )
    typer.echo(
        f"the same two leading classes: {percent(pair['same_pair'], 1)} of {pair['images']:,}; "
        f"people's first among the model's two: {percent(pair['leader_in_two'], 1)} of "
        f"{pair['images_with_one_leader']:,}"
    )
    typer.echo(
        f"blend: said of {percent(rule['said'], 1)}, votes split on {percent(rule['split'], 1)}; "
        f"precision {percent(rule['precision'], 1)}, recall {percent(rule['recall'], 1)}, same "
        f"pair where both {percent(rule['same_pair_where_both'], 1)}"
    )
    if record["gap_as_often_as_raters"] is not None:
        typer.echo(
            f"a gap of {record['gap_as_often_as_raters']:.2f} would say blend as often as votes "
            f"split (in use: {BLEND_GAP:.2f})"
        )
