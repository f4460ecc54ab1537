"""``mien models``: the architectures with their size and cost, and the models that ship."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.errors import MienError, MissingExtraError

if TYPE_CHECKING:
    from mien.models.counting import LayerRow
    from mien.models.summary import ModelSummary

app = typer.Typer(add_completion=False)

_PLAIN = (str, int, float, bool, type(None), list, tuple, dict)


@app.command()
def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    layers: Annotated[
        str | None, typer.Option("--layers", metavar="NAME", help="Print one network's layers.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/models.md.")
    ] = False,
) -> None:
    """List the architectures (parameters, multiply-adds, size) and the models that ship.

    The shipped models are listed without torch; the architectures need it.
    """
    if layers is not None or markdown:
        _require_torch()
        from mien.models import summary

        if layers is None:
            sys.stdout.write(summary.markdown_page())
        elif as_json:
            _print_json([vars(row) for row in summary.layers_of(layers)])
        else:
            _print_layers(summary.layers_of(layers))
        return
    shipped = _shipped()
    try:
        _require_torch()
    except MissingExtraError as error:
        if not shipped:
            raise
        print(f"note: {error}", file=sys.stderr)
        summaries: tuple[ModelSummary, ...] | None = None
    else:
        from mien.models.summary import summarise_all

        summaries = summarise_all()
    if as_json:
        architectures = None if summaries is None else [s.to_dict() for s in summaries]
        _print_json({"architectures": architectures, "shipped": shipped})
        return
    if summaries is not None:
        _print_summaries(summaries)
    _print_shipped(shipped)


def _require_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError(
            "The network architectures need torch; install it with: pip install 'mien[train]'"
        )


def _shipped() -> list[dict[str, Any]]:
    """The models in the package, as plain records; a damaged listing does not hide the rest."""
    try:
        from mien.zoo import DEFAULT, MODELS
    except ImportError:
        return []
    try:
        return [
            {"name": name, "default": name == DEFAULT, **_record(entry)}
            for name, entry in MODELS.items()
        ]
    except MienError as error:
        print(f"note: the shipped models cannot be listed: {error}", file=sys.stderr)
        return []


def _record(entry: Any) -> dict[str, Any]:
    record = dataclasses.asdict(entry)
    return {key: value for key, value in record.items() if isinstance(value, _PLAIN)}


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_columns(rows: Sequence[tuple[str, ...]], right: set[int]) -> None:
    """Aligned columns; plain text, so that it can be piped and grepped at any terminal width."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())


def _print_summaries(summaries: tuple[ModelSummary, ...]) -> None:
    rows = [("name", "paper", "input", "parameters", "multiply-adds", "MB fp32")]
    for s in summaries:
        size = "×".join(map(str, (*s.input[1:], s.input[0])))
        rows.append(
            (
                s.name,
                s.paper,
                size,
                f"{s.parameters:,}",
                f"{s.multiply_adds:,}",
                f"{s.megabytes:.2f}",
            )
        )
    _print_columns(rows, {3, 4, 5})


def _print_layers(table: tuple[LayerRow, ...]) -> None:
    rows = [("layer", "type", "output", "parameters")]
    for row in table:
        rows.append(
            (row.name, row.type, "×".join(map(str, row.output_shape)), f"{row.parameters:,}")
        )
    rows.append(("total", "", "", f"{sum(row.parameters for row in table):,}"))
    _print_columns(rows, {3})


def _print_shipped(shipped: list[dict[str, Any]]) -> None:
    if not shipped:
        return
    print("\nshipped with this package:")
    for record in shipped:
        star = " (default)" if record["default"] else ""
        size = f", {record['size'] / 1e6:.2f} MB" if isinstance(record.get("size"), int) else ""
        print(f"  {record['name']}{star}{size}")
