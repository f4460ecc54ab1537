"""``mien data``: audit, convert, split and build datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.atomic import write_text
from mien.cli._console import print_report, say, search_bar
from mien.cli._options import Data, Fold, Json, Name, argument, option

if TYPE_CHECKING:
    from mien.data.dataset import FaceDataset

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Audit, convert, split and build datasets."
)

SkipOption = Annotated[bool, option("Leave bad rows out instead of failing.", "--skip-bad")]


def _say_left_out(notes: Sequence[str]) -> None:
    for note in notes[:10]:
        say(f"left out: {note}")
    if len(notes) > 10:
        say(f"left out: {len(notes) - 10:,} more")


def _warn_of_notes(dataset: FaceDataset) -> int:
    """Say which rows were left out; the exit code, 1 when there were any."""
    _say_left_out(dataset.notes)
    return 1 if dataset.notes else 0


def _wrote(*paths: Path) -> None:
    for path in paths:
        say(f"Wrote {path}.")


@app.command()
def audit(
    data: Data = None,
    name: Name = None,
    json: Json = False,
    html: Annotated[
        Path | None, option("Write a page with images (the data's licence applies).")
    ] = None,
    skip_bad: SkipOption = False,
) -> None:
    """Count images, find duplicates, label conflicts, constant images and what FER+ says."""
    from mien.data import default_data_path
    from mien.data.audit import audit as examine
    from mien.data.audit_report import render_html, tables
    from mien.data.readers import read_for_audit

    dataset = read_for_audit(data or default_data_path(), name, skip_bad=skip_bad)
    found = examine(dataset)
    if html is not None:
        write_text(html, render_html(found, dataset))
        _wrote(html)
    if json:
        typer.echo(dumps(found.to_dict()))
    else:
        print_report(f"{found.name}, SHA-256 {found.sha256}", tables(found))
    raise typer.Exit(_warn_of_notes(dataset))


@app.command()
def convert(
    source: Annotated[Path, argument("Dataset in any published form.", metavar="IN")],
    out: Annotated[Path, argument("x.csv, x.parquet or a new folder.", metavar="OUT")],
    to: Annotated[str | None, option("csv, folder or parquet (default: by OUT's name).")] = None,
    name: Name = None,
    skip_bad: SkipOption = False,
) -> None:
    """Write a dataset in another form; FER+ votes go along into CSV and parquet."""
    from mien.data import read_dataset
    from mien.data.convert import form_of, write_dataset

    form = form_of(out, to)
    dataset = read_dataset(source, name, skip_bad=skip_bad)
    _wrote(*write_dataset(dataset, out, form))
    if form == "folder" and dataset.votes is not None:
        say("A folder cannot hold FER+ votes; they were left out.")
    typer.echo(f"{len(dataset)} images, sha256 {dataset.sha256}")
    raise typer.Exit(_warn_of_notes(dataset))


@app.command()
def splits(
    protocol: Annotated[str | None, option("Named protocol; none lists them all.")] = None,
    data: Data = None,
    name: Name = None,
    seed: Annotated[int, option("Seed of the shuffle.")] = 0,
    fold: Fold = None,
    out: Annotated[Path | None, option("Write the ids here (default: standard output).")] = None,
) -> None:
    """Split a dataset under a named protocol and save the sample ids of every split."""
    from mien.data import PROTOCOLS, default_data_path, make_splits, read_dataset
    from mien.data.ferplus import NAME, majority_view
    from mien.data.splits import describe_protocol

    if protocol is None:
        for known in PROTOCOLS:
            typer.echo(f"{known:<16} {describe_protocol(known)}")
        return
    dataset = read_dataset(data or default_data_path(), name)
    if protocol == NAME:
        dataset = majority_view(dataset)
    made = make_splits(dataset, protocol, seed, fold)
    say(", ".join(f"{role} {len(ids):,}" for role, ids in made.ids.items()))
    if out is None:
        typer.echo(made.to_json())
    else:
        write_text(out, made.to_json() + "\n")
        _wrote(out)


@app.command()
def crop(
    source: Annotated[Path, argument("Folder of photos, or a table.", metavar="IN")],
    out: Annotated[Path, argument("A new folder.", metavar="OUT")],
    size: Annotated[int, option("Side of a crop in pixels.")] = 48,
    largest: Annotated[bool, option("Only the largest face of a photo.", "--largest")] = False,
    json: Json = False,
) -> None:
    """Find, level and cut the faces of photos, one PNG a face; faces.csv says which is whose."""
    from mien.data.crop import crop_photos
    from mien.data.own import NO_LABEL
    from mien.data.own_faces import NO_FACE

    with search_bar(hidden=json) as progress:
        report = crop_photos(source, out, size=size, largest=largest, progress=progress)
    _say_left_out([f"{name}: {reason}" for name, reason in report.left_out])
    _wrote(report.table)
    typer.echo(
        dumps(report.to_dict()) if json else f"{report.faces:,} faces of {report.photos:,} photos"
    )
    found = (*NO_FACE, NO_LABEL)
    raise typer.Exit(1 if any(r not in found for _, r in report.left_out) else 0)


@app.command("build-photo")
def build_photo(
    out: Annotated[Path, option("x.parquet.")],
    data: Annotated[Path | None, option("A folder with FER2013, CK+ and muxspace.")] = None,
) -> None:
    """What mien_photo is trained on: FER2013, two thirds of CK+'s subjects, muxspace's faces."""
    from mien.data import default_data_path, read_dataset, read_photo_dataset
    from mien.data.convert import form_of, write_dataset
    from mien.data.photo_set import build_photo as build
    from mien.data.readers import read_fer2013_in
    from mien.detect import load_detector

    form = form_of(out)
    where = data or default_data_path()
    fer2013, ckplus = read_fer2013_in(where), read_dataset(where, "ckplus")
    photos = read_photo_dataset(where)
    finder = load_detector("yunet")
    with search_bar(hidden=False) as progress:
        dataset = build(fer2013, photos, ckplus, finder, lambda done: progress(done, len(photos)))
    _wrote(*write_dataset(dataset, out, form))
    counts = ", ".join(f"{n:,} of {name}" for name, n in Counter(dataset.sources.tolist()).items())
    typer.echo(f"{len(dataset):,} images: {counts}.")


@app.command("build-fergit")
def build_fergit(
    out: Annotated[Path, option("x.parquet, x.csv or a new folder.")],
    data: Annotated[Path | None, option("FER2013, or a folder with it and muxspace.")] = None,
    muxspace: Annotated[Path | None, option("muxspace's photos, where they are elsewhere.")] = None,
    detector: Annotated[str, option("haar or yunet.")] = "haar",
    json: Json = False,
) -> None:
    """FER2013 plus the faces of muxspace's photos: detected, cropped, grey, 48 by 48."""
    from mien.data import default_data_path, read_photo_dataset
    from mien.data.convert import form_of, write_dataset
    from mien.data.fergit import build_fergit as build
    from mien.data.readers import read_fer2013_in
    from mien.detect import load_detector

    form = form_of(out)
    finder = load_detector(detector)
    where = data or default_data_path()
    photos = read_photo_dataset(muxspace or where)
    fer2013 = read_fer2013_in(where)
    with search_bar(hidden=False) as progress:
        dataset, report = build(fer2013, photos, finder, lambda done: progress(done, len(photos)))
    _wrote(*write_dataset(dataset, out, form))
    if json:
        typer.echo(dumps(report.to_dict()))
        return
    typer.echo(
        f"{report.total:,} images: {report.fer2013:,} of FER2013 and {report.kept:,} faces of "
        f"{report.photos:,} photos (the paper has {report.paper_total:,} in all)."
    )
    for reason, count in report.dropped.items():
        typer.echo(f"dropped, {reason}: {count:,}")
    typer.echo(f"several faces, largest taken: {report.several_faces:,}")
