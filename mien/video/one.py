"""One video of a run: frames in, tracked, smoothed, annotated, collected; and its state."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.atomic import write_text
from mien.classify import available_cores
from mien.draw import draw
from mien.pipeline import Analyzer
from mien.results import Face, Result
from mien.track import Smoother, Tracker
from mien.video.cuts import CutDetector
from mien.video.flow import Seen, analyze_frames, waiting_room
from mien.video.options import Options, Outputs
from mien.video.page import to_html
from mien.video.passers import Passers
from mien.video.reader import Video
from mien.video.timeline import Timeline
from mien.video.writer import VideoWriter

Image = NDArray[np.uint8]

#: The mean time between so many frames is the usual one.
LATEST = 8
#: For so many seconds without a frame nothing moved; for more the video has a hole, unless that is
#: usual.
STILL = 10.0


@dataclass(frozen=True)
class VideoSummary:
    """What a run did with a video.

    Attributes:
        resumed: number of the first frame looked at by this run; 0 unless it went on with another.
        cut_short: the video gave clearly fewer frames than its container promises.
        skipped, skipped_last: damaged frames that were left out, and those of them at the end.
        video, plot: what was written, or None.
        encoder: what wrote ``video``, in words.
        offset: seconds at which the video begins on its clock.
        failed: why the video could not be read to its end; it is in no output then. None if it was.
    """

    source: Path
    timeline: Timeline
    resumed: int = 0
    cut_short: bool = False
    skipped: int = 0
    skipped_last: int = 0
    video: Path | None = None
    plot: Path | None = None
    encoder: str = ""
    offset: float = 0.0
    failed: str | None = None


class OneVideo:
    """The part of a run that is about one video."""

    def __init__(
        self,
        video: Video,
        analyzer: Analyzer,
        options: Options,
        outputs: Outputs,
        state: dict[str, Any] | None = None,
        token: str | None = None,
    ) -> None:
        self.video, self.analyzer, self.options, self.outputs = video, analyzer, options, outputs
        o = options
        #: Seconds from one frame to the next, by the container's word and by the latest ones.
        self.step = self.usual = o.every / video.fps
        self.tracker = Tracker(o.max_gap)
        self.smoother = Smoother(o.smooth, o.margin, o.max_gap) if o.smooth else None
        self.cuts = CutDetector() if o.cuts else None
        self.timeline = Timeline(analyzer.info.labels, passers=not o.everyone)
        side = getattr(analyzer.detector, "min_face", None) or 0.0
        limits = (0.0, 0.0) if o.everyone else (o.min_track, side)
        self.passers = Passers(*limits, o.max_gap, self.step)
        parts = ("tracker", "smoother", "cuts", "timeline", "passers")
        self._parts = {name: part for name in parts if (part := getattr(self, name)) is not None}
        self.last: int | None = None
        self.time: float | None = None
        self.skipped = 0
        if state is not None:
            self.last, self.time, self.skipped = state["frame"], state["time"], state["skipped"]
            self.usual = state["usual"]
            for name, part in self._parts.items():
                part.restore(state[name])
        self.resumed = 0 if self.last is None else self.last + 1
        self.writer: VideoWriter | None = None
        if outputs.video is not None:
            saved = None if state is None else state["video"]
            rate = video.fps / o.every
            self.writer = VideoWriter(
                outputs.video, rate, video.path, saved, token=token, offset=video.offset
            )

    def state(self) -> dict[str, Any]:
        place = {"frame": self.last, "time": self.time, "skipped": self.skipped}
        place["usual"] = self.usual
        parts = {name: part.state() for name, part in self._parts.items()}
        return {**place, **parts, "video": self.writer and self.writer.checkpoint()}

    def results(self, save: Callable[[dict[str, Any]], None]) -> Iterator[Result]:
        """Each frame's result, tracked and smoothed, once; ``save`` is called now and then."""
        o = self.options
        frames = self.video.frames(every=o.every, start=o.start, end=o.end, after=self.last)
        frame_bytes = self.video.width * self.video.height * 3
        stream = analyze_frames(
            self.analyzer,
            frames,
            source=str(self.video.path),
            frame_bytes=frame_bytes,
            batch=o.batch,
            workers=o.workers,
            images=self.writer is not None,
            thumbnails=self.outputs.plot is not None,
        )
        painter = _Painter(self.writer, frame_bytes, o.bars)
        saved = time.monotonic()
        with closing(painter), closing(stream):
            for seen in stream:
                if self.last is not None and time.monotonic() - saved > o.checkpoint:
                    # The frames before this one are with the tables and the painter.
                    painter.drain()
                    save(self.state())
                    saved = time.monotonic()
                result = self.follow(seen)
                painter.paint(seen.image, result)
                yield from self.decided(result)
            painter.drain()
            yield from self.decided(None)

    def decided(self, result: Result | None) -> Iterator[Result]:
        """The results whose passers-by are known now that ``result`` is: all of them with None."""
        known = self.passers.finish() if result is None else self.passers.update(result)
        return map(self.timeline.stays, known)

    def follow(self, seen: Seen) -> Result:
        """The next frame's result, tracked and smoothed."""
        result, now = seen.result, seen.result.time or 0.0
        seconds = self._pace(now, result.skipped)
        if self.cuts is not None and self.cuts.update(seen.glance, now):
            self.tracker.cut()
            self.passers.cut()
        faces = tuple(map(self._trust, self.tracker.update(result.faces, now)))
        if self.smoother is not None:
            faces = tuple(map(self._name, self.smoother.update(faces, now)))
        result = replace(result, faces=faces)
        self.timeline.add(result, seconds, seen.thumbnails)
        self.last, self.time, self.skipped = result.frame, now, self.skipped + result.skipped
        return result

    def _pace(self, now: float, skipped: int) -> float:
        """How long the next frame stands for: the time since the one before it.

        A hole in the video is nobody's. Where there was no new frame for a while, as nothing moved
        on a screen, the one before was shown until then. With few frames a second a face is not
        lost from one to the next.
        """
        before, step = self.time, self.step
        if before is not None:
            step = now - before
            if not skipped:
                self.usual += (step - self.usual) / min(LATEST, self.timeline.frames)
            if skipped or step > max(STILL, 2.5 * self.usual):
                step = min(step, max(1.0, 2 * self.step))
            elif step > 2 * self.usual:
                self.tracker.hold(before, now - self.usual)
                self.passers.hold(before, now - self.usual)
        gap = max(self.options.max_gap, 2.5 * max(self.usual, self.step))
        self.tracker.max_gap = self.passers.max_gap = gap
        if self.smoother is not None:
            self.smoother.max_gap = gap
        self.passers.step = max(self.usual, self.step)
        return step

    def _trust(self, face: Face) -> Face:
        """A face of too little quality is unsure: its frames name nothing."""
        poor = face.quality is not None and face.quality < self.analyzer.min_quality
        return replace(face, unsure=True) if poor else face

    def _name(self, face: Face) -> Face:
        """Without its name where that is not sure enough: box and track stay."""
        if face.smoothed is None or face.steady is None:
            return face
        sure = face.smoothed[face.steady] >= self.analyzer.min_confidence
        return face if sure else replace(face, steady=None)

    def finish(self) -> VideoSummary:
        """Make the video and the page."""
        made = self.writer is not None and self.writer.finish()
        if self.outputs.plot is not None:
            page = to_html(self.timeline, self.video.path.name, self._details())
            write_text(self.outputs.plot, page)
        return VideoSummary(
            self.video.path,
            self.timeline,
            self.resumed,
            self.cut_short(),
            self.skipped + self.video.skipped_last,
            self.video.skipped_last,
            self.outputs.video if made else None,
            self.outputs.plot,
            self.writer.codec if self.writer is not None else "",
            self.video.offset,
        )

    def cut_short(self) -> bool:
        """Whether the video gave clearly fewer frames than its container promises."""
        expected, o = self.video.seconds_expected, self.options
        if expected is None:
            return False
        expected = expected if o.end is None else min(expected, o.end)
        reached = o.start if self.time is None else self.time
        return reached < 0.95 * expected - 1.0 - max(self.step, 2 * self.usual)

    def _details(self) -> list[tuple[str, str]]:
        o, video, detector = self.options, self.video, self.analyzer.detector.name
        frames = "every frame" if o.every == 1 else f"every {o.every}th frame"
        smooth = f"over {o.smooth:g} s, margin {o.margin:g}" if o.smooth else "off"
        return [
            ("video", f"{video.path.name}, {video.width}×{video.height}, {video.fps:.3g} frames/s"),
            ("model", self.analyzer.info.name),
            ("detector", f"{detector}, on {frames}"),
            ("smoothing", smooth),
        ]

    def abandon(self) -> None:
        if self.writer is not None:
            self.writer.abandon()

    def clean(self) -> None:
        if self.writer is not None:
            self.writer.clean()


class _Painter:
    """Paints frames in threads and hands them to the writer in order."""

    def __init__(self, writer: VideoWriter | None, frame_bytes: int, bars: bool) -> None:
        self._writer, self._bars = writer, bars
        self._ahead = min(available_cores() + 1, waiting_room(frame_bytes))
        self._pool = ThreadPoolExecutor(available_cores(), "mien-paint") if writer else None
        self._waiting: deque[tuple[Future[Image], float]] = deque()

    def paint(self, image: Image | None, result: Result) -> None:
        if self._pool is None or image is None:
            return
        future = self._pool.submit(draw, image, result, bars=self._bars)
        self._waiting.append((future, result.time or 0.0))
        while len(self._waiting) > self._ahead:
            self._write_one()

    def _write_one(self) -> None:
        future, time = self._waiting.popleft()
        if self._writer is not None:
            self._writer.write(future.result(), time)

    def drain(self) -> None:
        while self._waiting:
            self._write_one()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
