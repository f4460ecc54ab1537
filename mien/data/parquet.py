"""Parquet with an image column of ``{bytes, path}`` (the Hugging Face layout), read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.data.assemble import BadRows, assemble, decode_grey
from mien.data.dataset import FaceDataset
from mien.emotions import (
    CKPLUS,
    FER2013,
    FERPLUS_COLUMNS,
    Emotion,
    parse_emotion,
    parse_fer2013_code,
)
from mien.errors import DataError, MissingExtraError

LABEL_COLUMNS = ("emotion", "label", "labels", "expression")
SPLIT_COLUMNS = ("usage", "split")
VOTE_COLUMNS = tuple(f"ferplus_{name.lower()}" for name in FERPLUS_COLUMNS)


def import_pyarrow_parquet() -> Any:
    """``pyarrow.parquet``. Raises MissingExtraError when it is not installed."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError(
            "Reading or writing parquet needs pyarrow; install it with: pip install 'mien[train]'"
        ) from None
    return pq


def parquet_schema(path: Path) -> Any:
    """The Arrow schema of ``path``. Raises DataError when it is no parquet file."""
    pq = import_pyarrow_parquet()
    try:
        return pq.read_schema(path)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise DataError(
            f"{path} cannot be read as parquet ({str(error).splitlines()[0]}); fetch it again."
        ) from None


def image_column(schema: Any) -> str | None:
    """Name of the first column whose type is a struct with ``bytes`` or plain binary, or None."""
    for field in schema:
        kind = field.type
        children = (
            {kind.field(i).name for i in range(kind.num_fields)}
            if str(kind).startswith("struct")
            else set()
        )
        if "bytes" in children or str(kind) in ("binary", "large_binary"):
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
        self.file = names.get("file")
        self.group = _first(names, ("group", "subject", "user_id"))
        self.sequence = names.get("sequence")
        self.votes = [names[c] for c in VOTE_COLUMNS if c in names]
        if len(self.votes) != len(VOTE_COLUMNS):
            self.votes = []

    def all(self) -> list[str]:
        single = [self.image, self.label, self.split, self.row, self.id, self.file, self.group]
        return [c for c in (*single, self.sequence, *self.votes) if c is not None]


def label_names(schema: Any, column: str) -> list[str] | None:
    """Class names of an integer label column from the ``huggingface`` metadata, or None."""
    import json

    raw = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(raw)["info"]["features"] if raw else {}
        names = features[column]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return [str(name) for name in names]


def read_labels(
    path: Path, values: list[Any], names: list[str] | None, bad: BadRows
) -> list[Emotion | None]:
    """Each row's emotion; None (and a note in ``bad``) where the label is missing or unknown."""
    result: list[Emotion | None] = []
    for i, value in enumerate(values):
        emotion: Emotion | None = None
        try:
            if value is None:
                raise DataError("the label is missing")
            text = str(value).strip()
            if text.lstrip("-").isdigit():
                code = int(text)
                if names is None:
                    emotion = parse_fer2013_code(code)
                elif 0 <= code < len(names):
                    emotion = parse_emotion(names[code])
                else:
                    raise DataError(f"label code {code} is outside 0 to {len(names) - 1}")
            else:
                emotion = parse_emotion(text)
        except DataError as error:
            bad.add(f"row {i}", str(error).rstrip("."))
        result.append(emotion)
    return result


def dataset_kind(columns: ParquetColumns, names: set[str]) -> str:
    """ "fer2013", "ckplus" or "faces", by the columns that are there."""
    if columns.id is not None:
        return "mien"
    if columns.sequence is not None and "subject" in names:
        return "ckplus"
    if columns.row is not None or columns.votes:
        return "fer2013"
    return "faces"


def read_parquet(path: Path, *, skip_bad: bool = False) -> FaceDataset:
    """Read faces of one size from a parquet file.

    Raises:
        DataError: no image or label column, or a bad row (unless ``skip_bad``).
        MissingExtraError: pyarrow is not installed.
    """
    schema = parquet_schema(path)
    columns = ParquetColumns(path, schema)
    pq = import_pyarrow_parquet()
    table = pq.read_table(path, columns=columns.all()).combine_chunks()
    kind = dataset_kind(columns, {str(n).lower() for n in schema.names})
    bad = BadRows(path, skip=skip_bad)
    emotions = read_labels(
        path, table[columns.label].to_pylist(), label_names(schema, columns.label), bad
    )
    blobs = image_bytes(table[columns.image])
    images: list[NDArray[np.uint8]] = []
    keep: list[int] = []
    for i, blob in enumerate(blobs):
        try:
            image = decode_grey(blob)
        except ValueError as error:
            bad.add(f"row {i}", str(error))
            continue
        if emotions[i] is not None:
            images.append(image)
            keep.append(i)
    notes = bad.check()
    table = table.take(keep)
    ids, name = sample_ids(table, columns, kind, keep)
    known = (
        [e for e in emotions if e is not None]
        if len(keep) == len(emotions)
        else [e for i in keep if (e := emotions[i]) is not None]
    )
    return assemble(
        images=images,
        emotions=known,
        ids=ids,
        name=name,
        source=path,
        splits=_strings(table, columns.split),
        groups=_strings(table, columns.group),
        votes=_votes(table, columns.votes),
        classes={"fer2013": FER2013, "ckplus": CKPLUS}.get(name),
        notes=notes,
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
        prefixes = {i.split(":", 1)[0] if ":" in i else "faces" for i in ids}
        if prefixes == {"fer2013", "muxspace"}:
            return ids, "fergit"
        return ids, prefixes.pop() if len(prefixes) == 1 else "faces"
    if kind == "fer2013":
        numbers = table[columns.row].to_pylist() if columns.row else rows
        return [f"fer2013:{int(n):05d}" for n in numbers], kind
    if columns.file is not None:
        return [f"{kind}:{Path(str(v)).stem}" for v in table[columns.file].to_pylist()], kind
    return [f"{kind}:{n:05d}" for n in rows], kind


def _strings(table: Any, column: str | None) -> list[str] | None:
    if column is None:
        return None
    return ["" if v is None else str(v) for v in table[column].to_pylist()]


def _votes(table: Any, columns: list[str]) -> NDArray[np.float32] | None:
    if not columns:
        return None
    return np.stack([table[c].to_numpy() for c in columns], axis=1).astype(np.float32)
