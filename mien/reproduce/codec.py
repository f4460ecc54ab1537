"""Frozen dataclasses from JSON or TOML: a record is read into its types, or refused."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any


def from_json(kind: Any, value: Any) -> Any:
    """``value`` as it comes out of JSON, as a ``kind``: a dataclass of dataclasses, tuples,
    mappings and plain values. A dataclass is given by names, where those that it has not are left
    out, or as a list of its first fields.

    Raises:
        TypeError, ValueError, AttributeError: ``value`` has another form.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        # An empty mapping stands for a dataclass that is not there.
        if value is None or (value == {} and dataclasses.is_dataclass(arguments[0])):
            return None
        return from_json(arguments[0], value)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        value = dict(zip(hints, value, strict=False)) if isinstance(value, list) else value
        return kind(**{k: from_json(hints[k], v) for k, v in value.items() if k in hints})  # type: ignore[operator]
    if origin is tuple:
        inner = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return tuple(from_json(k, v) for k, v in zip(inner, value, strict=True))
    if origin is not None:  # a mapping by names
        return {arguments[0](k): from_json(arguments[1], v) for k, v in value.items()}
    plain = (int, float) if kind is float else kind
    if kind is not Any and not isinstance(value, plain):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
