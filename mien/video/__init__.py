"""Videos: frames in, tracked and smoothed Results out, in constant memory.

    from mien.video import analyze_video
    for result in analyze_video("video.mp4", every=2):
        print(result.time, [(face.track, face.steady) for face in result.faces])

``mien video`` writes the same as tables, an annotated video and a timeline: :mod:`mien.video.run`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mien.pipeline import Analyzer
    from mien.results import Result

__all__ = ["analyze_video"]


def analyze_video(
    path: str | os.PathLike[str],
    analyzer: Analyzer | None = None,
    *,
    every: int = 1,
    start: float = 0.0,
    end: float | None = None,
    smooth: float = 0.4,
    margin: float = 0.1,
    max_gap: float = 1.0,
    min_track: float = 1.0,
    everyone: bool = False,
    cuts: bool = True,
) -> Iterator[Result]:
    """Analyse a video lazily: one Result a frame, in order, in constant memory.

    Results come up to ``min_track + max_gap`` seconds of the video late: only then is it known who
    is passing by. A face less sure than the analyzer's ``min_confidence``, or unsure or below its
    ``min_quality`` in most of the recent frames, has no ``steady`` name.

    Args:
        path: any video that OpenCV reads.
        analyzer: model, detector and their options; the defaults if None.
        every: look at every N-th frame.
        start, end: seconds; frames with ``start <= time < end`` are looked at.
        smooth: time constant of the smoothing in seconds; 0 leaves ``smoothed`` out.
        margin: lead that another expression needs to take over the name, 0..1.
        max_gap: seconds a face may be hidden and keep its number.
        min_track: seconds that a face must be seen for; with less it is passing by.
        everyone: keep those who pass by, too, and those smaller than the detector's ``min_face``.
        cuts: find where the video cuts to another shot; no face keeps its number across.

    Yields:
        Results with ``frame`` and ``time``; their faces have ``track`` and, with smoothing,
        ``smoothed`` and ``steady``.

    Raises:
        VideoError: the video cannot be read, or a value is out of range.
    """
    from mien.detect import VIDEO_MIN_FACE
    from mien.pipeline import Analyzer
    from mien.video.options import Options
    from mien.video.run import video_results

    options = Options(
        every=every,
        start=start,
        end=end,
        smooth=smooth,
        margin=margin,
        max_gap=max_gap,
        min_track=min_track,
        everyone=everyone,
        cuts=cuts,
    )
    return video_results(path, analyzer or Analyzer(min_face=VIDEO_MIN_FACE, turns=False), options)
