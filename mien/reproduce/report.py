"""A reproduction's record as JSON, as Markdown with charts, and as one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mien import atomic
from mien.data.dataset import FaceDataset
from mien.report import charts
from mien.report import document as doc
from mien.report.document import NOT_RUN, Block, Section, count, percent, points, shown, slug
from mien.report.html import write_files
from mien.report.markdown import CHARTS
from mien.report.svg import standalone
from mien.reproduce.photos import photo_section
from mien.reproduce.record import Mark, Record
from mien.reproduce.run import Environment, Run, from_json
from mien.reproduce.run_report import COLUMNS, paired_cells, run_sections
from mien.reproduce.spec import PAPERS, Extra, get_system

#: With more runs than this, runs that were not done have no section of their own.
_MANY = 6
#: Faces of each class in the gallery.
SAMPLES = 8

_FOOTER = (
    "Made by mien reproduce. Accuracy is how often a network agrees with the labels that people "
    "gave to images of faces. An expression is not a feeling."
)


def write_reproduction(
    record: Record,
    folder: str | Path,
    datasets: Sequence[FaceDataset] = (),
    extras: Sequence[Extra] | None = None,
) -> dict[str, Path]:
    """Write ``reproduction.json``, ``.md`` with ``charts/*.svg``, and ``.html`` into ``folder``.

    Absolute paths in the record's commands are cut to their last part, so that the JSON and the
    Markdown can be published. The HTML page shows faces of ``datasets``: it is for its reader only.

    Args:
        folder: made if it is missing.
        datasets: those whose classes are to be shown with sample images.
        extras: of the record's system; by default the paper's of that name.

    Returns:
        "json", "markdown", "html" -> path.

    Raises:
        OutputError: the folder cannot be made or a file cannot be written.
    """
    record = record.published()
    if extras is None:
        extras = get_system(record.system).extras if record.system in PAPERS else ()
    document = build_document(record, datasets, extras)
    target = atomic.make_folder(folder)
    drawn = {f"{chart.name}.svg": chart.svg for chart in document.charts()}
    if drawn:
        atomic.make_folder(target / CHARTS)
    for name, svg in drawn.items():
        atomic.write_text(target / CHARTS / name, standalone(svg))
    for old in (target / CHARTS).glob("*.svg"):  # of an earlier report
        if old.name not in drawn:
            old.unlink()
    return write_files(target, "reproduction", record.to_json(), document)


def build_document(
    record: Record, datasets: Sequence[FaceDataset] = (), extras: Sequence[Extra] = ()
) -> doc.Document:
    """The report of ``record``: with one run flat, with several one group of sections each."""
    found: list[Section | None] = [_headlines(record), _time(record)]
    late: list[Section] = []
    if len(record.runs) == 1:
        (run,) = record.runs
        own = _own_sections(run, record, folded=False)
        # Deviations and recipe after the data and the photos, before the provenance.
        names = [f"{slug(run.id)}-{part}" for part in ("deviations", "recipe")]
        late = [section for section in own if section.id in names]
        found += [section for section in own if section.id not in names]
        found.append(_comparison(record) if run.done else None)
    else:
        found.append(_comparison(record))
        found += [_group(run, record) for run in record.runs]
    for extra in extras:
        if extra.key in record.extra:
            found.append(extra.section(from_json(extra.kind, record.extra[extra.key])))
    found += [_classes(record), _samples(datasets)]
    found += [photo_section(record, datasets)] if record.photos else []
    found += [*late, _remarks(record), _earlier(record), _provenance(record)]
    words = (record.citation, f"{record.budget} budget", record.created[:10])
    subtitle = " · ".join(word for word in words if word)
    sections = [section for section in found if section]
    return doc.Document(record.title, subtitle, sections, _cards(record), _FOOTER)


def _own_sections(run: Run, record: Record, folded: bool) -> list[Section]:
    printed = record.printed_epochs
    if printed is not None and (printed.run != run.id or not printed.rows):
        printed = None
    final = next((row.paper for row in record.comparison if row.run == run.id), {})
    return run_sections(run, printed, final, folded)


def _group(run: Run, record: Record) -> Section | None:
    """All sections of one run of several, below its name."""
    lead: list[Block] = []
    if not run.done:
        if len(record.runs) > _MANY:
            return None
        why = f": {run.why_not_run}" if run.why_not_run else "."
        lead = [doc.Text(f"This run was not run{why}", note=True)]
    children = _own_sections(run, record, folded=True)
    return Section(f"run-{slug(run.id)}", run.label, lead, children)


def verdict(mark: Mark) -> str:
    """ "met", "missed", "not run", or a dash where nothing was asked."""
    if mark.ours is None:
        return NOT_RUN
    return {True: "met", False: "missed", None: "–"}[mark.met]


def mark_cells(mark: Mark) -> list[str]:
    """Figure, the paper's, ours, difference, the mark, verdict, remark."""
    return [
        mark.label,
        mark.paper_text or percent(mark.paper),
        NOT_RUN if mark.ours is None else mark.ours_text or percent(mark.ours),
        points(mark.difference),
        "–" if mark.target is None else f"≥ {percent(mark.target)}",
        verdict(mark),
        mark.remark,
    ]


def _headlines(record: Record) -> Section:
    header = ["figure", "paper", "ours", "difference", "target", "", "remark"]
    table = doc.Table(header, [mark_cells(mark) for mark in record.headlines], wrap=(0, 1, 6))
    said = "Differences are in points of a percent; a plus says that ours is higher."
    return Section("headlines", "The paper and ours", [table, doc.Text(said)])


def _cards(record: Record) -> list[tuple[str, str, str]]:
    """Four headlines, those with a figure first, as (name, ours, "paper 65.05 % · met")."""
    found = []
    for mark in sorted(record.headlines, key=lambda m: m.ours is None)[:4]:
        below = "not in the paper" if mark.paper is None else f"paper {percent(mark.paper)}"
        said = verdict(mark)
        ours = NOT_RUN if mark.ours is None else percent(mark.ours)
        found.append((mark.label, ours, below if said in ("–", NOT_RUN) else f"{below} · {said}"))
    return found


def _time(record: Record) -> Section:
    """What was done, and how long it took beside the paper's wall clock."""
    rows = []
    for run in record.runs:
        what = "fold" if any(seed.fold is not None for seed in run.done) else "seed"
        trained = f"{len(run.seeds)} {what}{'' if len(run.seeds) == 1 else 's'}"
        if len(run.done) < len(run.seeds):
            trained = f"{len(run.done)} of {trained}"
        theirs = "not given" if run.paper_seconds is None else doc.duration(run.paper_seconds)
        if run.paper_seconds is not None and run.paper_hardware:
            theirs += f" ({run.paper_hardware})"
        one = run.protocol in ("", run.dataset)
        data = run.dataset if one else f"{run.dataset}, {run.protocol}"
        rows.append([run.label, data, run.state, trained, _each(run), theirs])
    header = ["run", "data", "state", "trained", "our time, each", "the paper's time"]
    done = [seed for run in record.runs for seed in run.done]
    said = (
        f"{len(done)} of {sum(len(run.seeds) for run in record.runs)} trainings of the "
        f"{record.budget} budget are done, in {doc.duration(sum(s.seconds or 0 for s in done))}. "
        "Times hold whatever else the machine did meanwhile."
    )
    table = doc.Table(header, rows, left=4, wrap=(5,))
    return Section("time", "What was done", [doc.Text(said), table])


def _each(run: Run) -> str:
    """ "12 min", and from the shortest to the longest where they differ much."""
    mean, each = run.seconds.mean, run.seconds.each
    if mean is None:
        return NOT_RUN
    if max(each) < 1.2 * min(each):
        return doc.duration(mean)
    return f"{doc.duration(mean)} ({doc.duration(min(each))} to {doc.duration(max(each))})"


def _comparison(record: Record) -> Section | None:
    """The models of the paper beside each other, as a chart and as a table."""
    if not record.comparison:
        return None
    keys = list(dict.fromkeys(k for row in record.comparison for k in (*row.paper, *row.ours)))
    drawn, table = [], []
    for key in keys:
        name, loss = COLUMNS[key], key.endswith("loss")
        pairs = [(row.label, [row.paper.get(key), row.ours.get(key)]) for row in record.comparison]
        svg = charts.bars(pairs, name.capitalize(), share=not loss)
        drawn.append(doc.Chart(f"comparison-{slug(key)}", svg, name.capitalize()))
        table += [[label, name, *paired_cells(key, *pair)] for label, pair in pairs]
    said = (
        "Training and validation figures are of the last epoch, those on the test set of the epoch "
        "that validation chose. What is said below the curves of a run holds here too."
    )
    header = ["model", "figure", "paper", "ours", "difference"]
    blocks = (doc.Text(said), doc.Charts(drawn), doc.Table(header, table, left=2))
    return Section("comparison", "The models beside each other", blocks)


def _classes(record: Record) -> Section | None:
    """Images of each class and split, a chart and a table for each dataset."""
    blocks: list[Block] = []
    drawn: list[doc.Chart] = []
    for data in record.data:
        # What is published or put together, then each split of it that the runs train by.
        drawn_splits = ((f"{name}, seed 0", parts) for name, parts in data.divisions.items())
        for title, parts in [(data.name, data.counts), *drawn_splits]:
            svg = charts.class_distribution(parts, data.classes)
            name = f"classes-{slug(title)}"
            drawn.append(doc.Chart(name, svg, f"Images of each class, {title}"))
            rows = [
                [name, *(count(by.get(c, 0)) for c in data.classes), count(sum(by.values()))]
                for name, by in parts.items()
            ]
            blocks.append(doc.Table([title, *data.classes, "all"], rows))
    if not drawn:
        return None
    return Section("classes", "Class distribution", [doc.Charts(drawn), *blocks])


def _samples(datasets: Iterable[FaceDataset], seed: int = 0) -> Section | None:
    """Some faces of each class, drawn with a seed; only for the HTML page."""
    said = (
        f"Up to {SAMPLES} of each class, drawn with seed {seed}. The images come from your copy of "
        "the dataset: mind its licence before you pass this page on."
    )
    blocks: list[Block] = [doc.Text(said)]
    for data in datasets:
        rng = np.random.default_rng(seed)
        rows = []
        for k, emotion in enumerate(data.classes):
            picked = np.sort(rng.permutation(np.flatnonzero(data.labels == k))[:SAMPLES])
            faces = [doc.Face(data.images[i], f"{emotion.value}, {data.ids[i]}") for i in picked]
            rows += [(emotion.value, faces)] if faces else []
        blocks += [doc.Text(f"{data.name}:"), doc.Gallery(rows)]
    if len(blocks) == 1:
        return None
    return Section("samples", "Sample images", blocks, html_only=True)


def _remarks(record: Record) -> Section | None:
    """What in the paper could not be right, and why."""
    blocks = [doc.Text(remark.text, remark.title) for remark in record.remarks]
    if not blocks:
        return None
    return Section("remarks", "What in the paper could not be right", blocks)


def _earlier(record: Record) -> Section | None:
    """Recipes that were replaced, or tried and not taken, with what they reached."""
    rows = [[e.run, e.recipe, e.figures, e.why, e.commit] for e in record.earlier]
    if not rows:
        return None
    header = ["run", "the other recipe", "what it reached", "why it is not used", "commit"]
    table = doc.Table(header, rows, left=5, wrap=(0, 1, 2, 3))
    return Section("earlier", "Recipes that were replaced, or tried and not taken", [table])


def _provenance(record: Record) -> Section:
    """Data, hardware, versions, commits and commands."""
    pairs = [("Command", record.command), ("Made", record.created)]
    for data in record.data:
        pairs.append((f"Data: {data.name}", f"{count(data.n)} images, SHA-256 {data.sha256}"))
    for key in ("mien", "commit", "python", "cpu", "threads", "gpu", "versions"):
        value = getattr(record.environment, key)
        name = "CPU" if key == "cpu" else key.capitalize()
        pairs += [(name, shown(value))] if value else []
    rows = [
        [
            f"{run.label}, {seed.name}",
            shown(seed.epochs),
            shown(seed.best_epoch),
            doc.duration(seed.seconds),
            shown(seed.environment.precision),
            shown(seed.environment.commit),
            seed.environment.machine or "–",
            _resumed(seed.environment),
            shown(seed.command),
        ]
        for run in record.runs
        for seed in run.done
    ]
    blocks: list[Block] = [doc.Pairs(pairs)]
    if rows:
        header = ["training", "epochs", "chosen", "time", "precision", "commit", "on", "resumed"]
        blocks.append(doc.Table([*header, "command"], rows, wrap=(6, 7, 8)))
    return Section("provenance", "Data, hardware and commands", blocks)


def _resumed(environment: Environment) -> str:
    """When a stopped training went on and with what that differs from its beginning."""
    said = []
    for entry in environment.resumed:
        other = [
            f"{key} {getattr(entry, key)}"
            for key in ("commit", "precision", "threads", "cpu", "gpu")
            if getattr(entry, key) and getattr(entry, key) != getattr(environment, key)
        ]
        other += [f"note {entry.note}"] if entry.note else []
        said.append(" ".join([entry.started, *other]))
    return "; ".join(said) or "–"
