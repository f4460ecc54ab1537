"""Images in folders named after the expressions: the Kaggle release, CK+48, plain folders."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from mien.data.assemble import BadRows, assemble, decode_face
from mien.data.dataset import ROLE_OF, FaceDataset
from mien.data.fercsv import dataset_name
from mien.emotions import CKPLUS, FER2013, Emotion, parse_emotion
from mien.errors import DataError
from mien.sources import SUFFIXES

#: Where mien data convert puts samples without a published split, when others have one.
NO_SPLIT = "no-split"
SPLIT_FOLDERS = frozenset({*ROLE_OF, NO_SPLIT})


_FER2013_STEM = re.compile(r"(Training|PublicTest|PrivateTest)_(\d+)")
_CKPLUS_STEM = re.compile(r"(S\d{3})_(\d{3})_(\d{8})")


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """(sub-folders, files) of ``folder``, sorted, without hidden ones.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            shown = [e for e in entries if not e.name.startswith((".", "__"))]
            folders = sorted(Path(e.path) for e in shown if e.is_dir())
            files = sorted(Path(e.path) for e in shown if e.is_file())
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read ({error.strerror}); check that it is there and readable."
        ) from None
    return folders, files


def _is_expression(folder: Path) -> bool:
    try:
        parse_emotion(folder.name)
    except DataError:
        return False
    return True


def class_folders(root: Path) -> list[tuple[str, Path]]:
    """(split, folder) of every folder that stands for a class; empty when it is no such tree.

    A tree is one where some folder under ``root``, or under split folders of it, has the name of
    an expression. Folders beside those with other names are returned too, so that the reader can
    say that their label is unknown.

    Raises:
        DataError: a tree with train/happy/ and happy/; or a folder cannot be read.
    """
    folders, _ = list_folder(root)
    inside = {f: list_folder(f)[0] for f in folders if f.name.lower() in SPLIT_FOLDERS}
    splits = {f: inner for f, inner in inside.items() if any(map(_is_expression, inner))}
    own = [f.name for f in folders if _is_expression(f)]
    if own and splits:  # half of the tree would not be read
        raise DataError(
            f"{root} holds class folders ({', '.join(own)}) beside {next(iter(splits)).name}/, "
            "which has some too; move one kind away."
        )
    if own:
        return [("", f) for f in folders if f not in inside]
    return [("" if s.name == NO_SPLIT else s.name, f) for s, inner in splits.items() for f in inner]


def read_folder(root: Path, *, skip_bad: bool = False) -> FaceDataset:
    """Read a tree of class folders; JPEG, PNG, WebP and the like, grey or colour.

    FER2013's Kaggle release is known by its file names (``Training_…``, ``PublicTest_…``,
    ``PrivateTest_…``), which carry the official split; CK+48 by ``S010_004_00000017``, which
    carries subject and sequence.

    Raises:
        DataError: a folder has no expression's name, an image is damaged, or there are none.
    """
    bad = BadRows(root, skip=skip_bad)
    rows: list[tuple[Path, str, Emotion]] = []
    for split, folder in class_folders(root):
        inner, every = list_folder(folder)
        files = [f for f in every if f.suffix.lower() in SUFFIXES]
        if not files:
            if (inner or every) and _is_expression(folder):
                bad.add(
                    f"folder {folder.relative_to(root)}",
                    f"no image directly in it, but {len(inner)} folders and {len(every)} other "
                    f"files; images end in {', '.join(sorted(SUFFIXES))}",
                )
            continue
        try:
            emotion = parse_emotion(folder.name)
        except DataError as error:
            why = f"{str(error).rstrip('.')} (for classes of your own: mien finetune {root})"
            bad.add(f"folder {folder.relative_to(root)}", why)
            continue
        rows += [(file, split, emotion) for file in files]
    images, keep = [], []
    for row in rows:
        try:
            images.append(decode_face(row[0].read_bytes()))
            keep.append(row)
        except (OSError, ValueError) as error:
            bad.add(f"file {row[0].relative_to(root)}", str(error))
    notes = bad.check()
    ids, splits, groups, name = _identify(root, keep)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return assemble(
        images=[images[i] for i in order],
        emotions=[keep[i][2] for i in order],
        ids=[ids[i] for i in order],
        name=name,
        source=root,
        splits=[splits[i] for i in order],
        groups=[groups[i] for i in order],
        classes={"fer2013": FER2013, "ckplus": CKPLUS}.get(name),
        notes=notes,
    )


def _identify(
    root: Path, rows: list[tuple[Path, str, Emotion]]
) -> tuple[list[str], list[str], list[str], str]:
    """(ids, splits, groups, dataset name), by what the file names look like."""
    stems = [path.stem for path, _, _ in rows]
    fer = [_FER2013_STEM.fullmatch(s) for s in stems]
    if rows and all(fer):
        parts = [(m[1], m[2]) for m in fer if m]
        # Five digits throughout are row numbers of the CSV, as mien data convert writes them; the
        # Kaggle release numbers its files by another rule, so there the whole stem is the id.
        by_row = all(len(number) == 5 for _, number in parts)
        ids = [f"fer2013:{m[2] if by_row else m[0]}" for m in fer if m]
        return ids, [usage for usage, _ in parts], [""] * len(rows), "fer2013"
    ck = [_CKPLUS_STEM.fullmatch(s) for s in stems]
    splits = [split for _, split, _ in rows]
    if rows and all(ck):
        return [f"ckplus:{s}" for s in stems], splits, [m[1] for m in ck if m], "ckplus"
    if rows and all("%3A" in s for s in stems):  # written by mien data convert
        ids = [unquote(s) for s in stems]
        return ids, splits, [""] * len(rows), dataset_name(ids)
    ids = [f"faces:{path.relative_to(root).with_suffix('').as_posix()}" for path, _, _ in rows]
    return ids, splits, [""] * len(rows), "faces"
