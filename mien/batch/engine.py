"""Who works: processes of this machine, or actors of a Ray cluster; the same tasks, in order."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol

from mien._system import child_environment
from mien.batch.worker import Opened, Opening, Options, Photos, SegmentSeen, Source, Task
from mien.errors import MienError

#: Tasks given out or waiting for their turn, for each worker: what bounds the memory.
WINDOW = 3
#: Bytes of compressed archives that may wait with them.
MOST_HELD = 1 << 30

#: So many workers may die without a task done in between; then something else is wrong.
MOST_DEATHS = 50

DIED = "{} could not be analysed: the process died over it, or ran out of memory."


class WorkerDied(Exception):  # noqa: N818 - an event
    """A worker is gone, and the task that it had with it."""


class NoRoom(Exception):  # noqa: N818 - an event
    """There is no place for one more worker; those there are take several threads' tasks."""


class Remote(Protocol):
    """A worker somewhere else."""

    def work(self, task: Task) -> bytes:
        """The pickled outcome, or the error that ends the run. Raises WorkerDied."""

    def close(self) -> None: ...


class Process:
    """A worker in a process of its own; it ends when its standard input does."""

    def __init__(self, options: Options) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from mien.batch.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**child_environment(), "OMP_NUM_THREADS": "1"},
        )
        try:
            problem = pickle.loads(self.work(options))  # type: ignore[arg-type]
        except WorkerDied:
            with suppress(subprocess.TimeoutExpired):  # it may live, and have said something else
                if self._process.wait(5) < 0:  # killed, by the kernel or by hand: tried again
                    self.close()
                    raise
            problem = "A worker process cannot be started; what it said stands above."
        if problem is not None:
            self.close()
            raise MienError(problem)

    def work(self, task: Task) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump(task, self._process.stdin)
            self._process.stdin.flush()
            outcome: bytes = pickle.load(self._process.stdout)
            return outcome
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise WorkerDied from error

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe and pipe.close()


class Engine:
    """Gives tasks to ``workers`` remotes, each made by ``start`` and driven by a thread.

    ``start`` may raise NoRoom or WorkerDied, and MienError, which ends the run.

    A worker that dies is replaced, and its task tried once more; of several photos each alone. A
    task that kills a second one has an error for its outcome.
    """

    def __init__(self, start: Callable[[], Remote], workers: int) -> None:
        self._start, self.workers = start, workers
        self._own = threading.local()
        self._remotes: set[Remote] = set()
        self._closed = False
        self._deaths = 0

    def run(self, tasks: Iterator[Task], take: Callable[[Task, Any], list[Task]]) -> None:
        """Hand every task's outcome to ``take``, in order; what it returns is done next.

        Raises what ``tasks`` and ``take`` raise, and MienError where no worker can be started, or
        one has no room for its temporary files.
        """
        order: deque[tuple[Task, Future[bytes] | None]] = deque()
        size = WINDOW * self.workers + 2
        with ThreadPoolExecutor(self.workers, "mien-batch") as threads:
            try:
                while True:
                    while len(order) < size and sum(_held(task) for task, _ in order) < MOST_HELD:
                        if (new := next(tasks, None)) is None:
                            break
                        order.append((new, None))
                    if not order:
                        return
                    for place in range(min(size, len(order))):
                        if order[place][1] is None:
                            task = order[place][0]
                            order[place] = task, threads.submit(self._call, task)
                    task, future = order.popleft()
                    assert future is not None
                    outcome = pickle.loads(future.result())
                    if isinstance(outcome, MienError):
                        raise outcome
                    more = take(task, outcome)
                    order.extendleft((task, None) for task in reversed(more))
            finally:
                self._closed = True
                threads.shutdown(wait=False, cancel_futures=True)
                for remote in list(self._remotes):
                    remote.close()

    def _call(self, task: Task) -> bytes:
        for _ in range(2):
            remote: Remote | None = None
            try:
                remote = self._remote()
                outcome = remote.work(task)
                self._deaths = 0
                return outcome
            except WorkerDied:
                self._deaths += 1
                if self._deaths >= MOST_DEATHS:
                    raise MienError(
                        f"{MOST_DEATHS} workers died one after the other; what they said stands "
                        "above."
                    ) from None
                self._own.remote = None
                if remote is not None:
                    self._remotes.discard(remote)
                    remote.close()
                if self._closed:
                    break
                if isinstance(task, Photos) and len(task.items) > 1:
                    alone = (pickle.loads(self._call(Photos((item,)))) for item in task.items)
                    return pickle.dumps([row for rows in alone for row in rows])
        return pickle.dumps(_died(task))

    def _remote(self) -> Remote:
        """This thread's worker, or that of another one where there is no room for more."""
        remote: Remote | None = getattr(self._own, "remote", None)
        if remote is None:
            try:
                remote = self._started()
                self._remotes.add(remote)
            except NoRoom:
                if not (others := list(self._remotes)):
                    raise MienError("There is no room for a worker in the cluster.") from None
                remote = others[threading.get_ident() % len(others)]
            self._own.remote = remote
            if self._closed:  # meanwhile
                remote.close()
                raise WorkerDied
        return remote

    def _started(self) -> Remote:
        """A new worker; a machine that was just lost may take the first ones with it."""
        for wait in (1, 2, 4, 8, 16):
            try:
                return self._start()
            except WorkerDied:
                time.sleep(wait)
        raise MienError("No worker can be started: they die before they begin.")


def _held(task: Task) -> int:
    """Bytes of photos and videos that wait with a task."""
    items = task.items if isinstance(task, Photos) else (task.item,)
    return sum(len(item.data or b"") for item in items)


def _died(task: Task) -> object:
    """The outcome of a task that killed its workers."""
    if isinstance(task, Photos):
        return [(Source(i.name, "photo", error=DIED.format(i.name)), None) for i in task.items]
    why = DIED.format(task.item.name)
    if isinstance(task, Opening):
        return Opened(Source(task.item.name, "video", error=why))
    return SegmentSeen(error=why)
