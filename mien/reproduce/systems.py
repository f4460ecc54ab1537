"""The registry of reproductions: one module a paper, imported when it is asked for."""

from __future__ import annotations

import importlib

from mien.errors import RecipeError
from mien.reproduce.spec import System

#: Name -> module that holds its ``SYSTEM``, in the order of the results page.
PAPERS: dict[str, str] = {
    "debnath2021": "mien.reproduce.papers.debnath2021",
    "njoku2024": "mien.reproduce.papers.njoku2024",
    "ahmed2024": "mien.reproduce.papers.ahmed2024",
    "bah2022": "mien.reproduce.papers.bah2022",
    "mondal2022": "mien.reproduce.papers.mondal2022",
}


def get_system(name: str) -> System:
    """The system called ``name``.

    Raises:
        RecipeError: there is none; the nearest name is offered.
    """
    if name not in PAPERS:
        import difflib

        near = difflib.get_close_matches(name, PAPERS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PAPERS)}."
        raise RecipeError(f"Unknown system {name!r}; {hint}")
    system: System = importlib.import_module(PAPERS[name]).SYSTEM
    return system
