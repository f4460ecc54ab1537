"""Workers as actors of a Ray cluster: the same tasks, the same outcomes.

Every node needs mien, and reads the
sources under the names that the driver has for them: a shared folder, or addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from mien._system import connect_ray
from mien.batch.engine import NoRoom, Remote, WorkerDied
from mien.batch.worker import Options, Task, Worker
from mien.errors import MienError

#: Seconds that an actor may take to be placed and to load its models.
START_SECONDS = 60.0


class _Actor:
    """A worker in a process of Ray's."""

    def __init__(self, options: Options) -> None:
        self._problem: str | None = None
        try:
            self._worker = Worker(options)
        except MienError as error:
            self._problem = str(error)

    def problem(self) -> str | None:
        return self._problem

    def work(self, task: Task) -> bytes:
        return self._worker.answer(task)


class _RayRemote:
    """An actor, seen from the driver. Any number of threads may give it tasks."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        try:
            problem = ray.get(actor.problem.remote(), timeout=START_SECONDS)
        except ray.exceptions.GetTimeoutError:
            self.close()
            raise NoRoom from None
        except ray.exceptions.RayError as error:
            raise WorkerDied from error
        if problem is not None:
            self.close()
            raise MienError(problem)

    def work(self, task: Task) -> bytes:
        try:
            outcome: bytes = self._ray.get(self._actor.work.remote(task))
            return outcome
        except self._ray.exceptions.RayError as error:
            raise WorkerDied from error

    def close(self) -> None:
        self._ray.kill(self._actor)


def ray_starter(
    options: Options, workers: int | None, address: str | None, gpus: float, stack: ExitStack
) -> tuple[Callable[[], Remote], int]:
    """What makes an actor, and how many there are to be: one for each CPU or share of a GPU.

    Args:
        address: of a running cluster; None starts one on this machine, for as long as ``stack``.

    Raises:
        MissingExtraError: Ray is not installed.
        MienError: the cluster does not answer.
    """
    ray = connect_ray(address, stack, workers)
    kind = "GPU" if gpus else "CPU"
    room = int(ray.cluster_resources().get(kind, 0) / (gpus or 1))
    if room < 1:
        raise MienError(f"The Ray cluster has no {kind} to work on.")
    chosen = {"num_cpus": 1, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
    actors = ray.remote(**chosen)(_Actor)
    return lambda: _RayRemote(ray, actors.remote(options)), min(workers or room, room)
