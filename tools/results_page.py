"""The page of all five papers, from the committed reproductions: ``docs/results.md``.

Every figure of ours comes from ``results/NAME/reproduction.json``; a paper without one is listed
with its own figures, and ours read "not run".
"""

from __future__ import annotations

from pathlib import Path

from mien.errors import DataError
from mien.report.document import NOT_RUN, duration
from mien.report.markdown import markdown_table, plain
from mien.reproduce.record import Mark, Record, read_record
from mien.reproduce.report import mark_cells
from mien.reproduce.run import DONE
from mien.reproduce.spec import PAPERS, get_system

_INTRO = (
    "Each paper's own figure, ours, and the difference in points. “Met” says that ours reaches the "
    "mark in the column before it: the paper's own figure, or two points below it for Debnath et "
    f"al. A run that was not done reads “{NOT_RUN}”. `mien reproduce NAME` makes a report: see "
    "[reproduce.md](reproduce.md). [lessons.md](lessons.md) explains what the learning curves of "
    "these runs show."
)


def read_results(folder: str | Path) -> dict[str, Record | None]:
    """The record of each paper from ``folder/NAME/reproduction.json``; None where there is none.

    Raises:
        DataError: a file is damaged, is the record of another paper, or is of a dry run.
    """
    found: dict[str, Record | None] = {}
    for name in PAPERS:
        path = Path(folder) / name / "reproduction.json"
        found[name] = record = read_record(path) if path.exists() else None
        if record is not None and record.system != name:
            raise DataError(f"{path} is the record of {record.system!r}, not of {name!r}.")
        if record is not None and record.dry:
            raise DataError(f"{path} is of a dry run, whose figures mean nothing; move it away.")
    return found


def results_page(folder: str | Path, link: str = "../results") -> str:
    """The Markdown of the page.

    Args:
        folder: holds one folder a paper.
        link: the way from the page to that folder.

    Raises:
        DataError: see :func:`read_results`.
    """
    records = read_results(folder)
    marks = {name: _marks(name, record) for name, record in records.items()}
    header = ["paper", "figure", "the paper", "ours", "difference", "asked", "", "remark"]
    rows = [
        ["" if i else f"[{name}](#{name})", *(plain(cell) for cell in mark_cells(mark))]
        for name, listed in marks.items()
        for i, mark in enumerate(listed)
    ]
    parts = [
        "# Results of the five papers",
        "<!-- Generated: make docs -->",
        _INTRO,
        _state([mark for listed in marks.values() for mark in listed], records),
        markdown_table(header, rows, left=3, words=(7,)),
    ]
    for name, record in records.items():
        parts += _paper(name, record, link)
    return "\n\n".join(part for part in parts if part) + "\n"


def _marks(name: str, record: Record | None) -> tuple[Mark, ...]:
    """The paper's headlines, ours empty before anything was run."""
    if record is not None:
        return record.headlines
    return tuple(Mark(**vars(headline)) for headline in get_system(name).headlines)


def _state(marks: list[Mark], records: dict[str, Record | None]) -> str:
    """How many figures are measured, and how many marks are met."""
    ours = [mark for mark in marks if mark.ours is not None]
    asked = [mark for mark in ours if mark.target is not None]
    budgets = sorted({record.budget for record in records.values() if record is not None})
    said = f"So far {len(ours)} of {len(marks)} figures are measured"
    said += f" (budget: {', '.join(budgets)})" if budgets else ""
    return f"{said}; {sum(bool(mark.met) for mark in asked)} of {len(asked)} marks are met."


def _paper(name: str, record: Record | None, link: str) -> list[str]:
    """One paper's part: what was run, where its report is, what could not be right."""
    known = record or get_system(name)
    parts = [f'<a id="{name}"></a>\n\n## {plain(known.title)}', plain(known.citation)]
    if record is None:
        parts.append(f"Ours: {NOT_RUN}.")
    else:
        report = f"[The whole report]({link}/{name}/reproduction.md)"
        parts.append(f"{report}. {plain(_run_text(record))}")
    if known.remarks:
        parts.append("What could not be right, and why:")
        parts.append("\n".join(f"- **{plain(r.title)}.** {plain(r.text)}" for r in known.remarks))
    for e in known.earlier:
        said = f"Another recipe: {e.run}, {e.budget} budget: {e.recipe}. It reached {e.figures}. "
        parts.append(plain(said + e.why))
    return parts


def _run_text(record: Record) -> str:
    """How much was run, in which budget, and how long it took."""
    planned = [run for run in record.runs if run.seeds]
    done = sum(run.state == DONE for run in planned)
    seeds = [seed for run in planned for seed in run.done]
    wanted = sum(len(run.seeds) for run in planned)
    left_out = len(record.runs) - len(planned)
    said = f"Budget {record.budget}; {done} of {len(planned)} planned runs complete, "
    said += f"{left_out} left out of this budget; " if left_out else ""
    said += f"{len(seeds)} of {wanted} {'training' if wanted == 1 else 'trainings'}"
    return f"{said}, {duration(sum(seed.seconds or 0 for seed in seeds))} in all."
