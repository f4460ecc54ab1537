"""Untrusted images, decoded in worker processes that are stopped when they take too much.

    with DecodePool(2) as pool:
        image = pool.read_image(data, name="upload.jpg")

Each worker decodes one image at a time, within limits on CPU time, time and address space, and
one that is stopped is replaced. Workers are new processes, never forks, and start when needed.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import weakref
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError
from mien.images import MAX_PIXELS, Source, read_bytes, read_image

#: CPU time for one image, in seconds; in all it may take ten times as long.
SECONDS = 3.0

#: Memory for one image, in bytes, beside what a worker takes without one.
MEMORY = 600 << 20

_START = "import sys; sys.path[:] = sys.argv[1:]; from mien.images.workers import serve; serve()"

#: Length of a JSON object and of what follows it.
_HEAD = struct.Struct("<IQ")


class DecodePool:
    """Decodes images in worker processes; it may be shared between threads.

    Nothing starts before the first image. A process forked from the one that made the pool gets
    workers of its own. Workers end with the pool, with the interpreter, and by themselves when
    this process dies. Where there are no new processes (a frozen program), decoding is done here;
    Windows has no limits but the checks of :func:`mien.read_image`.

    Args:
        workers: how many images are decoded at a time; further calls wait.
        seconds, memory: CPU time and bytes for one image.
    """

    def __init__(self, workers: int = 1, *, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._workers, self._seconds, self._memory = workers, seconds, memory
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._turns = threading.BoundedSemaphore(self._workers)
        self._idle: deque[_Worker] = deque()
        self._busy: set[_Worker] = set()

    def read_image(
        self, source: Source, *, name: str | None = None, max_pixels: int = MAX_PIXELS
    ) -> NDArray[np.uint8]:
        """:func:`mien.read_image` in a worker: same arguments, result and errors.

        Raises:
            ImageError: also where decoding takes too long or too much memory, or the pool is
                closed meanwhile.
        """
        if getattr(sys, "frozen", False) or not sys.executable:
            return read_image(source, name=name, max_pixels=max_pixels)
        data, shown = read_bytes(source, name)
        if self._pid != os.getpid():
            self._reset()
        with self._turns:
            worker = self._take()
            try:
                reply, body = worker.ask({"name": shown, "max_pixels": max_pixels}, data)
            except BaseException as error:
                worker.stop()  # half an answer may be left in the pipe
                if isinstance(error, (OSError, EOFError)):
                    why = "takes too long or too much memory to decode"
                    why = "was not decoded: the pool was closed" if self._closed else why
                    raise ImageError(f"{shown} {why}.") from None
                raise
            finally:
                self._busy.discard(worker)
            self._idle.append(worker)
            if self._closed:
                self.close()
        if "error" in reply:
            raise ImageError(reply["error"])
        return body.reshape(reply["shape"])

    def _take(self) -> _Worker:
        if self._closed:
            raise ImageError("No image is decoded any more: the pool is closed.")
        while self._idle and not self._idle[-1].alive:  # somebody ended it
            self._idle.pop().stop()
        worker = self._idle.pop() if self._idle else _Worker(self._seconds, self._memory)
        self._busy.add(worker)
        if self._closed:  # by another thread, just now
            worker.kill()
        return worker

    def close(self) -> None:
        """Stop every worker, whatever it does. Calls that wait for one raise ImageError."""
        self._closed = True
        if self._pid != os.getpid():
            return
        for worker in list(self._busy):
            worker.kill()  # its thread does the rest
        while self._idle:
            self._idle.pop().stop()

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Worker:
    """One process. ``ask`` raises EOFError or OSError once it has ended."""

    def __init__(self, seconds: float, memory: int) -> None:
        paths = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
        # One arena and one thread: what they reserve counts as address space.
        alone = dict.fromkeys(("MALLOC_ARENA_MAX", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **alone},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self.kill = self._process.kill  # another thread may wait for its answer
        self.stop = weakref.finalize(self, _end, self._process, os.getpid())  # and frees the pipes
        _widen(self._from.fileno())
        self._limits = {"seconds": seconds, "memory": memory}

    def ask(self, request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """The answer: a record, and the bytes that follow it, uint8 (N,)."""
        send(self._to, {**request, **self._limits}, data)
        return receive(self._from)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:  # a fork of the owner must not end the owner's worker
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _widen(pipe: int) -> None:
    """Let a megabyte wait in ``pipe``, where the system can: fewer turns for an image."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)


def send(stream: BinaryIO | Any, record: dict[str, Any], body: bytes | memoryview) -> None:
    """Write one message to an unbuffered stream."""
    text = json.dumps(record).encode()
    for part in (_HEAD.pack(len(text), len(body)) + text, body):
        rest = memoryview(part)
        while rest:
            rest = rest[stream.write(rest) :]


def receive(stream: BinaryIO | Any) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Read one message from an unbuffered stream. Raises EOFError where it ends."""
    text_size, body_size = _HEAD.unpack(_exactly(stream, _HEAD.size).data)
    record = json.loads(_exactly(stream, text_size).tobytes())
    return record, _exactly(stream, body_size)


def _exactly(stream: Any, size: int) -> NDArray[np.uint8]:
    out = np.empty(size, np.uint8)
    rest = out.data
    while rest:
        count = stream.readinto(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return out


def serve() -> None:
    """Be a worker: decode what comes on standard input until it ends."""
    with suppress(AttributeError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to everyone
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    sink: Any = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints
    _alone()
    before = _address_space()
    with suppress(EOFError):
        while True:
            _answer(*receive(source), before, sink)


def _answer(request: dict[str, Any], data: NDArray[np.uint8], before: int, sink: BinaryIO) -> None:
    """Decode one image and write the answer; nothing of it is kept for the next."""
    record: dict[str, Any]
    body = memoryview(b"")
    _limit(request["seconds"], before + request["memory"])
    try:
        image = read_image(data.tobytes(), name=request["name"], max_pixels=request["max_pixels"])
        record, body = {"shape": image.shape}, image.data.cast("B")
    except ImageError as error:
        record = {"error": str(error)}
    _limit(0, None)
    send(sink, record, body)


def _alone() -> None:
    """Decode in one thread: every thread's stack counts, and so does the others' CPU time."""
    import cv2
    from PIL import AvifImagePlugin

    cv2.setNumThreads(1)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.options.DECODE_THREADS = 1


def _limit(seconds: float, memory: int | None) -> None:
    """Be killed after ``seconds`` of CPU time, or ten times that; 0 and None take it back."""
    with suppress(ImportError, AttributeError, ValueError, OSError):
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
        if sys.platform == "linux":
            import resource

            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.setrlimit(resource.RLIMIT_AS, (hard if memory is None else memory, hard))


def _address_space() -> int:
    """What this process has now, in bytes; 0 where the system does not say."""
    with suppress(OSError, AttributeError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0
