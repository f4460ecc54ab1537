"""One training by several processes, which ``torchrun`` starts: each has its part of every batch.

All draw the same batch and augment the whole of it, as one process would; each trains on its own
part, and the gradients are added up. Batch norm sees the part (torch's SyncBatchNorm needs GPUs
and waits for the others in every layer); its running statistics are averaged after each epoch.
The first process alone reads and writes the run folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mien.errors import RecipeError, first_line

T = TypeVar("T")


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def number() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if count() > 1 else 0


@contextmanager
def joined(device: str, batch_size: int) -> Iterator[None]:
    """Join the processes that torchrun started beside this one, if it did.

    Raises:
        RecipeError: they are more than the GPUs on this machine, or than half a batch.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "LOCAL_RANK" not in os.environ:
        yield
        return
    if batch_size < 2 * world:  # batch norm needs two
        raise RecipeError(f"A batch of {batch_size} is too small for {world} processes; use fewer.")
    place = int(os.environ["LOCAL_RANK"])
    if device == "cuda":
        if place >= torch.cuda.device_count():
            raise RecipeError(
                f"{torch.cuda.device_count()} GPUs cannot hold {place + 1} processes; give "
                "torchrun --nproc-per-node as many as there are GPUs, or mien --device cpu."
            )
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield
    except KeyboardInterrupt:  # the first process says so
        if number():
            raise SystemExit(130) from None
        raise
    finally:
        dist.destroy_process_group()


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` returns in the first process; where it raises, the others end silently."""
    if count() == 1:
        return make()
    found: list[Any] = [None, False]
    try:
        if number() == 0:
            found = [make(), True]
    finally:
        _together(dist.broadcast_object_list, found)
    if not found[1]:
        raise SystemExit(2)
    return found[0]  # type: ignore[no-any-return]


def follow_first(*parts: Any) -> None:
    """Load the states of the first process's parts (modules, optimisers) into the others'."""
    states = from_first(lambda: [part.state_dict() for part in parts])
    if number():
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)


def mine(n: int) -> slice:
    """This process's part of ``n`` samples."""
    return slice(n * number() // count(), n * (number() + 1) // count())


def add_up(values: Sequence[float]) -> list[float]:
    """The sums of the processes' values."""
    on_gpu = count() > 1 and dist.get_backend() == "nccl"
    total = torch.tensor(values, dtype=torch.float64, device="cuda" if on_gpu else "cpu")
    _add([total])
    return total.tolist()


def add_gradients(model: nn.Module) -> None:
    """Replace each gradient by the sum of the processes' ones."""
    _add([p.grad for p in model.parameters() if p.grad is not None])


def average(model: nn.Module) -> None:
    """Replace weights, which are alike, and running statistics, which are not, by their means."""
    tensors = [t for t in model.state_dict().values() if t.is_floating_point()]
    _add(tensors)
    if count() > 1:
        torch._foreach_div_(tensors, count())


def _add(tensors: list[Tensor]) -> None:
    if count() == 1 or not tensors:
        return
    flat = torch.cat([t.flatten() for t in tensors])
    _together(dist.all_reduce, flat)
    totals = torch.split(flat, [t.numel() for t in tensors])
    for tensor, total in zip(tensors, totals, strict=True):
        tensor.copy_(total.view(tensor.shape))


def _together(call: Callable[[Any], Any], argument: Any) -> None:
    try:
        call(argument)
    except RuntimeError as error:
        why = first_line(error)
        raise RecipeError(
            f"Another process of this training has ended ({why}); go on with --resume."
        ) from error
