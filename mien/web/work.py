"""The threads that look at images, and the processes that decode them.

Every thread has an analyser of its own, so that none waits. What clients send is decoded within
limits on time and memory, so that no image holds up a thread for long.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from mien._fork import renew_after_fork
from mien.classify import available_cores
from mien.detect.yunet import CLOSE_AREA
from mien.errors import ImageError
from mien.images.workers import DecodePool
from mien.modelinfo import ModelInfo
from mien.pipeline import Analyzer
from mien.results import Result

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Upload:
    """One image as it came: its encoded bytes and, perhaps, what the client calls it."""

    data: bytes
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Analyzers:
    """A thread's own: for still photos, and for live frames, whose every one is looked at."""

    photo: Analyzer
    video: Analyzer


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one :class:`Upload`: a result, or the sentence that says why not."""

    seconds: float
    result: Result | None = None
    error: str | None = None


class Workers:
    """Runs work on images in ``count`` threads; nothing is queued here without a waiter.

    Args:
        make: builds analysers; called once a thread, now, so that a bad model fails at start.
        count: threads; None takes one a core.
    """

    def __init__(self, make: Callable[[], Analyzers], count: int | None = None) -> None:
        self.count = count or available_cores()
        analyzers = [make() for _ in range(self.count)]
        first = analyzers[0].photo
        self.info: ModelInfo = first.info
        self.model = Path(first.classifier.path)
        self.detector: str = first.detector.name
        for pair in analyzers:
            _warm(pair.photo)
            _warm(pair.video)
        self._analyzers = analyzers
        self.after_fork()
        self._decoders = DecodePool(self.count)
        self._stopping = threading.Event()
        tiny = cv2.imencode(".png", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
        list(self._pool.map(self._decoders.read_image, [tiny] * self.count))
        renew_after_fork(self)

    def after_fork(self) -> None:
        """In a child of a server that loads and then forks: the parent's threads are gone."""
        self._pool = ThreadPoolExecutor(self.count, "mien-web")
        self._idle: queue.SimpleQueue[Analyzers] = queue.SimpleQueue()
        for analyzers in self._analyzers:
            self._idle.put(analyzers)

    async def run(self, work: Callable[[Analyzers], T]) -> T:
        """Run ``work`` in a thread. A cancelled wait leaves the queue."""
        future = self._pool.submit(self._borrowed, work)
        return await asyncio.wrap_future(future)

    def _borrowed(self, work: Callable[[Analyzers], T]) -> T:
        analyzers = self._idle.get()
        try:
            return work(analyzers)
        finally:
            self._idle.put(analyzers)

    async def look(
        self, uploads: list[Upload], *, faces: bool, min_confidence: float, pixels: int
    ) -> list[Outcome]:
        """Analyse each image, in order; one that cannot be read does not stop the others."""
        out = []
        for upload in uploads:  # one by one, so that requests take turns
            if self._stopping.is_set():
                raise asyncio.CancelledError
            work = partial(self._look, upload, faces, min_confidence, pixels)
            out.append(await self.run(work))
        return out

    def _look(
        self, upload: Upload, faces: bool, min_confidence: float, pixels: int, analyzers: Analyzers
    ) -> Outcome:
        start = time.perf_counter()
        try:
            name = upload.name or "The upload"
            image = self._decoders.read_image(upload.data, name=name, max_pixels=pixels)
            result = analyzers.photo.analyze(image, color="bgr", faces=faces, source=upload.name)
        except ImageError as error:
            return Outcome(time.perf_counter() - start, error=str(error))
        kept = tuple(face for face in result.faces if face.confidence >= min_confidence)
        return Outcome(time.perf_counter() - start, replace(result, faces=kept))

    def close(self) -> None:
        """Take no more work; what runs is finished in the background."""
        self._stopping.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._decoders.close()


def _warm(analyzer: Analyzer) -> None:
    """Do now what the first image would wait for, and take the memory that any may need.

    onnxruntime keeps what its largest runs took. Of all shapes that are looked at closely the
    first takes most: its short side is just above a multiple of 32.
    """
    for height in (129, 720):
        grey = np.full((height, CLOSE_AREA // height, 3), 127, np.uint8)
        analyzer.analyze(grey, color="bgr")
    analyzer.analyze(grey[:64, :64], color="bgr", faces=True)
