"""The page of a timeline: self-contained HTML, light and dark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from mien.emotions import Label, colour_of
from mien.report.html import page
from mien.report.svg import class_colour
from mien.text import clock, counted
from mien.video.timeline import FaceTrack, Timeline, encoded

#: Faces that get a chart of their own on the page; the others are counted.
CHARTS = 24
#: Faces seen for less than this share of the longest one's time are folded.
BRIEF = 0.1
#: Holes up to so many seconds are closed on the page: frames do not come quite regularly.
BRIDGE = 0.3
_GAP = 255  # in the page's data: no face in this bin


def to_html(timeline: Timeline, title: str, details: Sequence[tuple[str, str]] = ()) -> str:
    """The page: self-contained, no request leaves it, light and dark.

    ``title`` is the video's name; ``details`` are lines on how it was made: (name, value).
    """
    ranked = timeline.ranked()
    shown = ranked[:CHARTS]
    main = [t for t in shown if t.seconds >= BRIEF * shown[0].seconds]
    begin = timeline.begin or 0.0
    data = {
        "labels": [e.value for e in timeline.labels],
        "begin": begin,
        "end": max(timeline.end, begin + timeline.width),
        "width": timeline.width,
        "smoothed": timeline.smoothed,
        "faces": [_face_data(t, timeline.smoothed, timeline.width) for t in shown],
    }
    assets = resources.files("mien").joinpath("assets")
    colours = {e.value: [colour_of(e, True), colour_of(e)] for e in timeline.labels}
    body = Template(assets.joinpath("timeline.html").read_text(encoding="utf-8")).substitute(
        key="".join(f"<li>{_chip(e)}{escape(e)}</li>" for e in timeline.labels),
        faces="".join(_section(t, timeline.labels) for t in main) or _NOBODY,
        brief=_brief(shown[len(main) :], timeline.labels),
        rest=escape(_rest(timeline, len(ranked) - len(shown))),
        details="".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in details),
        # "<" could end the script element.
        data=json.dumps({**data, "colours": colours}).replace("<", "\\u003c"),
    )
    style = assets.joinpath("timeline.css").read_text(encoding="utf-8")
    return page(title, _subtitle(timeline), body, _FOOTER, style)


_FOOTER = (
    "Made by <code>mien video</code>. The charts show the model's probabilities over time, "
    "averaged where the video is longer than the screen is wide. Drag over a chart to zoom in; "
    "with the keyboard use arrows, plus and minus. This page holds images of faces: mind whom you "
    "give it to. An expression is not a feeling."
)


def _brief(tracks: Sequence[FaceTrack], labels: Sequence[Label]) -> str:
    """Faces that came by, folded."""
    if not tracks:
        return ""
    faces, inner = counted(len(tracks), "face"), "".join(_section(t, labels) for t in tracks)
    return f'<details class="brief"><summary>{faces} seen only briefly</summary>{inner}</details>'


_NOBODY = '<section class="panel block"><p>No face was found in this video.</p></section>'


def _subtitle(timeline: Timeline) -> str:
    parts = [
        clock(round(timeline.end - (timeline.begin or 0.0))),
        f"{timeline.frames:,} frames looked at",
        counted(len(timeline.ranked()) + timeline.dropped, "face"),
    ]
    if timeline.faceless:
        parts.append(f"{timeline.faceless / timeline.frames:.0%} of the frames without one")
    return " · ".join(parts)


def _rest(timeline: Timeline, hidden: int) -> str:
    count = hidden + timeline.dropped
    more = f"{count:,} more face{' was' if count == 1 else 's were'} seen, each for less time."
    n = timeline.passers
    passers = f"{n:,} {'person' if n == 1 else 'people'} passing by left out."
    return " ".join(part for part, there in ((more, count), (passers, n)) if there)


def _face_data(track: FaceTrack, smoothed: bool, width: float) -> dict[str, Any]:
    """The bins from the first to the last in use: percentages as bytes, 255 where nobody is."""
    used = np.flatnonzero(track.counts)
    low, high = int(used[0]), int(used[-1]) + 1
    counts = track.counts[low:high]
    means = track.sums[low:high] / np.maximum(counts, 1)[:, None, None]
    bytes_ = np.rint(means * 200).clip(0, 200).astype(np.uint8)
    bytes_[counts == 0] = _GAP
    holes = np.diff(used) - 1
    for hole, before in zip(holes, used - low, strict=False):
        if 0 < hole * width <= BRIDGE:
            bytes_[before + 1 : before + 1 + hole] = bytes_[before]
    rows = (0, 1) if smoothed else (0,)
    return {
        "track": track.track,
        "bin": low,
        "series": [encoded(np.ascontiguousarray(bytes_[:, r]).tobytes()) for r in rows],
        "changes": [[c.time, c.emotion.value, c.confidence] for c in track.changes],
    }


def _section(track: FaceTrack, labels: Sequence[Label]) -> str:
    total = track.charted or 1.0
    shares = {e: track.shares.get(e, 0.0) / total for e in labels}
    best = max(shares, key=shares.__getitem__)
    bar = "".join(
        f'<span style="width:{100 * s:.2f}%;background:{class_colour(e)}" '
        f'title="{escape(e, quote=True)} {s:.0%}"></span>'
        for e, s in shares.items()
        if s > 0
    )
    ranked = sorted((s, e) for e, s in shares.items() if s >= 0.005)[::-1]
    words = ", ".join(f"{escape(e)} {s:.0%}" for s, e in ranked)
    if (unsure := track.unsure / total) >= 0.005:
        words += f"; unsure {unsure:.0%} of the time"
    face = max((c for c in track.changes if c.jpeg), key=lambda c: c.confidence, default=None)
    portrait = _img(face.jpeg, f"face {track.track}", "portrait") if face and face.jpeg else ""
    strip = "".join(
        f'<figure data-time="{c.time:.3f}">{_img(c.jpeg, c.emotion.value)}'
        f"<figcaption>{_chip(c.emotion)}{escape(c.emotion)}<span>{clock(c.time)}</span></figcaption></figure>"
        for c in track.changes
        if c.jpeg
    )
    label = escape(
        f"Probabilities of face {track.track} over time; mostly {best.value}. "
        "Arrow keys move the cursor, plus and minus zoom.",
        quote=True,
    )
    return (
        f'<section class="panel block face" data-track="{track.track}"><header>{portrait}<div>'
        f"<h2>Face {track.track}</h2>"
        f'<p class="under">seen for {track.seconds:.1f} s, from {clock(track.first)} to '
        f"{clock(track.last)}, in {track.frames:,} frames</p>"
        f'<div class="shares" aria-hidden="true">{bar}</div>'
        f'<p class="under">in the lead: {words}</p></div></header>'
        f'<div class="chart"><canvas role="img" tabindex="0" aria-label="{label}"></canvas>'
        f'<output aria-live="polite"></output></div><div class="strip">{strip}</div></section>'
    )


def _chip(label: Label) -> str:
    return f'<i class="chip" style="background:{class_colour(label)}"></i>'


def _img(jpeg: bytes | None, alt: str, cls: str = "") -> str:
    kind = f' class="{cls}"' if cls else ""
    return (
        f'<img{kind} alt="{escape(alt, quote=True)}" src="data:image/jpeg;base64,{encoded(jpeg)}">'
    )
