"""The parts that only one paper has: a mislabelled report, leakage, a grid of backbones.

Keys without a form of their own are shown as plain tables, so that nothing of a record is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mien.evaluate.report import figure, percent
from mien.reproduce.document import (
    NOT_RUN,
    Block,
    Pairs,
    Section,
    Table,
    Text,
    count,
    number,
    shown,
    slug,
)

Record = Mapping[str, Any]

#: Ends of keys whose values are fractions.
_SHARES = ("accuracy", "precision", "recall", "f1", "share", "rate", "mean", "std", "low", "high")


def extra_sections(result: Record) -> list[Section]:
    """One section for every key of the record's ``extra``."""
    found = []
    for key, value in (result.get("extra") or {}).items():
        form = _FORMS.get(key, _plain)
        if value not in (None, {}, [], ""):
            found.append(form(key, value))
    return found


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _cell(key: str, value: Any) -> str:
    """A value by its key: shares in percent, counts with commas, words as they are."""
    if value is None:
        return NOT_RUN
    if isinstance(value, float) and number(value) is not None:
        if key.lower().split("_")[-1] in _SHARES and abs(value) <= 1:
            return percent(value)
        return figure(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return count(value)
    return shown(value)


def _plain(key: str, value: Any) -> Section:
    return Section(f"extra-{slug(key)}", _title(key), _plain_blocks(key, value))


def _plain_blocks(key: str, value: Any) -> list[Block]:
    if isinstance(value, Mapping):
        scalars = [
            (_title(str(k)), _cell(str(k), v))
            for k, v in value.items()
            if not isinstance(v, (Mapping, list, tuple))
        ]
        blocks: list[Block] = [Pairs(scalars)] if scalars else []
        for k, v in value.items():
            if isinstance(v, (Mapping, list, tuple)) and v:
                blocks += [Text(f"{_title(str(k))}:"), *_plain_blocks(str(k), v)]
        return blocks
    if isinstance(value, Sequence) and not isinstance(value, str):
        if value and all(isinstance(v, Mapping) for v in value):
            columns = list(dict.fromkeys(k for row in value for k in row))
            rows = [[_cell(str(c), row.get(c)) for c in columns] for row in value]
            return [Table([_title(str(c)).lower() for c in columns], rows)]
        return [Text(", ".join(_cell(key, v) for v in value))]
    return [Text(_cell(key, value))]


_FORMS: dict[str, Callable[[str, Any], Section]] = {}
