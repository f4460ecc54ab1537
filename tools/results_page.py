"""The page of all five papers, from the committed reproductions: ``docs/results.md``.

Every figure of ours comes from ``results/NAME/reproduction.json``, of the fast recipes, and from
``results/NAME-paper/reproduction.json``, of the papers' own. The page opens with one line a paper;
below, each paper has its figures, and its report has the rest. Of full recipes nothing is said
before one was run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mien.errors import DataError
from mien.report.document import NOT_RUN, duration, percent, points
from mien.report.markdown import markdown_table, plain
from mien.reproduce.record import Mark, Record, read_record
from mien.reproduce.report import verdict
from mien.reproduce.run import DONE
from mien.reproduce.spec import PAPERS, get_system

#: Budget -> what follows the paper's name in the folder's, and its name for people.
_BUDGETS = {"paper": ("-paper", "full recipe"), "fast": ("", "fast recipe")}

_SEVEN = "inceptionresnetv2 inceptionv3 mobilenetv2 resnet50 resnet101 xception googlenet"

#: Paper -> of what the figures in its line are, and their keys; more than three as a range.
_LEADS = {
    "debnath2021": ("training, validation", ("train_accuracy", "val_accuracy")),
    "njoku2024": ("training, validation", ("train_accuracy", "accuracy_7178")),
    "ahmed2024": (
        "seven backbones, all data (fast: from random weights)",
        tuple(f"{backbone}_all" for backbone in _SEVEN.split()),
    ),
    "bah2022": ("FERGIT, random frames of CK+", ("resnet_fergit", "ckplus_random")),
    "mondal2022": (
        "validation: shallow, with dropout, deep",
        ("shallow_val", "dropout_val", "deep_val"),
    ),
}

_INTRO = (
    "One line per paper: the accuracies it claims, ours, and how many of the marks that ours "
    "had to reach are met. A mark is the paper's own figure, or two points below it for Debnath et "
    f"al.; none is asked of runs that start from other weights. A run that was not done reads "
    f"“{NOT_RUN}”. `mien reproduce NAME` makes a report: see [reproduce.md](reproduce.md). "
    "[lessons.md](lessons.md) explains what the learning curves of these runs show."
)

#: Budget -> record, in the order of the columns; of a paper, those that there are.
Records = Mapping[str, Record]


def read_results(folder: str | Path) -> dict[str, Records]:
    """The records of each paper: "fast" from ``folder/NAME``, "paper" from ``folder/NAME-paper``.

    Raises:
        DataError: a file is damaged, or is the record of another paper, of another budget or of a
            dry run.
    """
    return {name: dict(_read(Path(folder), name)) for name in PAPERS}


def _read(folder: Path, name: str) -> Iterable[tuple[str, Record]]:
    for budget, (suffix, _) in _BUDGETS.items():
        path = folder / f"{name}{suffix}" / "reproduction.json"
        if not path.exists():
            continue
        record = read_record(path)
        if record.system != name:
            raise DataError(f"{path} is the record of {record.system!r}, not of {name!r}.")
        if record.dry:
            raise DataError(f"{path} is of a dry run, whose figures mean nothing; move it away.")
        if record.budget != budget:
            raise DataError(f"{path} is of the {record.budget} budget, not of the {budget} one.")
        yield budget, record


def results_page(folder: str | Path, link: str = "../results") -> str:
    """The Markdown of the page.

    Args:
        folder: holds the folders of the papers' records.
        link: the way from the page to that folder.

    Raises:
        DataError: see :func:`read_results`.
    """
    records = read_results(folder)
    ran = {budget for found in records.values() for budget in found}
    shown = [b for b in _BUDGETS if b == "fast" or b in ran]  # full recipes once one was run
    ours = [f"ours, {_BUDGETS[budget][1]}" for budget in shown]
    header = ["paper", "accuracy of", "claimed", *ours, "marks met", "more"]
    rows = [_line(name, found, shown, link) for name, found in records.items()]
    parts = [
        "# Results of the five papers",
        "<!-- Generated: make docs -->",
        _INTRO,
        markdown_table(header, rows, left=len(header)),
        _state(records, shown),
    ]
    for name, found in records.items():
        parts += _paper(name, found, link)
    return "\n\n".join(part for part in parts if part) + "\n"


def _line(name: str, found: Records, shown: list[str], link: str) -> list[str]:
    """A paper's line of the first table."""
    title, keys = _LEADS[name]
    marks = {budget: _marks(name, found.get(budget)) for budget in shown}
    printed = {mark.key: mark.paper for mark in _marks(name, None)}
    ours = {b: {mark.key: mark.ours for mark in listed} for b, listed in marks.items()}
    each = [
        _values([ours[b].get(key) for key in keys], ".2f") if b in found or b == "fast" else "–"
        for b in shown
    ]
    met = [_met(marks[budget]) for budget in shown]
    if len(shown) > 1:
        names = (_BUDGETS[b][1].removesuffix(" recipe") for b in shown)
        met = [f"{said} ({n})" for said, n in zip(met, names, strict=True) if said != "–"]
    more = [f"[figures](#{name})", *_reports(name, found, link)]
    cite = plain(get_system(name).citation.split(",")[0])
    claimed = _values([printed[key] for key in keys], "g")
    return [cite, title, claimed, *each, "; ".join(met) or "–", ", ".join(more)]


def _values(values: list[float | None], form: str) -> str:
    """ "99.21 / 63.64 %"; of more than three their range, and of how many it is."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return NOT_RUN
    if len(values) <= 3:
        each = ["–" if v is None else f"{100 * v:{form}}" for v in values]
        return f"{' / '.join(each)} %"
    ends = dict.fromkeys(f"{end(known):{form}}" for end in (min, max))
    count = f" ({len(known)} of {len(values)})" if len(known) < len(values) else ""
    return f"{' to '.join(ends)} %{count}"


def _met(marks: Iterable[Mark]) -> str:
    """ "2 of 2": marks met of those asked and measured."""
    asked = [m for m in marks if m.target is not None and m.ours is not None]
    return f"{sum(bool(mark.met) for mark in asked)} of {len(asked)}" if asked else "–"


def _reports(name: str, found: Records, link: str) -> list[str]:
    names = {"fast": "report", "paper": "report of the full recipe"}
    return [
        f"[{names[budget]}]({link}/{name}{_BUDGETS[budget][0]}/reproduction.md)" for budget in found
    ]


def _marks(name: str, record: Record | None) -> tuple[Mark, ...]:
    """The paper's headlines, ours empty before anything was run."""
    if record is not None:
        return record.headlines
    return tuple(Mark(**vars(headline)) for headline in get_system(name).headlines)


def _state(records: Mapping[str, Records], shown: list[str]) -> str:
    """How many figures are measured and how many marks met, by each recipe."""
    said = []
    for budget in shown:
        marks = [m for name, found in records.items() for m in _marks(name, found.get(budget))]
        measured = sum(mark.ours is not None for mark in marks)
        met = _met(marks)
        said.append(
            f"{measured} of {len(marks)} figures are measured by the {_BUDGETS[budget][1]}"
            + (f", {met} marks met" if met != "–" else "")
        )
    return f"So far {'; '.join(said)}."


def _paper(name: str, found: Records, link: str) -> list[str]:
    """One paper's part: its figures, what was run, where its reports are, what was not right."""
    known = next(iter(found.values()), None) or get_system(name)
    parts = [f'<a id="{name}"></a>\n\n## {plain(known.citation)}', f"*{plain(known.title)}*"]
    for budget, record in found.items():
        (report,) = _reports(name, {budget: record}, link)
        parts.append(f"{plain(_run_text(record))} Everything is in the {report}.")
    parts.append(_figures({b: _marks(name, found.get(b)) for b in found or ("fast",)}))
    report = f"{link}/{name}{_BUDGETS[next(iter(found))][0]}/reproduction.md" if found else ""
    if report:
        said = " ".join(plain(remark.title) + "." for remark in known.remarks)
        parts.append(f"What could not be right, and [why]({report}#remarks): {said}")
    else:
        parts.append("What could not be right, and why:")
        parts.append("\n".join(f"- **{plain(r.title)}.** {plain(r.text)}" for r in known.remarks))
    if known.earlier:
        many = len(known.earlier)
        recipes = "recipe that was" if many == 1 else "recipes that were"
        said = f"{many} {recipes} replaced, or tried and not taken"
        parts.append(f"[{said}]({report}#earlier)." if report else f"{said}.")
    return parts


def _figures(marks: Mapping[str, tuple[Mark, ...]]) -> str:
    """A paper's figures, by each recipe; remarks stand below, once each."""
    by_key = {budget: {mark.key: mark for mark in listed} for budget, listed in marks.items()}
    notes: dict[str, int] = {}
    rows = []
    for key in dict.fromkeys(key for keys in by_key.values() for key in keys):
        each = [keys.get(key) for keys in by_key.values()]
        some = [mark for mark in each if mark is not None]
        said = [notes.setdefault(m.remark, len(notes) + 1) for m in some if m.remark]
        mark = some[-1]
        rows.append(
            [
                plain(mark.label),
                plain(mark.paper_text or percent(mark.paper)),
                "–" if mark.target is None else f"≥ {percent(mark.target)}",
                *(NOT_RUN if m is None else plain(_ours(m)) for m in each),
                ", ".join(str(number) for number in sorted(set(said))),
            ]
        )
    ours = [f"ours, {_BUDGETS[budget][1]}" for budget in by_key]
    header = ["figure", "the paper", "target", *ours, "note"]
    table = markdown_table(header, rows, left=len(header))
    listed = "\n".join(f"{number}. {plain(note)}" for note, number in notes.items())
    return f"{table}\n\n{listed}".rstrip()


def _ours(mark: Mark) -> str:
    """ "65.86 ± 0.14 % (3 seeds), +0.48, met"."""
    if mark.ours is None:
        return NOT_RUN
    said = [mark.ours_text or percent(mark.ours)]
    if mark.difference is not None:
        said.append(points(mark.difference))
    if mark.target is not None:
        said.append(verdict(mark))
    return ", ".join(said)


def _run_text(record: Record) -> str:
    """How much was run, by which recipe, and how long it took."""
    planned = [run for run in record.runs if run.seeds]
    done = sum(run.state == DONE for run in planned)
    seeds = [seed for run in planned for seed in run.done]
    wanted = sum(len(run.seeds) for run in planned)
    left_out = len(record.runs) - len(planned)
    recipe = _BUDGETS[record.budget][1]
    said = f"{recipe.capitalize()}: {done} of {len(planned)} planned runs complete, "
    said += f"{left_out} left out of this budget; " if left_out else ""
    said += f"{len(seeds)} of {wanted} {'training' if wanted == 1 else 'trainings'}"
    return f"{said}, {duration(sum(seed.seconds or 0 for seed in seeds))} in all."
