"""A run over videos: analyse, track, smooth, write, and be able to go on after a kill."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mien.atomic import lock
from mien.errors import ImageError, VideoError
from mien.pipeline import Analyzer
from mien.results import Result
from mien.sinks import file_key, is_stream
from mien.sinks.grown import name_of
from mien.sources import real_path
from mien.video import resume
from mien.video.one import OneVideo, VideoSummary
from mien.video.options import Options, Outputs
from mien.video.reader import Video
from mien.video.tables import Tables, new_token, remove_parts

#: Called with (video, frame's result) after every frame.
OnFrame = Callable[[Video, Result], None]


def video_results(
    path: str | os.PathLike[str], analyzer: Analyzer, options: Options
) -> Iterator[Result]:
    """The results of one video, written nowhere. Raises at once when it cannot be read."""
    return OneVideo(Video(path), analyzer, options, Outputs()).results(lambda state: None)


class VideoRun:
    """Analyses videos one after the other and writes everything asked for; their tables are joined.

    ``go_on``: with a stopped run of the same options and outputs, if there is one. Videos that came
    since are added, and those that its finished tables hold, or without tables its other outputs,
    are left out.

    Raises:
        VideoError: no video, a video that cannot be read, or a stopped run that does not fit.
        OutputError: something cannot be written.
    """

    def __init__(
        self,
        videos: Sequence[Path],
        analyzer: Analyzer,
        options: Options | None = None,
        outputs: Outputs | None = None,
        *,
        go_on: bool = False,
    ) -> None:
        self.options, self.outputs = options or Options(), outputs or Outputs()
        self.analyzer = analyzer
        self.videos = [Video(path) for path in videos]
        if not self.videos:
            raise VideoError("There is no video to look at.")
        several, taken = len(self.videos) > 1, {file_key(f.path) for f in self.videos}
        self.outputs.check(several)
        self._state_file = resume.state_file(self.outputs, several)
        #: Whether a stopped run's state lies there, gone on with or not.
        self.was_stopped = self.can_resume
        self.stopped: dict[str, Any] | None = None
        if go_on and self._state_file is None:
            raise VideoError("A run without an output file cannot be gone on with.")
        grow = go_on and self._grows()
        if grow and not self.outputs.tables:
            self._refuse_twice_named(several, taken)
        sha256 = analyzer.classifier.sha256 if grow else None
        tables = self.outputs.tables, analyzer.info.labels
        before = Tables(*tables, "", sha256).videos() if grow else set()
        self.videos.sort(key=self._order(before, go_on))  # the old ones keep the outputs' names
        places = [self.outputs.for_video(f.path, several, taken) for f in self.videos]
        kept: list[tuple[Video, Outputs]] = []
        over: list[tuple[Video, Outputs]] = []
        for video, place in zip(self.videos, places, strict=True):
            done = grow and self._is_done(video, place, before)
            (over if done else kept).append((video, place))
        #: How many videos were left out because they are done.
        self.done = len(over)
        #: What is asked for of those, and is not there.
        self.missing = [p for _, o in over for p in (o.video, o.plot) if p and not p.exists()]
        self.videos, self._places = [video for video, _ in kept], [place for _, place in kept]
        self._check_targets()
        paths = [f.path for f in self.videos]
        self._run = resume.fingerprint(paths, analyzer, self.options, self.outputs)
        self._run["grow"] = grow and bool(self.outputs.tables or self.done)
        if go_on and self._state_file is not None:
            self.stopped = resume.load(self._state_file, self._run)
        self._token = str(self.stopped["token"]) if self.stopped else new_token()
        self._tables = Tables(*tables, self._token, sha256)
        self._locked = self._saved = False

    def _grows(self) -> bool:
        """Whether finished tables are to be added to: not where a run that was to replace them was
        stopped."""
        assert self._state_file is not None
        return not self.can_resume or resume.run_of(self._state_file).get("grow") is True

    def _refuse_twice_named(self, several: bool, taken: set[str]) -> None:
        """Two videos of one name, of which only the outputs' names could tell which one is done."""
        stems = Counter(video.path.stem.casefold() for video in self.videos)
        twice = next((stem for stem, count in stems.items() if count > 1), None)
        if twice is None:
            return
        places = [self.outputs.for_video(f.path, several, set(taken)) for f in self.videos]
        if any(p.exists() for o in places for p in (o.video, o.plot) if p is not None):
            raise VideoError(
                f"Several videos are called {twice}, so their outputs do not tell which one is "
                "done: leave --resume out, or keep a table (--csv FILE) from the beginning."
            )

    def _order(self, before: set[str], go_on: bool) -> Callable[[Video], tuple[bool, int]]:
        """Videos that are done first, then those of the stopped run, then new ones."""
        stopped = go_on and self._state_file is not None and self.can_resume
        videos = resume.run_of(self._state_file)["videos"] if stopped and self._state_file else []
        places = {str(video): place for place, (video, *_) in enumerate(videos)}
        return lambda video: (
            name_of(video.path) not in before,
            places.get(str(video.path.absolute()), len(places)),
        )

    def _is_done(self, video: Video, place: Outputs, before: set[str]) -> bool:
        if self.outputs.tables:
            return name_of(video.path) in before
        return all(path.exists() for path in (place.video, place.plot) if path is not None)

    @property
    def can_resume(self) -> bool:
        """Whether a state is saved from which a later run could go on."""
        return self._state_file is not None and self._state_file.exists()

    def _targets(self) -> list[Path]:
        tables = [Path(t) for t in self.outputs.tables.values() if not is_stream(t)]
        return tables + [p for o in self._places for p in (o.video, o.plot) if p is not None]

    def _folders(self) -> set[Path]:
        return {Path(os.path.realpath(target)).parent for target in self._targets()}

    def _check_targets(self) -> None:
        """No output may replace a video that is still to be read, or another output."""
        sources = {real_path(video.path) for video in self.videos}
        taken: dict[Path, Path] = {}
        for target in self._targets():
            path = real_path(target)
            if path in sources:
                raise VideoError(f"{path} is a video to be read; choose another name.")
            if path in taken:
                raise VideoError(
                    f"{taken[path]} and {target} would be written to the same file; choose another "
                    "name for one."
                )
            taken[path] = target

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs from these outputs; :meth:`run` does it, too. Raises OutputError."""
        if self._locked:
            yield
            return
        with ExitStack() as stack:
            for target in self._targets():
                stack.enter_context(lock(target))
            self._locked = True
            stack.callback(setattr, self, "_locked", False)
            yield

    def run(self, on_frame: OnFrame | None = None) -> Iterator[VideoSummary]:
        """Do it; yields after each video. Closing the iterator stops the run for a later one.

        A video that cannot be read to its end is left out of the outputs, and its summary says why;
        of a single one that is raised.
        """
        with self.locked():
            try:
                yield from self._run_all(on_frame)
            except BaseException:
                if not self.stopped and not self._saved:  # nothing to go on with
                    self._clean()
                raise

    def _run_all(self, on_frame: OnFrame | None) -> Iterator[VideoSummary]:
        if not self.videos:
            return
        stopped = self.stopped or {}
        if not stopped and self._state_file is not None:
            if (old := resume.token_of(self._state_file)) is not None:
                remove_parts(self._folders(), old)
            # From here on the next run knows what to remove, whenever this one is killed.
            resume.save(self._state_file, self._token, self._run, {"phase": "begun"})
        if stopped.get("phase") != "finishing":
            with self._tables.open(stopped.get("tables")):
                begin = stopped.get("begin", self._tables.sync())
                for index in range(stopped.get("video", 0), len(self.videos)):
                    now = stopped if stopped.get("video") == index else {}
                    yield self._video(index, begin, now.get("inside"), on_frame)
                    begin = self._tables.sync()
                self._save({"phase": "finishing"})
        self._tables.finish()
        self._clean()

    def _clean(self) -> None:
        """Remove what is left of the parts, and then the state: if killed between, once more."""
        remove_parts(self._folders(), self._token)
        if self._state_file is not None:
            self._state_file.unlink(missing_ok=True)

    def _save(self, state: dict[str, Any]) -> None:
        state["tables"] = self._tables.sync()
        if self._state_file is not None:
            resume.save(self._state_file, self._token, self._run, state)
            self._saved = True

    def _video(
        self,
        index: int,
        begin: int | None,
        inside: dict[str, Any] | None,
        on_frame: OnFrame | None,
    ) -> VideoSummary:
        """Do one; ``begin`` is the length of the tables before it."""
        video, place = self.videos[index], self._places[index]
        one = OneVideo(video, self.analyzer, self.options, place, inside, self._token)

        def save(inside: dict[str, Any]) -> None:
            self._save({"video": index, "begin": begin, "inside": inside})

        try:
            try:
                for result in one.results(save):
                    self._tables.write(result)
                    if on_frame is not None:
                        on_frame(one.video, result)
            except (VideoError, ImageError) as error:
                if len(self.videos) == 1:
                    raise
                one.abandon()
                self._tables.cut(begin)
                summary = VideoSummary(video.path, one.timeline, failed=str(error))
            else:
                summary = one.finish()
        except BaseException:
            one.abandon()
            raise
        self._save({"video": index + 1, "begin": self._tables.sync(), "inside": None})
        one.clean()
        return summary
