"""Every input that fuzzing kept: mien answers it, or refuses it in a sentence of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus"
FILES = sorted(p for p in CORPUS.rglob("*") if p.is_file())


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(CORPUS)) for p in FILES])
def test_every_kept_input_is_answered_or_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = {"parquet": "pyarrow", "csv": "pyarrow", "votes": "pyarrow", "websocket": "websockets"}
    if path.parent.name in needs:
        pytest.importorskip(needs[path.parent.name])
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import fuzz

    fuzz.once(path.parent.name, path.read_bytes())


def test_the_corpora_are_small_and_of_every_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import fuzz

    assert {p.parent.name for p in FILES} == set(fuzz.TARGETS)
    assert sum(p.stat().st_size for p in FILES) < 300_000
