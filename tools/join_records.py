"""One report from the records of trainings that lie on different machines.

    python tools/join_records.py results/NAME elsewhere/reproduction.json --out results/NAME

Every run is taken from the last record named in which a seed of it is finished; the headlines, the
comparison and what the paper's own sections say are put together anew from these, and the remarks
are today's: with one record, that alone.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from mien.reproduce import get_system
from mien.reproduce.assemble import comparison, mark, set_beside
from mien.reproduce.record import Record, read_record
from mien.reproduce.report import write_reproduction


def join(records: list[Record]) -> Record:
    """The last record, with the runs, photos and sections that only earlier ones have."""
    newest = records[-1]
    system = get_system(newest.system)
    runs = {
        run.id: next(
            (r for record in reversed(records) for r in record.runs if r.id == run.id and r.done),
            run,
        )
        for run in newest.runs
    }
    for spec in system.runs:  # a reading that was found later
        known = runs[spec.id].deviations if spec.id in runs else ()
        new = tuple(d for d in spec.readings if d.field not in {k.field for k in known})
        if known:
            runs[spec.id] = dataclasses.replace(runs[spec.id], deviations=known + new)
    budget = newest.budget.partition(" ")[0]
    printed = system.printed_epochs
    photos = next((r for r in reversed(records) if r.photos), newest)
    extra = newest.extra
    for record in reversed(records[:-1]):
        extra = {key: filled(value, record.extra.get(key)) for key, value in extra.items()}
    return dataclasses.replace(
        newest,
        runs=tuple(runs.values()),
        headlines=tuple(mark(h, runs[h.run], budget) for h in system.headlines),
        printed_epochs=set_beside(printed, runs[printed.run]) if printed else None,
        comparison=comparison(system, runs),
        remarks=system.remarks,
        earlier=tuple(e for e in system.earlier if e.budget == budget),
        data=max((r.data for r in records), key=len),
        photos=photos.photos,
        photos_run=photos.photos_run,
        extra=extra,
    )


def filled(new: Any, old: Any) -> Any:
    """``new`` with the figures of ``old`` where it has none.

    Dictionaries are matched by their keys, and those of a list by their backbone, optimiser, batch
    and data, as the cells of a grid are.
    """
    if isinstance(new, dict) and isinstance(old, dict):
        if new.get("state", "done") != "done" and old.get("state") == "done":
            return old
        if new.get("ours", 0) is None and old.get("ours") is not None:
            return old
        return {key: filled(value, old.get(key)) for key, value in new.items()}
    if isinstance(new, (list, tuple)) and isinstance(old, (list, tuple)):
        if not all(isinstance(part, dict) for part in (*new, *old)):
            return new
        before = {place(part, start=False): part for part in old}
        before |= {place(part): part for part in old}
        return [
            filled(part, before.get(place(part)) or before.get(place(part, start=False)))
            for part in new
        ]
    return new


def place(part: dict[str, Any], *, start: bool = True) -> tuple[Any, ...]:
    """Where a cell or a row of a grid stands; without ``start`` however its training began."""
    backbone = str(part.get("backbone"))
    backbone = backbone if start else backbone.partition(",")[0]
    return part.get("data"), backbone, part.get("optimizer"), part.get("batch")


def main() -> None:
    """Write the joined report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "records", nargs="+", type=Path, help="reproduction.json or its folder, oldest first"
    )
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    paths = [path / "reproduction.json" if path.is_dir() else path for path in asked.records]
    record = join([read_record(path) for path in paths])
    for path in write_reproduction(record, asked.out).values():
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
