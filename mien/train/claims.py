"""What the speed runs reached: one sentence a recipe, from measurements and from nothing else."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

#: Written by ``benchmarks/flagship/speedrun.py --claim``; {} until a run was measured.
FILE = Path(__file__).with_name("claims.json")


@cache
def _measured() -> dict[str, dict[str, Any]]:
    measured: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return measured


def sentence(record: dict[str, Any]) -> str:
    """E.g. "300 s on 2 cores of ..., bfloat16: 70.12 % on PrivateTest (7 runs, standard deviation
    .21)"."""
    how = ", bfloat16" if record.get("precision") == "bf16" else ""
    views = record.get("views", "none")
    averaged = "" if views == "none" else f", averaged over {views} views"
    spread = ""
    if record["runs"] > 1:
        spread = f", standard deviation {100 * record['accuracy_sd']:.2f}"
    runs = f"{record['runs']} run" + ("s" if record["runs"] != 1 else "")
    return (
        f"{record['seconds']:.1f} s on {record['hardware']}{how}: "
        f"{100 * record['accuracy']:.2f} % on {record['split']}{averaged} ({runs}{spread})"
    )


def claim(recipe: str) -> str:
    """The claim of a recipe, one sentence a kind of hardware; "" where nothing was measured."""
    records = _measured().get(recipe, {})
    return "; ".join(sentence(records[hardware]) for hardware in sorted(records))
