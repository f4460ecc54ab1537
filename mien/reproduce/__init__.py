"""Reproductions of the papers: ``mien reproduce NAME``, their runs, scores and reports."""

from __future__ import annotations

from mien.reproduce.spec import BUDGETS, PAPERS, Headline, RunSpec, ScoreSpec, System, get_system

__all__ = ["BUDGETS", "PAPERS", "Headline", "RunSpec", "ScoreSpec", "System", "get_system"]
