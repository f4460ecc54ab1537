"""The tables' rows and columns: one row per face."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from mien.emotions import FER2013, Label
from mien.results import Quality, Result
from mien.text import shown

#: Names of the five landmarks, in the order of ``Face.landmarks``.
LANDMARKS = ("right_eye", "left_eye", "nose_tip", "right_mouth", "left_mouth")

_IMAGE = ("source", "width", "height", "model", "detector", "faces")
#: At the end, so that older columns keep their places.
_ORIGIN = ("model_sha256", "mien_version")
_PARTS = tuple(f"quality_{part.name}" for part in fields(Quality))
_TRUST = ("unsure", "quality", *_PARTS, "roll", "yaw", "pitch")
_FACE = ("face", "emotion", "confidence", "detection_score")
#: What stands for the name where no expression leads clearly.
UNSURE = "unsure"
_VIDEO = ("frame", "time", "skipped")
_VIDEO_FACE = ("track", "steady")
_BOX = ("box_x", "box_y", "box_width", "box_height")
_POINTS = tuple(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")


def columns(labels: Sequence[Label] = FER2013, video: bool = False) -> tuple[str, ...]:
    """The columns of :class:`CsvSink` and :class:`ParquetSink`, in order.

    Args:
        labels: the model's classes: one ``p_…`` column each.
        video: add ``frame``, ``time`` (seconds on the container's clock), ``skipped`` (damaged
            frames lost just before this one), the face's ``track``, the ``steady`` name and the
            smoothed probabilities, ``s_…``.
    """
    raw = tuple(f"p_{label.value}" for label in labels)
    if not video:
        return (*_IMAGE, *_FACE, *_BOX, *_POINTS, *raw, *_ORIGIN, *_TRUST)
    smoothed = tuple(f"s_{label.value}" for label in labels)
    face = (_FACE[0], *_VIDEO_FACE, *_FACE[1:])
    image = (_IMAGE[0], *_VIDEO, *_IMAGE[1:])
    return (*image, *face, *_BOX, *_POINTS, *raw, *smoothed, *_ORIGIN, *_TRUST)


def face_rows(result: Result) -> list[dict[str, Any]]:
    """``result`` as flat rows, one a face, numbered from 1; one row without a face if none.

    ``faces`` is the number of faces in the image; box and landmarks are in pixels, rounded to
    0.01, probabilities to 1e-6; what a detector does not give is None.
    """
    whole = result.to_dict()
    image = {
        **{key: whole.get(key) for key in (*_IMAGE, *_VIDEO, *_ORIGIN)},
        "source": None if result.source is None else shown(result.source),
        "skipped": result.skipped,
        "faces": len(result.faces),
    }
    rows = []
    for number, (face, record) in enumerate(zip(result.faces, whole["faces"], strict=True), 1):
        row = {**image, "face": number}
        row.update({key: record[key] for key in _FACE[1:]})
        row.update({f"quality_{key}": v for key, v in (record["quality_parts"] or {}).items()})
        row.update({key: record[key] for key in ("unsure", "quality", "roll", "yaw", "pitch")})
        row.update({f"box_{key}": value for key, value in record["box"].items()})
        for name, (x, y) in zip(LANDMARKS, record["landmarks"], strict=False):
            row[f"{name}_x"], row[f"{name}_y"] = x, y
        row.update({f"p_{key}": value for key, value in record["probabilities"].items()})
        row.update({key: record.get(key) for key in _VIDEO_FACE})
        if face.smoothed is not None and face.steady is None:
            row["steady"] = UNSURE
        row.update({f"s_{key}": value for key, value in record.get("smoothed", {}).items()})
        rows.append(row)
    return rows or [image]


def parquet_schema(names: Iterable[str]) -> Any:
    """The ``pyarrow.Schema`` of these :func:`columns`."""
    import pyarrow as pa

    text = ("source", "model", "detector", "emotion", "steady", *_ORIGIN)
    whole = ("width", "height", "faces", "face", "frame", "skipped", "track")
    kinds = {name: pa.string() for name in text} | {name: pa.int32() for name in whole}
    kinds |= {"time": pa.float64(), "unsure": pa.bool_()}
    return pa.schema([(name, kinds.get(name, pa.float32())) for name in names])
