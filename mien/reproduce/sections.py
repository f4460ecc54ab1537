"""The sections of a whole reproduction: headlines, time, comparison, data, photos, remarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mien.data.dataset import FaceDataset
from mien.report import charts
from mien.report.document import (
    NOT_RUN,
    Block,
    Chart,
    Charts,
    Face,
    Gallery,
    Pairs,
    Section,
    Table,
    Text,
    count,
    duration,
    number,
    percent,
    points,
    shown,
    slug,
)
from mien.reproduce.run_sections import column_name, easier, objective, paired_cells
from mien.reproduce.score_sections import done_seeds, seed_name

Record = Mapping[str, Any]

#: Faces of each class in the gallery.
SAMPLES = 8


def paper_figure(headline: Record) -> str:
    """The paper's figure as it prints it."""
    return str(headline.get("paper_text") or percent(headline.get("paper")))


def our_figure(headline: Record) -> str:
    """Our figure with its spread; "not run" where there is none."""
    if number(headline.get("ours")) is None:
        return NOT_RUN
    return str(headline.get("ours_text") or percent(headline["ours"]))


def verdict(headline: Record) -> str:
    """ "met", "missed", "not run", or a dash where nothing was asked."""
    if number(headline.get("ours")) is None:
        return NOT_RUN
    met = headline.get("met")
    return "–" if met is None else "met" if met else "missed"


def asked(headline: Record) -> str:
    """The mark that ours must reach: "≥ 63.05 %"."""
    target = number(headline.get("target"))
    return "–" if target is None else f"≥ {percent(target)}"


def difference(headline: Record) -> str:
    """Ours minus the paper's, in points."""
    return points(headline.get("difference"))


def headline_section(result: Record) -> Section:
    """The paper's figures and ours, one row each."""
    header = ["figure", "paper", "ours", "difference", "asked", "", "remark"]
    rows = [
        [
            str(h.get("label") or h.get("key")),
            paper_figure(h),
            our_figure(h),
            difference(h),
            asked(h),
            verdict(h),
            str(h.get("remark") or ""),
        ]
        for h in result.get("headlines") or ()
    ]
    blocks: list[Block] = [Table(header, rows, wrap=(0, 1, 6))]
    blocks.append(Text("Differences are in points of a percent; a plus says that ours is higher."))
    return Section("headlines", "The paper and ours", blocks)


def cards(result: Record) -> list[tuple[str, str, str]]:
    """Four headlines, those with a figure first, as (name, ours, "paper 65.05 %, met")."""
    found = []
    known = sorted(result.get("headlines") or (), key=lambda h: number(h.get("ours")) is None)
    for h in known[:4]:
        theirs = number(h.get("paper"))
        below = "not in the paper" if theirs is None else f"paper {percent(theirs)}"
        said = verdict(h)
        found.append(
            (
                str(h.get("label") or h.get("key")),
                our_figure(h) if said == NOT_RUN else percent(h.get("ours")),
                below if said in ("–", NOT_RUN) else f"{below} · {said}",
            )
        )
    return found


def time_section(result: Record) -> Section:
    """What was done, and how long it took beside the paper's wall clock."""
    runs = list(result.get("runs") or ())
    rows = []
    for run in runs:
        seeds, sums = done_seeds(run), run.get("seconds") or {}
        wanted = len(run.get("seeds") or ())
        folds = any(s.get("fold") is not None for s in seeds)
        mean = number(sums.get("mean"))
        hardware = f" ({run['paper_hardware']})" if run.get("paper_hardware") else ""
        known = number(run.get("paper_seconds")) is not None
        rows.append(
            [
                str(run.get("label") or run["id"]),
                _data_name(run),
                str(run.get("state", NOT_RUN)),
                _of(len(seeds), wanted, "fold" if folds else "seed"),
                NOT_RUN if mean is None else _each(mean, sums.get("each")),
                f"{duration(run['paper_seconds'])}{hardware}" if known else "not given",
            ]
        )
    header = ["run", "data", "state", "trained", "our time, each", "the paper's time"]
    return Section(
        "time", "What was done", [Text(_done(runs, result)), Table(header, rows, left=4, wrap=(5,))]
    )


def _each(mean: float, each: Any) -> str:
    """ "12 min", and from the shortest to the longest where they differ much."""
    known = [v for v in map(number, each or ()) if v is not None]
    if len(known) < 2 or max(known) < 1.2 * min(known):
        return duration(mean)
    return f"{duration(mean)} ({duration(min(known))} to {duration(max(known))})"


def _of(done: int, wanted: int, what: str) -> str:
    """ "3 seeds", "2 of 3 seeds"."""
    said = f"{wanted} {what}{'' if wanted == 1 else 's'}"
    return said if done == wanted else f"{done} of {said}"


def _data_name(run: Record) -> str:
    data, protocol = str(run.get("dataset") or "–"), str(run.get("protocol") or "")
    return data if protocol in ("", data) else f"{data}, {protocol}"


def _done(runs: Sequence[Record], result: Record) -> str:
    trained = [s for run in runs for s in done_seeds(run)]
    budget = f"the {result['budget']} budget" if result.get("budget") else "this budget"
    if not trained:
        return f"Nothing was trained yet under {budget}: every figure of ours reads “{NOT_RUN}”."
    seconds = [v for s in trained if (v := number(s.get("seconds"))) is not None]
    wanted, done = sum(len(run.get("seeds") or ()) for run in runs), len(trained)
    where = sorted({_machine(s.get("environment") or {}) for s in trained} - {""})
    words = f"{done} of {wanted} {'training' if wanted == 1 else 'trainings'} of {budget} "
    words += "is done" if done == 1 else "are done"
    words += f", {duration(sum(seconds))} in all" if seconds else ""
    words += f", on {' and '.join(where)}." if where else "."
    words += " Times hold whatever else the machine did meanwhile." if seconds else ""
    theirs = [
        f"{run.get('label') or run['id']} {duration(run['paper_seconds'])}"
        + (f" ({run['paper_hardware']})" if run.get("paper_hardware") else "")
        for run in runs
        if number(run.get("paper_seconds")) is not None
    ]
    said = "; ".join(theirs)
    return (
        f"{words} The paper's own time: {said}."
        if said
        else (f"{words} The paper does not give its time.")
    )


def _machine(environment: Record) -> str:
    if environment.get("gpu"):
        return str(environment["gpu"])
    cpu, threads = environment.get("cpu"), environment.get("threads")
    many = f"{threads} thread{'' if threads == 1 else 's'}"
    return f"{cpu} ({many})" if cpu and threads else str(cpu or "")


def comparison_section(result: Record) -> Section | None:
    """The models of the paper beside each other, as a chart and as a table."""
    rows = list(result.get("comparison") or ())
    if not rows:
        return None
    keys = list(
        dict.fromkeys(k for r in rows for side in ("paper", "ours") for k in (r.get(side) or {}))
    )
    drawn, table = [], []
    for key in keys:
        name, loss = column_name(key), key.endswith("loss")
        pairs = [
            (str(r["label"]), [number((r.get(side) or {}).get(key)) for side in ("paper", "ours")])
            for r in rows
        ]
        svg = charts.bars(pairs, name.capitalize(), share=not loss)
        drawn.append(Chart(f"comparison-{slug(key)}", svg, name.capitalize()))
        table += [[label, name, *paired_cells(key, *pair)] for label, pair in pairs]
    header = ["model", "figure", "paper", "ours", "difference"]
    said = "Training and validation figures are of the last epoch"
    if any(key.startswith("test") for key in keys):
        said += ", those on the test set of the epoch that validation chose"
    said += _objectives(result) if "train_loss" in keys else ""
    said += _easier(result)
    blocks: list[Block] = [Text(f"{said}."), Charts(drawn), Table(header, table, left=2)]
    return Section("comparison", "The models beside each other", blocks)


def _objectives(result: Record) -> str:
    """Whose training loss is no plain cross-entropy, so that it cannot be set against another."""
    return "".join(
        f". The training loss of {'; '.join(labels)} includes {beyond}, so it compares with no "
        "plain cross-entropy"
        for beyond, labels in _alike(result, objective).items()
    )


def _easier(result: Record) -> str:
    """Whose training figures are of easier pictures or without dropout."""
    compared = {row.get("run") for row in result.get("comparison") or ()}
    said = ""
    for what, labels in _alike(result, easier).items():
        whose = "" if len(labels) == len(compared) else f" of {'; '.join(labels)}"
        said += f". Our training figures{whose} are {what}, which lifts them"
    return said


def _alike(result: Record, what: Callable[[Record], str]) -> dict[str, list[str]]:
    """What is said of compared runs, if anything -> the labels of those of which it is."""
    compared = {row.get("run") for row in result.get("comparison") or ()}
    found: dict[str, list[str]] = {}
    for run in result.get("runs") or ():
        said = what(run) if run["id"] in compared else ""
        if said:
            found.setdefault(said, []).append(str(run.get("label") or run["id"]))
    return found


def class_section(result: Record) -> Section | None:
    """Images of each class and split, a chart and a table for each dataset."""
    blocks: list[Block] = []
    drawn: list[Chart] = []
    for data in result.get("data") or ():
        counts, classes = data.get("counts") or {}, list(data.get("classes") or ())
        if not counts or not classes:
            continue
        name = str(data.get("name", "data"))
        # What is published or put together, then each division of it that the runs train by.
        divisions = (data.get("divisions") or {}).items()
        for title, by_part in [(name, counts), *((f"{k}, seed 0", v) for k, v in divisions)]:
            svg = charts.class_distribution(by_part, classes)
            drawn.append(Chart(f"classes-{slug(title)}", svg, f"Images of each class, {title}"))
            rows = [
                [
                    str(part or "all"),
                    *(count(by.get(c, 0)) for c in classes),
                    count(sum(by.values())),
                ]
                for part, by in by_part.items()
            ]
            blocks.append(Table([title, *classes, "all"], rows))
    if not drawn:
        return None
    return Section("classes", "Class distribution", [Charts(drawn), *blocks])


def sample_section(datasets: Iterable[FaceDataset], seed: int = 0) -> Section | None:
    """Some faces of each class, drawn with a seed; only for the HTML page."""
    children = []
    for data in datasets:
        rng = np.random.default_rng(seed)
        rows = []
        for k, emotion in enumerate(data.classes):
            found = np.flatnonzero(data.labels == k)
            picked = np.sort(rng.permutation(found)[:SAMPLES])
            faces = [Face(data.images[i], f"{emotion.value}, {data.ids[i]}") for i in picked]
            if faces:
                rows.append((emotion.value, faces))
        children.append((data.name, Gallery(rows)))
    if not children:
        return None
    said = Text(
        f"Up to {SAMPLES} of each class, drawn with seed {seed}. The pictures come from your copy "
        "of the dataset: mind its licence before you pass this page on."
    )
    blocks: list[Block] = [said]
    for name, gallery in children:
        blocks += [Text(f"{name}:"), gallery] if len(children) > 1 else [gallery]
    return Section("samples", "Sample images", blocks, html_only=True)


def data_section(result: Record) -> Section:
    """Data, hardware, versions, commits and commands."""
    pairs = [("Command", shown(result.get("command"))), ("Made", shown(result.get("created")))]
    for data in result.get("data") or ():
        said = f"{count(data.get('n'))} images, SHA-256 {shown(data.get('sha256'))}"
        pairs.append((f"Data: {data.get('name')}", said))
    environment = result.get("environment") or {}
    for key in ("mien", "commit", "python", "cpu", "threads", "gpu", "versions"):
        if environment.get(key):
            pairs.append((key.capitalize() if key != "cpu" else "CPU", shown(environment[key])))
    rows = []
    for run in result.get("runs") or ():
        for seed in done_seeds(run):
            own = seed.get("environment") or {}
            rows.append(
                [
                    f"{run.get('label') or run['id']}, {seed_name(seed)}",
                    shown(seed.get("epochs")),
                    shown(seed.get("best_epoch")),
                    duration(seed.get("seconds")),
                    shown(own.get("precision")),
                    shown(own.get("commit")),
                    _machine(own) or "–",
                    _resumed(own),
                    shown(seed.get("command")),
                ]
            )
    blocks: list[Block] = [Pairs(pairs)]
    if rows:
        header = ["training", "epochs", "chosen", "time", "precision", "commit", "on", "resumed"]
        blocks.append(Table([*header, "command"], rows, wrap=(6, 7, 8)))
    return Section("provenance", "Data, hardware and commands", blocks)


def earlier_section(result: Record) -> Section | None:
    """Recipes that were replaced, or tried and not taken, with what they reached."""
    rows = [
        [str(e.get(key, "")) for key in ("run", "recipe", "figures", "why", "commit")]
        for e in result.get("earlier") or ()
    ]
    if not rows:
        return None
    header = ["run", "the other recipe", "what it reached", "why it is not used", "commit"]
    title = "Recipes that were replaced, or tried and not taken"
    return Section("earlier", title, [Table(header, rows, left=5, wrap=(0, 1, 2, 3))])


def _resumed(environment: Record) -> str:
    """When a stopped training went on and with what that differs from its beginning."""
    said = []
    for entry in environment.get("resumed") or ():
        other = [
            f"{key} {entry[key]}"
            for key in ("commit", "precision", "threads", "cpu", "gpu", "note")
            if entry.get(key) and entry[key] != environment.get(key)
        ]
        said.append(" ".join([str(entry.get("started", "")), *other]))
    return "; ".join(said) or "–"


def remark_section(result: Record) -> Section | None:
    """What in the paper could not be right, and why."""
    remarks = list(result.get("remarks") or ())
    if not remarks:
        return None
    blocks = [
        Text(" ".join(str(r.get("text", "")).split()), title=str(r.get("title", "")))
        for r in remarks
    ]
    return Section("remarks", "What in the paper could not be right", blocks)
