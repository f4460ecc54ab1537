"""Parquet with an image column of ``{bytes, path}`` (the Hugging Face layout), read and written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien._system import arrow_errors, import_pyarrow_parquet
from mien.data.assemble import BadRows, assemble, decode_face
from mien.data.dataset import FaceDataset
from mien.data.fercsv import CODE, MOST_VOTES, dataset_name, parse_label
from mien.emotions import CKPLUS, FER2013, FERPLUS_COLUMNS, Emotion
from mien.errors import DataError, first_line

LABEL_COLUMNS = ("emotion", "label", "labels", "expression")
SPLIT_COLUMNS = ("usage", "split")
VOTE_COLUMNS = tuple(f"ferplus_{name.lower()}" for name in FERPLUS_COLUMNS)


def parquet_schema(path: Path) -> Any:
    """The Arrow schema of ``path``. Raises DataError when it is no parquet file."""
    pq = import_pyarrow_parquet()
    try:
        schema = pq.read_schema(path)
        str(schema)  # names that are no UTF-8 are met here
        return schema
    except arrow_errors() as error:
        raise DataError(
            f"{path} cannot be read as parquet ({first_line(error)}); fetch it again."
        ) from None


def image_column(schema: Any) -> str | None:
    """Name of the first column whose type is a struct with ``bytes`` or plain binary, or None."""
    for field in schema:
        kind = field.type
        if str(kind).startswith("struct"):
            children = [kind.field(i) for i in range(kind.num_fields)]
            kind = next((c.type for c in children if c.name == "bytes"), None)
        if str(kind) in ("binary", "large_binary"):
            return str(field.name)
    return None


def _first(columns: dict[str, str], candidates: tuple[str, ...]) -> str | None:
    return next((columns[c] for c in candidates if c in columns), None)


class ParquetColumns:
    """Which columns of a schema hold what, whatever their capitals.

    Raises:
        DataError: there is no image column or no label column.
    """

    def __init__(self, path: Path, schema: Any) -> None:
        names = {str(name).strip().lower(): str(name) for name in schema.names}
        image = image_column(schema)
        listed = ", ".join(schema.names)
        if image is None:
            raise DataError(
                f"{path} has no image column (columns: {listed}); expected one of {{bytes, path}} "
                "as the Hugging Face datasets library writes it."
            )
        label = _first(names, LABEL_COLUMNS)
        if label is None:
            raise DataError(
                f"{path} has no label column (columns: {listed}); expected 'emotion' or 'label'."
            )
        self.image, self.label = image, label
        self.split = _first(names, SPLIT_COLUMNS)
        self.row = names.get("row")
        self.id = names.get("id")
        if self.id is not None and "string" not in str(schema.field(self.id).type):
            self.id = None  # a running number of somebody else's, not a sample id
        self.file = names.get("file")
        self.group = _first(names, ("group", "subject", "user_id"))
        self.lossless = names.get("lossless")
        self.sequence = names.get("sequence")
        self.votes = [names[c] for c in VOTE_COLUMNS if c in names]
        if len(self.votes) != len(VOTE_COLUMNS):
            self.votes = []
        for name in set(self.all()) - {image}:
            if (kind := schema.field(name).type).num_fields:
                raise DataError(f"{path}: its column {name!r} holds {kind}, not text or numbers.")

    def all(self) -> list[str]:
        single = [self.image, self.label, self.split, self.row, self.id, self.file, self.group]
        return [c for c in (*single, self.sequence, self.lossless, *self.votes) if c is not None]


def label_names(schema: Any, column: str) -> list[str] | None:
    """Class names of an integer label column from the ``huggingface`` metadata, or None."""
    raw = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(raw)["info"]["features"] if raw else {}
        names = features[column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return [str(name) for name in names]


def read_labels(values: list[Any], names: list[str] | None, bad: BadRows) -> list[Emotion | None]:
    """Each row's emotion; None (and a note in ``bad``) where the label is missing or unknown."""
    result: list[Emotion | None] = []
    for i, value in enumerate(values):
        try:
            result.append(parse_label("" if value is None else str(value), names))
        except (DataError, ValueError) as error:
            bad.add(f"row {i}", str(error).rstrip("."))
            result.append(None)
    return result


def dataset_kind(columns: ParquetColumns, table: Any) -> str:
    """ "mien", "fer2013", "ckplus" or "faces", by the columns and the split's values."""
    if columns.id is not None:
        return "mien"
    if columns.sequence is not None and columns.group is not None:
        return "ckplus"
    if columns.row is not None or columns.votes:
        return "fer2013"
    if columns.split is not None:
        used = {str(v) for v in table[columns.split].unique().to_pylist()}
        if used and used <= {"Training", "PublicTest", "PrivateTest"}:
            return "fer2013"
    return "faces"


def read_shards(folder: Path, *, skip_bad: bool = False) -> FaceDataset:
    """Read the Hugging Face layout ``train-00000-of-00002.parquet``, ... as one dataset.

    The split of every row is the shard's prefix, unless the rows say it themselves.

    Raises:
        DataError: as :func:`read_parquet`, or the shards' classes differ.
    """
    parts = [read_parquet(p, skip_bad=skip_bad) for p in sorted(folder.glob("*-of-*.parquet"))]
    splits: list[str] = []
    ids: list[str] = []
    own = [i for part in parts for i in part.ids.tolist()]
    # Rows of each FER2013 shard: each counts from 0, so that the ids come again in the next.
    numbered = parts[0].name == "fer2013" and len(set(own)) < len(own)
    for part in parts:
        stem = Path(part.source).stem
        splits += [s or stem.split("-")[0] for s in part.splits.tolist()]
        if part.name == "faces":
            ids += [f"faces:{stem}/{i[6:]}" for i in part.ids.tolist()]
        elif numbered:  # the rows go on where the shard before ended
            kind, start = part.name, len(ids)
            ids += [f"{kind}:{start + k:05d}" for k in range(len(part))]
        else:
            ids += part.ids.tolist()
    votes = [part.votes for part in parts if part.votes is not None]
    return assemble(
        images=[image for part in parts for image in part.images],
        emotions=[part.classes[k] for part in parts for k in part.labels.tolist()],
        ids=ids,
        name=parts[0].name,
        source=folder,
        splits=splits,
        groups=[g for part in parts for g in part.groups.tolist()],
        votes=np.concatenate(votes) if len(votes) == len(parts) else None,
        notes=tuple(note for part in parts for note in part.notes),
    )


def read_table(path: Path, columns: Sequence[str]) -> Any:
    """The columns of ``path``. Raises DataError when its pages or texts are damaged."""
    try:
        table = import_pyarrow_parquet().read_table(path, columns=list(columns))
        table.validate(full=True)  # text that is no UTF-8 is met here, not row by row
        return table
    except arrow_errors() as error:
        raise DataError(f"{path} is damaged ({first_line(error)}); fetch it again.") from None


def read_parquet(path: Path, *, skip_bad: bool = False) -> FaceDataset:
    """Read faces of one size from a parquet file.

    Raises:
        DataError: no image or label column, or a bad row (unless ``skip_bad``).
        MissingExtraError: pyarrow is not installed.
    """
    schema = parquet_schema(path)
    columns = ParquetColumns(path, schema)
    table = read_table(path, columns.all()).combine_chunks()
    kind = dataset_kind(columns, table)
    bad = BadRows(path, skip=skip_bad)
    labels, names = table[columns.label].to_pylist(), label_names(schema, columns.label)
    if kind == "faces" and names is None and columns.label.strip().lower() != "emotion":
        _refuse_codes(path, columns.label, labels)
    emotions = read_labels(labels, names, bad)
    blobs = image_bytes(table[columns.image])
    images: list[NDArray[np.uint8]] = []
    keep: list[int] = []
    for i, blob in enumerate(blobs):
        try:
            image = decode_face(blob)
        except ValueError as error:
            bad.add(f"row {i}", str(error))
            continue
        if emotions[i] is not None:
            images.append(image)
            keep.append(i)
    notes = bad.check()
    import pyarrow as pa

    table = table.take(pa.array(keep, pa.int64()))
    flags = None if columns.lossless is None else table[columns.lossless].to_pylist()
    ids, name = sample_ids(table, columns, kind, keep)
    return assemble(
        images=images,
        emotions=[e for i in keep if (e := emotions[i]) is not None],
        ids=ids,
        name=name,
        source=path,
        splits=_strings(table, columns.split),
        groups=_strings(table, columns.group),
        votes=_votes(path, table, columns.votes),
        classes={"fer2013": FER2013, "photo": FER2013, "ckplus": CKPLUS}.get(name),
        notes=notes,
        lossless=None if flags is None else np.array(flags, dtype=bool),
    )


def _refuse_codes(path: Path, column: str, labels: Sequence[Any]) -> None:
    """Raise DataError for codes of nobody knows which order: most folders' is alphabetical, and
    FER2013's is not."""
    code = next((v for v in labels if v is not None and CODE.fullmatch(str(v).strip())), None)
    if code is not None:
        raise DataError(
            f"{path}: its column {column!r} holds codes ({code}, …) and the file does not say what "
            "they mean; write the expressions' names into it, or call it 'emotion' if the codes "
            "are FER2013's (0 angry, disgust, fear, happy, sad, surprise, 6 neutral)."
        )


def image_bytes(column: Any) -> list[bytes | None]:
    """The encoded bytes of every row of an image column."""
    values = column.to_pylist()
    return [v.get("bytes") if isinstance(v, dict) else v for v in values]


def sample_ids(
    table: Any, columns: ParquetColumns, kind: str, rows: list[int]
) -> tuple[list[str], str]:
    """Stable ids of the rows and the dataset's name."""
    if columns.id is not None:
        ids = [str(v) for v in table[columns.id].to_pylist()]
        return ids, dataset_name(ids)
    if kind == "fer2013":
        numbers = table[columns.row].to_pylist() if columns.row else rows
        if not all(isinstance(n, int) for n in numbers):  # somebody else's column
            numbers = rows
        return [f"fer2013:{n:05d}" for n in numbers], kind
    if columns.file is not None:
        return [f"{kind}:{Path(str(v)).stem}" for v in table[columns.file].to_pylist()], kind
    return [f"{kind}:{n:05d}" for n in rows], kind


def _strings(table: Any, column: str | None) -> list[str] | None:
    if column is None:
        return None
    return ["" if v is None else str(v) for v in table[column].to_pylist()]


def _votes(path: Path, table: Any, columns: list[str]) -> NDArray[np.float32] | None:
    if not columns:
        return None
    try:
        votes = np.stack([table[c].to_numpy() for c in columns], axis=1).astype(np.float64)
    except (ValueError, TypeError):
        votes = np.full(1, np.nan)
    if not ((votes >= 0) & (votes < MOST_VOTES)).all():
        raise DataError(f"{path}: a vote in {columns[0]} … {columns[-1]} is no number from 0 on.")
    return votes.astype(np.float32)
