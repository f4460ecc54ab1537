"""Decode, detect and classify side by side: frames in, Results out, in order, in bounded memory.

Three stages overlap: one thread decodes, as many as there are cores find faces (the detector looks
at every frame), one call classifies the faces of several frames. The outcome does not depend on
the number of threads or on the size of a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import islice, repeat, takewhile
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.classify import available_cores
from mien.detect.base import Detection
from mien.pipeline import Analyzer, Found
from mien.preprocess import face_square
from mien.results import Result
from mien.video.cuts import glance
from mien.video.reader import Frame

#: Frames whose faces are classified in one call, where memory allows.
BATCH = 16
#: Decoded images that wait for the next stage may take so many bytes a stage; larger ones do not
#: wait at all.
IMAGE_BYTES = 16 << 20
#: Side in pixels of the little images for the timeline.
THUMBNAIL = 88

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame after analysis.

    Attributes:
        result: its faces, with ``frame`` and ``time``.
        image: uint8 (H, W, 3) BGR where it was asked for, else None.
        thumbnails: one uint8 (88, 88, 3) BGR a face where they were asked for, else empty.
        glance: the frame reduced to uint8 (18, 32, 3), by which cuts are found.
    """

    result: Result
    image: NDArray[np.uint8] | None
    thumbnails: tuple[NDArray[np.uint8], ...]
    glance: NDArray[np.uint8]


def analyze_frames(
    analyzer: Analyzer,
    frames: Iterable[Frame],
    *,
    source: str | None = None,
    frame_bytes: int = 640 * 480 * 3,
    batch: int = BATCH,
    workers: int | None = None,
    images: bool = False,
    thumbnails: bool = False,
) -> Generator[Seen, None, None]:
    """Analyse frames lazily and in order.

    Args:
        analyzer, frames: shared between threads; decoded in a thread of its own.
        source: what to call the video in the results.
        frame_bytes: size of a decoded frame, by which the stages' buffers are measured.
        batch: frames a classifier call, at most; fewer where large images are kept.
        workers: threads that find faces; None takes every core.
        images, thumbnails: what of :class:`Seen` is wanted.
    """
    workers = workers or available_cores()
    room = waiting_room(frame_bytes)
    if images:
        batch = max(1, min(batch, room))

    def look(frame: Frame) -> tuple[Found, Callable[[Result], Seen]]:
        found = analyzer.find(frame.image, "bgr", source=source)
        little = tuple(thumbnail(frame.image, d) for d in found.detections if thumbnails)
        # Without its image a frame takes a few kilobytes while it waits for the classifier.
        image, small = frame.image if images else None, glance(frame.image)
        place = {"frame": frame.number, "time": frame.time, "skipped": frame.skipped}
        return found, lambda result: Seen(replace(result, **place), image, little, small)

    def name(looked: list[tuple[Found, Callable[[Result], Seen]]]) -> list[Seen]:
        results = analyzer.classify([found for found, _ in looked], all_faces=True)
        return [seen(result) for (_, seen), result in zip(looked, results, strict=True)]

    with ExitStack() as stack:
        finders = stack.enter_context(ThreadPoolExecutor(workers, "mien-detect"))
        namer = stack.enter_context(ThreadPoolExecutor(1, "mien-batch"))
        decoded = stack.enter_context(closing(prefetched(frames, max(1, min(4, room)))))
        ahead = workers - 1 + min(2, room)
        chunks = batched(in_order(finders, look, decoded, ahead), batch)
        for part in in_order(namer, name, chunks, min(1, room) if images else 1):
            while part:  # popped, so that an image is freed once its frame is done with
                yield part.pop(0)


def waiting_room(frame_bytes: int) -> int:
    """How many decoded images may wait between two stages."""
    return IMAGE_BYTES // max(1, frame_bytes)


def thumbnail(image: NDArray[np.uint8], detection: Detection) -> NDArray[np.uint8]:
    """The face's square in colour, uint8 (88, 88, 3) BGR; black beyond the image's edge."""
    square = face_square(detection)
    side = max(1.0, square.width * 1.25)
    x, y = square.center
    scale = THUMBNAIL / side
    matrix = np.array([[scale, 0, (side / 2 - x) * scale], [0, scale, (side / 2 - y) * scale]])
    how = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    out = cv2.warpAffine(image, matrix, (THUMBNAIL, THUMBNAIL), flags=how)
    return np.asarray(out, np.uint8)


def prefetched(items: Iterable[_In], depth: int) -> Generator[_In, None, None]:
    """``items``, made in a thread of its own, ``depth`` ahead at most. Close it, or exhaust it."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, "mien-decode") as thread:
        ahead = in_order(thread, lambda _: next(iterator, end), repeat(None), depth)
        with closing(ahead):
            yield from takewhile(lambda item: item is not end, ahead)


def in_order(
    executor: Executor, work: Callable[[_In], _Out], items: Iterable[_In], ahead: int
) -> Generator[_Out, None, None]:
    """``map`` over an executor that takes at most ``ahead`` items more than it has given back."""
    waiting: deque[Future[_Out]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(work, item))
            del item  # or the loop would hold one image more
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def batched(items: Iterable[_In], size: int) -> Iterator[list[_In]]:
    """Lists of ``size`` items, the last one shorter."""
    iterator = iter(items)
    return iter(lambda: list(islice(iterator, size)), [])
