"""Expressions as spans of time beside the sound: ELAN, Praat and WebVTT.

A span is a stretch in which a followed face keeps its name; where it is doubtful, unsure or not
seen, there is none. Times are those of the container, which its sound shares.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count, groupby, pairwise
from pathlib import Path
from statistics import median
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from mien.atomic import write_text
from mien.errors import MienError
from mien.report.document import slug
from mien.summary import LONGEST, face_tables
from mien.text import printable

#: Endings of what can be written.
FORMATS = (".eaf", ".TextGrid", ".vtt")
#: A face that was not seen for more seconds, or 2.5 of the video's usual steps, has a new span.
GAP = 1.0
#: What a file's comment stands after, and the comment. It tells whether the file still is what was
#: written: ELAN keeps mien's tiers and author where an annotator adds work of their own. Not in a
#: line of its own: some readers of TextGrids count lines.
_SEALS = {
    ".eaf": ("</ANNOTATION_DOCUMENT>", " <!-- mien {} -->"),
    ".TextGrid": ("item []:", " ! mien {}"),
    ".vtt": ("WEBVTT", " mien {}"),
}
_SEAL = re.compile(r" (?:<!-- |! )?mien [0-9a-f]{64}(?: -->)?")


@dataclass(slots=True)
class Span:
    """A face's name from ``start`` to ``end``, in seconds."""

    track: int
    name: str
    start: float
    end: float


def spans_of(data: str | Path, min_quality: float = 0.0) -> Iterator[tuple[str, list[Span]]]:
    """(video, its spans by track and time) of the faces of ``mien batch`` or ``mien video``.

    Raises:
        MienError: there is no table of faces.
    """
    names = ["track", "time", "source", "steady", "emotion", "unsure", "quality"]
    rows = (row for table in face_tables(Path(data), names) for row in table.to_pylist())
    timed = (row for row in rows if row["time"] is not None and 0 <= row["time"] < LONGEST)
    for video, faces in groupby(timed, key=lambda row: row["source"]):
        seen = [_seen(row, min_quality) for row in faces]
        yield video, _spans(seen)


def _seen(row: dict[str, Any], least: float) -> tuple[int, float, str]:
    """A face's track, its time and its name, "" where that is doubtful."""
    name = printable(row["steady"] or row["emotion"] or "unsure")
    doubtful = row["unsure"] or name == "unsure" or (row["quality"] or 0.0) < least
    return int(row["track"]), float(row["time"]), "" if doubtful else name


def _spans(seen: list[tuple[int, float, str]]) -> list[Span]:
    steps = [b - a for a, b in pairwise(sorted({time for _, time, _ in seen}))]
    gap = max(GAP, 2.5 * median(steps)) if steps else GAP
    spans: list[Span] = []
    current: dict[int, Span | None] = {}
    for track, time, name in seen:
        span = current.get(track)
        if span is not None:
            if time - span.end > gap:
                span = None
            else:
                span.end = time  # a frame stands until the next one
        if not name:
            current[track] = None
        elif span is None or span.name != name:
            current[track] = span = Span(track, name, time, time)
            spans.append(span)
    return sorted(spans, key=lambda span: (span.track, span.start))


def export(
    data: str | Path, folder: str | Path, suffix: str, min_quality: float = 0.0
) -> list[Path]:
    """Write ``VIDEO.eaf``, ``.TextGrid`` or ``.vtt`` for every video into ``folder``.

    Raises:
        MienError: an unknown format, no video, it cannot be written, or a file of that name is not
            as mien wrote it: it may hold an annotator's own work.
    """
    if suffix not in FORMATS:
        raise MienError(f"Unknown format {suffix!r}; known: {', '.join(FORMATS)}.")
    write = {".eaf": _eaf, ".TextGrid": _textgrid, ".vtt": _vtt}[suffix]
    written: list[Path] = []
    taken: set[str] = set()
    for video, spans in spans_of(data, min_quality):
        video = printable(video)
        numbered = (f"{slug(video)}-{number}" for number in count(2))
        names = chain((Path(video).stem, slug(video)), numbered)
        # Videos of one name in several folders; some file systems know no capitals.
        stem = next(name for name in names if name.lower() not in taken)
        taken.add(stem.lower())
        path = Path(folder) / f"{stem}{suffix}"
        _refuse_foreign(path, suffix)
        text = write(video, [span for span in spans if span.end > span.start])
        write_text(path, _sealed(text, suffix))
        written.append(path)
    if not written:
        raise MienError(f"{data} holds no video with a face.")
    return written


def _sealed(text: str, suffix: str) -> str:
    place, comment = _SEALS[suffix]
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
    return text.replace(place, place + comment.format(digest), 1)


def _refuse_foreign(path: Path, suffix: str) -> None:
    """Raise MienError where ``path`` is somebody else's, or was changed since it was written."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # none there, or writing says why
        return
    if not _SEAL.search(text) or text != _sealed(_SEAL.sub("", text, count=1), suffix):
        raise MienError(f"{path} exists and is not as mien wrote it; name another folder.")


def _tiers(spans: list[Span]) -> dict[str, list[Span]]:
    tiers: dict[str, list[Span]] = {}
    for span in spans:
        tiers.setdefault(f"face {span.track}", []).append(span)
    return tiers


def _vtt(video: str, spans: list[Span]) -> str:
    def stamp(seconds: float) -> str:
        whole = round(1000 * seconds)
        minutes, rest = divmod(whole, 60_000)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"

    cues = [
        f"{stamp(s.start)} --> {stamp(s.end)}\n<v face {s.track}>{escape(s.name)}\n"
        for s in sorted(spans, key=lambda s: (s.start, s.track))
    ]
    return "WEBVTT\n\n" + "\n".join(cues)


def _textgrid(video: str, spans: list[Span]) -> str:
    end = max((span.end for span in spans), default=1.0)
    tiers = _tiers(spans)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0"]
    lines += [f"xmax = {end:.6f}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, own) in enumerate(tiers.items(), 1):
        parts: list[tuple[float, float, str]] = []
        at = 0.0
        for span in own:  # Praat wants no holes
            if span.start > at:
                parts.append((at, span.start, ""))
            parts.append((span.start, span.end, span.name))
            at = span.end
        if at < end:
            parts.append((at, end, ""))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"']
        lines += [f'        name = "{name}"', "        xmin = 0", f"        xmax = {end:.6f}"]
        lines.append(f"        intervals: size = {len(parts)}")
        for place, (start, stop, text) in enumerate(parts, 1):
            label = text.replace('"', '""')
            lines += [f"        intervals [{place}]:", f"            xmin = {start:.6f}"]
            lines += [f"            xmax = {stop:.6f}", f'            text = "{label}"']
    return "\n".join(lines) + "\n"


def _eaf(video: str, spans: list[Span]) -> str:
    slots: list[str] = []
    tiers: list[str] = []
    number = 0
    for name, own in _tiers(spans).items():
        notes = []
        for span in own:
            number += 1
            for place, seconds in ((2 * number - 1, span.start), (2 * number, span.end)):
                slots.append(
                    f'<TIME_SLOT TIME_SLOT_ID="ts{place}" TIME_VALUE="{round(1000 * seconds)}"/>'
                )
            notes.append(
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" '
                f'TIME_SLOT_REF1="ts{2 * number - 1}" TIME_SLOT_REF2="ts{2 * number}">'
                f"<ANNOTATION_VALUE>{escape(span.name)}</ANNOTATION_VALUE>"
                "</ALIGNABLE_ANNOTATION></ANNOTATION>"
            )
        head = f'<TIER LINGUISTIC_TYPE_REF="expression" TIER_ID={quoteattr(name)}>'
        tiers.append(head + "".join(notes) + "</TIER>")
    address = Path(video).as_uri() if Path(video).is_absolute() else video
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ANNOTATION_DOCUMENT AUTHOR="mien" DATE="1970-01-01T00:00:00+00:00" FORMAT="3.0" '
        'VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">\n'
        '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">'
        f'<MEDIA_DESCRIPTOR MEDIA_URL={quoteattr(address)} MIME_TYPE="video/mp4"/></HEADER>\n'
        f"<TIME_ORDER>{''.join(slots)}</TIME_ORDER>\n" + "\n".join(tiers) + "\n"
        '<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="expression" '
        'TIME_ALIGNABLE="true"/>\n</ANNOTATION_DOCUMENT>\n'
    )
