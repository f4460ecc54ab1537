"""``mien models``: the architectures with their size and cost, and the models that ship."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli._console import say
from mien.cli._options import Json, option
from mien.errors import MienError, MissingExtraError, require_extra

if TYPE_CHECKING:
    from mien.models.registry import LayerRow
    from mien.models.summary import ModelSummary


#: What the architectures need: arguments of ``require_extra``.
TORCH = ("train", ("torch",), "The list of architectures")
# What a shipped model's record contributes to the list.
_FACTS = ("architecture", "precision", "parameters", "multiply_adds", "training_data", "protocol")


def models(
    as_json: Json = False,
    layers: Annotated[
        str | None, option("Print one network's layers.", "--layers", metavar="NAME")
    ] = None,
    markdown: Annotated[bool, option("Print the page docs/models.md.", "--markdown")] = False,
) -> None:
    """List the architectures (parameters, MACs, size) and the models that ship.

    The shipped models are listed without torch; the architectures need it.
    """
    if layers is not None or markdown:
        require_extra(*TORCH)
        from mien.models import summary

        if layers is None:
            sys.stdout.write(summary.markdown_page())
        elif as_json:
            _print_json([vars(row) for row in summary.layers_of(layers)])
        else:
            _print_layers(summary.layers_of(layers))
        return
    shipped = _shipped()
    summaries: tuple[ModelSummary, ...] = ()
    try:
        require_extra(*TORCH)
    except MissingExtraError as error:
        if not shipped:
            raise
        say(f"note: {error}")
    else:
        from mien.models.summary import summarise_all

        summaries = summarise_all()
    if as_json:
        architectures = [s.to_dict() for s in summaries] or None
        _print_json({"architectures": architectures, "shipped": shipped})
    else:
        if summaries:
            _print_summaries(summaries)
            print()
        _print_shipped(shipped)
    damaged = [record["error"] for record in shipped if "error" in record]
    for message in damaged:
        say(f"error: {message}")
    if damaged:
        raise typer.Exit(1)


def _shipped() -> list[dict[str, Any]]:
    """What the models in the package say of themselves; a damaged one says what is wrong."""
    from mien import zoo
    from mien.classify import Classifier

    records = []
    for name, entry in zoo.MODELS.items():
        record = {"name": name, "default": name == zoo.DEFAULT, "description": entry.description}
        try:
            path = zoo.model_path(name)
            info = Classifier(path).info
        except MienError as error:
            records.append(record | {"error": str(error)})
            continue
        record |= {"file": entry.file, "sha256": entry.sha256, "bytes": path.stat().st_size}
        record |= {key: getattr(info, key) for key in (*_FACTS, "licence")}
        records.append(record | {"scores": dict(info.scores)})
    return records


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_columns(rows: Sequence[tuple[str, ...]], right: set[int]) -> None:
    """Aligned columns; plain text, so that it can be piped and grepped at any terminal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{c:{'>' if i in right else '<'}{widths[i]}}" for i, c in enumerate(row))
        print("  ".join(cells).rstrip())


def _print_summaries(summaries: tuple[ModelSummary, ...]) -> None:
    rows = [("name", "paper", "input", "parameters", "MACs", "MB fp32")]
    for s in summaries:
        figures = f"{s.parameters:,}", f"{s.multiply_adds:,}", f"{s.megabytes:.2f}"
        rows.append((s.spec.name, s.spec.paper, s.size, *figures))
    _print_columns(rows, {3, 4, 5})


def _print_layers(table: tuple[LayerRow, ...]) -> None:
    rows = [("layer", "type", "settings", "output", "parameters")]
    for row in table:
        shape = "×".join(map(str, row.output_shape))
        rows.append((row.name, row.type, row.settings, shape, f"{row.parameters:,}"))
    rows.append(("total", "", "", "", f"{sum(row.parameters for row in table):,}"))
    _print_columns(rows, {4})


def _print_shipped(shipped: list[dict[str, Any]]) -> None:
    rows = [("shipped model", "precision", "parameters", "MACs", "MB", "PrivateTest")]
    for record in shipped:
        if "error" in record:
            continue
        accuracy = record["scores"].get("PrivateTest", {}).get("accuracy")
        name = record["name"] + (" (default)" if record["default"] else "")
        figures = f"{record['parameters']:,}", f"{record['multiply_adds']:,}"
        megabytes = f"{record['bytes'] / 1e6:.2f}"
        scored = "" if accuracy is None else f"{100 * accuracy:.1f} %"
        rows.append((name, record["precision"], *figures, megabytes, scored))
    if len(rows) > 1:
        _print_columns(rows, {2, 3, 4, 5})
